//! `turnpike audit`: whether the books balance, and whether a vendor's bill agrees with them.

mod invoice;

use std::process::ExitCode;

use http::Method;
use jiff::Timestamp;

use super::{
    books::{Place, shown},
    remote::{Remote, Server},
};
use crate::{
    admin::{api::AuditAnswer, books},
    ledger::{Books, BooksError},
};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    bill: invoice::Bill,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Prints what does not balance, or where a bill differs; exit 1 if anything does.
///
/// # Errors
/// Books that cannot be read, a gateway that does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(agree) = args.bill.compared(&args.server, args.json)? {
        return Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let answer = audited(&args.server)?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print(&answer);
    }
    Ok(if answer.balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn audited(server: &Server) -> anyhow::Result<AuditAnswer> {
    let over_there = |remote: Remote| remote.ask(Method::GET, "/api/v1/audit", None::<&()>);
    match Place::find(server)? {
        Place::There(remote) => over_there(remote),
        Place::Here { folder, gateway, .. } => match Books::last_standing(&folder) {
            Ok(standing) => Ok(books::balance(&folder, standing.as_ref(), Timestamp::now())?),
            // What the store counts is known to the running gateway only.
            Err(BooksError::InUse(_)) => over_there(Remote::new(gateway, server.token_file.as_deref())?),
            Err(error) => Err(error.into()),
        },
    }
}

fn print(answer: &AuditAnswer) {
    for finding in &answer.findings {
        anstream::println!("{}: {}", finding.kind.replace('_', " "), shown(&finding.what));
    }
    let untold = answer.found.saturating_sub(u64::try_from(answer.findings.len()).unwrap_or(u64::MAX));
    if untold > 0 {
        anstream::println!("and {untold} more");
    }
    let verdict = if answer.balanced { "the books balance".to_owned() } else { format!("{} faults", answer.found) };
    anstream::println!(
        "{verdict}: {} requests, {} attempts, {} USD, {} windows compared with the store, {} requests under way",
        answer.requests,
        answer.rows,
        answer.charge_usd,
        answer.compared,
        answer.under_way
    );
    if answer.swept_usd.nano() != 0 {
        anstream::println!(
            "{} USD were charged as held, since nothing more was heard; {} USD of it was corrected since",
            answer.swept_usd,
            answer.corrected_usd
        );
    }
}
