//! The part of JSON Schema that a suite may use: `type`, `const`, `enum`, `required`, `properties`,
//! `additionalProperties`, `items`, `minItems`, `maxItems`, `minimum`, `maximum`. Anything else is a fault of the suite,
//! so that no condition is passed over in silence.

use anyhow::bail;
use serde_json::Value;

use super::keys;

const KEYS: [&str; 13] = [
    "type",
    "const",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "description",
    "title",
];
const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
/// How deep a schema may nest.
const DEEPEST: usize = 32;

/// Whether a schema holds only what is known.
///
/// # Errors
/// The first thing that is not.
pub fn check(schema: &Value) -> anyhow::Result<()> {
    known(schema, 0)
}

fn known(schema: &Value, depth: usize) -> anyhow::Result<()> {
    let Some(fields) = schema.as_object().filter(|_| depth < DEEPEST) else {
        bail!("a schema is a mapping, and not endless")
    };
    keys::known(fields, &KEYS)?;
    for (key, value) in fields {
        match key.as_str() {
            "type" if !value.as_str().is_some_and(|name| TYPES.contains(&name)) => bail!("no type `{value}`"),
            "properties" => {
                value.as_object().into_iter().flatten().try_for_each(|(_, value)| known(value, depth + 1))?
            }
            "items" => known(value, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether two values are the same; 1 and 1.0 are.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// Whether a value has the shape of a schema that was checked.
pub fn fits(value: &Value, schema: &Value) -> bool {
    let of_type = schema["type"].as_str().is_none_or(|name| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        _ => value.is_null(),
    });
    let equal = schema.get("const").is_none_or(|wanted| same(value, wanted));
    let listed = schema["enum"].as_array().is_none_or(|list| list.iter().any(|wanted| same(value, wanted)));
    let bound = |key: &str, holds: fn(f64, f64) -> bool| match (schema[key].as_f64(), value.as_f64()) {
        (Some(bound), Some(number)) => holds(number, bound),
        _ => true,
    };
    let within = bound("minimum", |number, bound| number >= bound) && bound("maximum", |number, bound| number <= bound);
    of_type && equal && listed && within && object(value, schema) && list(value, schema)
}

fn object(value: &Value, schema: &Value) -> bool {
    let Some(fields) = value.as_object() else { return true };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let properties = schema["properties"].as_object();
    required.into_iter().all(|key| fields.contains_key(key))
        && fields.iter().all(|(key, value)| match properties.and_then(|properties| properties.get(key)) {
            Some(shape) => fits(value, shape),
            None => schema["additionalProperties"] != Value::Bool(false),
        })
}

fn list(value: &Value, schema: &Value) -> bool {
    let Some(items) = value.as_array() else { return true };
    let count = items.len() as u64;
    let few = schema["minItems"].as_u64().is_none_or(|least| count >= least);
    let many = schema["maxItems"].as_u64().is_none_or(|most| count <= most);
    few && many && schema.get("items").is_none_or(|shape| items.iter().all(|item| fits(item, shape)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_the_shape_fits_and_nothing_else() {
        let schema = json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
            "a": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 0, "maximum": 9}},
            "b": {"enum": ["x", null]}, "c": {"const": 1}}});
        check(&schema).unwrap();
        for value in [json!({"a": [1]}), json!({"a": [1, 2.0], "b": null}), json!({"a": [0], "c": 1.0})] {
            assert!(fits(&value, &schema), "{value}");
        }
        for value in [
            json!([]),
            json!({}),
            json!({"a": []}),
            json!({"a": [1, 2, 3]}),
            json!({"a": [10]}),
            json!({"a": [-1]}),
            json!({"a": [1.5]}),
            json!({"a": ["1"]}),
            json!({"a": [1], "b": "y"}),
            json!({"a": [1], "c": 2}),
            json!({"a": [1], "d": 1}),
        ] {
            assert!(!fits(&value, &schema), "{value}");
        }
        assert!(check(&json!({"oneOf": []})).is_err() && check(&json!({"items": {"typ": 1}})).is_err());
    }
}
