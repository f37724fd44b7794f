//! Every dialect's recorded answers, cut at every byte: a part is never taken for the whole.

use std::{fmt::Write as _, path::Path, sync::Arc};

use bytes::Bytes;
use turnpike::wire::answer::{Data, read_event};

use crate::{
    harness::{Client, Gateway, Setup, Transcript, chat, streamed, until},
    upstream::{Fault, Script, Upstream},
};

/// Requests in flight at once.
const WORKERS: usize = 8;
const WHOLE: &str = "a whole answer from elsewhere";
const READER: &str = "token-of-an-auditor";
/// Nano-dollars for a token read and for one written.
const READ: u64 = 2_000;
const WRITTEN: u64 = 8_000;

fn fixture(provider: &str, file: &str) -> Bytes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers");
    std::fs::read(folder.join(provider).join(file)).unwrap().into()
}

/// A gateway with a route `cut-N` for each offset N: first a candidate of its own, whose breaker no other cut opens,
/// then one that answers. The model's name tells the upstream where to cut.
async fn gateway(provider: &str, offsets: usize, upstream: &Upstream, other: &Upstream) -> Gateway {
    let mut setup = Setup::new()
        .token("auditor", READER, "read")
        .backend_with("cut", &upstream.base_url(), &format!("provider: {provider}"))
        .backend("other", &other.base_url());
    let (mut routes, mut prices) = (String::from("routes:\n"), String::from("prices:\n"));
    for offset in 0..offsets {
        setup = setup.model_with(&format!("m{offset}"), "cut", &format!("cut-{offset}"), "");
        writeln!(prices, "  - {{model: m{offset}, from: 2025-01-01, input: 2 USD, output: 8 USD}}").unwrap();
        writeln!(routes, "  cut-{offset}: {{order: [m{offset}, other-model]}}").unwrap();
    }
    let site = setup.policies(&routes).site();
    // Together they have more values than one file may.
    std::fs::write(site.path().join("policies/prices.yaml"), prices).unwrap();
    site.start().await
}

/// Runs `test` for every offset, several at once.
async fn for_each_offset<F: Future<Output = ()> + Send + 'static>(
    offsets: usize,
    client: &Client,
    test: impl Fn(Client, usize) -> F,
) {
    let mut running = tokio::task::JoinSet::new();
    for offset in 0..offsets {
        if running.len() == WORKERS {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(test(client.clone(), offset));
    }
    running.join_all().await;
}

/// The recorded stream, ended at the offset that the model's name tells.
fn cutting(upstream: &Upstream, recorded: &Bytes, plain: bool, fault: Fault) {
    let recorded = recorded.clone();
    upstream.choose(move |request| {
        let offset = request.model().strip_prefix("cut-").and_then(|offset| offset.parse().ok()).unwrap_or(usize::MAX);
        let script = match plain {
            true => Script::raw(200, "application/json", recorded.clone()),
            false => Script::recorded(&recorded),
        };
        script.after_bytes(offset, fault.clone())
    });
}

/// Fails if an SDK would take what came for a whole answer that it is not.
fn is_honest(transcript: &Transcript, recorded: &[u8], offset: usize) {
    let context = || format!("cut at byte {offset}: {}", transcript.text());
    assert_eq!(transcript.status, 200, "{}", context());
    if transcript.content() == WHOLE && transcript.is_done() && transcript.error().is_none() {
        return;
    }
    // Only the line end behind [DONE] may be missing from a stream that still counts as whole.
    let done = String::from_utf8_lossy(recorded).find("[DONE]").unwrap() + "[DONE]".len();
    if offset >= done && transcript.is_done() {
        return;
    }
    assert!(!transcript.events.iter().any(|event| event == "[DONE]"), "{}", context());
    assert!(transcript.error().is_some() && !transcript.broken, "{}", context());
}

/// Each offset was tried once. A cut before the first byte may be on a connection that an engine's health was asked on, and
/// is then the keep-alive race, which is repeated once.
fn none_is_spared(upstream: &Upstream, offsets: usize) {
    let (requests, offsets) = (upstream.tally().requests, offsets as u64);
    assert!((offsets..=offsets + 1).contains(&requests), "{requests} requests for {offsets} cuts");
}

async fn streams_are_cut(provider: &'static str, fault: Fault) {
    let recorded = fixture(provider, "stream.sse");
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    other.always(Script::says(WHOLE));
    cutting(&upstream, &recorded, false, fault);
    let gateway = gateway(provider, recorded.len(), &upstream, &other).await;
    let compared = Arc::new(recorded.clone());
    for_each_offset(recorded.len(), &gateway.client(), |client, offset| {
        let recorded = compared.clone();
        async move {
            let body = streamed(&format!("cut-{offset}"));
            let transcript = client.post_stream("/v1/chat/completions", &body).await.transcript().await;
            is_honest(&transcript, &recorded, offset);
        }
    })
    .await;
    none_is_spared(&upstream, recorded.len());
    let charged = charges(&gateway, recorded.len()).await;
    for (offset, charge) in charged.iter().enumerate() {
        // The bill, once it has come; before that the prompt and what was written.
        let expected = match came(&recorded[..offset]) {
            Came::Bill => *charged.last().unwrap(),
            Came::Tokens(tokens) => charged[0] + tokens * WRITTEN,
        };
        assert_eq!(*charge, expected, "cut at byte {offset}, of which {:?} came", came(&recorded[..offset]));
    }
    assert!(charged[0] > 0 && charged[0].is_multiple_of(READ), "{} for a prompt", charged[0]);
}

/// What a vendor had written of an answer when it broke off.
#[derive(Debug)]
enum Came {
    /// So many tokens at least: one an event with text, or one for five bytes, whichever is more.
    Tokens(u64),
    /// Its bill.
    Bill,
}

fn came(stream: &[u8]) -> Came {
    let (mut events, mut bytes) = (0, 0);
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n");
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    for data in whole.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: "))) {
        let Data::Chunk(reading) = read_event(&Bytes::copy_from_slice(data.as_bytes())) else { continue };
        if reading.usage.is_some() {
            return Came::Bill;
        }
        events += u64::from(reading.text_bytes > 0);
        bytes += reading.text_bytes;
    }
    Came::Tokens(events.max(bytes.div_ceil(5)))
}

