//! `turnpike import`: another gateway's configuration or price table as policies.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::{flags, policies, prices::of_catalog};
use crate::config::{
    self, catalog,
    import::{
        self, Imported, Text,
        prices::{Compared, Verdict, Wanted, catalog_line, compare, line},
    },
};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A LiteLLM proxy's configuration (models, teams, budgets, key hashes) as policies.
    Litellm(Litellm),
    /// LiteLLM's price map as price rows, beside what is charged now.
    LitellmPrices(Prices),
}

/// Arguments of `import litellm`.
#[derive(Debug, clap::Args)]
struct Litellm {
    /// The file that `litellm --config` reads.
    config: PathBuf,
    /// An export of its teams (`GET /team/list`) as JSON; may be given several times.
    #[arg(long, value_name = "FILE")]
    teams: Vec<PathBuf>,
    /// An export of its keys (`GET /key/list?return_full_object=true`) as JSON; may be given several times.
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Write `litellm.yaml` into this folder instead of printing it; nothing that is there is overwritten.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Arguments of `import litellm-prices`.
#[derive(Debug, clap::Args)]
struct Prices {
    /// `model_prices_and_context_window.json`.
    map: PathBuf,
    /// The first day or instant at which the rows hold; today unless named.
    #[arg(long, value_name = "TIME", value_parser = from)]
    from: Option<String>,
    /// The server's file, or a folder of policies; `turnpike.yaml` unless named, else the folder `policies`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Rows for the built-in catalog, and not for the policies.
    #[arg(long)]
    catalog: bool,
    /// Print the comparison as JSON instead of rows.
    #[arg(long)]
    json: bool,
}

/// The largest file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Runs an importer.
///
/// # Errors
/// Files that cannot be read or are something else.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Litellm(args) => litellm(&args),
        Command::LitellmPrices(args) => prices(&args),
    }
}

/// An instant, in the words in which it will stand in the rows.
fn from(text: &str) -> Result<String, String> {
    flags::instant(text).map(|_| text.to_owned())
}

fn read(path: &Path) -> anyhow::Result<Text> {
    let found = fs::metadata(path).map_err(|error| {
        anyhow::anyhow!(
            "`{}` cannot be read: {error}\nhint: name the file of the other gateway, or its export",
            path.display()
        )
    })?;
    let size = found.len();
    if size > LONGEST {
        bail!("`{}` has {size} bytes; at most {LONGEST} are read", path.display());
    }
    let text = fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    Ok((path.to_owned(), text))
}

