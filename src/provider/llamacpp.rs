//! llama.cpp's own HTTP server.

use serde::Deserialize;

use super::{
    EngineLoad, Provider, Said, Verdict,
    gauges::{Page, Series},
};

/// A llama.cpp server.
#[derive(Debug)]
pub struct LlamaCpp;

// Names of <https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md>; there is no gauge of the cache any
// more (`llamacpp:kv_cache_usage_ratio` is gone).
const RUNNING: &[&str] = &["llamacpp:requests_processing", "llamacpp_requests_processing"];
const WAITING: &[&str] = &["llamacpp:requests_deferred", "llamacpp_requests_deferred"];
/// Served with `--metrics` only.
const METRICS: &str = "/metrics";
/// Served unless `--no-slots`; it does not tell who waits.
const SLOTS: &str = "/slots";

#[derive(Deserialize)]
struct Slot {
    is_processing: Option<bool>,
    /// Before 2025: 0 is idle.
    state: Option<u32>,
}

impl Provider for LlamaCpp {
    fn name(&self) -> &'static str {
        "llamacpp"
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/health")
    }

    fn load_paths(&self) -> &'static [&'static str] {
        &[METRICS, SLOTS]
    }

    fn load(&self, path: &str, body: &[u8]) -> Option<EngineLoad> {
        if path == SLOTS {
            let slots: Vec<Slot> = serde_json::from_slice(body).ok()?;
            let busy = |slot: &&Slot| slot.is_processing.unwrap_or(slot.state.is_some_and(|state| state != 0));
            return Some(EngineLoad { running: slots.iter().filter(busy).count() as u64, ..EngineLoad::default() });
        }
        let page = Page::of(body, &[RUNNING, WAITING]);
        let all = |_: &Series<'_>| true;
        let waiting = page.sum(WAITING, all)?;
        Some(EngineLoad { running: page.sum(RUNNING, all)?, waiting, queue: waiting, cache_used_ppm: None })
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // A text model answers images and audio with a 500, which would otherwise count against the server.
        (said.status == 500 && said.mentions(&["input is not supported"])).then_some(Verdict::UNABLE)
    }
}
