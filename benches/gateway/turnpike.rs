//! Turnpike in full dress: the real binary with a key check, a policy with four candidates and a rule, a team's budget
//! (hold and settlement), metering, metrics and records.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::load::CLIENT_KEY;
use crate::process::{Process, free_port, loopback};

/// Starts `program serve` on `core` in front of `upstream`, with its files under `folder`.
pub fn start(core: usize, folder: &Path, upstream: SocketAddr, program: &Path) -> Result<(Process, SocketAddr)> {
    let folder = folder.join("turnpike");
    // A journal of an earlier start would be taken up again, and its size would count as ours.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("policies"))?;
    let (clients, admin) = (loopback(free_port()?), loopback(free_port()?));
    let file = folder.join("turnpike.yaml");
    fs::write(&file, configuration(&folder, clients, admin))?;
    fs::write(folder.join("policies/bench.yaml"), policies(upstream))?;
    let mut process =
        Process::start("turnpike", core, program, &["serve", "-c", &file.display().to_string()], &folder.join("log"))?;
    process.wait_for(clients)?;
    Ok((process, clients))
}

/// The binary that cargo built beside this bench.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_turnpike"))
}

fn configuration(folder: &Path, clients: SocketAddr, admin: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "listen: {clients}
admin:
  listen: {admin}
  metrics: open
policies: {folder}/policies
journal: {folder}/data
store: embedded
"
    )
}

fn policies(upstream: SocketAddr) -> String {
    let mut backends = String::new();
    let mut models = String::new();
    let mut prices = String::new();
    let mut scores = String::new();
    for (at, (name, input, output, score)) in [
        ("small", "0.15", "0.60", 55),
        ("medium", "0.40", "1.20", 65),
        ("large", "2.50", "10.00", 75),
        ("huge", "5", "15", 80),
    ]
    .into_iter()
    .enumerate()
    {
        backends.push_str(&format!(
            "  b{at}: {{provider: openai_compatible, endpoints: [\"http://{upstream}/v1\"], api_key: upstream}}\n"
        ));
        models.push_str(&format!(
            "  {name}: {{backends: {{b{at}: canned-{at}}}, context: 128k, abilities: [tools, json]}}\n"
        ));
        prices.push_str(&format!(
            "  - {{model: {name}, from: 2025-01-01, input: {input} USD, output: {output} USD, source: \"https://bench.test\"}}\n"
        ));
        scores.push_str(&format!(
            "  - {{model: {name}, benchmark: house, value: {score}, date: 2025-01-01, by: independent, source: \"https://bench.test\"}}\n"
        ));
    }
    let key = Sha256::digest(CLIENT_KEY).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!(
        "backends:
{backends}benchmarks:
  house: {{category: chat, unit: percent, floor: 0, ceiling: 100}}
models:
{models}prices:
{prices}scores:
{scores}routes:
  auto:
    candidates: [small, medium, large, huge]
    prefer: balanced
    category: auto
    rules:
      - {{when: 'budget.used > 0.8 || request.input_tokens > 100000', prefer: cheapest}}
teams:
  bench:
    may_use: [auto]
    budgets:
      - {{name: month, limit: 1000000 USD, per: month, zone: Europe/Berlin}}
keys:
  - {{id: bench1, team: bench, hash: \"sha256:{key}\", name: bench}}
"
    )
}
