//! Phase two, for clients that want a whole answer: it is read to its end and looked at before it counts.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::Failed;
use crate::{
    net::body,
    provider::Provider,
    proxy::toll::{Bill, Lane},
    wire::{
        answer::{Data, read_answer, read_event},
        sse::Framer,
    },
};

/// The longest answer that is taken whole.
const MAX_ANSWER: usize = 64 << 20;

/// Meters a stream that came where a whole answer was asked for: it is billed as it says.
fn meter_stream(body: &Bytes, provider: &'static dyn Provider, lane: &mut Lane) {
    let mut framer = Framer::default();
    if framer.push(body.clone()).is_err() {
        return;
    }
    while let Some(event) = framer.next_event() {
        if let Some(Data::Chunk(reading)) = event.data.as_ref().map(read_event) {
            lane.saw(reading.text_bytes);
            lane.served_at(reading.tier);
            if let Some(usage) = reading.usage.as_deref().and_then(|raw| provider.usage(raw)) {
                lane.report(usage);
            }
        }
    }
}

/// Which encoding an answer has that nobody asked for.
fn encoded(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(header::CONTENT_ENCODING)?.to_str().ok()?;
    let is_word = encoding.len() <= 16 && encoding.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_word && encoding != "identity")
        .then(|| format!("the answer is encoded as `{encoding}`, which was not asked for"))
}

/// Reads a whole answer.
pub(super) async fn read(
    response: Response<body::Answer>,
    provider: &'static dyn Provider,
    lane: &mut Lane,
) -> Result<Bytes, Failed> {
    let (head, body) = response.into_parts();
    let whole = Limited::new(body, MAX_ANSWER).collect().await;
    let whole = whole.map_err(|_| Failed::backend("cut", "the answer broke off or is too long", Bill::Metered))?;
    let body = whole.to_bytes();
    let Some(reading) = read_answer(&body) else {
        meter_stream(&body, provider, lane);
        let what = encoded(&head.headers).unwrap_or_else(|| "the answer is not a JSON object".to_owned());
        return Err(Failed::backend("garbage", what, Bill::Metered));
    };
    if let Some(error) = &reading.error {
        let failure = provider.classify(StatusCode::OK, &head.headers, error);
        return Err(Failed::classified(failure, StatusCode::OK, error));
    }
    lane.saw(reading.text_bytes);
    lane.served_at(reading.tier);
    if let Some(usage) = reading.usage.as_deref().and_then(|raw| provider.usage(raw)) {
        lane.report(usage);
    }
    let finish = reading.finish_reason.as_deref().unwrap_or_default();
    if provider.failed_finish(finish) {
        return Err(Failed::backend("failed_finish", format!("the answer ended with `{finish}`"), Bill::Metered));
    }
    if reading.no_choices || !(reading.meaningful || matches!(finish, "length" | "content_filter" | "tool_calls")) {
        return Err(Failed::empty("the answer has no content", !finish.is_empty()));
    }
    lane.arrived();
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_that_nobody_asked_for_is_named() {
        let of = |value: &'static str| {
            encoded(&HeaderMap::from_iter([(header::CONTENT_ENCODING, http::HeaderValue::from_static(value))]))
        };
        assert_eq!(of("gzip").unwrap(), "the answer is encoded as `gzip`, which was not asked for");
        assert_eq!((of("identity"), of("a b"), of("seventeen-letters")), (None, None, None));
        assert_eq!(encoded(&HeaderMap::new()), None);
    }
}
