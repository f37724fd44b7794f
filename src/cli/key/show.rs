//! Keys and acts as tables. All times are in UTC.

use comfy_table::{Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use crate::admin::api::{KeyDetail, KeyLine};

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(head);
    table
}

fn time(at: Option<Timestamp>, none: &str) -> String {
    at.map_or_else(|| none.to_owned(), |at| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string())
}

fn state(key: &KeyLine) -> String {
    match (key.rotating_until, key.revoked) {
        (Some(until), _) => format!("rotating until {}", time(Some(until), "")),
        (None, Some(at)) => format!("revoked {}", time(Some(at), "")),
        (None, None) => key.state.clone(),
    }
}

fn from(key: &KeyLine) -> &str {
    match key.from.as_str() {
        "policy_file" => "policy file",
        "both" => "store, policy file",
        other => other,
    }
}

/// One row a key.
pub(super) fn keys(keys: &[KeyLine]) -> String {
    let mut table = table(&["key", "team", "name", "state", "created (UTC)", "expires", "last used", "from"]);
    for key in keys {
        let name = key.name.as_deref().unwrap_or("–");
        let (created, expires) = (time(key.created, "–"), time(key.expires, "never"));
        let used = time(key.last_used, "–");
        table.add_row([&key.id, &key.team, name, &state(key), &created, &expires, &used, from(key)]);
    }
    table.to_string()
}

/// One key, and one row an act.
pub(super) fn detail(detail: &KeyDetail) -> String {
    let mut acts = table(&["when (UTC)", "act", "by", "why"]);
    for act in &detail.acts {
        let what = match act.former_until {
            Some(until) => format!("{}, the secret before valid until {}", act.act, time(Some(until), "")),
            None => act.act.clone(),
        };
        let via = if act.via == "api" { "admin API" } else { "command line" };
        let by = format!("{} ({via})", act.by);
        acts.add_row([&time(Some(act.at), ""), &what, &by, act.why.as_deref().unwrap_or("–")]);
    }
    let keys = keys(std::slice::from_ref(&detail.key));
    if detail.acts.is_empty() { keys } else { format!("{keys}\n\n{acts}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::KeyActLine;

    #[test]
    fn a_key_is_shown_with_its_state_and_its_acts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = KeyLine {
            id: "k7Qm2x9Z".into(),
            team: "search".into(),
            name: None,
            created: Some(at(0)),
            expires: None,
            last_used: None,
            state: "rotating".into(),
            rotating_until: Some(at(86_400)),
            revoked: None,
            from: "store".into(),
            explain: false,
        };
        let act = KeyActLine {
            at: at(60),
            act: "rotated".into(),
            former_until: Some(at(86_400)),
            by: "ops".into(),
            via: "api".into(),
            why: Some("yearly".into()),
        };
        let text = detail(&KeyDetail { key, acts: vec![act] });
        for part in [
            "k7Qm2x9Z",
            "rotating until 1970-01-02 00:00",
            "never",
            "rotated, the secret before valid until 1970-01-02 00:00",
            "ops (admin API)",
            "yearly",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
