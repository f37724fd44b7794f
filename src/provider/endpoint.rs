//! Base URLs and keys: how an operator's text becomes the address and the header of a request.

use http::{HeaderName, HeaderValue, Uri, header::AUTHORIZATION, uri::PathAndQuery};
use secrecy::{ExposeSecret, SecretString};

use super::Provider;

/// The longest endpoint that is accepted, in bytes.
const LIMIT: usize = 2048;

/// Why an endpoint or a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// Not `http` or `https`.
    #[error("an endpoint begins with `http://` or `https://`")]
    Scheme,
    /// It does not read as a URL, or names no host.
    #[error("this is no URL; hint: write the base URL as an SDK takes it, such as `https://host/v1`")]
    NoUrl,
    /// Too long.
    #[error("an endpoint has at most {LIMIT} bytes")]
    TooLong,
    /// `user:password@` in it. The text is not repeated: it holds a secret.
    #[error("an endpoint holds no credentials; hint: write the key under `api_key:`")]
    Credentials,
    /// `#…` in it.
    #[error("an endpoint has no fragment (`#…`)")]
    Fragment,
    /// The whole path of a call instead of the base URL.
    #[error("an endpoint is a base URL; hint: leave `{path}` off")]
    WholePath {
        /// The path that does not belong there.
        path: &'static str,
    },
    /// A key with bytes that no HTTP header can carry. The key is not repeated.
    #[error(
        "the key is empty or holds characters that no HTTP header can carry; hint: look for a line break or a space"
    )]
    Key,
}

/// The base URL in `text`, without a trailing slash, and with the provider's own path where it has none. A query is
/// kept: Azure's older paths carry `api-version` there.
///
/// # Errors
/// [`BadEndpoint`] when it is not an `http` or `https` URL, carries credentials or a fragment, or is the whole path of
/// a call.
pub fn normalise(provider: &dyn Provider, text: &str) -> Result<Uri, BadEndpoint> {
    let text = text.trim();
    if text.len() > LIMIT {
        return Err(BadEndpoint::TooLong);
    }
    if text.contains('#') {
        return Err(BadEndpoint::Fragment);
    }
    let uri: Uri = text.parse().map_err(|_| BadEndpoint::NoUrl)?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(BadEndpoint::Scheme),
    }
    let authority = uri.authority().ok_or(BadEndpoint::NoUrl)?;
    if authority.as_str().contains('@') {
        return Err(BadEndpoint::Credentials);
    }
    if authority.host().is_empty() {
        return Err(BadEndpoint::NoUrl);
    }
    let path = uri.path().trim_end_matches('/');
    if path.ends_with(provider.chat_path()) {
        return Err(BadEndpoint::WholePath { path: provider.chat_path() });
    }
    let path = if path.is_empty() { provider.default_path() } else { path };
    Ok(with_path(&uri, path))
}

/// Whether the key can travel in a header.
///
/// # Errors
/// [`BadEndpoint::Key`] when it is empty or holds spaces, control characters or line breaks.
pub fn check_key(key: &SecretString) -> Result<(), BadEndpoint> {
    let key = key.expose_secret();
    let sound = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then_some(()).ok_or(BadEndpoint::Key)
}

/// `endpoint` with `path` behind its own and its query after both.
pub(super) fn below(endpoint: &Uri, path: &str) -> Uri {
    let base = endpoint.path().trim_end_matches('/');
    with_path(endpoint, &format!("{base}{path}"))
}

/// `path` at the origin of `endpoint`.
pub(super) fn beside(endpoint: &Uri, path: &str) -> Uri {
    let mut parts = endpoint.clone().into_parts();
    if let Ok(path) = PathAndQuery::try_from(path) {
        parts.path_and_query = Some(path);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| endpoint.clone())
}

/// `uri` with another path and the same query.
fn with_path(uri: &Uri, path: &str) -> Uri {
    let path = match (path, uri.query()) {
        ("", None) => "/".to_owned(),
        ("", Some(query)) => format!("/?{query}"),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path}?{query}"),
    };
    let mut parts = uri.clone().into_parts();
    // Both paths come out of a parsed URL or a constant, so this cannot fail; the old one is the honest fallback.
    if let Ok(path) = PathAndQuery::try_from(path) {
        parts.path_and_query = Some(path);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// `authorization: Bearer …`.
pub(super) fn bearer(key: &SecretString) -> (HeaderName, HeaderValue) {
    (AUTHORIZATION, sensitive(&format!("Bearer {}", key.expose_secret())))
}

/// A header value that no log prints.
pub(super) fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::super::by_name;
    use super::*;

    fn normalised(provider: &str, text: &str) -> Result<String, BadEndpoint> {
        normalise(by_name(provider).unwrap(), text).map(|uri| uri.to_string())
    }

    #[test]
    fn base_urls_are_brought_into_one_form() {
        let cases = [
            ("openai", "https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("openai", " https://proxy.local/openai/v1 ", "https://proxy.local/openai/v1"),
            ("deepseek", "https://api.deepseek.com", "https://api.deepseek.com/"),
            ("vllm", "http://10.0.0.11:8000", "http://10.0.0.11:8000/v1"),
            ("vllm", "http://10.0.0.11:8000/", "http://10.0.0.11:8000/v1"),
            ("llamacpp", "http://[::1]:8080/api", "http://[::1]:8080/api"),
            ("openai_compatible", "http://h", "http://h/v1"),
            ("azure", "https://res.openai.azure.com/", "https://res.openai.azure.com/openai/v1"),
            (
                "azure",
                "https://r.openai.azure.com/openai/deployments/gpt/?api-version=2024-10-21",
                "https://r.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
            ),
        ];
        for (provider, text, expected) in cases {
            assert_eq!(normalised(provider, text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_a_secret() {
        let cases = [
            ("ftp://h/v1", BadEndpoint::Scheme),
            ("h:8000", BadEndpoint::Scheme),
            ("/v1", BadEndpoint::Scheme),
            ("", BadEndpoint::NoUrl),
            ("http://", BadEndpoint::NoUrl),
            ("http://a b/", BadEndpoint::NoUrl),
            ("https://user:hunter2@h/v1", BadEndpoint::Credentials),
            ("https://h/v1#x", BadEndpoint::Fragment),
            ("https://h/v1/chat/completions", BadEndpoint::WholePath { path: "/chat/completions" }),
        ];
        for (text, expected) in cases {
            let fault = normalised("vllm", text).unwrap_err();
            assert_eq!(fault, expected, "{text}");
            assert!(!fault.to_string().contains("hunter2"));
        }
        assert_eq!(normalised("vllm", &format!("http://h/{}", "a".repeat(3000))), Err(BadEndpoint::TooLong));
    }

    #[test]
    fn a_request_goes_below_the_base_and_keeps_its_query() {
        let cases = [
            ("openai", "https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            ("deepseek", "https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
            (
                "azure",
                "https://r.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
                "https://r.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            ),
        ];
        for (name, base, expected) in cases {
            let provider = by_name(name).unwrap();
            assert_eq!(provider.uri(&normalise(provider, base).unwrap()).to_string(), expected);
        }
    }
}
