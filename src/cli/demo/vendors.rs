//! Simulated vendors: one local server that speaks for all of them, each with its own pace and its own way to break.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{Response, StatusCode, header},
    routing::{get, post},
};
use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

/// How a vendor misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It does not.
    #[default]
    Well,
    /// It answers 503.
    Down,
    /// It answers 429 with `retry-after: 30`.
    Busy,
    /// It takes the request and says nothing.
    Stall,
    /// It breaks its stream after a few words.
    Cut,
}

impl Mood {
    const BAD: [(&'static str, Self); 4] =
        [("down", Self::Down), ("busy", Self::Busy), ("stall", Self::Stall), ("cut", Self::Cut)];

    fn parse(text: &str) -> Option<Self> {
        Self::BAD.into_iter().find_map(|(name, mood)| (name == text).then_some(mood))
    }

    /// The word on the terminal.
    pub fn as_str(self) -> &'static str {
        Self::BAD.into_iter().find_map(|(name, mood)| (mood == self).then_some(name)).unwrap_or("well")
    }
}

/// One simulated server.
#[derive(Clone, Copy, Debug)]
pub struct Vendor {
    /// Its place in the path, and its name on the command line.
    pub name: &'static str,
    /// Time to the first token.
    pub first_token: Duration,
    /// Time for each further token.
    pub per_token: Duration,
}

/// All vendors and their moods.
#[derive(Debug)]
pub struct Vendors {
    vendors: &'static [Vendor],
    moods: Mutex<BTreeMap<&'static str, Mood>>,
    broken_at: Mutex<Option<Instant>>,
    served: AtomicU64,
}

/// How long the demo's own traffic rests after a vendor was broken, so that the next request is yours.
const REST: Duration = Duration::from_secs(30);

impl Vendors {
    /// Vendors in good health.
    pub fn new(vendors: &'static [Vendor]) -> Arc<Self> {
        Arc::new(Self { vendors, moods: Mutex::default(), broken_at: Mutex::default(), served: AtomicU64::new(0) })
    }

    /// One of them is in another mood from the start.
    pub fn begin_with(&self, name: &'static str, mood: Mood) {
        self.moods.lock().unwrap_or_else(PoisonError::into_inner).insert(name, mood);
    }

    /// The mood of one vendor.
    pub fn mood(&self, name: &str) -> Mood {
        self.moods.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or_default()
    }

    /// Every vendor with its mood.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Mood)> + '_ {
        self.vendors.iter().map(|vendor| (vendor.name, self.mood(vendor.name)))
    }

    /// Whether the demo's own traffic rests.
    pub fn resting(&self) -> bool {
        let broken = *self.broken_at.lock().unwrap_or_else(PoisonError::into_inner);
        broken.is_some_and(|at| at.elapsed() < REST)
    }

    fn set(&self, name: &str, mood: Mood) -> Result<String, (StatusCode, String)> {
        // `gpu` names both servers of that backend.
        let pool = format!("{name}-");
        let named: Vec<&'static str> = self
            .vendors
            .iter()
            .map(|vendor| vendor.name)
            .filter(|known| *known == name || known.starts_with(&pool))
            .collect();
        if named.is_empty() {
            let known: Vec<&str> = self.vendors.iter().map(|vendor| vendor.name).collect();
            return Err((StatusCode::NOT_FOUND, format!("no vendor `{name}`; there are {}\n", known.join(", "))));
        }
        self.moods.lock().unwrap_or_else(PoisonError::into_inner).extend(named.iter().map(|name| (*name, mood)));
        let rest = if mood == Mood::Well {
            *self.broken_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
            String::new()
        } else {
            *self.broken_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            format!("; the demo's own traffic rests for {} s", REST.as_secs())
        };
        Ok(format!("{} is now {}{rest}\n", named.join(" and "), mood.as_str()))
    }

    /// The server's routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/{vendor}/v1/chat/completions", post(chat))
            .route("/break/{vendor}", post(break_one))
            .route("/mend/{vendor}", post(mend_one))
            .route("/", get(list))
            .with_state(Arc::clone(self))
    }
}

async fn list(State(vendors): State<Arc<Vendors>>) -> String {
    vendors.all().map(|(name, mood)| format!("{name}: {}\n", mood.as_str())).collect()
}

