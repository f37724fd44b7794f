//! `turnpike usage`: spend and tokens from the books.

mod recorded;

use std::{path::PathBuf, process::ExitCode};

use comfy_table::{CellAlignment, Table, presets};
use http::Method;
use jiff::Timestamp;

use super::{
    books::{Place, path, shown, time},
    flags::BadUsage,
    remote::Server,
};
use crate::{
    admin::{
        api::{UsageAnswer, UsageLine, WhyAnswer},
        books,
    },
    ledger::report::{ask::Ask, csv},
};

/// Arguments of `usage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Sum up these records (folders or files of them) instead of the books, which stay the truth: records may be
    /// dropped.
    #[arg(long, value_name = "RECORDS", num_args = 1.., conflicts_with_all = ["against", "server", "own"])]
    records: Vec<PathBuf>,
    /// Compare with this month, or with `FROM..TO`.
    #[arg(long, value_name = "MONTH")]
    against: Option<String>,
    /// Split the difference into its causes.
    #[arg(long, requires = "against")]
    why: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print comma-separated values.
    #[arg(long, conflicts_with_all = ["json", "why"])]
    csv: bool,
    #[command(flatten)]
    server: Server,
}

/// Which rows, in which groups.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Group by: team, user, key, route, arm, model, upstream, backend, provider, account, operation, outcome, hour,
    /// day, week, month, label:NAME; several with commas.
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    /// A month, as in `2026-11`; the running one unless a time is named.
    #[arg(long)]
    month: Option<String>,
    /// The first day or instant.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The first day or instant that does not count any more.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Whose calendar tells days and months; UTC unless named.
    #[arg(long)]
    zone: Option<String>,
    /// Also tell the charge in this currency: as billed in it, the rest at the rates of `currencies:`.
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    /// Only what this gateway served, and not what it knows of the others that share its store.
    #[arg(long)]
    own: bool,
    /// Only this team; this and the ones below may be given several times.
    #[arg(long)]
    team: Vec<String>,
    /// Only this user.
    #[arg(long)]
    user: Vec<String>,
    /// Only this key.
    #[arg(long)]
    key: Vec<String>,
    /// Only this route.
    #[arg(long)]
    route: Vec<String>,
    /// Only this arm of a split.
    #[arg(long)]
    arm: Vec<String>,
    /// Only this model.
    #[arg(long)]
    model: Vec<String>,
    /// Only this backend.
    #[arg(long)]
    backend: Vec<String>,
    /// Only this provider.
    #[arg(long)]
    provider: Vec<String>,
    /// Only this account.
    #[arg(long)]
    account: Vec<String>,
    /// Only this operation: `chat`, `shadow`, `score`, `rent`.
    #[arg(long)]
    operation: Vec<String>,
    /// Only this outcome.
    #[arg(long)]
    outcome: Vec<String>,
    /// Only rows with this label.
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

