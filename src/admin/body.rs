//! Bodies of operators' requests: read only after the token was checked, within limits of size and time.

use std::time::Duration;

use axum::{body::Body, http::StatusCode, response::Response};
use serde::de::DeserializeOwned;

use super::error;

/// The longest body, in bytes.
const LONGEST: usize = 64 << 10;
/// How long it may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The JSON in `body`.
///
/// # Errors
/// The answer for a body that is too large, too slow, broken off, or not what is wanted.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Box<Response>> {
    json_of(body, LONGEST).await
}

/// The JSON in a `body` of at most so many bytes.
///
/// # Errors
/// As [`json`].
pub(super) async fn json_of<T: DeserializeOwned>(body: Body, longest: usize) -> Result<T, Box<Response>> {
    let refused = |status, code, message: &str| Box::new(error(status, code, message));
    let bytes = match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, longest)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let message = format!("the body broke off or is longer than {} KiB", longest >> 10);
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message));
        }
        Err(_) => {
            let message = "the body did not arrive within 10 s";
            return Err(refused(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded", message));
        }
    };
    let bytes = if bytes.trim_ascii().is_empty() { b"{}".as_slice() } else { &bytes };
    serde_json::from_slice(bytes)
        .map_err(|fault| refused(StatusCode::BAD_REQUEST, "invalid_request", &fault.to_string()))
}