async fn break_one(
    State(vendors): State<Arc<Vendors>>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<String, (StatusCode, String)> {
    let how = query.get("how").map_or("down", String::as_str);
    let mood = Mood::parse(how).ok_or_else(|| {
        (StatusCode::BAD_REQUEST, format!("`how={how}` is not known; use down, busy, stall or cut\n"))
    })?;
    vendors.set(&name, mood)
}

async fn mend_one(
    State(vendors): State<Arc<Vendors>>,
    Path(name): Path<String>,
) -> Result<String, (StatusCode, String)> {
    vendors.set(&name, Mood::Well)
}

async fn chat(State(vendors): State<Arc<Vendors>>, Path(name): Path<String>, body: Bytes) -> Response<Body> {
    let Some(vendor) = vendors.vendors.iter().find(|vendor| vendor.name == name) else {
        return error(StatusCode::NOT_FOUND, "not_found", "no such vendor");
    };
    let mood = vendors.mood(vendor.name);
    match mood {
        Mood::Down => return error(StatusCode::SERVICE_UNAVAILABLE, "server_error", "broken on command"),
        Mood::Busy => {
            let mut busy = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "busy on command");
            busy.headers_mut().insert(header::RETRY_AFTER, 30.into());
            return busy;
        }
        Mood::Stall => std::future::pending().await,
        Mood::Well | Mood::Cut => {}
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not JSON");
    };
    let number = vendors.served.fetch_add(1, Ordering::Relaxed);
    let speech = Speech::new(vendor, &request, body.len(), number, mood == Mood::Cut);
    if request["stream"] == true {
        let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        return response.body(Body::new(speech)).unwrap_or_default();
    }
    tokio::time::sleep(speech.length()).await;
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(speech.whole().to_string())).unwrap_or_default()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = json!({"error": {"message": message, "type": code, "param": null, "code": code}});
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(body.to_string())).unwrap_or_default()
}

const WORDS: &str = "This answer comes from a simulated vendor on your own machine . It has as many words as the \
    real one might write , at the pace that the real one might keep , and it is billed at the price that the real \
    one asks today . Break the vendor and ask again : another model will answer .";

/// An answer, word by word.
struct Speech {
    id: String,
    model: String,
    words: Vec<&'static str>,
    next: usize,
    input_tokens: usize,
    wants_usage: bool,
    cut: bool,
    pace: (Duration, Duration),
    timer: Pin<Box<Sleep>>,
    over: bool,
}

impl Speech {
    fn new(vendor: &Vendor, request: &Value, bytes: usize, number: u64, cut: bool) -> Self {
        let cap = ["max_tokens", "max_completion_tokens"].iter().find_map(|field| request[*field].as_u64());
        let cap = usize::try_from(cap.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let text = || WORDS.split_whitespace();
        // Between one and three rounds of the text, by the number of the request: no two answers in a row are alike.
        let rounds = usize::try_from(1 + number % 3).unwrap_or(1);
        let words = text().cycle().take((text().count() * rounds).min(cap)).collect();
        Self {
            id: format!("chatcmpl-demo-{number}"),
            model: request["model"].as_str().unwrap_or_default().to_owned(),
            words,
            next: 0,
            input_tokens: bytes.div_ceil(4),
            wants_usage: request["stream_options"]["include_usage"] == true,
            cut,
            pace: (vendor.first_token, vendor.per_token),
            timer: Box::pin(sleep_until(Instant::now() + vendor.first_token)),
            over: false,
        }
    }

    fn length(&self) -> Duration {
        self.pace.0 + self.pace.1 * u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }

    fn usage(&self) -> Value {
        let (input, output) = (self.input_tokens, self.words.len());
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }

    fn whole(&self) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": self.words.join(" ")},
                "finish_reason": "stop",
            }],
            "usage": self.usage(),
        })
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.model, "choices": choices})
    }

    /// The next piece of the stream; `None` at its end.
    fn piece(&mut self) -> Option<String> {
        let event = |value: &Value| format!("data: {value}\n\n");
        if self.over || (self.cut && self.next > 4) {
            return None;
        }
        if let Some(word) = self.words.get(self.next) {
            let delta = json!([{"index": 0, "delta": {"content": format!("{word} ")}, "finish_reason": null}]);
            self.next += 1;
            return Some(event(&self.chunk(&delta)));
        }
        self.over = true;
        let finish = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
        let mut end = event(&self.chunk(&finish));
        if self.wants_usage {
            let mut last = self.chunk(&json!([]));
            last["usage"] = self.usage();
            end.push_str(&event(&last));
        }
        end.push_str("data: [DONE]\n\n");
        Some(end)
    }
}

impl http_body::Body for Speech {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.timer.as_mut().poll(context));
        let next = Instant::now() + self.pace.1;
        self.timer.as_mut().reset(next);
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece.into()))))
    }
}
