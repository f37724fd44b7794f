//! The end of a process amid work: 200 streams end whole, a second signal ends at once, and the books balance.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    harness::{Answer, Gateway, Stream, chat, streamed, until},
    sky::{PATH, PAYER, READER, Sky, audited, billed, counted_prompt, setup},
    upstream::{Fault, Gate, Script, Upstream},
};

const STREAMS: usize = 200;
const TEXT: &str = "the whole answer";

/// Streams under way that have said their first word.
async fn streams(sky: &Sky, count: usize) -> Vec<Stream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = sky.client().post_stream(PATH, &streamed("chain")).await;
        stream.read_until("the ").await;
        open.push(stream);
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_outlive_the_signal() {
    let mut sky = Sky::new().await;
    let gate = Gate::closed();
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt).after_events(2, Fault::Wait(gate.clone())));
    let open = streams(&sky, STREAMS).await;
    sky.gateway.terminate();
    let client = sky.client();
    until("new clients are refused", async || client.try_get("/v1/models").await.is_err()).await;
    assert_eq!((sky.first.tally().hung_up, sky.first.tally().open), (0, STREAMS as u64));
    gate.release();
    for stream in open {
        let rest = stream.transcript().await;
        assert!(rest.is_done() && !rest.broken && rest.error().is_none(), "{}", rest.text());
        assert_eq!(rest.content(), "whole answer");
    }
    assert_eq!(sky.gateway.exit_code().await, Some(0), "{}", sky.gateway.log());
    audited(sky.gateway.site(), sky.billed() + sky.prompt * 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_and_nothing_is_lost_from_the_books() {
    let mut sky = Sky::new().await;
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt).after_events(2, Fault::Stall));
    let open = streams(&sky, 20).await;
    sky.gateway.terminate();
    until("the drain has begun", async || sky.gateway.log().contains("draining")).await;
    sky.gateway.terminate();
    assert_eq!(sky.gateway.exit_code().await, Some(1), "{}", sky.gateway.log());
    for stream in open {
        let rest = stream.transcript().await;
        assert!(!rest.is_done(), "a part must not look whole: {}", rest.text());
        rest.ends_with_error("overloaded");
    }
    let again = sky.gateway.site().clone().start().await;
    until("what was left open is settled", async || again.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let audit = again.site().run_with(&[("TURNPIKE_TOKEN", READER)], &["audit", "--json"]).json();
    assert_eq!(audit["balanced"], true, "{audit}");
    let charged = audit["charge_usd"].as_f64().unwrap() * 1e9;
    assert!(charged + 0.5 >= sky.billed() as f64, "{charged} of {}", sky.billed());
}

/// Requests that are hedged, that wait for a place at a backend, and that wait to be let in.
const HEDGED: u64 = 4;
const IN_LINE: u64 = 6;
const AT_THE_DOOR: u64 = 3;

/// A gateway with work of every kind under way, whose answers wait for the gate.
struct Busy {
    gateway: Gateway,
    first: Upstream,
    second: Upstream,
    narrow: Upstream,
    prompt: u64,
    gate: Gate,
    asking: JoinSet<Option<Answer>>,
}

impl Busy {
    async fn new() -> Self {
        let (first, second, narrow) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
        let inside = HEDGED + 1 + IN_LINE;
        let gateway = setup()
            .backend("first", &first.base_url())
            .backend("second", &second.base_url())
            .backend_with("narrow", &narrow.base_url(), "provider: openai, max_in_flight: 1")
            .policies("routes: {chain: {order: [first-model, second-model], hedge: {after: 20ms, spend: 100%}}}")
            .server(&format!("limits: {{in_flight: {inside}, queue_wait: 60s}}"))
            .start()
            .await;
        let prompt = counted_prompt(&gateway, &second, "second-model").await;
        let (gate, asking) = (Gate::closed(), JoinSet::new());
        let mut busy = Self { gateway, first, second, narrow, prompt, gate, asking };
        busy.begin().await;
        busy
    }

