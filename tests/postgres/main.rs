//! `turnpike books ship` before a real PostgreSQL, which the tests start, kill and start again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod journal;
mod server;

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use journal::Books;
use server::Postgres;

/// A folder with a configuration whose journal is [`Books`].
fn ship(folder: &Path, to: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(["books", "ship", "--to", to]).args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

fn once(folder: &Path, to: &str) -> Output {
    ship(folder, to, &["--once"]).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

/// A shipper under way; dropping it kills it.
struct Under(Child);

impl Under {
    fn way(folder: &Path, to: &str) -> Self {
        let mut command = ship(folder, to, &["--batch", "20"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        // SIGKILL: nothing is closed, nothing said.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const SUMS: &str = "SELECT count(*), coalesce(sum(charge_nanousd), 0)::bigint, \
     coalesce(sum(input_tokens), 0)::bigint FROM turnpike.rows";

#[test]
fn every_row_arrives_once_whoever_is_killed() {
    let mut database = Postgres::start(&[]);
    let mut books = Books::new();
    books.write(2000);
    let mut shipped = 0;
    for round in 0..6 {
        let shipper = Under::way(books.folder(), &database.url());
        let goal = (shipped + 100).min(books.rows());
        until("some rows have arrived", || {
            shipped = database.count("SELECT count(*) FROM turnpike.rows");
            shipped >= goal
        });
        books.write(100);
        if round % 2 == 0 {
            drop(shipper);
        } else {
            // The shipper outlives the database, and goes on with the next one.
            database.crash();
            database.restart();
            until("it goes on", || {
                database.count("SELECT count(*) FROM turnpike.rows") > shipped || shipped == books.rows()
            });
        }
        shipped = database.count("SELECT count(*) FROM turnpike.rows");
    }
    done(&once(books.folder(), &database.url()));
    assert_eq!(database.numbers(SUMS), [books.rows(), books.charged(), books.read()]);
    // Once more changes nothing, and neither does a database that has forgotten how far it was.
    assert!(done(&once(books.folder(), &database.url())).contains("0 rows shipped"));
    database.run("DELETE FROM turnpike.positions");
    assert!(done(&once(books.folder(), &database.url())).contains("0 rows shipped"));
    assert_eq!(database.numbers(SUMS), [books.rows(), books.charged(), books.read()]);
}

#[test]
fn two_shippers_of_one_journal_and_two_journals_of_one_database_do_not_disturb_each_other() {
    let database = Postgres::start(&[]);
    let (mut first, mut second) = (Books::new(), Books::new());
    first.write(1500);
    second.write(300);
    let both = [Under::way(first.folder(), &database.url()), Under::way(first.folder(), &database.url())];
    let other = Under::way(second.folder(), &database.url());
    let all = first.rows() + second.rows();
    until("all have arrived", || database.count("SELECT count(*) FROM turnpike.rows") >= all);
    drop((both, other));
    assert_eq!(database.numbers(SUMS), [all, first.charged() + second.charged(), first.read() + second.read()]);
    assert_eq!(database.count("SELECT count(*) FROM turnpike.positions"), 2);
}

#[test]
fn with_all_any_gateway_ships_the_rows_of_all_and_each_is_there_once() {
    let database = Postgres::start(&[]);
    let (mut first, mut second) = (Books::new(), Books::new());
    first.write(30);
    second.write(20);
    first.hear(&second);
    second.hear(&first);
    let all = |books: &Books| ship(books.folder(), &database.url(), &["--once", "--all"]).output().unwrap();
    assert!(done(&once(first.folder(), &database.url())).contains("30 rows shipped"));
    assert!(done(&all(&first)).contains("20 rows shipped"));
    assert!(done(&all(&second)).contains("0 rows shipped"));
    let sums = [50, first.charged() + second.charged(), first.read() + second.read()];
    assert_eq!(database.numbers(SUMS), sums);
    // What comes is shipped from where each of the two journals was.
    second.write(5);
    assert!(done(&all(&second)).contains("5 rows shipped"));
}

#[test]
fn a_row_is_there_with_all_that_the_books_say() {
    let database = Postgres::start(&[]);
    let mut books = Books::new();
    books.write_strange();
    done(&once(books.folder(), &database.url()));
    let line = database.text(
        "SELECT concat_ws('|', request, attempt, team, user_name, labels->>'cost_center', model, charge_usd, currency, \
         price_rates_nano[1], exchange_nanousd, dispatched AT TIME ZONE 'UTC', estimated) FROM turnpike.rows",
    );
    assert_eq!(
        line,
        "00000000-0000-0000-0000-0000000000ff|1|search|ann\u{fffd}'; DROP TABLE x|4711|ds|0.000277800|CNY|2000000000|\
         138900000|2026-11-23 12:00:00|f"
    );
}

#[test]
fn what_the_database_refuses_is_said_and_never_the_password() {
    let database = Postgres::start(&[]);
    let mut books = Books::new();
    books.write(1);
    let wrong = once(books.folder(), &database.url().replace("/postgres", "/nowhere"));
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(told.contains("3D000") && told.contains("nowhere"), "{told}");
    let bad = once(books.folder(), "postgres://me:s3cret@host:port/x");
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(told.contains("is not the address of a database") && !told.contains("s3cret"), "{told}");
    database.run("CREATE SCHEMA turnpike; CREATE TABLE turnpike.steps (step integer PRIMARY KEY, made timestamptz DEFAULT now())");
    database.run("INSERT INTO turnpike.steps VALUES (99)");
    let newer = once(books.folder(), &database.url());
    assert!(String::from_utf8_lossy(&newer.stderr).contains("hint: update this turnpike"), "{newer:?}");
}

#[test]
fn a_connection_under_tls_trusts_the_named_authority_only() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (authority.cert.pem(), authority.signing_key.serialize_pem());
    let database = Postgres::start(&[("server.crt", &cert), ("server.key", &key)]);
    let mut books = Books::new();
    books.write(3);
    std::fs::write(books.folder().join("ca.pem"), &cert).unwrap();
    let url = database.url().replace("127.0.0.1", "localhost") + "?sslmode=require";
    let trusting = ship(books.folder(), &url, &["--once", "--ca", "ca.pem"]).output().unwrap();
    assert!(done(&trusting).contains("3 rows shipped"));
    let strange = once(books.folder(), &url);
    assert_eq!(strange.status.code(), Some(1), "{strange:?}");
}
