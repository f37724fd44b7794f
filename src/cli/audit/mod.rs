//! `turnpike audit`: whether the books balance, and whether a vendor's bill agrees with them.

mod invoice;

use std::process::ExitCode;

use http::Method;
use jiff::Timestamp;

use super::{
    books::{Place, shown},
    check::count,
    remote::{Remote, Server},
};
use crate::{
    admin::{
        api::{AuditAnswer, ReleaseNode, ReleasedNode, SliceLine, StoreLine},
        books,
    },
    ledger::{Books, BooksError},
};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    bill: invoice::Bill,
    /// Give back what this node leases of budgets: only of one that has been silent for ten minutes, and that spends
    /// nothing any more.
    #[arg(long, value_name = "NODE", requires = "why")]
    release: Option<String>,
    /// Why it is given back; this is booked.
    #[arg(long, requires = "release")]
    why: Option<String>,
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
    if let (Some(node), Some(why)) = (&args.release, &args.why) {
        let wanted = ReleaseNode { node: node.clone(), why: why.clone() };
        return release(&args.server, &wanted, args.json);
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
            Ok(standing) => Ok(books::balance(&folder, standing.map(Into::into), Timestamp::now())?),
            // What the store counts is known to the running gateway only.
            Err(BooksError::InUse(_)) => over_there(Remote::new(gateway, server.token_file.as_deref())?),
            Err(error) => Err(error.into()),
        },
    }
}

/// Only a running gateway may tell the store so: it books it.
fn release(server: &Server, wanted: &ReleaseNode, json: bool) -> anyhow::Result<ExitCode> {
    let remote = match Place::find(server)? {
        Place::There(remote) => remote,
        Place::Here { gateway, .. } => Remote::new(gateway, server.token_file.as_deref())?,
    };
    let released: ReleasedNode = remote.ask(Method::POST, "/api/v1/audit/release", Some(wanted))?;
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&released)?);
    } else {
        for slice in &released.slices {
            anstream::println!("{}: {} given back", shown(&slice.fence), amount(slice));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn amount(slice: &SliceLine) -> String {
    format!("{} (nano-dollars, tokens or requests)", slice.amount)
}

fn print_store(store: &StoreLine) {
    if let Some(away) = &store.away {
        anstream::println!("nothing was compared with the store: {}", shown(away));
    }
    if !store.in_part.is_empty() {
        let nodes = store.in_part.join(", ");
        anstream::println!("not all is known of these nodes, so the store may count more: {}", shown(&nodes));
    }
    if store.passed_over > 0 {
        anstream::println!("{} windows were too many to be compared", store.passed_over);
    }
    for silent in &store.disputed {
        let minutes = silent.silent_seconds / 60;
        anstream::println!("node {} is silent for {minutes} min; what it leases counts as spent:", shown(&silent.node));
        for slice in &silent.slices {
            anstream::println!("  {}: {}", shown(&slice.fence), amount(slice));
        }
        anstream::println!("  `turnpike audit --release {} --why …` gives it back", shown(&silent.node));
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
    let in_part = answer.rents_in_part > 0 || answer.store.as_ref().is_some_and(|store| !store.in_part.is_empty());
    let verdict = match (answer.balanced, in_part) {
        (true, false) => "the books balance".to_owned(),
        (true, true) => "the books are known in part, and what is known balances".to_owned(),
        (false, _) => count(usize::try_from(answer.found).unwrap_or(usize::MAX), "fault"),
    };
    anstream::println!(
        "{verdict}: {} requests, {} attempts, {} USD, {} windows compared with the store, {} requests under way",
        answer.requests,
        answer.rows,
        answer.charge_usd,
        answer.compared,
        answer.under_way
    );
    if answer.rent_usd.nano() != 0 {
        anstream::println!(
            "{} USD are the rent of own servers, of which requests did not pay {} USD; {} hours compared",
            answer.rent_usd,
            answer.unallocated_usd,
            answer.rents
        );
    }
    if answer.rents_in_part > 0 {
        anstream::println!(
            "{} hours of rent were not compared: not all is known here that other gateways have booked in them",
            answer.rents_in_part
        );
    }
    answer.store.iter().for_each(print_store);
    if answer.swept_usd.nano() != 0 {
        anstream::println!(
            "{} USD were charged as held, since nothing more was heard; {} USD of it was corrected since",
            answer.swept_usd,
            answer.corrected_usd
        );
    }
}
