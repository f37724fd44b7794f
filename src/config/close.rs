//! Close names: what somebody who wrote `aply_key` may have meant.

/// The names of `known` that are closest to `word`, the closest first, at most three; none that is far off.
pub fn matches<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = word.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let distance = distance(word, name);
            let other = name.to_lowercase();
            let contained = word.len() >= 3 && (other.contains(&lower) || lower.contains(&other) && name.len() >= 3);
            let limit = 1 + word.chars().count().max(name.chars().count()) / 4;
            (distance <= limit || contained).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `did you mean …?`, where anything is close.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = matches(word, known);
    (!near.is_empty()).then(|| format!("did you mean {}?", list(&near, "or")))
}

/// `did you mean …?`, or else all names there are (at most twelve), or `none`.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, none: &str) -> String {
    if let Some(close) = closest(word, known.clone()) {
        return close;
    }
    let mut all: Vec<&str> = known.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    match all.len() {
        0 => none.to_owned(),
        1..=12 => format!("there {} {}", if all.len() == 1 { "is" } else { "are" }, list(&all, "and")),
        more => format!("there are {}, … ({more} in all)", all[..12].iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}

/// `` `a`, `b` or `c` ``.
pub fn list(names: &[&str], word: &str) -> String {
    match names {
        [] => String::new(),
        [only] => quoted(only),
        [rest @ .., last] => {
            format!("{} {word} {}", rest.iter().map(quoted).collect::<Vec<_>>().join(", "), quoted(last))
        }
    }
}

fn quoted(name: &&str) -> String {
    format!("`{name}`")
}

/// Insertions, deletions, substitutions and swaps of neighbours that make one word the other (optimal string
/// alignment); words beyond 64 characters are not compared.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    if a.len() > 64 || b.len() > 64 || a.len().abs_diff(b.len()) > 8 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_close_and_another_word_is_not() {
        let keys = ["api_key", "accounts", "endpoints", "location"];
        assert_eq!(matches("apikey", keys), ["api_key"]);
        assert_eq!(matches("acounts", keys), ["accounts"]);
        assert_eq!(matches("loaction", keys), ["location"]);
        assert!(matches("colour", keys).is_empty());
    }

    #[test]
    fn without_a_close_name_the_hint_lists_what_there_is() {
        assert_eq!(hint("xyzzy", ["a", "b"], "none"), "there are `a` and `b`");
        assert_eq!(hint("xyzzy", [], "define one"), "define one");
    }
}
