//! Hugging Face's Text Generation Inference (TGI). Its `error` is a plain string with an `error_type` beside it.

use super::{
    EngineLoad, Provider, Said, Verdict,
    gauges::{Page, Series},
};

/// A TGI server.
#[derive(Debug)]
pub struct Tgi;

/// The batch that is worked on, and what waits for a place in it
/// (<https://huggingface.co/docs/text-generation-inference/reference/metrics>).
const RUNNING: &[&str] = &["tgi_batch_current_size"];
const WAITING: &[&str] = &["tgi_queue_size"];

impl Provider for Tgi {
    fn name(&self) -> &'static str {
        "tgi"
    }

    fn self_hosted(&self) -> bool {
        true
    }

    fn ready_path(&self) -> Option<&'static str> {
        Some("/health")
    }

    fn verdict(&self, said: &Said) -> Option<Verdict> {
        // It complains of the sum of both and names neither a context nor a window.
        (said.status == 422 && said.mentions(&["max_new_tokens` must be <="])).then_some(Verdict::CONTEXT)
    }

    fn load_paths(&self) -> &'static [&'static str] {
        &["/metrics"]
    }

    fn load(&self, _path: &str, body: &[u8]) -> Option<EngineLoad> {
        let page = Page::of(body, &[RUNNING, WAITING]);
        let all = |_: &Series<'_>| true;
        let (running, waiting) = (page.sum(RUNNING, all), page.sum(WAITING, all));
        // Before the first request neither has a series.
        (running.is_some() || waiting.is_some()).then(|| EngineLoad {
            running: running.unwrap_or(0),
            waiting: waiting.unwrap_or(0),
            queue: waiting.unwrap_or(0),
            cache_used_ppm: None,
        })
    }
}
