//! `turnpike prices`, `scores`, `catalog` and `import` as they are run: what they print and how they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod catalog;
mod import;
mod prices;
mod scores;

use std::{path::Path, process::Command};

use serde_json::Value;

/// What a command printed and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a command in `folder`, without the environment's keys.
fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output =
        Command::new(env!("CARGO_BIN_EXE_turnpike")).args(arguments).current_dir(folder).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command that prints JSON.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let ran = run(folder, &[arguments, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A folder with one policy file.
fn policies(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/a.yaml"), text).unwrap();
    folder
}

/// Some vendors, with one price of the operator's own.
const POLICIES: &str = r#"
backends:
  openai: {provider: openai, api_key: "${OPENAI_API_KEY}", if_missing_secret: off}
  deepseek: {provider: deepseek, api_key: "${DEEPSEEK_API_KEY}", if_missing_secret: off}
  qwen: {provider: qwen, api_key: "${DASHSCOPE_API_KEY}", if_missing_secret: off, region: cn}
models:
  gpt-4o: {backends: {openai: gpt-4o}}
  mini: {backends: {openai: gpt-4.1-mini}}
  flash: {backends: {deepseek: deepseek-v4-flash}}
  qwen-plus: {backends: {qwen: qwen-plus}}
aliases: {fast: flash}
currencies: {CNY: [{rate: 0.1389 USD, from: 2025-01-01}, {rate: 0.14 USD, from: 2026-11-01}]}
prices:
  - {model: gpt-4o, from: 2026-12-01, input: 2 USD, cached_input: 1 USD, output: 8 USD, source: "our contract"}
routes:
  auto: {candidates: [gpt-4o, flash, qwen-plus], prefer: cheapest}
  quick: {candidates: [flash, mini], prefer: cheapest}
  best: {candidates: [gpt-4o, flash, qwen-plus], prefer: best}
teams: {default: {}}
"#;
