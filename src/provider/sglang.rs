//! SGLang. Its `/health` takes a second and generates a token, so `/ready` is asked; its error bodies are flat.

use super::{
    EngineLoad, Provider,
    gauges::{Page, Series},
};

/// An SGLang server.
#[derive(Debug)]
pub struct Sglang;

// Names of <https://docs.sglang.io/references/production_metrics.html>, served with `--enable-metrics`; with an underscore
// they come from collectors that allow no colon.
const RUNNING: &[&str] = &["sglang:num_running_reqs", "sglang_num_running_reqs"];
const WAITING: &[&str] = &["sglang:num_queue_reqs", "sglang_num_queue_reqs"];
/// Requests whose grammar is compiled.
const GRAMMAR: &[&str] = &["sglang:num_grammar_queue_reqs", "sglang_num_grammar_queue_reqs"];
const CACHE: &[&str] = &["sglang:token_usage", "sglang_token_usage"];

/// Ranks of tensor and pipeline parallelism work on the same requests, and may each tell of them
/// (`--enable-metrics-for-all-schedulers`): the first counts. Data-parallel ranks have requests of their own.
fn counts(series: &Series<'_>) -> bool {
    ["tp_rank", "pp_rank"].iter().all(|rank| series.label(rank).is_none_or(|rank| rank == "0"))
}

impl Provider for Sglang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/ready")
    }

    fn load_paths(&self) -> &'static [&'static str] {
        &["/metrics"]
    }

    fn load(&self, _path: &str, body: &[u8]) -> Option<EngineLoad> {
        let page = Page::of(body, &[RUNNING, WAITING, GRAMMAR, CACHE]);
        let queue = page.sum(WAITING, counts)?;
        Some(EngineLoad {
            running: page.sum(RUNNING, counts)?,
            waiting: queue.saturating_add(page.sum(GRAMMAR, counts).unwrap_or(0)),
            queue,
            cache_used_ppm: page.most_ppm(CACHE),
        })
    }

    fn failed_finish(&self, finish_reason: &str) -> bool {
        finish_reason == "abort"
    }
}
