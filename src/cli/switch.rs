//! `turnpike off` and `turnpike on`: the emergency switch.

use std::{process::ExitCode, sync::Arc};

use comfy_table::{Table, presets};
use http::Method;
use jiff::{SignedDuration, Timestamp};

use super::{
    books::{self, shown, time},
    remote::{Remote, Server},
};
use crate::{
    admin::{
        api::{Switch, SwitchLine, SwitchList},
        switches,
    },
    config,
    ledger::{BooksError, Ledger, keys::KeyStore},
    policy::Policies,
};

const PATH: &str = "/api/v1/switches";

/// Arguments of `off`.
#[derive(Debug, clap::Args)]
pub struct Off {
    /// What: `backend:X`, `provider:X`, `model:X`, `team:X`, `key:X` or `arm:X@ROUTE`.
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// It ends by itself after so long (`4h`).
    #[arg(long = "for", value_name = "LENGTH", id = "length")]
    length: Option<String>,
    /// End what is under way too; without it, that goes on to its end.
    #[arg(long)]
    cut: bool,
    /// Why; who asks in vain is told.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
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

/// Where it is switched.
enum Place {
    /// In the books of a gateway that does not run.
    Here(Box<Here>),
    /// In a running gateway.
    There(Remote),
}

struct Here {
    policies: Arc<Policies>,
    ledger: Ledger,
    keys: Option<KeyStore>,
}

/// Switches something off, or lists what is off.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn off(args: Off) -> anyhow::Result<ExitCode> {
    let place = Place::find(&args.server)?;
    let (Some(target), Some(why)) = (args.target, args.why) else { return list(&place, args.json) };
    let until = match &args.length {
        Some(text) => {
            let length = config::duration(text)
                .map_err(|unfit| anyhow::anyhow!("`--for`: {}\nhint: {}", unfit.problem, unfit.hint))?;
            Some(Timestamp::now().checked_add(SignedDuration::try_from(length)?)?)
        }
        None => None,
    };
    place.switch(&Switch { target, off: true, until, cut: args.cut, why }, args.json)
}

/// Switches something on again.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn on(args: On) -> anyhow::Result<ExitCode> {
    let place = Place::find(&args.server)?;
    place.switch(&Switch { target: args.target, off: false, until: None, cut: false, why: args.why }, args.json)
}

fn list(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let list = match place {
        Place::Here(here) => {
            SwitchList { switches: switches::lines(&here.policies, here.ledger.books(), Timestamp::now()) }
        }
        Place::There(remote) => remote.ask(Method::GET, PATH, None::<&()>)?,
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

impl Place {
    /// Finds it: with `--server` or where one has the books open, the running gateway.
    fn find(server: &Server) -> anyhow::Result<Self> {
        let token_file = server.token_file.as_deref();
        if let Some(address) = &server.server {
            return Ok(Self::There(Remote::new(address, token_file)?));
        }
        let loaded = books::configuration(server)?;
        let journal = &loaded.server.journal;
        match Ledger::embedded(&journal.join("books"), Timestamp::now()) {
            Ok((ledger, _)) => {
                let keys = if KeyStore::is_in(journal) { Some(KeyStore::open(journal)?) } else { None };
                Ok(Self::Here(Box::new(Here { policies: loaded.policies, ledger, keys })))
            }
            Err(BooksError::InUse(_)) => {
                Ok(Self::There(Remote::new(format!("http://{}", loaded.server.admin.listen), token_file)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn switch(&self, wanted: &Switch, json: bool) -> anyhow::Result<ExitCode> {
        let line = match self {
            Self::Here(here) => here.switch(wanted)?,
            Self::There(remote) => remote.ask(Method::POST, PATH, Some(wanted))?,
        };
        if json {
            anstream::println!("{}", serde_json::to_string(&line)?);
            return Ok(ExitCode::SUCCESS);
        }
        let (target, word) = (shown(&line.target), if line.off { "off" } else { "on" });
        let until = line.until.map(|until| format!(" until {}", time(until))).unwrap_or_default();
        anstream::eprintln!("{target} is switched {word}{until}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Here {
    fn switch(&self, wanted: &Switch) -> anyhow::Result<SwitchLine> {
        let stored =
            |id: &str| self.keys.as_ref().is_some_and(|keys| keys.find([id]).is_ok_and(|rows| !rows.is_empty()));
        let has_key = |id: &str| self.policies.keys.contains_key(id) || stored(id);
        let (who, books) = (super::key::local_user(), self.ledger.books());
        let row = switches::order(&self.policies, books, has_key, wanted, &who, Timestamp::now())?;
        self.ledger.switch(row.clone())?;
        Ok(switches::line(&row))
    }
}
