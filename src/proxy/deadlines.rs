//! When a client will no longer wait: by its own word to Turnpike, else by the time limit that its SDK tells of.
//!
//! The SDKs that Stainless generates send the limit of each attempt in seconds: those for Python as
//! `x-stainless-read-timeout` (the longest silence: httpx's read timeout), those for Node as `x-stainless-timeout` (until
//! the head of the answer is there; whole seconds, 0 where there is less than one). Each retry of theirs is a request with
//! a limit of its own. What a client gives up on is worth nothing to it, is billed all the same, and is asked again; so the
//! limit is the deadline of what the client waits for in silence: a whole answer, or a stream's beginning. A stream that has
//! begun, or whose client hears comments meanwhile, is not silent.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use super::{code::Code, refusal::Refusal};

/// The SDKs' headers, the closer one first.
static OF_SDKS: [HeaderName; 2] =
    [HeaderName::from_static("x-stainless-read-timeout"), HeaderName::from_static("x-stainless-timeout")];
/// So much before an SDK gives up it is told that there is no answer: a twentieth of its limit, and at most this. It hears
/// a 504 that says not to ask again, where its own timeout would ask twice more.
const LEAD: Duration = Duration::from_secs(1);

/// `x-turnpike-deadline: 20s` counts from the request's arrival.
pub fn stated(headers: &HeaderMap, arrival: Instant) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get(const { HeaderName::from_static("x-turnpike-deadline") }) else { return Ok(None) };
    let wait = value.to_str().ok().and_then(|text| crate::config::duration(text).ok());
    match wait {
        Some(wait) if !wait.is_zero() => Ok(arrival.checked_add(wait)),
        Some(_) | None => Err(Refusal::new(
            Code::InvalidRequest,
            "header `x-turnpike-deadline` is not a time\nhint: write it like `20s` or `1500ms`",
        )
        .param("x-turnpike-deadline")),
    }
}

/// When the client's SDK gives up, if it says so. `heard_after`: of a stream, when its client hears something in any case;
/// a limit beyond that is none. What is no time is passed over: the header is not ours.
pub fn of_sdk(headers: &HeaderMap, arrival: Instant, heard_after: Option<Duration>) -> Option<Instant> {
    let limit = OF_SDKS.iter().find_map(|name| seconds(headers.get(name)?.to_str().ok()?))?;
    if heard_after.is_some_and(|heard| limit > heard) {
        return None;
    }
    arrival.checked_add(limit - (limit / 20).min(LEAD))
}

/// `600`, `600.0`, `0.5`: seconds above zero.
fn seconds(text: &str) -> Option<Duration> {
    if text.len() > 16 || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    crate::config::duration(&format!("{text}s")).ok().filter(|limit| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(headers: &[(&'static str, &'static str)], heard_after: Option<u64>) -> Option<u128> {
        let headers = headers.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)));
        let arrival = Instant::now();
        let by = of_sdk(&headers.collect(), arrival, heard_after.map(Duration::from_secs))?;
        Some((by - arrival).as_millis())
    }

    #[test]
    fn the_limits_of_the_sdks_are_read() {
        assert_eq!(left(&[("x-stainless-read-timeout", "600")], None), Some(599_000));
        assert_eq!(left(&[("x-stainless-read-timeout", "600.0")], None), Some(599_000));
        assert_eq!(left(&[("x-stainless-read-timeout", "0.5")], None), Some(475));
        assert_eq!(left(&[("x-stainless-timeout", "10")], None), Some(9_500));
        let both = [("x-stainless-timeout", "600"), ("x-stainless-read-timeout", "10")];
        assert_eq!(left(&both, None), Some(9_500));
    }

    #[test]
    fn a_stream_is_not_waited_for_in_silence_beyond_its_commitment() {
        assert_eq!(left(&[("x-stainless-read-timeout", "600")], Some(15)), None);
        assert_eq!(left(&[("x-stainless-read-timeout", "10")], Some(15)), Some(9_500));
    }

    #[test]
    fn what_is_no_time_is_passed_over() {
        for odd in ["", "0", "0.0", "NOT_GIVEN", "None", "-1", "1e3", "5s", "99999999999999999", "0x10"] {
            assert_eq!(left(&[("x-stainless-read-timeout", odd)], None), None, "{odd}");
        }
        let second = [("x-stainless-read-timeout", "None"), ("x-stainless-timeout", "10")];
        assert_eq!(left(&second, None), Some(9_500));
    }
}