/// What the attempts at each offset were charged, in nano-dollars: each had a model of its own.
async fn charges(gateway: &Gateway, offsets: usize) -> Vec<u64> {
    until("all is settled", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let usage = gateway.site().run_with(&[("TURNPIKE_TOKEN", READER)], &["usage", "--by", "model", "--json"]).json();
    let mut charges = vec![0; offsets];
    for line in usage["lines"].as_array().unwrap() {
        let offset = line["group"]["model"].as_str().and_then(|model| model.strip_prefix('m')?.parse::<usize>().ok());
        if let Some(offset) = offset {
            charges[offset] = (line["charge_usd"].as_f64().unwrap() * 1e9).round() as u64;
        }
    }
    charges
}

async fn answers_are_cut(provider: &'static str, fault: Fault) {
    let recorded = fixture(provider, "answer.json");
    let whole = recorded.trim_ascii_end().len();
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    other.always(Script::says(WHOLE));
    cutting(&upstream, &recorded, true, fault);
    let gateway = gateway(provider, whole, &upstream, &other).await;
    for_each_offset(whole, &gateway.client(), |client, offset| async move {
        client.post("/v1/chat/completions", &chat(&format!("cut-{offset}"))).await.says(WHOLE);
    })
    .await;
    none_is_spared(&upstream, whole);
    // Nobody can know what of it the vendor bills: the prompt was read.
    let charged = charges(&gateway, whole).await;
    assert!(charged[0] > 0 && charged.iter().all(|charge| *charge == charged[0]), "{charged:?}");
}

macro_rules! dialects {
    ($($provider:ident)*) => {$(
        mod $provider {
            use crate::upstream::Fault;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_stream_whose_connection_breaks_at_any_byte() {
                super::streams_are_cut(stringify!($provider), Fault::Abort).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_stream_that_ends_in_order_at_any_byte() {
                super::streams_are_cut(stringify!($provider), Fault::End).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_plain_answer_whose_connection_breaks_at_any_byte() {
                super::answers_are_cut(stringify!($provider), Fault::Abort).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_plain_answer_that_ends_in_order_at_any_byte() {
                super::answers_are_cut(stringify!($provider), Fault::End).await;
            }
        }
    )*};
}

dialects! { openai azure qwen deepseek vllm sglang llamacpp ollama tgi openai_compatible }

#[test]
fn every_recorded_dialect_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers");
    let recorded = std::fs::read_dir(folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(recorded, 10, "a new dialect belongs into `dialects!`");
}
