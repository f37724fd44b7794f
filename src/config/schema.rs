//! The JSON Schema of the configuration, for editors: printed from the same tables that the check walks.

use serde_json::{Map, Value, json};

use super::{
    sections,
    shape::{Field, Kind, Least, Shape, Unit},
};
use crate::provider;

/// The schema of `turnpike.yaml`, of the files in `policies/` and of policy tests (JSON Schema, draft 2020-12).
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Turnpike",
        "description": "turnpike.yaml, a file in policies/, or one in policies/tests/",
        "anyOf": [{"$ref": "#/$defs/server"}, {"$ref": "#/$defs/policies"}, {"$ref": "#/$defs/tests"}],
        "$defs": {
            "server": shape(&sections::SERVER),
            "policies": shape(&sections::POLICIES),
            "tests": shape(&sections::cases::CASES),
        },
    })
}

fn shape(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.key.to_owned(), described(field))).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let needed: Vec<&str> = shape.fields.iter().filter(|field| field.needed).map(|field| field.key).collect();
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn described(field: &Field) -> Value {
    let mut schema = kind(&field.kind);
    schema["description"] = json!(field.about);
    if field.key == "provider" {
        schema["enum"] = json!(provider::TABLE.iter().map(|dialect| dialect.name()).collect::<Vec<_>>());
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Secret | Kind::Filled => json!({"type": ["string", "number", "boolean"]}),
        Kind::Name => json!({"type": ["string", "number"]}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Amount(amount) => unit(*amount),
        Kind::List(item, Least::None) => json!({"type": "array", "items": self::kind(item)}),
        Kind::List(item, Least::One) => json!({"type": "array", "items": self::kind(item), "minItems": 1}),
        Kind::Table(value) | Kind::Entries(value) => {
            json!({"type": "object", "additionalProperties": self::kind(value)})
        }
        Kind::Shape(fields) => shape(fields),
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(self::kind).collect::<Vec<_>>()}),
    }
}

/// Patterns catch slips while typing; `turnpike check` has the last word.
fn unit(unit: Unit) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern, "examples": [unit.example()]});
    let number = r"^\d+(\.\d+)?";
    match unit {
        Unit::Money => text(&format!(r"{number}\s*[A-Z]{{3}}$")),
        Unit::Usd => text(&format!(r"{number}\s*USD$")),
        Unit::Quota => text(&format!(r"{number}\s*(USD|[kMG]?\s*(tokens|requests))$")),
        Unit::Rate => text(&format!(r"{number}[kMG]?/(min|minute|h|hour|day|week|month)$")),
        Unit::Spend => text(&format!(r"{number}\s*USD\s*/\s*(min|minute|h|hour|d|day|week|month)$")),
        Unit::UserSource => text("^(header|body):"),
        Unit::Overdue => text(&format!(r"^p95$|{number}\s*(ms|s|m|h|d)$")),
        Unit::StoreLoss => text(r"^(lease|closed|open\(.+\))$"),
        Unit::Duration => text(&format!(r"{number}\s*(ms|s|m|h|d)$")),
        Unit::Bytes => text(&format!(r"{number}\s*(B|[kKMG]B|[KMG]iB)$")),
        Unit::Share => text(&format!(r"{number}\s*%$")),
        Unit::Excess => text(r"^\+\d+(\.\d+)?\s*%$"),
        Unit::ErrorBound => text(r"^\+?\d+(\.\d+)?\s*%$"),
        Unit::Instant => text(r"^\d{4}-\d{2}-\d{2}"),
        Unit::Day => text(r"^\d{4}-\d{2}-\d{2}$"),
        Unit::Hours => text(r"^\d{2}:\d{2}\s*-\s*\d{2}:\d{2}$"),
        Unit::Weekdays => text("^(mon|tue|wed|thu|fri|sat|sun)"),
        Unit::Zone => text("^[A-Za-z]"),
        Unit::Address | Unit::Server => text(r":\d+$"),
        Unit::Tokens => json!({"anyOf": [{"type": "integer", "minimum": 1}, text(&format!("{number}[kMG]$"))]}),
        Unit::Count(least, most) => {
            let plain = json!({"type": "integer", "minimum": least, "maximum": most});
            json!({"anyOf": [plain, {"type": "string", "pattern": format!("{number}[kMG]$")}]})
        }
        Unit::Score => json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": format!(r"{number}\s*%$")}]}),
        Unit::Number | Unit::Factor | Unit::Weight => json!({"type": "number"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{diagnostic::Report, tree};

    /// Every key below a shape, with the path to it.
    fn keys(kind: &Kind, path: &str, found: &mut Vec<String>) {
        match kind {
            Kind::List(inner, _) | Kind::Table(inner) | Kind::Entries(inner) => keys(inner, path, found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| keys(kind, path, found)),
            Kind::Shape(shape) => {
                for field in shape.fields {
                    let path = format!("{path}.{}", field.key);
                    keys(&field.kind, &path, found);
                    found.push(path);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_key_that_is_read_stands_in_the_schema_with_its_purpose() {
        let text = schema().to_string();
        for shape in [&sections::SERVER, &sections::POLICIES, &sections::cases::CASES] {
            for field in shape.fields {
                assert!(text.contains(&json!(field.about).to_string()), "{}", field.key);
                assert!(!field.about.is_empty());
            }
        }
    }

    #[test]
    fn no_key_is_of_this_and_of_a_later_version() {
        fn walk(kind: &Kind) {
            match kind {
                Kind::List(inner, _) | Kind::Table(inner) | Kind::Entries(inner) => walk(inner),
                Kind::Either(kinds) => kinds.iter().for_each(walk),
                Kind::Shape(shape) => {
                    for field in shape.fields {
                        assert!(!shape.later.contains(&field.key), "{} {}", shape.name, field.key);
                        walk(&field.kind);
                    }
                }
                _ => {}
            }
        }
        walk(&Kind::Shape(&sections::SERVER));
        walk(&Kind::Shape(&sections::POLICIES));
    }

    #[test]
    fn every_key_stands_once_and_an_example_of_each_unit_fits() {
        let mut found = Vec::new();
        keys(&Kind::Shape(&sections::POLICIES), "", &mut found);
        let count = found.len();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count);
        for unit in [
            Unit::Money,
            Unit::Quota,
            Unit::Rate,
            Unit::Spend,
            Unit::UserSource,
            Unit::StoreLoss,
            Unit::Overdue,
            Unit::Duration,
            Unit::Tokens,
            Unit::Count(1, 100),
            Unit::Bytes,
            Unit::Share,
            Unit::Excess,
            Unit::ErrorBound,
        ] {
            let mut report = Report::default();
            let (file, source) = report.add("x".into(), unit.example().to_owned());
            let node = tree::parse(&mut report, file, &source.text).ok().flatten().unwrap();
            Kind::Amount(unit).check(&mut report, &node);
            assert!(report.finish().is_ok(), "{unit:?}");
        }
    }
}
