//! The rules of the house, held by reading the source: what ARCHITECTURE.md promises and the compiler does not check.
//!
//! Comments and the contents of literals are blanked first, so every rule works on plain words and braces. That is
//! enough for code that rustfmt has formatted.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

/// What each module of `src/` may import besides itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("policy", &["base"]),
    ("wire", &["base"]),
    ("provider", &["base", "wire"]),
    ("config", &["base", "policy", "provider"]),
    ("ledger", &["base"]),
    ("net", &["base"]),
    ("telemetry", &["base", "policy"]),
    ("proxy", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry"]),
    ("admin", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry", "proxy", "cli"]),
    ("cli", &["base", "policy", "wire", "provider", "config", "ledger", "net", "telemetry", "proxy", "admin"]),
];

/// Layers without I/O, clock or chance.
const PURE: &[&str] = &["base", "policy", "wire", "provider"];

/// Paths and words that no pure layer names.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "redis",
    "redb",
    "rand",
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::thread",
    "std::env",
    "std::time::Instant",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "async",
    "await",
];

/// Where a pure layer may calculate with floats; a folder or the beginning of a file's name.
const FLOATS: &[&str] = &["src/policy/value", "src/policy/rules.rs", "src/policy/balance", "src/base/scores"];

/// Where a type may be read from or written to text by serde.
const SERDE: &[&str] =
    &["src/config/file", "src/wire/", "src/provider/", "src/ledger/row.rs", "src/telemetry/record.rs", "src/admin/api"];

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;
const MOST_PACKAGES: usize = 300;

/// A Rust file of the package.
struct Source {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
    /// The text with comments and the contents of literals blanked; every byte stays in its place.
    code: String,
    /// `code` without modules under `#[cfg(test)]`.
    product: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let code = blank_comments_and_literals(&text);
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let product = if is_test { String::new() } else { blank_tests(&code) };
        Self { path, text, code, product }
    }

    /// The module of `src/` that the file belongs to; `None` for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let (module, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(module)
    }

    fn at(&self, offset: usize) -> String {
        let line = 1 + self.text[..offset].matches('\n').count();
        format!("{}:{line}", self.path)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<Source> {
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

fn all_rust_files() -> Vec<Source> {
    ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect()
}

/// Fails with one line a fault.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn modules_import_only_what_the_layers_allow() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: `{module}` is not in the import table", source.path));
            continue;
        };
        for (path, offset) in paths(&source.code) {
            let Some(imported) = module_named_by(&path, &source.path) else { continue };
            if imported != module && !allowed.contains(&imported) {
                faults.push(format!("{}: `{module}` may not import `{imported}`", source.at(offset)));
            }
        }
    }
    none(faults);
}

/// The module of `src/` that a path leads to, from the crate's root or by climbing there with `super`.
fn module_named_by<'a>(path: &'a str, file: &str) -> Option<&'a str> {
    let mut segments = path.split("::").peekable();
    let name = match *segments.peek()? {
        "crate" | "turnpike" => segments.nth(1)?,
        "super" => {
            let climbs = path.split("::").take_while(|segment| *segment == "super").count();
            let depth = file.matches('/').count() - usize::from(file.ends_with("/mod.rs"));
            if climbs < depth {
                return None;
            }
            segments.nth(climbs)?
        }
        _ => return None,
    };
    IMPORTS.iter().any(|(module, _)| *module == name).then_some(name)
}

#[test]
fn pure_layers_name_no_io_no_clock_and_no_chance() {
    let mut faults = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module().is_some_and(|name| PURE.contains(&name))) {
        for (path, offset) in paths(&source.product) {
            let found = IMPURE.iter().find(|impure| {
                let tail = path.strip_prefix(**impure).unwrap_or("-");
                tail.is_empty() || tail.starts_with("::")
            });
            if let Some(impure) = found {
                faults.push(format!("{}: a pure layer names `{impure}`", source.at(offset)));
            }
        }
    }
    none(faults);
}

#[test]
fn floats_of_pure_layers_stay_where_values_and_scores_are() {
    let mut faults = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module().is_some_and(|name| PURE.contains(&name))) {
        let allowed = FLOATS.iter().any(|prefix| source.path.starts_with(prefix));
        for (word, offset) in words(&source.product).filter(|(word, _)| !allowed && matches!(*word, "f32" | "f64")) {
            faults.push(format!("{}: `{word}` outside {FLOATS:?}", source.at(offset)));
        }
    }
    none(faults);
}

#[test]
fn serde_derives_stay_at_the_edges() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        if SERDE.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (offset, _) in source.product.match_indices("derive(") {
            let list = source.product[offset..].split(')').next().unwrap();
            if words(list).any(|(word, _)| matches!(word, "Serialize" | "Deserialize")) {
                faults.push(format!("{}: a serde derive outside {SERDE:?}", source.at(offset)));
            }
        }
    }
    none(faults);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    none(all_rust_files().iter().filter(|source| silent(source)).map(|source| source.path.clone()).collect());
}

#[test]
fn files_and_functions_fit_into_a_head() {
    let mut faults = Vec::new();
    for source in all_rust_files() {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines, {LONGEST_FILE} are allowed", source.path));
        }
        for (name, body) in functions(&source.code) {
            let lines = 1 + source.text[body.clone()].matches('\n').count();
            if lines > LONGEST_FUNCTION {
                faults.push(format!("{}: `{name}` has {lines} lines, not {LONGEST_FUNCTION}", source.at(body.start)));
            }
        }
    }
    none(faults);
}

#[test]
fn no_test_is_switched_off() {
    let mut faults = Vec::new();
    for source in all_rust_files() {
        for (offset, _) in source.code.match_indices("#[ignore") {
            faults.push(format!("{}: an ignored test", source.at(offset)));
        }
    }
    none(faults);
}

#[test]
fn the_package_tree_stays_small() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let listed = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<&str> = listed.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(packages.len() <= MOST_PACKAGES, "{} packages, {MOST_PACKAGES} are allowed", packages.len());
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
fn words(code: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].bytes().position(is_word)?;
        at = start + code[start..].bytes().position(|byte| !is_word(byte)).unwrap_or(code.len() - start);
        Some((&code[start..at], start))
    })
}

/// Every path of the code with its offset: `a::b::c`, and the leaves of `a::{b, c::{d}}` in full.
fn paths(code: &str) -> Vec<(String, usize)> {
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
fn functions(code: &str) -> Vec<(&str, Range<usize>)> {
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
    assert!(!blank_tests(&code).contains("proxy") && blank_tests(&code).contains("fn last"));
    assert_eq!(module_named_by("super::super::ledger::x", "src/policy/rules.rs"), Some("ledger"));
    assert_eq!(module_named_by("super::ledger", "src/policy/rules.rs"), None);
    assert_eq!(module_named_by("super::ledger", "src/policy/mod.rs"), Some("ledger"));
}