    async fn begin(&mut self) {
        let says = |text: &str| Script::says(text).prompt_tokens(self.prompt);
        self.first.always(says("whole answer"));
        // What hedges may cost is earned first.
        for _ in 0..50 * HEDGED {
            self.gateway.client_with(PAYER).post(PATH, &chat("chain")).await.says("whole answer");
        }
        self.first.always(says("late").after_events(0, Fault::Stall));
        self.second.always(says("whole answer").behind(&self.gate));
        self.narrow.push(says("whole answer").after_events(2, Fault::Wait(self.gate.clone())));
        self.narrow.always(says("whole answer"));
        for _ in 0..HEDGED {
            self.ask("chain", true);
        }
        self.second.until(|tally| tally.open == HEDGED).await;
        self.ask("narrow-model", true);
        self.narrow.until(|tally| tally.open == 1).await;
        for number in 0..IN_LINE {
            self.ask("narrow-model", number % 2 == 0);
        }
        let inside = (HEDGED + 1 + IN_LINE) as f64;
        let in_flight = async || self.gateway.metric("turnpike_in_flight", &[]).await;
        until("they wait in line", async || in_flight().await == inside).await;
        for number in 0..AT_THE_DOOR {
            self.ask("narrow-model", number % 2 == 0);
        }
        let queued = async || self.gateway.metric("turnpike_queued", &[]).await;
        until("they wait at the door", async || queued().await == AT_THE_DOOR as f64).await;
        assert_eq!(self.narrow.tally().requests, 1);
    }

    /// Asks in the background; nothing comes of it where the connection breaks.
    fn ask(&mut self, model: &str, stream: bool) {
        let (client, body) = (self.gateway.client_with(PAYER), if stream { streamed(model) } else { chat(model) });
        self.asking.spawn(async move { client.try_post(PATH, &body).await.ok() });
    }

    fn billed(&self) -> u64 {
        [&self.first, &self.second, &self.narrow].into_iter().map(billed).sum()
    }
}

/// Whether it is a whole good answer, streamed or not.
fn is_whole(answer: &Answer) -> bool {
    let text = answer.text();
    answer.status == 200
        && !text.contains("\"error\"")
        && if text.starts_with("data: ") {
            text.ends_with("data: [DONE]\n\n")
        } else {
            answer.content() == "whole answer"
        }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedges_and_lines_outlive_the_signal() {
    let mut busy = Busy::new().await;
    busy.gateway.terminate();
    let client = busy.gateway.client();
    until("new clients are refused", async || client.try_get("/v1/models").await.is_err()).await;
    busy.gate.release();
    let ended = std::mem::take(&mut busy.asking).join_all().await;
    assert_eq!(ended.len() as u64, HEDGED + 1 + IN_LINE + AT_THE_DOOR);
    for answer in &ended {
        assert!(answer.as_ref().is_some_and(is_whole), "{answer:?}\n{}", busy.gateway.log());
    }
    assert_eq!(busy.gateway.exit_code().await, Some(0), "{}", busy.gateway.log());
    audited(busy.gateway.site(), busy.billed() + busy.prompt * 2_000);
}

/// Who has begun to ask may finish: the rest of a body is read, and answered.
#[tokio::test]
async fn a_request_that_is_half_sent_outlives_the_signal() {
    let mut sky = Sky::new().await;
    sky.first.always(Script::says(TEXT).prompt_tokens(sky.prompt));
    let body = chat("chain").to_string();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PAYER}\r\n");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let (begun, rest) = request.split_at(request.len() - 20);
    let mut stream = TcpStream::connect(sky.gateway.address()).await.unwrap();
    stream.write_all(begun.as_bytes()).await.unwrap();
    until("it is read", async || sky.gateway.metric("turnpike_in_flight", &[]).await == 1.0).await;
    sky.gateway.terminate();
    let client = sky.client();
    until("new clients are refused", async || client.try_get("/v1/models").await.is_err()).await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(TEXT), "{answer}");
    assert_eq!(sky.gateway.exit_code().await, Some(0), "{}", sky.gateway.log());
    audited(sky.gateway.site(), sky.billed() + sky.prompt * 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_hedges_and_lines_and_what_was_held_is_charged() {
    let mut busy = Busy::new().await;
    let before = busy.billed() + busy.prompt * 2_000;
    busy.gateway.terminate();
    until("the drain has begun", async || busy.gateway.log().contains("draining")).await;
    busy.gateway.terminate();
    assert_eq!(busy.gateway.exit_code().await, Some(1), "{}", busy.gateway.log());
    for answer in std::mem::take(&mut busy.asking).join_all().await {
        // Who hears anything hears that it has to ask elsewhere.
        let told = answer.as_ref().is_none_or(|answer| answer.text().contains("\"overloaded\""));
        assert!(told && !answer.as_ref().is_some_and(is_whole), "nobody was answered: {answer:?}");
    }
    let again = busy.gateway.site().clone().start().await;
    until("what was left open is settled", async || again.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let audit = again.site().run_with(&[("TURNPIKE_TOKEN", READER)], &["audit", "--json"]).json();
    assert_eq!(audit["balanced"], true, "{audit}");
    let charged = (audit["charge_usd"].as_f64().unwrap() * 1e9).round() as u64;
    assert!(charged > before, "{charged} after {before}: what was under way is charged as it was held");
    // Who waited to be let in, or for a place, has sent nothing.
    assert_eq!(busy.narrow.tally().requests, 1);
}
