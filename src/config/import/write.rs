//! Writing YAML: one entry a line, in flow style, so that a comment with its source fits beside it.

/// A scalar, quoted unless it is plain in every YAML.
pub fn scalar(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if begins_well && !word && text.bytes().all(plain) {
        return text.to_owned();
    }
    // A JSON string is a YAML scalar in double quotes.
    serde_json::Value::from(text).to_string()
}

/// `[a, b]`.
pub fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", items.into_iter().map(scalar).collect::<Vec<_>>().join(", "))
}

/// `{a: x, b: y}` of keys and values that are written already.
pub fn map(entries: &[(String, String)]) -> String {
    format!(
        "{{{}}}",
        entries.iter().map(|(key, value)| format!("{}: {value}", scalar(key))).collect::<Vec<_>>().join(", ")
    )
}

/// A section of lines; nothing where there are none.
pub fn section(name: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{name}:\n{}\n", lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}
