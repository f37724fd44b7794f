//! What commands say when something is not as it should be: bad usage ends with 2, names that nothing bears are told of
//! with what is close, and what is damaged is named with its path.

use std::fs;

use serde_json::json;

use crate::{
    harness::{Gateway, Setup, Site, chat, until},
    upstream::Upstream,
};

const OPS: &str = "token-of-the-operators";
const TOKEN: (&str, &str) = ("TURNPIKE_TOKEN", OPS);

fn setup(upstream: &Upstream) -> Setup {
    let setup = Setup::new().backend("one", &upstream.base_url()).token("ops", OPS, "read, keys, switch");
    setup.policies("currencies: {CNY: [{rate: 0.14 USD, from: 2025-01-01}]}")
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_flag_is_bad_usage() {
    let site = setup(&Upstream::start().await).site();
    for (line, told) in [
        ("scores --at soon", "write it as `2025-01-01`"),
        ("scores --category maths", "did you mean `math`?"),
        ("prices --at soon", "2025-02-09T00:00+08:00"),
        ("explain --route auto --at soon", "2025-02-09T00:00+08:00"),
        ("catalog diff --from soon", "write it as `2025-01-01`"),
        ("catalog diff --from 2026-11-23 --to 2026-11-01", "`--from` is the older set"),
        ("replay --prices-at soon data/records", "2025-02-09"),
        ("demo --at soon", "2025-02-09"),
        ("import litellm-prices map.json --from soon", "2025-02-09"),
        ("key create --team test --expires soon", "2025-02-09"),
        ("key create --team test --expires 2020-01-01", "lies in the past\nhint: "),
        ("key create --team test --yaml --expires 2020-01-01", "lies in the past\nhint: "),
        ("key rotate testkey --overlap 7", "write `7s`"),
        ("off backend:one --for 4 --why x", "write `4s`"),
        ("off one --why x", "write `backend:X`"),
        ("on nothing:one --why x", "write `backend:X`"),
        ("off", "`turnpike off --list` shows what is"),
        ("off backend:one", "--why"),
        ("budget raise team/test/day 3 --for 4h --why x", "write `3 tokens`"),
        ("budget raise team/test/day 3USD --until 2020-01-01 --why x", "lies in the past"),
        ("usage --month November", "write it as `2026-11`"),
        ("usage --zone Nowhere", "Europe/Berlin"),
        ("usage --currency yuan", "write three letters"),
        ("usage --month 2026-11 --since 2026-11-03", "name a month, or the two ends"),
        ("audit --invoice turnpike.yaml --tolerance much", "write `0.5%`"),
        ("score --suite s.jsonl --model m --budget 3", "write `3 USD`"),
        ("key list --server localhost:9090", "http://HOST:PORT"),
        ("books ship --to nowhere", "postgres://"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        site.run(&arguments).failed(2, &[told]);
    }
}

fn unknown_names(site: &Site, more: &[&str]) {
    let bill =
        "date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency\n2026-11-01,m,1,0,1,0.1,USD\n";
    fs::write(site.path().join("bill.csv"), bill).unwrap();
    for (line, told) in [
        ("usage --team tets", "did you mean `test`?"),
        ("usage --model one-modle", "did you mean `one-model`?"),
        ("usage --backend on", "did you mean `one`?"),
        ("usage --route nowhere-at-all", "there is no route `nowhere-at-all`"),
        ("usage --provider opnai", "there is no provider `opnai`"),
        ("usage --currency EUR", "`currencies:` has `CNY`, `USD`"),
        ("key list --team tets", "did you mean `test`?"),
        ("budget list --team tets", "did you mean `test`?"),
        ("audit --invoice bill.csv --backend on", "did you mean `one`?"),
        ("audit --invoice bill.csv --provider opnai", "there is no provider `opnai`"),
    ] {
        let arguments: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
        site.run_with(&[TOKEN], &arguments).failed(1, &[told]);
    }
    for line in ["usage --team test", "usage --team @shadow", "usage --currency CNY", "usage --user ann"] {
        let arguments: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
        site.run_with(&[TOKEN], &arguments).done();
    }
}

#[tokio::test]
async fn a_name_that_nothing_bears_is_an_error_with_what_is_close() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    unknown_names(gateway.site(), &["--server", &gateway.site().admin_url()]);
    gateway.ask("one-model").await;
    until("it is booked", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let site = gateway.site().clone();
    end(gateway).await;
    unknown_names(&site, &[]);
    // What the policies do not know any more is known to the books.
    site.save_policies(&setup(&upstream).policy_file().replace("one-model", "other-model"));
    let said = site.run(&["usage", "--model", "one-model", "--json"]).json();
    assert_eq!(said["total"]["requests"], 1, "{said}");
}

async fn end(mut gateway: Gateway) {
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
}

/// What `usage` says beside its sums when it is asked for these.
fn noted(site: &Site, more: &[&str], line: &str) -> String {
    let arguments: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
    let ran = site.run_with(&[TOKEN], &[&["usage", "--json"], &arguments[..]].concat());
    let told = ran.stderr.clone();
    let said = ran.json();
    assert_eq!(said["absent"].as_array().map_or(0, Vec::len), told.matches("note: nothing in").count(), "{said}");
    told
}

fn absent_values(site: &Site, more: &[&str]) {
    for (line, told) in [
        ("--outcome okk", "has the outcome `okk`\nhint: did you mean `ok`?"),
        ("--operation score", "has the operation `score`\nhint: there is `chat`"),
        ("--user bob", "has the user `bob`\nhint: there is `ann`"),
        ("--key labeledkey", "has the key `labeledkey`\nhint: did you mean `labelledkey`?"),
        ("--arm canary", "has the arm `canary`\nhint: there is none at all"),
        ("--label cost_center=4712", "has the label:cost_center `4712`\nhint: did you mean `4711`?"),
        ("--label floor=4", "has the label:floor `4`\nhint: there is none at all"),
        ("--model two-model", "has the model `two-model`\nhint: did you mean `one-model`?"),
        ("--user ann --team other", "has the team `other`\nhint: there is `labelled`"),
        ("--user ann --since 2020-01-01 --until 2020-02-01", "has the user `ann`\nhint: "),
    ] {
        let said = noted(site, more, line);
        assert!(said.contains("in the books of that time ") && said.contains(told), "{line}: {said}");
    }
    for line in ["--user ann", "--outcome ok --label cost_center=4711", "--month 2020-01"] {
        assert!(!noted(site, more, line).contains("note: "), "{line}");
    }
    assert_eq!(noted(site, more, "--user ann --user bob").matches("note: ").count(), 1);
}

#[tokio::test]
async fn a_value_of_which_nothing_is_booked_is_told_of_beside_the_sums() {
    let (upstream, two) = (Upstream::start().await, Upstream::start().await);
    let setup = setup(&upstream).backend("two", &two.base_url()).team("other", "sk-other", "{}");
    let gateway = setup.team("labelled", "sk-labelled", "{labels: {cost_center: \"4711\"}}").start().await;
    let ann = gateway.client_with("sk-labelled").header("x-turnpike-user", "ann");
    assert_eq!(ann.post("/v1/chat/completions", &chat("one-model")).await.status, 200);
    until("it is booked", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    absent_values(gateway.site(), &["--server", &gateway.site().admin_url()]);
    // Each is there, and no row has both.
    gateway.client_with("sk-other").post("/v1/chat/completions", &chat("two-model")).await;
    until("it is booked", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let both = noted(gateway.site(), &["--server", &gateway.site().admin_url()], "--user ann --model two-model");
    assert!(both.contains("nothing in them has all at once"), "{both}");
}

#[tokio::test]
async fn a_damaged_key_store_is_named_with_what_to_do() {
    let site = setup(&Upstream::start().await).site();
    site.run(&["key", "create", "--team", "test"]).done();
    fs::write(site.path().join("data/keys.redb"), "not a store of keys at all").unwrap();
    for command in [&["key", "list"][..], &["serve"]] {
        site.run(command).failed(1, &["data/keys.redb` cannot be opened", "hint: put a copy of it in its place"]);
    }
}

#[tokio::test]
async fn a_second_gateway_on_one_journal_is_told_to_take_another() {
    let gateway = setup(&Upstream::start().await).start().await;
    gateway.site().run(&["serve"]).failed(1, &["in use by another process", "hint: ", "its own `journal`"]);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_journal_is_told_of_by_every_command() {
    let site = setup(&Upstream::start().await).site();
    fs::write(site.path().join("data"), "").unwrap();
    for command in ["key list", "usage", "audit", "budget list", "serve", "check"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        site.run(&arguments).failed(1, &["data` is no folder", "hint: name a folder"]);
    }
}

#[tokio::test]
async fn damage_before_the_last_checkpoint_is_told_of_at_a_start() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    for _ in 0..3 {
        gateway.ask("one-model").await;
    }
    let site = gateway.site().clone();
    end(gateway).await;
    let segment = site.path().join("data/books/books-00000001.seg");
    let path = fs::read_dir(site.path().join("data/books")).unwrap().filter_map(Result::ok).map(|file| file.path());
    let segment = path.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().unwrap_or(segment);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&segment, bytes).unwrap();
    let gateway = site.start().await;
    until("the damage is told of", async || gateway.log().contains("the journal is damaged here")).await;
}

#[tokio::test]
async fn who_finds_everything_switched_off_is_not_called_back_in_a_moment() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    let switch = async |body: serde_json::Value| {
        let api = gateway.admin().header("authorization", &format!("Bearer {OPS}"));
        assert_eq!(api.post("/api/v1/switches", &body).await.status, 201);
    };
    switch(json!({"target": "backend:one", "off": true, "why": "an incident"})).await;
    let refused = gateway.client().post("/v1/chat/completions", &chat("one-model")).await;
    refused.is_refused(503, "no_candidate");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("60", "false"));
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    switch(json!({"target": "backend:one", "off": true, "until": until, "why": "a moment"})).await;
    let refused = gateway.client().post("/v1/chat/completions", &chat("one-model")).await;
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((6..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-should-retry"), "true");
}
