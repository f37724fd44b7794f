//! The database: its tables, what is put into them, and where it stands.

use std::{fmt, time::Duration};

use serde_json::Value;
use tokio_postgres::{Client, Config, Transaction};

use crate::{ledger::journal::Position, net::postgres::Tls};

/// How long one statement may take: a database that does not answer is one that is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// The steps to the tables as they are, each made once, in this order. A step that was released is never changed.
const STEPS: &[&str] = &["CREATE TABLE turnpike.rows (
        request uuid NOT NULL,
        attempt integer NOT NULL,
        revision integer NOT NULL,
        dispatched timestamptz NOT NULL,
        settled timestamptz NOT NULL,
        team text NOT NULL,
        user_name text NOT NULL,
        key_id text NOT NULL,
        route text NOT NULL,
        arm text,
        operation text NOT NULL,
        dialect text NOT NULL,
        labels jsonb NOT NULL,
        model text NOT NULL,
        upstream text NOT NULL,
        backend text NOT NULL,
        provider text NOT NULL,
        account text NOT NULL,
        outcome text NOT NULL,
        input_tokens bigint NOT NULL,
        cached_input_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        audio_input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        reasoning_tokens bigint NOT NULL,
        audio_output_tokens bigint NOT NULL,
        currency text,
        price_from timestamptz,
        price_rates_nano bigint[],
        price_factor_ppm bigint,
        exchange_nanousd bigint,
        native_nano bigint NOT NULL,
        charge_nanousd bigint NOT NULL,
        charge_usd numeric(28, 9) GENERATED ALWAYS AS (charge_nanousd::numeric * 0.000000001) STORED,
        held_nanousd bigint NOT NULL,
        estimated boolean NOT NULL,
        swept boolean NOT NULL,
        PRIMARY KEY (request, attempt, revision)
    );
    CREATE INDEX rows_dispatched ON turnpike.rows (dispatched);
    CREATE TABLE turnpike.positions (
        journal text PRIMARY KEY,
        segment bigint NOT NULL,
        byte bigint NOT NULL,
        moved timestamptz NOT NULL DEFAULT now()
    );"];

/// Takes the rows as one JSON text, so that a batch is one round trip whatever its size.
const INSERT: &str = "
    INSERT INTO turnpike.rows (
        request, attempt, revision, dispatched, settled, team, user_name, key_id, route, arm, operation, dialect,
        labels, model, upstream, backend, provider, account, outcome, input_tokens, cached_input_tokens,
        cache_write_tokens, audio_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens, currency,
        price_from, price_rates_nano, price_factor_ppm, exchange_nanousd, native_nano, charge_nanousd, held_nanousd,
        estimated, swept)
    SELECT
        request, attempt, revision, timestamptz 'epoch' + dispatched_ms * interval '1 millisecond',
        timestamptz 'epoch' + settled_ms * interval '1 millisecond', team, user_name, key_id, route, arm, operation,
        dialect, labels, model, upstream, backend, provider, account, outcome, input_tokens, cached_input_tokens,
        cache_write_tokens, audio_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens, currency,
        timestamptz 'epoch' + price_from_s * interval '1 second', price_rates_nano, price_factor_ppm,
        exchange_nanousd, native_nano, charge_nanousd, held_nanousd, estimated, swept
    FROM jsonb_to_recordset($1::text::jsonb) AS row(
        request uuid, attempt integer, revision integer, dispatched_ms bigint, settled_ms bigint, team text,
        user_name text, key_id text, route text, arm text, operation text, dialect text, labels jsonb, model text,
        upstream text, backend text, provider text, account text, outcome text, input_tokens bigint,
        cached_input_tokens bigint, cache_write_tokens bigint, audio_input_tokens bigint, output_tokens bigint,
        reasoning_tokens bigint, audio_output_tokens bigint, currency text, price_from_s bigint,
        price_rates_nano bigint[], price_factor_ppm bigint, exchange_nanousd bigint, native_nano bigint,
        charge_nanousd bigint, held_nanousd bigint, estimated boolean, swept boolean)
    ON CONFLICT (request, attempt, revision) DO NOTHING";

/// Why rows could not be shipped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The database refused, or is away.
    #[error("the database {}", Words(.0))]
    Database(#[from] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("the database did not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// Its tables are those of a later release.
    #[error("the tables are of a later release (step {found}, this one knows {})\nhint: update this turnpike", STEPS.len())]
    Newer {
        /// The last step that was made.
        found: i32,
    },
    /// The journal cannot be read.
    #[error("the books cannot be read: {0}")]
    Books(std::io::Error),
}

