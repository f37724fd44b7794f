//! What ends a run early, and how much of it: models named twice, a budget that one model passes, a gateway that refuses.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{Ran, Script, Upstream, billed, command, folder, numbers, obedient, results, run};

/// Makes one of the upstream's models cost 1 USD a token.
fn dear(folder: &Path, upstream: &str) {
    let file = folder.join("policies/a.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let price = format!("upstream: {upstream}, input: 10 USD, output: 1000");
    assert!(text.contains(&price), "{text}");
    fs::write(&file, text.replace(&price, &format!("{price}000"))).unwrap();
}

#[tokio::test]
async fn a_model_that_is_named_twice_is_asked_and_paid_once() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(4));
    let ran = run(folder.path(), &["--model", "m1", "--model", "m1", "--json"]).await;
    assert!(ran.code == 0 && ran.stderr.contains("named twice"), "{}", ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((told["scores"].as_array().unwrap().len(), upstream.tally().requests), (1, 4), "{told}");
}

#[tokio::test]
async fn two_names_of_one_model_are_refused_since_their_scores_would_bear_one_name() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(4));
    for (one, other) in [("m1", "m1@up"), ("m1@up", "m1")] {
        let ran = run(folder.path(), &["--model", one, "--model", "m2", "--model", other, "--json"]).await;
        let told = format!("error: `{one}` and `{other}` are both the model `m1`");
        assert!(ran.code == 2 && ran.stderr.starts_with(&told) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
    let ran = run(folder.path(), &["--model", "m1", "--judge", "m1@up"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("`m1@up` cannot judge itself"), "{}", ran.stderr);
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn a_model_that_the_budget_cannot_pay_for_keeps_no_other_from_its_questions() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(12));
    dear(folder.path(), "two");
    let ask = ["--model", "m2", "--model", "m1", "--max-output", "8", "--budget", "1 USD"];
    let ran = run(folder.path(), &ask).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot pay for the next question of `m2`\n"), "{}", ran.stderr);
    assert!(ran.stdout.contains("model: \"m1\"") && ran.stdout.contains("sample_size: 12"), "{}", ran.stdout);
    assert!(upstream.received().iter().all(|received| received.model() == "one") && upstream.tally().requests == 12);
    assert!(billed(&upstream) <= 1_000_000_000);
}

#[tokio::test]
async fn a_judge_that_the_budget_cannot_pay_for_ends_the_answers_that_it_would_judge() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let judged = |id: &str| json!({"id": id, "category": "language", "prompt": "say x", "check": {"judge": "fine"}});
    let folder = folder(&upstream, &["a", "b", "c", "d"].map(judged));
    dear(folder.path(), "judge");
    let ask = ["--model", "m1", "--judge", "judge", "--max-output", "8", "--budget", "1 USD", "--concurrency", "1"];
    let ran = run(folder.path(), &ask).await;
    assert!(ran.code == 1 && ran.stderr.contains("the budget cannot pay"), "{}", ran.stderr);
    assert_eq!(upstream.tally().requests, 1, "an answer that nobody judges is not bought again and again");
    assert_eq!(results(folder.path())[0]["note"], "no verdict of judge");
}

async fn through(folder: &Path, address: &str, model: &str) -> Ran {
    let mut command = command(folder, &["--model", model, "--through", address, "--concurrency", "1"]);
    command.env("TURNPIKE_KEY", "tp-key");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[tokio::test]
async fn a_gateway_that_refuses_for_good_is_asked_once() {
    for (status, code) in [(401, "invalid_api_key"), (403, "model_not_allowed"), (404, "model_not_found")] {
        let upstream = Upstream::start().await;
        upstream.choose(move |_| Script::error(status, code, "never"));
        let folder = folder(&upstream, &numbers(8));
        let ran = through(folder.path(), &upstream.base_url(), "m1").await;
        let told = format!("error: the gateway answered {status}: never\nhint: ");
        assert!(ran.code == 1 && ran.stderr.starts_with(&told), "{}", ran.stderr);
        assert_eq!((upstream.tally().requests, results(folder.path()).len()), (1, 0));
    }
}

#[tokio::test]
async fn what_was_answered_before_a_gateway_refused_is_kept() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    for answer in ["0", "1"] {
        upstream.push(Script::says(answer));
    }
    upstream.push(Script::error(403, "switched_off", "not now"));
    let folder = folder(&upstream, &numbers(8));
    let ran = through(folder.path(), &upstream.base_url(), "m1").await;
    assert!(ran.code == 1 && ran.stderr.contains("403: not now"), "{}", ran.stderr);
    assert_eq!((upstream.tally().requests, results(folder.path()).len()), (3, 2));
    let ran = through(folder.path(), &upstream.base_url(), "m1").await;
    assert_eq!((ran.code, upstream.tally().requests), (0, 9), "{}", ran.stderr);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_ends_the_run() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(8));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = through(folder.path(), &format!("http://{free}"), "m1").await;
    assert!(ran.code == 1 && ran.stderr.starts_with("error: the gateway does not answer"), "{}", ran.stderr);
    assert_eq!(results(folder.path()).len(), 0);
}

#[tokio::test]
async fn what_a_running_gateway_cannot_be_asked_is_bad_usage() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(1));
    for (address, model, told) in [
        (upstream.base_url(), "m1@up", "`m1@up` names a backend"),
        ("ftp://127.0.0.1:1".to_owned(), "m1", "it is not an address\nhint: "),
        ("127.0.0.1:8080".to_owned(), "m1", "it is not an address\nhint: "),
    ] {
        let ran = through(folder.path(), &address, model).await;
        assert!(ran.code == 2 && ran.stderr.contains(told), "{address} {}: {}", ran.code, ran.stderr);
    }
    assert_eq!(upstream.tally().requests, 0);
}
