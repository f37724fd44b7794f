//! Upstreams' own words, made fit to be shown to a client: short, on one line, without keys.

/// The longest message that is passed on, in bytes.
pub(super) const MESSAGE_LIMIT: usize = 500;

/// The longest code that is passed on, in bytes.
pub(super) const CODE_LIMIT: usize = 64;

/// How keys of the known vendors begin; what follows is a secret.
const KEY_PREFIXES: &[&str] = &["sk-", "sk_", "bce-v3/", "ALTAK-", "AIza", "gsk_", "hf_", "xai-", "eyJ"];

/// Words after which a key is quoted, whatever its form.
const BEFORE_KEYS: &[&str] = &["provided:", "key:", "Bearer", "bearer"];

/// Where pydantic (vLLM, SGLang) begins to quote the request.
const QUOTES: &[&str] = &["input_value=", "'input':", "\"input\":"];

/// `text` on one line, with keys masked, without the request that some servers quote, and at most `limit` bytes long.
pub(super) fn presentable(text: &str, limit: usize) -> String {
    let end = QUOTES.iter().filter_map(|quote| text.find(quote)).min().unwrap_or(text.len());
    // Nothing of an over-long text can reach the result; the margin is for what masking shortens.
    let text = &text[..text.floor_char_boundary(end.min(limit.saturating_mul(4)))];
    let mut shown = String::with_capacity(text.len().min(limit + 4));
    for word in text.split_whitespace() {
        let masks = BEFORE_KEYS.iter().any(|before| shown.ends_with(before));
        if !shown.is_empty() {
            shown.push(' ');
        }
        if masks {
            shown.push_str("***");
        } else {
            mask(word, &mut shown);
        }
    }
    shown.retain(|letter| !letter.is_control());
    if shown.len() > limit {
        shown.truncate(shown.floor_char_boundary(limit - '…'.len_utf8()));
        shown.push('…');
    }
    shown
}

/// Writes a word with the keys in it masked.
fn mask(word: &str, shown: &mut String) {
    let mut rest = word;
    let mut at_start = true;
    while let Some(letter) = rest.chars().next() {
        if at_start && KEY_PREFIXES.iter().any(|prefix| rest.starts_with(prefix)) {
            shown.push_str("***");
            rest = rest.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "-_*./+=".contains(letter));
            continue;
        }
        shown.push(letter);
        at_start = !letter.is_alphanumeric() && letter != '-' && letter != '_';
        rest = &rest[letter.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        let cases = [
            (
                "Incorrect API key provided: sk-ab***yz9. You can find your key at https://platform.openai.com.",
                "Incorrect API key provided: *** You can find your key at https://platform.openai.com.",
            ),
            ("bad key 'sk-proj-abc_DEF-123', try again", "bad key '***', try again"),
            ("Your api key: ****ABCD is invalid", "Your api key: *** is invalid"),
            ("(key=bce-v3/ALTAK-x/y)", "(key=***)"),
            ("authorization: Bearer abc.def was refused", "authorization: Bearer *** was refused"),
            ("a risk-free task-list of desk-lamps", "a risk-free task-list of desk-lamps"),
        ];
        for (text, shown) in cases {
            assert_eq!(presentable(text, MESSAGE_LIMIT), shown);
        }
    }

    #[test]
    fn long_texts_are_cut_on_a_character() {
        for letter in ["a", "ü", "模", "🦀"] {
            let shown = presentable(&letter.repeat(4000), MESSAGE_LIMIT);
            assert!(shown.len() <= MESSAGE_LIMIT && shown.len() > MESSAGE_LIMIT - 8, "{} bytes", shown.len());
            assert!(shown.ends_with('…'));
        }
    }

    #[test]
    fn what_a_server_quotes_of_the_request_is_left_out() {
        let text = "1 validation error\n[type=int_parsing, input_value='my secret prompt', input_type=str]";
        assert_eq!(presentable(text, MESSAGE_LIMIT), "1 validation error [type=int_parsing,");
        assert_eq!(presentable("a\u{0}b\u{1b}[31m\r\n c", MESSAGE_LIMIT), "ab[31m c");
    }
}
