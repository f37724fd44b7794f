//! `turnpike off` and `turnpike on`: the emergency switch.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use http::Method;
use jiff::Timestamp;

use super::{
    books::{Here, Till, shown, tell_reach, time},
    flags::{self, BadUsage, Length},
    remote::Server,
};
use crate::{
    admin::{
        api::{Switch, SwitchLine, SwitchList},
        switches,
    },
    ledger::keys::KeyStore,
};

const PATH: &str = "/api/v1/switches";

/// Arguments of `off`.
#[derive(Debug, clap::Args)]
pub struct Off {
    /// What: `backend:X`, `provider:X`, `model:X`, `team:X`, `key:X` or `arm:X@ROUTE`.
    #[arg(requires = "why", value_parser = target)]
    target: Option<String>,
    /// It ends by itself after so long (`4h`).
    #[arg(long = "for", value_name = "LENGTH", id = "length", value_parser = flags::length)]
    length: Option<Length>,
    /// End what is under way too; without it, that goes on to its end.
    #[arg(long)]
    cut: bool,
    /// Why; who asks in vain is told.
    #[arg(long, value_name = "TEXT", requires = "target")]
    why: Option<String>,
    /// List what is off.
    #[arg(long, conflicts_with_all = ["target", "length", "cut", "why"])]
    list: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `on`.
#[derive(Debug, clap::Args)]
pub struct On {
    /// What: `backend:X`, `provider:X`, `model:X`, `team:X`, `key:X` or `arm:X@ROUTE`.
    #[arg(value_parser = target)]
    target: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What can be switched, by its form; whether there is such a thing is for the policies to say.
fn target(text: &str) -> Result<String, String> {
    switches::read_target(text).map(|_| text.to_owned()).map_err(|unfit| unfit.to_string())
}

/// Switches something off, or lists what is off.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn off(args: Off) -> anyhow::Result<ExitCode> {
    if args.target.is_none() && !args.list {
        let hint = "`turnpike off backend:X --why TEXT` switches it off, `turnpike off --list` shows what is";
        anyhow::bail!(BadUsage(format!("what is to be switched off?\nhint: {hint}")));
    }
    let till = Till::find(&args.server)?;
    let (Some(target), Some(why)) = (args.target, args.why) else { return list(&till, args.json) };
    let length = args.length.map(|length| length.text);
    switch(&till, &Switch { target, off: true, until: None, length, cut: args.cut, why }, args.json)
}

/// Switches something on again.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn on(args: On) -> anyhow::Result<ExitCode> {
    let till = Till::find(&args.server)?;
    let wanted = Switch { target: args.target, off: false, until: None, length: None, cut: false, why: args.why };
    switch(&till, &wanted, args.json)
}

fn list(till: &Till, json: bool) -> anyhow::Result<ExitCode> {
    let list = match till {
        Till::Here(here) => {
            SwitchList { switches: switches::lines(&here.policies, here.ledger.books(), Timestamp::now()) }
        }
        Till::There(remote) => remote.ask(Method::GET, PATH, None::<&()>)?,
    };
    if json {
        anstream::println!("{}", serde_json::to_string(&list)?);
    } else if list.switches.is_empty() {
        anstream::eprintln!("nothing is switched off");
    } else {
        anstream::println!("{}", table(&list.switches));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(lines: &[SwitchLine]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["off", "since", "until", "who", "why"]);
    for line in lines {
        table.add_row([
            shown(&line.target),
            line.since.map(time).unwrap_or_default(),
            line.until.map(time).unwrap_or_default(),
            shown(line.who.as_deref().unwrap_or("the policies")),
            shown(&line.why),
        ]);
    }
    table
}

fn switch(till: &Till, wanted: &Switch, json: bool) -> anyhow::Result<ExitCode> {
    let line: SwitchLine = match till {
        Till::Here(here) => {
            let line = switch_here(here, wanted)?;
            here.tell_later();
            line
        }
        Till::There(remote) => remote.ask(Method::POST, PATH, Some(wanted))?,
    };
    tell_reach(line.reached);
    if json {
        anstream::println!("{}", serde_json::to_string(&line)?);
        return Ok(ExitCode::SUCCESS);
    }
    let (target, word) = (shown(&line.target), if line.off { "off" } else { "on" });
    let until = line.until.map(|until| format!(" until {}", time(until))).unwrap_or_default();
    anstream::eprintln!("{target} is switched {word}{until}");
    Ok(ExitCode::SUCCESS)
}

fn switch_here(here: &Here, wanted: &Switch) -> anyhow::Result<SwitchLine> {
    let keys = if KeyStore::is_in(&here.journal) { Some(KeyStore::open(&here.journal)?) } else { None };
    let stored = |id: &str| keys.as_ref().is_some_and(|keys| keys.find([id]).is_ok_and(|rows| !rows.is_empty()));
    let has_key = |id: &str| here.policies.keys.contains_key(id) || stored(id);
    let (who, books) = (super::key::local_user(), here.ledger.books());
    let row = switches::order(&here.policies, books, has_key, wanted, &who, Timestamp::now())?;
    here.ledger.switch(row.clone())?;
    Ok(switches::line(&row))
}
