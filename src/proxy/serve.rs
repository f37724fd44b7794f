//! From a request's first line to the answer's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Gateway,
    admit::admit,
    answer::Answer,
    auth::{Caller, authenticate},
    code::Code,
    course::{self, Course},
    delivery::Delivery,
    live::Live,
    models,
    refusal::Refusal,
    report,
    waiting::Waiting,
};

/// Answers one request. Nothing that a client sends makes it fail: an error is an answer too.
pub async fn serve(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<Answer> {
    let arrival = Instant::now();
    let id = request_id();
    let (head, body) = request.into_parts();
    let mut response = match endpoint(&head) {
        Endpoint::Chat => chat(&gateway, &id, arrival, head, body).await,
        Endpoint::Models => about(&gateway, &head, |live, caller| Ok(models::list(live, caller))),
        Endpoint::Model(name) => about(&gateway, &head, |live, caller| models::one(live, caller, &name)),
        Endpoint::Cost(request) => about(&gateway, &head, |_, caller| cost(&gateway, caller, &request)),
        Endpoint::Unknown => Err(unknown(&gateway, &id, &head)),
    }
    .unwrap_or_else(|refusal| {
        if let Some(empty) = &refusal.empty {
            gateway.told_empty(empty);
        }
        refusal.response()
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(const { HeaderName::from_static("x-request-id") }, id);
    }
    response
}

/// A version 7 UUID: ids sort by time. The thread's generator is seeded by the system and costs no call to it.
fn request_id() -> Arc<str> {
    let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_string().into()
}

/// What a path asks for.
enum Endpoint {
    Chat,
    Models,
    Model(String),
    Cost(String),
    Unknown,
}

fn endpoint(head: &Parts) -> Endpoint {
    let path = head.uri.path();
    match (&head.method, path.strip_prefix("/v1/").unwrap_or_default()) {
        (&Method::POST, "chat/completions") => Endpoint::Chat,
        (&Method::GET, "models") => Endpoint::Models,
        (&Method::GET, rest) => {
            if let Some(name) = rest.strip_prefix("models/").filter(|name| !name.is_empty()) {
                // SDKs escape a name's slashes (`openai%2Fgpt-4o`).
                Endpoint::Model(unescape(name))
            } else if let Some(id) = rest.strip_prefix("requests/").and_then(|rest| rest.strip_suffix("/cost")) {
                Endpoint::Cost(id.to_owned())
            } else {
                Endpoint::Unknown
            }
        }
        _ => Endpoint::Unknown,
    }
}

/// Undoes `%2F` and the like; what is no escape stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unknown(gateway: &Gateway, id: &str, head: &Parts) -> Refusal {
    let path: String = head.uri.path().chars().take(100).collect();
    let refusal = Refusal::new(
        Code::EndpointNotSupported,
        format!("`{} {path}` is not served here\nhint: chat requests go to `POST /v1/chat/completions`", head.method),
    );
    report::refused(gateway, id, "", "", &refusal, None);
    refusal
}

/// A request about the gateway itself.
fn about(
    gateway: &Gateway,
    head: &Parts,
    answer: impl FnOnce(&Live, &Caller) -> Result<Bytes, Refusal>,
) -> Result<Response<Answer>, Refusal> {
    let live = gateway.live();
    let caller = authenticate(gateway, &head.headers, &live.policies, gateway.now())?;
    Ok(json_response(answer(&live, &caller)?))
}

fn cost(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Bytes, Refusal> {
    let receipt = gateway.receipts.find(id, &caller.key);
    let receipt = receipt.ok_or_else(|| {
        Refusal::new(Code::ModelNotFound, "no finished request of this key has that id, or it is long past")
    })?;
    Ok(Bytes::from(json!({"id": id, "cost_usd": receipt.cost.to_string()}).to_string()))
}

fn json_response(body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn chat(
    gateway: &Arc<Gateway>,
    id: &Arc<str>,
    arrival: Instant,
    head: Parts,
    body: Incoming,
) -> Result<Response<Answer>, Refusal> {
    let ask = admit(gateway, Arc::clone(id), arrival, head, body).await;
    let ask = ask.inspect_err(|refusal| report::refused(gateway, id, "", "", refusal, None))?;
    let stream = ask.chat.facts.stream;
    let mut course: Course = Box::pin(course::run(Arc::clone(gateway), Box::new(ask)));
    if !stream {
        return course.await.map(respond);
    }
    // The commitment counts from the request's arrival: that is how long the client has heard nothing.
    let commit = arrival + gateway.settings.stream_commit_after;
    match tokio::time::timeout_at(commit, &mut course).await {
        Ok(done) => done.map(respond),
        Err(_) => Ok(event_stream(Answer::Waiting(Box::new(Waiting::new(course))))),
    }
}

fn respond(delivery: Delivery) -> Response<Answer> {
    match delivery {
        Delivery::Plain { head, body } => {
            let mut response = json_response(body);
            head.write(response.headers_mut());
            response
        }
        Delivery::Stream { head, relay } => {
            let mut response = event_stream(Answer::Relay(relay));
            head.write(response.headers_mut());
            response
        }
    }
}

fn event_stream(answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx in front of Turnpike would otherwise collect the stream before passing it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
