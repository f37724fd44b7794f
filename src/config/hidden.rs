//! What no diagnostic may show: values under names of secrets, and credentials in addresses.
//!
//! In a file that can be read the tree knows where values stand. In one that cannot, the text is searched, and rather
//! too much is hidden than too little.

use std::ops::Range;

/// Words that names of secrets hold.
const WORDS: [&str; 4] = ["key", "token", "secret", "password"];
/// Names of the contract that hold such a word and name no secret.
const PLAIN: [&str; 10] = [
    "keys",
    "tokens",
    "tokens_per_hour",
    "tokenizer",
    "first_token",
    "first_token_p95",
    "per_token",
    "input_tokens",
    "output_tokens",
    "if_missing_secret",
];

/// Whether a value under this name is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A cost for a token and a bound on tokens hold the word and no secret.
    let number = name.contains("cost") || name.starts_with("max_");
    WORDS.iter().any(|word| name.contains(word)) && !PLAIN.contains(&name.as_str()) && !number
}

/// Whether a value is an address that may hold a password.
pub fn has_credentials(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Where secrets stand in a text that is no YAML.
pub fn in_text(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        for word in words(line).filter(|word| is_secret(&line[word.clone()])) {
            found.extend(value(text, line_start, line_start + word.end));
        }
        for (scheme, _) in line.match_indices("://") {
            let rest = &line[scheme + 3..];
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            if let Some(at) = rest[..end].rfind('@') {
                found.push(line_start + scheme + 3..line_start + scheme + 3 + at);
            }
        }
        line_start += line.len();
    }
    found
}

/// The words of a line that may be names.
fn words(line: &str) -> impl Iterator<Item = Range<usize>> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = line.as_bytes();
        let start = at + bytes[at..].iter().position(|&byte| part(byte))?;
        at = bytes[start..].iter().position(|&byte| !part(byte)).map_or(bytes.len(), |length| start + length);
        Some(start..at)
    })
}

/// The value behind a name that ends at `at`: the rest of its line, and what goes on below.
fn value(text: &str, line_start: usize, at: usize) -> Option<Range<usize>> {
    let behind = text[at..].strip_prefix(['"', '\'']).unwrap_or(&text[at..]);
    let begun = behind.trim_start_matches([' ', '\t', ':', '=']);
    // A name inside another word or before a brace has no value; a forgotten colon does not show one.
    if begun.len() == behind.len() && !begun.starts_with(['\n', '\r']) {
        return None;
    }
    let start = text.len() - begun.len();
    if begun.trim_start_matches(['"', '\'']).starts_with("${") {
        return None;
    }
    let line_end = start + begun.find('\n').unwrap_or(begun.len());
    if let Some(quote) = begun.chars().next().filter(|quote| matches!(quote, '"' | '\'')) {
        let closed = begun[1..].find(quote).map_or(text.len(), |length| start + length + 2);
        return Some(start..closed.max(line_end));
    }
    let indentation = |line: &str| line.len() - line.trim_start_matches([' ', '\t', '-']).len();
    let own = indentation(&text[line_start..at]);
    let deeper = text[line_end..].split_inclusive('\n').skip(1);
    let below = deeper.take_while(|line| line.trim().is_empty() || indentation(line) > own);
    let first = usize::from(line_end < text.len());
    Some(start..line_end + first + below.map(str::len).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut bytes = text.to_owned().into_bytes();
        for range in in_text(text) {
            bytes[range].iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*');
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn however_it_is_mistyped_a_secret_is_not_shown() {
        for text in [
            "openai: {provider: openai, api_key: \"sk-live\" region: us}",
            "{\"api_key\": 'sk-live', x",
            "api_key: \"sk-live\n  more: [",
            "api_key: \"\n  sk-live\"",
            "api_key: |\n  sk-live\n",
            "- api_key:\n    sk-live\n",
            "api_key sk-live",
            "API-KEY= sk-live",
            "password: \"ab\"sk-live\"",
            "tokens: [{name: ops, token: sk-live",
            "endpoints: [https://user:sk-live@h/v1",
            "api_key: \"a\n\ttoken: 'sk-live",
        ] {
            assert!(!shown(text).contains("live"), "{text:?}: {}", shown(text));
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "api_key: \"${OPENAI_API_KEY}\" region: us",
            "timeouts: {first_token: 15s",
            "keys: [{id: a, team: b",
            "endpoints: [https://h/v1, x@y",
            "if_missing_secret: off",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("- api_key: sk\n  region: us"), "- api_key: **\n  region: us");
    }
}