fn litellm(args: &Litellm) -> anyhow::Result<ExitCode> {
    let exports: Vec<Text> = args.teams.iter().chain(&args.keys).map(|path| read(path)).collect::<Result<_, _>>()?;
    let imported = match import::litellm(read(&args.config)?, exports) {
        Ok(imported) => imported,
        Err(faults) => {
            anstream::eprint!("{}", faults.render(true));
            return Ok(ExitCode::FAILURE);
        }
    };
    for note in &imported.notes {
        anstream::eprintln!("{}\n", note.render(true));
    }
    let name = PathBuf::from("litellm.yaml");
    let checked =
        config::from_texts(&[(name.clone(), imported.policies.clone())], &policies::environment, Timestamp::now());
    match &args.out {
        None => anstream::print!("{}", imported.policies),
        Some(folder) => write(&folder.join(name), &imported.policies)?,
    }
    anstream::eprintln!("{}", summary(&imported));
    match checked {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(faults) => {
            anstream::eprint!("what came of it is at fault; mend it by hand\n{}", faults.render(true));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes a file that is not there yet. It is its owner's alone: it holds hashes of keys.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
    let mut file = file.with_context(|| format!("`{}` cannot be written", path.display()))?;
    file.write_all(text.as_bytes())?;
    anstream::eprintln!("wrote `{}`; see what `turnpike check` says of it", path.display());
    Ok(())
}

fn summary(imported: &Imported) -> String {
    let told = imported.counts.iter().filter(|(_, count)| *count > 0);
    let told: Vec<String> =
        told.map(|(what, count)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" })).collect();
    format!("{}; {} notes", told.join(", "), imported.notes.len())
}

fn prices(args: &Prices) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let from = args.from.clone().unwrap_or_else(|| now.to_zoned(TimeZone::UTC).date().to_string());
    let loaded = if args.catalog { None } else { policies::load(args.config.as_deref(), now)? };
    let wanted: Vec<Wanted> = match &loaded {
        Some(loaded) => {
            let candidates = loaded.policies.candidates.iter();
            let wanted = candidates.map(|candidate| Wanted {
                seller: candidate.backend.name.to_string(),
                provider: candidate.backend.provider.to_owned(),
                upstream: candidate.upstream.to_string(),
                rows: candidate.prices.clone(),
            });
            wanted.collect()
        }
        None => {
            let offers = of_catalog(catalog::built_in()).into_iter();
            // The map's dollars are those of the vendors' sites abroad.
            let abroad = offers.filter(|offer| offer.region.as_deref().is_none_or(|region| region == "intl"));
            let wanted = abroad.map(|offer| Wanted {
                seller: offer.provider.clone(),
                provider: offer.provider,
                upstream: offer.upstream,
                rows: offer.rows,
            });
            wanted.collect()
        }
    };
    let compared = match compare(read(&args.map)?, wanted, now) {
        Ok(compared) => compared,
        Err(faults) => {
            anstream::eprint!("{}", faults.render(true));
            return Ok(ExitCode::FAILURE);
        }
    };
    if args.json {
        let rows: Vec<serde_json::Value> = compared.iter().map(as_json).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&json!({"from": from, "prices": rows}))?);
    } else {
        anstream::print!("{}", rows(&compared, &from, loaded.is_some()));
    }
    anstream::eprintln!("{}", difference(&compared));
    Ok(ExitCode::SUCCESS)
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Differs => "differs",
        Verdict::New => "new",
        Verdict::Missing => "missing",
        Verdict::Unpriced => "unpriced",
        Verdict::Foreign(_) => "in another currency",
    }
}

fn as_json(row: &Compared) -> serde_json::Value {
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "seller": row.wanted.seller,
        "upstream": row.wanted.upstream,
        "verdict": word(row.verdict),
        "before": said(&row.before),
        "after": said(&row.after),
        "source": said(&row.source),
        "rounded": row.rounded,
        "left_out": row.left_out,
        "odd": row.odd,
    })
}

/// The rows that are new or differ, each under what it takes the place of.
fn rows(compared: &[Compared], from: &str, own: bool) -> String {
    let mut text = String::new();
    let told = compared.iter().filter(|row| matches!(row.verdict, Verdict::New | Verdict::Differs));
    for row in told {
        if text.is_empty() {
            text.push_str("prices:\n");
        }
        let before = if row.before.is_empty() { "nothing was known" } else { &row.before };
        let Wanted { seller, upstream, .. } = &row.wanted;
        let made = if own {
            line(seller, upstream, Some(from), &row.rates, &row.source)
        } else {
            catalog_line(seller, upstream, from, &row.rates, &row.source)
        };
        text.push_str(&format!("  # {upstream} at {seller}: before {before}\n  {made}\n"));
    }
    text
}

fn difference(compared: &[Compared]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "seller", "model", "charged now", "LiteLLM says", "note"]);
    let mut same = 0_usize;
    for row in compared {
        if row.verdict == Verdict::Same {
            same += 1;
            continue;
        }
        let mut notes: Vec<String> = Vec::new();
        if let Verdict::Foreign(currency) = row.verdict {
            notes.push(format!("billed in {currency}: the map's dollars are not its price"));
        }
        notes.extend(row.odd.iter().map(|odd| (*odd).to_owned()));
        notes.extend((row.rounded > 0).then(|| format!("{} amounts rounded up", row.rounded)));
        notes.extend((!row.left_out.is_empty()).then(|| format!("left out: {}", row.left_out.join(", "))));
        table.add_row([
            word(row.verdict).to_owned(),
            row.wanted.seller.clone(),
            row.wanted.upstream.clone(),
            row.before.clone(),
            row.after.clone(),
            notes.join("; "),
        ]);
    }
    format!("{table}\n{same} of {} prices are the same", compared.len())
}
