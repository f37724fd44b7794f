//! `turnpike demo`: the gateway before simulated vendors, with light traffic. Needs no key, no store, no network.

mod traffic;
mod vendors;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{net::TcpListener, sync::Semaphore};

use self::{
    traffic::Tally,
    vendors::{Mood, Vendor, Vendors},
};
use super::{
    flags,
    run::{self, Doors},
};
use crate::{
    admin::Admin,
    base::records::RecordsConfig,
    config::{self, Loaded},
    ledger::keys::KeySnapshot,
    net::{
        listener::{self, Limits},
        pool::Pool,
        tls,
    },
    proxy::{Bounds, Gateway, Settings},
    telemetry::{
        self,
        record::{keep::Keeper, line::CHAT, read},
    },
};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The gateway's port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The port of health and metrics.
    #[arg(long, default_value_t = 9090)]
    admin_port: u16,
    /// The port of the simulated vendors.
    #[arg(long, default_value_t = 8081)]
    vendors_port: u16,
    /// Decide as on that day, with its models and prices: `2025-02-15` tours early 2025.
    #[arg(long, value_name = "TIME", value_parser = flags::instant)]
    at: Option<Timestamp>,
    /// Send no traffic of its own.
    #[arg(long)]
    quiet: bool,
}

const fn vendor(name: &'static str, first_token_ms: u64, per_token_ms: u64) -> Vendor {
    let (first_token, per_token) = (Duration::from_millis(first_token_ms), Duration::from_millis(per_token_ms));
    Vendor { name, first_token, per_token }
}

/// The pace of each: plausible, not measured.
const VENDORS: &[Vendor] = &[
    vendor("openai", 450, 12),
    vendor("qwen", 700, 18),
    vendor("deepseek", 900, 14),
    vendor("gpu-1", 250, 22),
    vendor("gpu-2", 300, 24),
    vendor("newcomer", 200, 10),
];

/// The port that the policies of the demo name.
const WRITTEN_PORT: &str = "127.0.0.1:8081";

const TODAY: &[(&str, &str)] = &[
    ("backends.yaml", include_str!("../../../policies/demo/backends.yaml")),
    ("models.yaml", include_str!("../../../policies/demo/models.yaml")),
    ("routes.yaml", include_str!("../../../policies/demo/routes.yaml")),
];

const EARLY_2025: &[(&str, &str)] = &[
    ("backends.yaml", include_str!("../../../policies/tour-2025/backends.yaml")),
    ("models.yaml", include_str!("../../../policies/tour-2025/models.yaml")),
    ("routes.yaml", include_str!("../../../policies/tour-2025/routes.yaml")),
];

/// Runs the demo until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting: most often a port that is taken.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // The request log would drown the table; what the gateway warns of is shown.
    telemetry::log::start_at("warn");
    let at = args.at;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo(args, at))
}

async fn bind(port: u16, option: &str) -> anyhow::Result<TcpListener> {
    let bound = listener::bind(([127, 0, 0, 1], port).into()).await;
    bound.map_err(|error| anyhow::anyhow!("{error}\nhint: choose another with `{option}`"))
}

/// The catalog's offers of today begin in 2026; a day before 2026 takes the tour.
fn is_early(at: Option<Timestamp>) -> bool {
    at.is_some_and(|at| at < Timestamp::UNIX_EPOCH + SignedDuration::from_hours(56 * 8766))
}

fn policies(vendors_port: u16, at: Option<Timestamp>) -> anyhow::Result<Loaded> {
    let now = Timestamp::now();
    let texts = if is_early(at) { EARLY_2025 } else { TODAY };
    let address = format!("127.0.0.1:{vendors_port}");
    let files: Vec<(PathBuf, String)> =
        texts.iter().map(|(name, text)| (PathBuf::from(name), text.replace(WRITTEN_PORT, &address))).collect();
    let loaded = config::from_texts(&files, &|_| None, at.unwrap_or(now));
    loaded.map_err(|faults| anyhow::anyhow!("the demo's own policies are at fault:\n{faults}"))
}

async fn demo(args: Args, at: Option<Timestamp>) -> anyhow::Result<ExitCode> {
    let loaded = policies(args.vendors_port, at)?;
    let pool = Pool::new(tls::client_config(None)?);
    let settings = Settings {
        bounds: Bounds::default(),
        body_limit: 32 << 20,
        stream_commit_after: Duration::from_secs(15),
        operation: CHAT,
        clock_offset: at.map_or(SignedDuration::ZERO, |at| at.duration_since(Timestamp::now())),
    };
    let clients = bind(args.port, "--port").await?;
    let admin = bind(args.admin_port, "--admin-port").await?;
    let simulated = bind(args.vendors_port, "--vendors-port").await?;
    let policies = Arc::clone(&loaded.policies);
    let gateway = Gateway::new(settings, policies, KeySnapshot::default(), Arc::default(), pool.clone())?;
    let records = record(&gateway, &loaded, args.port);
    let vendors = Vendors::new(VENDORS);
    // The new model that route `canary` tries: its guard has something to find.
    vendors.begin_with("newcomer", Mood::Down);
    let server = axum::serve(simulated, vendors.router());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let _ = server.await;
    });
    anstream::println!("{}", welcome(&args));
    if let Some(records) = records {
        anstream::println!("{}", records_told(&records));
    }
    if !args.quiet {
        let tally = Arc::new(Tally::default());
        let uri: http::Uri = format!("http://127.0.0.1:{}/v1/chat/completions", args.port).parse()?;
        let rounds = if is_early(at) { vec![traffic::USUAL] } else { vec![traffic::USUAL, traffic::CANARY] };
        for round in rounds {
            let (vendors, tally) = (Arc::clone(&vendors), Arc::clone(&tally));
            tasks.spawn(traffic::drive(round, pool.clone(), uri.clone(), vendors, tally));
        }
        tasks.spawn(traffic::show(vendors, tally));
    }
    let state = Admin {
        gateway,
        ready: AtomicBool::new(true),
        keys: None,
        tokens: Vec::new(),
        open_metrics: true,
        searching: Semaphore::new(1),
    };
    let drain = Duration::from_secs(2);
    let doors = Doors { clients, admin, tls: None, limits: Limits::default(), drain };
    run::until_signalled(doors, Arc::new(state)).await
}

