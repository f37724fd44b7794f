//! `turnpike budget`: what every budget stands at, and raises until a date with a reason.

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use http::Method;
use jiff::Timestamp;

use super::{
    books::{Till, path, shown, tell_reach, time},
    flags::{self, BadUsage, Length},
    remote::Server,
};
use crate::{
    admin::{
        api::{BudgetLine, BudgetList, RaiseBudget},
        budgets,
        unknown::UnknownName,
    },
    config,
};

/// Arguments of `budget`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Every budget now.
    List(List),
    /// Add to a budget until some time, with a reason; it ends by itself.
    Raise(Raise),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only this team's.
    #[arg(long)]
    team: Option<String>,
    /// Those of single users too.
    #[arg(long)]
    users: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct Raise {
    /// Which, as `turnpike budget list` names it (`team/search/month`; of one user, `user/TEAM/USER/BUDGET`).
    budget: String,
    /// What to add, as in `100 USD`.
    #[arg(required = true, num_args = 1..=2)]
    amount: Vec<String>,
    /// When it ends (`2027-01-01` or an instant).
    #[arg(long, value_name = "TIME", required_unless_present = "length", value_parser = flags::end)]
    until: Option<Timestamp>,
    /// How long it holds from now (`4h`).
    #[arg(long = "for", value_name = "LENGTH", id = "length", conflicts_with = "until", value_parser = flags::length)]
    length: Option<Length>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Runs one action.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List(list) => list.run(),
        Action::Raise(raise) => raise.run(),
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let wanted = budgets::Wanted { team: self.team, users: self.users };
        let budgets = match Till::find(&self.server)? {
            Till::Here(here) => {
                here.tell_own();
                UnknownName::check_team(&here.policies, None, wanted.team.as_deref())?;
                budgets::lines(&here.policies, &here.ledger, Timestamp::now(), &wanted)
            }
            Till::There(remote) => {
                let mut pairs = vec![("users".to_owned(), wanted.users.to_string())];
                pairs.extend(wanted.team.map(|team| ("team".to_owned(), team)));
                remote.ask::<BudgetList>(Method::GET, &path("/api/v1/budgets", &pairs), None::<&()>)?.budgets
            }
        };
        if self.json {
            anstream::println!("{}", serde_json::to_string(&BudgetList { budgets })?);
        } else if budgets.is_empty() {
            anstream::eprintln!("there is no budget");
        } else {
            anstream::println!("{}", table(&budgets));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(budgets: &[BudgetLine]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["budget", "unit", "limit", "used", "held", "left", "pace", "renews", "raised"]);
    for line in budgets {
        let raised = match line.raises.as_slice() {
            [] => String::new(),
            [only] => format!("{} until {}: {}", only.amount, time(only.until), only.why),
            several => format!("{} by {}", line.raised, several.len()),
        };
        table.add_row([
            shown(&line.id),
            line.unit.clone(),
            line.limit.clone(),
            line.used.clone(),
            line.held.clone(),
            line.left.clone(),
            format!("{}%", line.pace_percent),
            time(line.renews_at),
            shown(&raised),
        ]);
    }
    for number in 2..=6 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

impl Raise {
    fn run(self) -> anyhow::Result<ExitCode> {
        let now = Timestamp::now();
        let until = match (self.until, &self.length) {
            (Some(until), _) => until,
            (None, Some(length)) => length.after(now)?,
            (None, None) => now,
        };
        let amount = self.amount.join(" ");
        config::quota(&amount)
            .map_err(|unfit| BadUsage(format!("the amount: {}\nhint: {}", unfit.problem, unfit.hint)))?;
        let wanted = RaiseBudget { budget: self.budget, amount, until, why: self.why };
        let raised: BudgetLine = match Till::find(&self.server)? {
            Till::Here(here) => {
                let raised = budgets::raise(&here.policies, &here.ledger, &wanted, &super::key::local_user(), now)?;
                here.tell_own();
                here.tell_later();
                raised
            }
            Till::There(remote) => remote.ask(Method::POST, "/api/v1/budgets/raise", Some(&wanted))?,
        };
        tell_reach(raised.reached);
        if self.json {
            anstream::println!("{}", serde_json::to_string(&raised)?);
        } else {
            anstream::eprintln!(
                "`{}` is raised by {} until {}: {} {} in all, {} left",
                shown(&raised.id),
                wanted.amount,
                time(until),
                raised.limit,
                raised.unit,
                raised.left
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
