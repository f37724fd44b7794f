//! vLLM.

use super::{
    EngineLoad, Provider, Said, Verdict,
    gauges::{Page, Series},
};

/// A vLLM server.
#[derive(Debug)]
pub struct Vllm;

// Names of <https://docs.vllm.ai/en/stable/usage/metrics/>, and those of V0 (<https://docs.vllm.ai/en/v0.5.0/serving/metrics.html>).
// With an underscore they come from collectors that allow no colon. Each has a series for every `engine` (data-parallel
// rank) and `model_name`.
const RUNNING: &[&str] = &["vllm:num_requests_running", "vllm_num_requests_running"];
const WAITING: &[&str] = &["vllm:num_requests_waiting", "vllm_num_requests_waiting"];
/// The same by reason: `capacity` waits for room, `deferred` for something else, such as a grammar or remote memory.
const BY_REASON: &[&str] = &["vllm:num_requests_waiting_by_reason", "vllm_num_requests_waiting_by_reason"];
/// V0 alone: requests that lost their place for a while.
const SWAPPED: &[&str] = &["vllm:num_requests_swapped", "vllm_num_requests_swapped"];
/// V1, then V0.
const CACHE: &[&str] =
    &["vllm:kv_cache_usage_perc", "vllm_kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "vllm_gpu_cache_usage_perc"];

impl Provider for Vllm {
    fn name(&self) -> &'static str {
        "vllm"
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("VLLM_API_KEY")
    }

    fn base_url_variable(&self) -> Option<&'static str> {
        Some("VLLM_BASE_URL")
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/health")
    }

    fn load_paths(&self) -> &'static [&'static str] {
        &["/metrics"]
    }

    fn load(&self, _path: &str, body: &[u8]) -> Option<EngineLoad> {
        let page = Page::of(body, &[RUNNING, WAITING, BY_REASON, SWAPPED, CACHE]);
        let all = |_: &Series<'_>| true;
        let waiting = page.sum(WAITING, all)?.saturating_add(page.sum(SWAPPED, all).unwrap_or(0));
        let capacity = page.sum(BY_REASON, |series| series.label("reason") == Some("capacity"));
        Some(EngineLoad {
            running: page.sum(RUNNING, all)?,
            waiting,
            queue: capacity.unwrap_or(waiting),
            cache_used_ppm: page.most_ppm(CACHE),
        })
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // Older servers subtract the prompt from the context and complain of what is left.
        if said.mentions(&["max_tokens must be at least 1, got -"]) {
            return Some(Verdict::CONTEXT);
        }
        said.mentions(&["--enable-auto-tool-choice"]).then_some(Verdict::UNABLE)
    }

    fn failed_finish(&self, finish_reason: &str) -> bool {
        matches!(finish_reason, "abort" | "error")
    }
}