/// The folder of policies beside the records that a replay may try.
const CHEAPEST: &str = "cheapest";

/// Keeps records in the system's folder for temporary files, in one of the demo's own that others cannot look into.
fn record(gateway: &Gateway, loaded: &Loaded, port: u16) -> Option<PathBuf> {
    let folder = std::env::temp_dir().join(format!("turnpike-demo-{port}"));
    let config = RecordsConfig { keep_bytes: 256 << 20, ..RecordsConfig::default() };
    let keeper = own(&folder)
        .and_then(|()| empty(&folder))
        .and_then(|()| Keeper::start(&folder, config, gateway.metrics.records()));
    let kept = keeper.and_then(|keeper| {
        gateway.record_with(keeper);
        config::keep_recorded(&folder, loaded)?;
        suggest(&folder, loaded)
    });
    match kept {
        Ok(()) => Some(folder),
        Err(error) => {
            anstream::eprintln!("warning: no records are kept in `{}`: {error}", folder.display());
            None
        }
    }
}

/// Makes the folder, or makes sure that it is ours: others may write beside it.
fn own(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let (found, mine) = (fs::symlink_metadata(folder)?, fs::metadata("/proc/self")?);
            if found.is_dir() && found.uid() == mine.uid() { Ok(()) } else { Err(error) }
        }
        made => made,
    }
}

/// Takes out what an earlier demo on this port recorded: its traffic was another.
fn empty(folder: &Path) -> io::Result<()> {
    read::files_in(folder)?.into_iter().filter(|path| read::is_ours(path)).try_for_each(fs::remove_file)
}

/// Puts policies beside the records that would have chosen otherwise, for a replay to try: all routes take the cheapest.
fn suggest(folder: &Path, loaded: &Loaded) -> io::Result<()> {
    let folder = folder.join(CHEAPEST);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    loaded.texts.iter().try_for_each(|(path, text)| {
        let text = ["balanced", "fastest", "best"]
            .iter()
            .fold(text.clone(), |text, preference| text.replace(&format!("prefer: {preference}"), "prefer: cheapest"));
        fs::write(folder.join(path), text)
    })
}

fn records_told(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "What was decided, and why (the id is `x-request-id`); and what the traffic would have come to if every route took \
         the cheapest:\n\
         \n\
         \x20 turnpike why ID --records {folder}\n\
         \x20 turnpike replay --policies {folder}/{CHEAPEST} {folder}\n"
    )
}

fn welcome(args: &Args) -> String {
    let (port, vendors, admin) = (args.port, args.vendors_port, args.admin_port);
    format!(
        "Turnpike's demo: a gateway at http://127.0.0.1:{port}/v1, vendors simulated at http://127.0.0.1:{vendors}\n\
         \n\
         Ask, and see in the headers who answered, why, and for how much:\n\
         \n\
         \x20 curl -si http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' \\\n\
         \x20   -d '{{\"model\": \"auto\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n\
         \n\
         or from Python:  OpenAI(base_url=\"http://127.0.0.1:{port}/v1\", api_key=\"any\")\n\
         \n\
         Break the backend that answered ({vendors_list}), ask again, and mend it:\n\
         \n\
         \x20 curl -X POST 'http://127.0.0.1:{vendors}/break/deepseek'             # or ?how=busy, stall, cut\n\
         \x20 curl -X POST 'http://127.0.0.1:{vendors}/mend/deepseek'\n\
         \n\
         A new model answers 40 % of route `canary`, and fails: within a quarter of a minute its guard withdraws it. See the\n\
         log below, and turnpike_rollout_withdrawn.\n\
         \n\
         Numbers: http://127.0.0.1:{admin}/metrics        End: ctrl-c\n",
        vendors_list = VENDORS.iter().map(|vendor| vendor.name).collect::<Vec<_>>().join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_begins_without_the_records_of_an_earlier_one_and_beside_policies_that_choose_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = folder.path().join("20260101T000000.000Z.jsonl.zst");
        fs::write(&earlier, "traffic of then").unwrap();
        empty(folder.path()).unwrap();
        assert!(!earlier.exists());
        for at in [None, Some("2025-02-15T00:00:00Z".parse().unwrap())] {
            let loaded = policies(18_081, at).unwrap();
            suggest(folder.path(), &loaded).unwrap();
            let text = fs::read_to_string(folder.path().join(CHEAPEST).join("routes.yaml")).unwrap();
            assert!(text.contains("prefer: cheapest") && text.matches("prefer: ").count() > 3, "{text}");
            assert!(
                ["balanced", "best", "fastest"].iter().all(|word| !text.contains(&format!("prefer: {word}"))),
                "{text}"
            );
            let other = config::load_to_try(&folder.path().join(CHEAPEST), None);
            let other = other.unwrap_or_else(|faults| panic!("{faults}"));
            assert_ne!(other.policies.hash, loaded.policies.hash);
        }
    }
}