impl Choice {
    fn pairs(&self) -> Vec<(String, String)> {
        let single = [
            ("by", &self.by),
            ("month", &self.month),
            ("since", &self.since),
            ("until", &self.until),
            ("zone", &self.zone),
            ("currency", &self.currency),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let many = self.values().into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let own = self.own.then(|| ("own".to_owned(), "true".to_owned()));
        single.chain(many).map(|(name, value)| (name.to_owned(), value.clone())).chain(own).collect()
    }

    /// The values that rows must have.
    fn values(&self) -> [(&'static str, &Vec<String>); 12] {
        [
            ("team", &self.team),
            ("user", &self.user),
            ("key", &self.key),
            ("route", &self.route),
            ("arm", &self.arm),
            ("model", &self.model),
            ("backend", &self.backend),
            ("provider", &self.provider),
            ("account", &self.account),
            ("operation", &self.operation),
            ("outcome", &self.outcome),
            ("label", &self.label),
        ]
    }

    fn is_bound(&self) -> bool {
        self.values().iter().any(|(_, values)| !values.is_empty())
    }
}

/// Prints what the books say.
///
/// # Errors
/// A question that is none, books that cannot be read, a gateway that does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut pairs = args.choice.pairs();
    pairs.extend(args.against.clone().map(|against| ("against".to_owned(), against)));
    let answer = match args.records.as_slice() {
        [] => ask(&args.server, &pairs)?,
        named => recorded::ask(&args.server, named, &pairs)?,
    };
    if answer.damaged_bytes > 0 && args.records.is_empty() {
        anstream::eprintln!(
            "warning: {} bytes of the journal cannot be read; see `turnpike audit`",
            answer.damaged_bytes
        );
    }
    absent(&answer, args.choice.is_bound());
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
    } else if args.csv {
        anstream::print!("{}", as_csv(&answer));
    } else {
        anstream::println!("{}", as_table(&answer));
        if answer.total.unallocated_usd.nano() != 0 {
            let rest = &answer.total.unallocated_usd;
            anstream::eprintln!("{rest} USD of it are rent of own servers that no request paid for, of no team");
        }
        rates(&answer);
        if let Some(why) = &answer.why {
            anstream::println!("\n{}", compared(why, args.why));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the books say, wherever they are.
pub(super) fn ask(server: &Server, pairs: &[(String, String)]) -> anyhow::Result<UsageAnswer> {
    let wanted = Ask::read(pairs, Timestamp::now()).map_err(|wrong| BadUsage(wrong.to_string()))?;
    match Place::find(server)? {
        Place::Here { folder, policies, .. } => Ok(books::answer(&folder, &wanted, &policies)?),
        Place::There(remote) => remote.ask(Method::GET, &path("/api/v1/usage", pairs), None::<&()>),
    }
}

/// Says of what nothing is booked, so that a sum of nothing is not taken for little use. `bound`: values were asked for.
fn absent(answer: &UsageAnswer, bound: bool) {
    let time = if answer.why.is_some() { "those times" } else { "that time" };
    for line in &answer.absent {
        let (what, value, hint) = (&line.what, shown(&line.value), shown(&line.hint));
        anstream::eprintln!("note: nothing in the books of {time} has the {what} `{value}`\nhint: {hint}");
    }
    let before = answer.why.as_ref().map_or(0, |why| why.requests_before);
    let nothing = answer.total.attempts == 0 && answer.total.unallocated_usd.nano() == 0 && before == 0;
    if bound && nothing && answer.absent.is_empty() {
        anstream::eprintln!("note: each of these is in the books of {time}, and nothing in them has all at once");
    }
}

fn rates(answer: &UsageAnswer) {
    for rate in &answer.rates {
        let (currency, usd, exchanged) = (&answer.currency, &rate.usd, &rate.exchanged_usd);
        anstream::eprintln!("{exchanged} USD are told at the rate 1 {currency} = {usd} USD");
    }
    if answer.currency != "USD" {
        let billed = answer.total.native.get(&answer.currency).map_or("0", |billed| billed.as_str());
        anstream::eprintln!("{billed} {} are told as vendors bill them", answer.currency);
    }
}

fn as_table(answer: &UsageAnswer) -> String {
    let exchanged = answer.currency != "USD";
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let mut head: Vec<&str> = answer.by.iter().map(String::as_str).collect();
    head.extend(["requests", "attempts", "input", "cached", "output", "reasoning", "USD"]);
    head.extend(exchanged.then_some(answer.currency.as_str()));
    head.extend(["estimated", "swept"]);
    table.set_header(&head);
    for line in &answer.lines {
        table.add_row(cells(answer, line, exchanged));
    }
    if answer.by.is_empty() || answer.lines.len() != 1 {
        let mut total = cells(answer, &answer.total, exchanged);
        if let Some(first) = total.first_mut().filter(|_| !answer.by.is_empty()) {
            "total".clone_into(first);
        }
        if !answer.by.is_empty() || answer.lines.is_empty() {
            table.add_row(total);
        }
    }
    for column in table.column_iter_mut().skip(answer.by.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{} to {}, {}\n{table}", time(answer.since), time(answer.until), answer.zone)
}

fn cells(answer: &UsageAnswer, line: &UsageLine, exchanged: bool) -> Vec<String> {
    // A row of a rent has a backend, and neither a team nor a request.
    let of_rent = line.requests == 0 && line.attempts == 0 && line.unallocated_usd.nano() != 0;
    let value = |name: &String| match line.group.get(name) {
        Some(value) if value.is_empty() && of_rent => "(unallocated)".to_owned(),
        value => value.map_or_else(String::new, |value| shown(value)),
    };
    let mut cells: Vec<String> = answer.by.iter().map(value).collect();
    let numbers = [
        line.requests,
        line.attempts,
        line.input_tokens,
        line.cached_input_tokens,
        line.output_tokens,
        line.reasoning_tokens,
    ];
    cells.extend(numbers.map(|number| number.to_string()));
    cells.push(line.charge_usd.to_string());
    cells.extend(exchanged.then(|| line.amount.to_string()));
    let all = line.charge_usd.nano();
    cells.extend([&line.estimated_usd, &line.swept_usd].map(|part| share(part.nano(), all)));
    cells
}

/// In tenths of a per cent.
fn share(part: i128, all: i128) -> String {
    match part.saturating_mul(1000).checked_div(all) {
        Some(tenths) if part != 0 => format!("{}.{} %", tenths / 10, tenths % 10),
        _ => "–".to_owned(),
    }
}

fn as_csv(answer: &UsageAnswer) -> String {
    let exchanged = answer.currency != "USD";
    let mut head: Vec<String> = answer.by.clone();
    head.extend(
        [
            "requests",
            "attempts",
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "audio_input_tokens",
            "output_tokens",
            "reasoning_tokens",
            "audio_output_tokens",
            "charge_usd",
            "estimated_usd",
            "swept_usd",
        ]
        .map(str::to_owned),
    );
    head.extend(exchanged.then(|| format!("charge_{}", answer.currency.to_ascii_lowercase())));
    let mut text = head.join(",") + "\n";
    let lines = if answer.by.is_empty() { std::slice::from_ref(&answer.total) } else { &answer.lines };
    for line in lines {
        let value = |name: &String| csv::field(line.group.get(name).map_or("", String::as_str));
        let mut fields: Vec<String> = answer.by.iter().map(value).collect();
        let numbers = [
            line.requests,
            line.attempts,
            line.input_tokens,
            line.cached_input_tokens,
            line.cache_write_tokens,
            line.audio_input_tokens,
            line.output_tokens,
            line.reasoning_tokens,
            line.audio_output_tokens,
        ];
        fields.extend(numbers.map(|number| number.to_string()));
        fields.extend([&line.charge_usd, &line.estimated_usd, &line.swept_usd].map(ToString::to_string));
        fields.extend(exchanged.then(|| line.amount.to_string()));
        text.push_str(&(fields.join(",") + "\n"));
    }
    text
}

fn compared(why: &WhyAnswer, split: bool) -> String {
    let plus = |usd: &str| if usd.starts_with('-') { usd.to_owned() } else { format!("+{usd}") };
    let mut text = format!(
        "{} USD for {} requests; before ({} to {}) {} USD for {}: {} USD",
        why.after_usd,
        why.requests,
        time(why.since),
        time(why.until),
        why.before_usd,
        why.requests_before,
        plus(why.difference_usd.as_str()),
    );
    if split {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["why", "USD", ""]);
        for part in &why.parts {
            table.add_row([part.part.replace('_', " "), plus(part.usd.as_str()), part.about.clone()]);
        }
        table.add_row(["sum", &plus(why.difference_usd.as_str()), ""]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&format!("\n{table}"));
    }
    text
}
