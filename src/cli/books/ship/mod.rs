//! `turnpike books ship`: brings the settled rows of a journal into PostgreSQL, each once.
//!
//! Rows and the position behind them go into one transaction, so that what ends either side in the middle leaves both
//! or neither. A row that is there already, by (request, attempt, revision), stays as it is.

mod row;
mod sink;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use sha2::{Digest, Sha256};
use tokio_postgres::Config;

use self::sink::{Failure, Sink};
use crate::{
    base::hex,
    cli::{books::Place, flags::BadUsage, remote::Server},
    ledger::{
        journal::{Position, Reader, Reading},
        mirror_folder,
        row::Entry,
    },
    net::postgres::Tls,
};

/// Arguments of `books`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Bring the settled rows into PostgreSQL, each once; goes on until it is ended, or with `--once` up to now.
    Ship(Ship),
}

#[derive(Debug, clap::Args)]
struct Ship {
    /// The database: `postgres://USER:PASSWORD@HOST/NAME?sslmode=require`. The tables are made where there are none.
    #[arg(long, value_name = "URL", env = "TURNPIKE_BOOKS_TO", hide_env_values = true)]
    to: String,
    /// A PEM file with the certificate authority of the database, besides the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Go on with what comes; the default.
    #[arg(long, conflicts_with = "once")]
    follow: bool,
    /// End when all that is there now has been shipped.
    #[arg(long)]
    once: bool,
    /// The most requests in one transaction.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// Also ship what this gateway knows of the others that share its store: each row is there once all the same.
    #[arg(long)]
    all: bool,
    /// The configuration whose journal is shipped.
    #[arg(short, long, value_name = "FILE", default_value = "turnpike.yaml")]
    config: PathBuf,
}

/// How long to wait for new rows.
const POLL: Duration = Duration::from_millis(500);
/// How long to wait before a database is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Ships until it is done or ended.
///
/// # Errors
/// A database that refuses what it is told, books that cannot be read; with `--once` also one that cannot be reached.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Action::Ship(ship) = args.action;
    let server = Server { config: ship.config.clone(), server: None, token_file: None };
    let Place::Here { folder, .. } = Place::find(&server)? else { bail!("only a journal's folder is shipped") };
    let mut config: Config = ship.to.parse().map_err(|_| {
        // The parser's own words may repeat a password.
        BadUsage("`--to` is not the address of a database\nhint: `postgres://USER:PASSWORD@HOST:5432/NAME`".to_owned())
    })?;
    if config.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        config.password(password);
    }
    config.application_name("turnpike").connect_timeout(Duration::from_secs(10));
    let tls = Tls::new(ship.ca.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let batch = usize::try_from(ship.batch).unwrap_or(usize::MAX);
    let shipped = runtime.block_on(async {
        let others = ship.all.then(|| mirror_folder(&folder));
        let folders = std::iter::once(folder).chain(others).collect();
        let mut shipper = Shipper { folders, config, tls, batch, rows: 0 };
        if ship.once { shipper.once().await.map_err(Into::into) } else { shipper.follow().await }.map(|()| shipper.rows)
    })?;
    anstream::eprintln!("{shipped} rows shipped");
    Ok(ExitCode::SUCCESS)
}

struct Shipper {
    /// The journals that are shipped.
    folders: Vec<PathBuf>,
    config: Config,
    tls: Tls,
    batch: usize,
    /// Rows that were new to the database.
    rows: u64,
}

impl Shipper {
    /// Ships what is there now.
    async fn once(&mut self) -> Result<(), Failure> {
        let mut sink = Sink::open(&self.config, self.tls.clone()).await?;
        self.catch_up(&mut sink).await
    }

    /// Ships what is there and what comes, over every failure that may pass.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut pause = RETRY.0;
        let mut told = false;
        loop {
            let failed = match Sink::open(&self.config, self.tls.clone()).await {
                Ok(mut sink) => loop {
                    match self.catch_up(&mut sink).await {
                        Ok(()) => {
                            if std::mem::take(&mut told) {
                                anstream::eprintln!("the database is there again");
                            }
                            pause = RETRY.0;
                        }
                        Err(failed) => break failed,
                    }
                    tokio::time::sleep(POLL).await;
                },
                Err(failed) => failed,
            };
            if !failed.passes() {
                return Err(failed.into());
            }
            if !std::mem::replace(&mut told, true) {
                anstream::eprintln!("{failed}; trying again");
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(RETRY.1);
        }
    }

    /// Brings the database to the end of the journals.
    async fn catch_up(&mut self, sink: &mut Sink) -> Result<(), Failure> {
        for folder in self.folders.clone() {
            self.catch_up_with(&folder, sink).await?;
        }
        Ok(())
    }

    async fn catch_up_with(&mut self, folder: &Path, sink: &mut Sink) -> Result<(), Failure> {
        let Some(journal) = fingerprint(folder)? else { return Ok(()) };
        let mut position = sink.position(&journal).await?;
        loop {
            let batch = Batch::read(folder, position, self.batch)?;
            if batch.end == position {
                return Ok(());
            }
            for (at, bytes) in &batch.damaged {
                let Position { segment, offset } = at;
                anstream::eprintln!("warning: {bytes} bytes at byte {offset} of segment {segment} are no entry");
            }
            match sink.put(&journal, position, batch.end, &batch.rows).await? {
                Some(new) => {
                    self.rows += new;
                    position = batch.end;
                }
                // Somebody else ships the same journal, and was faster.
                None => position = sink.position(&journal).await?,
            }
        }
    }
}

/// What tells this journal from all others, and from itself once its beginning has been removed: the digest of its
/// first entry. `None` while it has none.
fn fingerprint(folder: &Path) -> Result<Option<String>, Failure> {
    for reading in Reader::open(folder, Position::default())? {
        if let Reading::Entry(entry, behind) = reading? {
            let mut digest = Sha256::new();
            digest.update(behind.segment.to_le_bytes());
            digest.update(serde_json::to_vec(&*entry).map_err(std::io::Error::from)?);
            let digest: [u8; 32] = digest.finalize().into();
            return Ok(Some(hex::digits(&digest)));
        }
    }
    Ok(None)
}

/// A stretch of the journal.
struct Batch {
    rows: Vec<serde_json::Value>,
    end: Position,
    damaged: Vec<(Position, u64)>,
}

impl Batch {
    fn read(folder: &Path, from: Position, most: usize) -> Result<Self, Failure> {
        let mut reader = Reader::open(folder, from)?;
        let mut batch = Self { rows: Vec::new(), end: from, damaged: Vec::new() };
        let mut requests = 0;
        while requests < most {
            match reader.next().transpose()? {
                Some(Reading::Entry(entry, behind)) => {
                    batch.end = behind;
                    let all = match *entry {
                        Entry::Settle(settled) => vec![settled],
                        Entry::Told(told) => told.settled,
                        _ => continue,
                    };
                    requests += all.len();
                    let rows = all.iter().flat_map(|settled| settled.rows.iter().map(|row| row::json(row, settled)));
                    batch.rows.extend(rows);
                }
                Some(Reading::Damage { at, bytes }) => {
                    batch.end = reader.position();
                    batch.damaged.push((at, bytes));
                }
                // What a gateway is about to write.
                Some(Reading::Torn { .. }) | None => break,
            }
        }
        Ok(batch)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Books(error)
    }
}
