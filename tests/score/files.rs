//! The files of a run: a results file that is another's, damaged or written by another run, a suite with slips of the
//! pen, a scores file that has no place.

use std::fs;

use serde_json::json;

use super::{Gate, Upstream, command, folder, kill, numbers, obedient, results, run, with_journal};

#[tokio::test]
async fn a_file_that_is_no_results_file_is_left_as_it_is() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(1));
    let suite = fs::read_to_string(folder.path().join("suite.jsonl")).unwrap();
    for text in [
        "one line without an end",
        "a,b\n1,2",
        "{\"v\":1}\n{\"v\":1}\n",
        "\n\nnotes\n",
        &suite,
        "{\"v\":1,\"suite\":\"to",
    ] {
        let file = folder.path().join("mine.txt");
        fs::write(&file, text).unwrap();
        let ran = run(folder.path(), &["--model", "m1", "--results", "mine.txt"]).await;
        let told = "it is not a results file of `turnpike score`\nhint: name another with `--results`";
        assert!(ran.code == 1 && ran.stderr.contains(told), "{text}: {} {}", ran.code, ran.stderr);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn a_run_beside_another_asks_nothing_and_says_what_is_in_its_way() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    upstream.choose(move |received| obedient(received).behind(&held));
    let folder = folder(&upstream, &numbers(3));
    with_journal(folder.path());
    let first = command(folder.path(), &["--model", "m1", "--concurrency", "3"]).spawn().unwrap();
    upstream.until(|tally| tally.requests == 3).await;
    let second = run(folder.path(), &["--model", "m1"]).await;
    let told = "another run writes `suite.results.jsonl`\nhint: ";
    assert!(second.code == 1 && second.stderr.contains(told), "{}", second.stderr);
    let third = run(folder.path(), &["--model", "m1", "--results", "other.jsonl"]).await;
    let told = "is in use by another process: a gateway, or another run of `score`\nhint: ";
    assert!(third.code == 1 && third.stderr.contains(told), "{}", third.stderr);
    gate.release();
    let output = tokio::task::spawn_blocking(move || first.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(results(folder.path()).len() == 3 && upstream.tally().requests == 3);
}

#[tokio::test]
async fn a_lock_ends_with_the_run_that_was_killed() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    upstream.choose(move |received| obedient(received).behind(&held));
    let folder = folder(&upstream, &numbers(1));
    let first = command(folder.path(), &["--model", "m1"]).spawn().unwrap();
    upstream.until(|tally| tally.requests == 1).await;
    kill(first);
    gate.release();
    let ran = run(folder.path(), &["--model", "m1"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn lines_that_are_damaged_are_told_of_and_a_line_that_only_lacks_its_end_is_kept() {
    let upstream = Upstream::start().await;
    upstream.choose(obedient);
    let folder = folder(&upstream, &numbers(3));
    let ask = ["--model", "m1", "--concurrency", "1"];
    assert_eq!(run(folder.path(), &ask).await.code, 0);
    let file = folder.path().join("suite.results.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.trim_end()).unwrap();
    let ran = run(folder.path(), &ask).await;
    assert!(ran.code == 0 && upstream.tally().requests == 3, "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let lines: Vec<&str> = text.lines().collect();
    let damaged = format!("{}\n{}\n{}\n", lines[0], &lines[1][..20], lines[2]);
    fs::write(&file, &damaged).unwrap();
    let ran = run(folder.path(), &ask).await;
    assert_eq!((ran.code, upstream.tally().requests), (0, 4), "{}", ran.stderr);
    assert!(ran.stderr.contains("lines that are no results and are passed over: 1;"), "{}", ran.stderr);
    assert!(fs::read_to_string(&file).unwrap().starts_with(&damaged), "nothing is dropped");
}

#[tokio::test]
async fn a_slip_of_the_pen_in_a_suite_is_told_of_with_its_line() {
    let upstream = Upstream::start().await;
    for (question, told) in [
        (
            json!({"category": "maths", "check": {"exact": "x"}}),
            "there is no category `maths`\nhint: did you mean `math`?",
        ),
        (json!({"category": "math", "chekc": {"exact": "x"}}), "unknown field `chekc`\nhint: did you mean `check`?"),
        (
            json!({"category": "math", "check": {"number": "1", "tolerance_": "1"}}),
            "`check` of `q`: unknown field `tolerance_`\nhint: did you mean `tolerance`?",
        ),
        (
            json!({"category": "math", "check": {"number": "1", "regex": "1"}}),
            "`check` of `q`: both `number` and `regex`",
        ),
    ] {
        let mut question = question;
        (question["id"], question["prompt"]) = ("q".into(), "say 1".into());
        let folder = folder(&upstream, &[numbers(1).remove(0), question]);
        let ran = run(folder.path(), &["--model", "m1"]).await;
        let told = format!("suite.jsonl:3: {told}");
        assert!(ran.code == 1 && ran.stderr.contains(&told), "{told}: {}", ran.stderr);
    }
    assert_eq!(upstream.tally().requests, 0);
}

#[tokio::test]
async fn a_scores_file_that_cannot_be_written_is_told_of_before_anything_is_asked() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream, &numbers(1));
    fs::write(folder.path().join("broken.yaml"), "benchmarks:\n  x: {category: nowhere}\nscores:\n").unwrap();
    for (out, told, code) in [
        ("nodir/x.yaml", "there is no folder `nodir`\nhint: ", 1),
        ("policies", "`policies` cannot be read", 1),
        ("broken.yaml", "it would be at fault", 1),
        ("./suite.results.jsonl", "are one file", 2),
    ] {
        let ran = run(folder.path(), &["--model", "m1", "--out", out]).await;
        assert!(ran.code == code && ran.stderr.contains(told), "{out}: {} {}", ran.code, ran.stderr);
    }
    assert_eq!(upstream.tally().requests, 0);
    assert!(!folder.path().join("broken.yaml.next").exists());
}