/// What a database says, with its code and its reason.
struct Words<'a>(&'a tokio_postgres::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(said) = self.0.as_db_error() {
            return write!(f, "refuses ({}): {}", said.code().code(), said.message());
        }
        let cause = std::error::Error::source(self.0);
        write!(f, "cannot be reached: {}", cause.map_or_else(|| self.0.to_string(), ToString::to_string))
    }
}

impl Failure {
    /// Whether another try may succeed.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Newer { .. } | Self::Books(_) => false,
            // Without a code the connection failed. With one: connection, transaction state, rollback, resources,
            // not ready, intervention, system; all else is a mistake that stays.
            Self::Database(error) => {
                error.code().is_none_or(|code| ["08", "25", "40", "53", "55", "57", "58"].contains(&&code.code()[..2]))
            }
        }
    }
}

/// An open database.
pub(super) struct Sink {
    client: Client,
}

impl Sink {
    /// Connects, and makes the tables or brings them up to date.
    pub(super) async fn open(config: &Config, tls: Tls) -> Result<Self, Failure> {
        let (client, connection) = in_time(config.connect(tls)).await?;
        // It ends when the client is dropped; what it fails with, the statements fail with too.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut sink = Self { client };
        sink.bring_up().await?;
        Ok(sink)
    }

    async fn bring_up(&mut self) -> Result<(), Failure> {
        let work = in_time(self.client.transaction()).await?;
        // Two shippers that begin together take turns.
        in_time(work.batch_execute("SELECT pg_advisory_xact_lock(hashtext('turnpike.steps'))")).await?;
        // Who may not make a schema may use one that was made for them.
        let row = in_time(work.query_one("SELECT to_regnamespace('turnpike') IS NULL", &[])).await?;
        if row.get(0) {
            in_time(work.batch_execute("CREATE SCHEMA turnpike")).await?;
        }
        in_time(work.batch_execute(
            "CREATE TABLE IF NOT EXISTS turnpike.steps (step integer PRIMARY KEY, made timestamptz DEFAULT now())",
        ))
        .await?;
        let row = in_time(work.query_one("SELECT coalesce(max(step), 0) FROM turnpike.steps", &[])).await?;
        let found: i32 = row.get(0);
        let made = usize::try_from(found).ok().filter(|made| *made <= STEPS.len());
        let made = made.ok_or(Failure::Newer { found })?;
        for (step, statements) in (1_i32..).zip(STEPS).skip(made) {
            in_time(work.batch_execute(statements)).await?;
            in_time(work.execute("INSERT INTO turnpike.steps (step) VALUES ($1)", &[&step])).await?;
        }
        in_time(work.commit()).await
    }

    /// How far `journal` has been shipped.
    pub(super) async fn position(&self, journal: &str) -> Result<Position, Failure> {
        let query = "SELECT segment, byte FROM turnpike.positions WHERE journal = $1";
        let row = in_time(self.client.query_opt(query, &[&journal])).await?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(row.map(|row| Position { segment: number(row.get(0)), offset: number(row.get(1)) }).unwrap_or_default())
    }

    /// Puts the rows between two positions of `journal`, and the second position; tells how many were new. `None` when
    /// the journal has been shipped further by somebody else meanwhile: then nothing is put.
    pub(super) async fn put(
        &mut self,
        journal: &str,
        from: Position,
        to: Position,
        rows: &[Value],
    ) -> Result<Option<u64>, Failure> {
        let work = in_time(self.client.transaction()).await?;
        if !moved(&work, journal, from, to).await? {
            return Ok(None);
        }
        let new = if rows.is_empty() {
            0
        } else {
            let rows = serde_json::to_string(rows).map_err(std::io::Error::from)?;
            in_time(work.execute(INSERT, &[&rows])).await?
        };
        in_time(work.commit()).await?;
        Ok(Some(new))
    }
}

/// Moves the position, if it is where it is thought to be; the row stays locked until the end of the transaction.
async fn moved(work: &Transaction<'_>, journal: &str, from: Position, to: Position) -> Result<bool, Failure> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (segment, byte) = (number(to.segment), number(to.offset));
    let rows = if from == Position::default() {
        let insert =
            "INSERT INTO turnpike.positions (journal, segment, byte) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        in_time(work.execute(insert, &[&journal, &segment, &byte])).await?
    } else {
        let (old_segment, old_byte) = (number(from.segment), number(from.offset));
        let update = "UPDATE turnpike.positions SET segment = $2, byte = $3, moved = now() \
             WHERE journal = $1 AND segment = $4 AND byte = $5";
        in_time(work.execute(update, &[&journal, &segment, &byte, &old_segment, &old_byte])).await?
    };
    Ok(rows == 1)
}

async fn in_time<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| Failure::Late)?.map_err(Into::into)
}
