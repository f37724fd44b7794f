//! Phase one: the request goes out, the head comes back.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};

use super::Failed;
use crate::{
    net::{
        body::{self, UpstreamBody},
        pool::{Origin, SendError},
    },
    policy::Ranked,
    provider::Provider,
    proxy::{admit::Ask, live::Flight, toll::Bill},
};

use std::time::Duration;

/// The longest error body that is read.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// How long an error body may take once its head has come.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The request for one candidate. Nothing of the client's headers goes upstream: no key, no cookie, no address.
pub(super) fn request(ask: &Ask, ranked: &Ranked, flight: &Flight, streams: bool) -> Request<UpstreamBody> {
    let (provider, facts) = (flight.provider(), &ask.chat.facts);
    let mut edits = provider.edits(&ranked.candidate, facts, ranked.max_output);
    if streams && !facts.stream {
        edits.stream = Some(true);
        edits.include_usage = true;
    }
    let body = UpstreamBody::new(ask.chat.splice(&edits).pieces);
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = flight.uri().clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if streams { "text/event-stream" } else { "application/json" };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("turnpike/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = &flight.account().api_key {
        let (name, mut value) = provider.credential(key);
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    request
}

/// Sends the request and resolves with the head of a good answer; an error status is read and classified. `begins` is
/// called when the request begins to go out.
pub(super) async fn send(
    origin: &Origin,
    request: Request<UpstreamBody>,
    connect: Duration,
    provider: &'static dyn Provider,
    begins: impl FnMut(),
) -> Result<Response<body::Answer>, Failed> {
    let response = origin.send_noting(request, connect, begins).await.map_err(|error| unsent(&error))?;
    if response.status().is_success() {
        return Ok(response);
    }
    // Boxed, as it is rare and would be a part of every request's future.
    Err(Box::pin(refused(response, provider)).await)
}

/// Reads and classifies an answer with an error status.
async fn refused(response: Response<body::Answer>, provider: &'static dyn Provider) -> Failed {
    let (head, body) = response.into_parts();
    let reading = Limited::new(body, MAX_ERROR_BODY).collect();
    // An error whose body is cut, too long or slow is still that error.
    let body = match tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::from(BytesMut::new()),
    };
    let failure = provider.classify(head.status, &head.headers, &body);
    Failed::classified(failure, head.status, &body)
}

fn unsent(error: &SendError) -> Failed {
    let bill = if error.dispatched() { Bill::Metered } else { Bill::Nothing };
    let label = if error.dispatched() { "cut" } else { "connect" };
    Failed::backend(label, error.to_string(), bill)
}
