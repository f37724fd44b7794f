//! Rust read as plain words: comments and the contents of literals are blanked first. That is enough for code that
//! rustfmt has formatted.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// A Rust file of the package.
pub struct Source {
    /// Relative to the package, with `/`.
    pub path: String,
    pub text: String,
    /// The text with comments and the contents of literals blanked; every byte stays in its place.
    pub code: String,
    /// `code` without modules under `#[cfg(test)]`.
    pub product: String,
}

impl Source {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let code = blank_comments_and_literals(&text);
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let product = if is_test { String::new() } else { blank_tests(&code) };
        Self { path, text, code, product }
    }

    /// The module of `src/` that the file belongs to; `None` for `lib.rs` and `main.rs`.
    pub fn module(&self) -> Option<&str> {
        let (module, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(module)
    }

    pub fn at(&self, offset: usize) -> String {
        let line = 1 + self.text[..offset].matches('\n').count();
        format!("{}:{line}", self.path)
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn rust_files(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

pub fn all_rust_files() -> Vec<Source> {
    ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect()
}

/// Blanks comments and what stands between quotes, so that braces and words that are left are code.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_or_comment(bytes, at) {
            Some(end) => end.min(bytes.len()),
            None => {
                at += 1;
                continue;
            }
        };
        code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(code).unwrap()
}

/// What stands between the quotes of string literals, with its offset.
pub fn literals(text: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let Some(end) = literal_or_comment(text.as_bytes(), at) else {
            at += 1;
            continue;
        };
        let end = end.min(text.len());
        if let Some(inner) = text[at..end].strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            found.push((inner, at));
        }
        at = end;
    }
    found
}

/// Where the comment or literal that begins at `at` ends.
fn literal_or_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let find = |from: usize, needle: &[u8]| {
        rest[from..].windows(needle.len()).position(|window| window == needle).map_or(rest.len(), |found| from + found)
    };
    let before = bytes[..at].strip_suffix(b"b").unwrap_or(&bytes[..at]);
    let in_word = before.last().is_some_and(|byte| is_word(*byte));
    let length = match rest {
        [b'/', b'/', ..] => find(0, b"\n"),
        [b'/', b'*', ..] => find(2, b"*/") + 2,
        [b'"', ..] => quoted(rest, 1),
        [b'r', b'"' | b'#', ..] if !in_word => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return None;
            }
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            find(2 + hashes, &close) + close.len()
        }
        [b'\'', b'\\', _, ..] => find(3, b"'") + 1,
        [b'\'', first, ..] => {
            let width = char_width(*first);
            if rest.get(1 + width) != Some(&b'\'') {
                return None;
            }
            2 + width
        }
        _ => return None,
    };
    Some(at + length)
}

/// The length of a string literal whose opening quote stands before `from`.
fn quoted(rest: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn char_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// Blanks modules under `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut product = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let open = code[start..].find(['{', ';']).map_or(code.len(), |found| start + found);
        product[start..block_end(code, open)].fill(b' ');
    }
    String::from_utf8(product).unwrap()
}

/// The offset behind the brace that closes the one at `open`, or behind `open` where no brace stands there.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    code.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Identifiers and keywords with their offsets.
pub fn words(code: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].bytes().position(is_word)?;
        at = start + code[start..].bytes().position(|byte| !is_word(byte)).unwrap_or(code.len() - start);
        Some((&code[start..at], start))
    })
}

/// Every path of the code with its offset: `a::b::c`, and the leaves of `a::{b, c::{d}}` in full.
pub fn paths(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut groups: Vec<String> = Vec::new();
    let mut path = (String::new(), 0);
    let mut behind = 0;
    for (word, offset) in words(code) {
        let between: String = code[behind..offset].split_whitespace().collect();
        behind = offset + word.len();
        if between == "::" {
            path.0.push_str("::");
        } else {
            found.push(std::mem::take(&mut path));
            for byte in between.bytes() {
                match byte {
                    b'{' => groups.push(String::new()),
                    b'}' => drop(groups.pop()),
                    _ => {}
                }
            }
            if between.starts_with("::{") {
                let prefix = found.pop().map(|(prefix, _)| prefix + "::").unwrap_or_default();
                if let Some(group) = groups.last_mut() {
                    *group = prefix;
                }
            }
            path = (groups.last().cloned().unwrap_or_default(), offset);
        }
        path.0.push_str(word);
    }
    found.push(path);
    found
}

/// Named functions with bodies: the name, and the range from `fn` to the closing brace.
pub fn functions(code: &str) -> Vec<(&str, Range<usize>)> {
    let all: Vec<_> = words(code).collect();
    all.windows(2)
        .filter(|pair| pair[0].0 == "fn" && code[pair[0].1..pair[1].1].trim() == "fn")
        .filter_map(|pair| {
            let start = pair[0].1;
            let open = signature_end(code, start)?;
            (code.as_bytes()[open] == b'{').then(|| (pair[1].0, start..block_end(code, open)))
        })
        .collect()
}

/// The offset of the brace or semicolon behind a signature; the semicolon of an array's type is not it.
fn signature_end(code: &str, start: usize) -> Option<usize> {
    let mut brackets = 0usize;
    code.bytes().enumerate().skip(start).find_map(|(offset, byte)| {
        match byte {
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets -= 1,
            _ => {}
        }
        (brackets == 0 && matches!(byte, b'{' | b';')).then_some(offset)
    })
}

#[test]
fn the_reader_of_this_test_reads_rust() {
    let text = r##"
        // crate::a
        use crate::{base::{x, y}, wire};
        fn f<'a>(_: [u8; 2]) { let s = "}"; let c = ('}', b'"', br#""}"#); }
        fn g(h: fn(u8)) { match h { _ => std::time::Instant::now() } }
        #[cfg(test)]
        mod tests { use crate::proxy; }
        fn last();
    "##;
    let code = blank_comments_and_literals(text);
    let found: Vec<(String, usize)> = paths(&code);
    for (path, word) in [("crate::base::x", "x,"), ("crate::base::y", "y}"), ("crate::wire", "wire}")] {
        assert!(found.contains(&(path.to_owned(), text.find(word).unwrap())), "{path} in {found:?}");
    }
    assert!(!found.iter().any(|(path, _)| path == "crate::a"));
    assert!(found.iter().any(|(path, _)| path == "std::time::Instant::now"));
    assert_eq!(functions(&code).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["f", "g"]);
    assert_eq!(literals("a(\"b\"); // \"c\""), [("b", 2)]);
    assert!(!blank_tests(&code).contains("proxy") && blank_tests(&code).contains("fn last"));
}
