//! What is appended is what `serde_json` writes, byte for byte.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;

use super::append;

#[track_caller]
fn same<T: Serialize + ?Sized>(value: &T) {
    let mut out = b"before".to_vec();
    append(&mut out, value).unwrap();
    let expected = format!("before{}", serde_json::to_string(value).unwrap());
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Pair(u8, String);

#[derive(Serialize)]
struct Only(i64);

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Bare,
    One(u64),
    Two(u64, String),
    Named { right_answer: i64, second: Option<bool> },
    Nothing {},
}

#[derive(Serialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Tagged {
    Settle(Named),
    Unit,
}

#[derive(Serialize)]
struct Named {
    #[serde(rename = "in")]
    input: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
    text: String,
    list: Vec<Kind>,
    labels: BTreeMap<String, String>,
}

fn named(text: &str) -> Named {
    let kinds = [
        Kind::Bare,
        Kind::One(7),
        Kind::Two(8, text.to_owned()),
        Kind::Named { right_answer: -1, second: None },
        Kind::Nothing {},
    ];
    let labels = [(text.to_owned(), "value".to_owned()), ("team".to_owned(), text.to_owned())];
    Named { input: 0, left_out: None, text: text.to_owned(), list: kinds.into(), labels: labels.into() }
}

#[test]
fn every_shape_is_written_as_serde_json_does() {
    same(&Unit);
    same(&Pair(255, String::new()));
    same(&Only(i64::MIN));
    same(&(1, "two", [3_u8; 0], [()], Some(4_i128), None::<u8>, 'ü', '"', b"bytes"));
    same(&[f64::NAN, 0.1, 1e300, -0.0]);
    same(&f32::INFINITY);
    same(&[i64::MIN, i64::MAX]);
    same(&[u128::MAX, 0]);
    same(&[true, false]);
    same(&BTreeMap::<String, u8>::new());
    same(&Tagged::Settle(named("plain")));
    same(&Tagged::Unit);
    same(&serde_json::json!({"a": [1, {"b": null}], "c": "\u{1f}"}));
}

#[test]
fn every_letter_is_escaped_wherever_it_stands_as_serde_json_does() {
    for letter in (0..=0x100).filter_map(char::from_u32).chain(['\u{2028}', '😀']) {
        for (before, after) in [(0, 0), (1, 0), (0, 7), (3, 4), (7, 1), (8, 0), (11, 12), (15, 9)] {
            let text = format!("{}{letter}{}", "a".repeat(before), "é".repeat(after));
            same(&text);
            same(&format_args!("{text}"));
        }
    }
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    assert!(append(&mut Vec::new(), &BTreeMap::from([(1, 2)])).is_err());
}

proptest! {
    #[test]
    fn texts_and_numbers_are_written_as_serde_json_does(text in ".*", any in any::<Vec<char>>(), number: i64) {
        same(&named(&text));
        same(&named(&any.into_iter().collect::<String>()));
        same(&number);
    }
}
