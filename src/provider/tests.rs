//! Tests over the recorded answers of every provider (`tests/fixtures/providers`, whose README tells the names).

mod edits;
mod load;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::wire::{
    answer::{Data, Reading, read_answer, read_event},
    sse::Framer,
};

fn folder(provider: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers").join(provider)
}

fn read(provider: &str, file: &str) -> String {
    let path = folder(provider).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn provider(name: &str) -> &'static dyn Provider {
    by_name(name).unwrap()
}

/// What the wire reads of an answer, or of every event of a stream.
fn readings(provider: &str, file: &str) -> Vec<Reading> {
    let text = Bytes::from(read(provider, file));
    if file.ends_with(".json") {
        return vec![read_answer(&text).unwrap_or_else(|| panic!("{provider}/{file} is no answer"))];
    }
    let mut framer = Framer::default();
    framer.push(text).unwrap();
    let events = std::iter::from_fn(|| framer.next_event()).filter_map(|event| event.data);
    let mut data: Vec<Data> = events.map(|data| read_event(&data)).collect();
    assert!(matches!(data.pop(), Some(Data::Done)), "{provider}/{file}");
    let readings = data.into_iter().map(|data| match data {
        Data::Chunk(reading) => reading,
        other => panic!("{provider}/{file}: {other:?}"),
    });
    readings.collect()
}

/// The usage in it; a stream gives it once.
fn recorded_usage(provider: &str, file: &str) -> Box<RawValue> {
    let usages = readings(provider, file).into_iter().filter_map(|reading| reading.usage);
    let mut usages: Vec<_> = usages.filter(|usage| usage.get() != "null").collect();
    assert_eq!(usages.len(), 1, "{provider}/{file}");
    usages.remove(0)
}

fn expected(words: &str) -> Verdict {
    match words {
        "elsewhere-quota" => Verdict::QUOTA,
        "elsewhere-account" => Verdict::ACCOUNT,
        "elsewhere-backend" => Verdict::BACKEND,
        "elsewhere-request" => Verdict::TOO_BIG,
        "not_here" => Verdict::UNABLE,
        "not_here-context" => Verdict::CONTEXT,
        "never" => Verdict::NEVER,
        other => panic!("`{other}` is no verdict"),
    }
}

/// A recorded error with what its file's name says of it.
struct Recorded {
    provider: &'static dyn Provider,
    name: String,
    status: StatusCode,
    verdict: Verdict,
    body: Vec<u8>,
}

fn recorded_errors() -> Vec<Recorded> {
    let mut errors = Vec::new();
    for provider in TABLE {
        for entry in fs::read_dir(folder(provider.name()).join("errors")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let (rest, verdict) = name.rsplit_once('.').unwrap();
            let (status, _) = rest.split_once('-').unwrap();
            let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
            let body = fs::read(&path).unwrap();
            let verdict = expected(verdict);
            let name = format!("{}/{name}", provider.name());
            errors.push(Recorded { provider: *provider, name, status, verdict, body });
        }
    }
    errors
}

fn failure(provider: &dyn Provider, status: u16, body: &str) -> Failure {
    provider.classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
}

#[test]
fn every_provider_has_recorded_answers_and_a_name_of_its_own() {
    for (index, provider) in TABLE.iter().enumerate() {
        for file in ["answer.json", "stream.sse"] {
            assert!(folder(provider.name()).join(file).is_file(), "{}/{file}", provider.name());
        }
        assert_eq!(by_name(provider.name()).unwrap().name(), provider.name());
        assert!(TABLE[..index].iter().all(|other| other.name() != provider.name()));
    }
    assert!(LATER.iter().all(|(name, _)| by_name(name).is_none()), "a provider of the table is announced for later");
    assert!(recorded_errors().len() > 80);
}

#[test]
fn usage_is_read_in_the_inclusive_form() {
    let usage = |input, cached_input, cache_write, output, reasoning| Usage {
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        ..Usage::default()
    };
    let cases = [
        ("openai", "answer.json", usage(2006, 1920, 0, 300, 256)),
        ("openai", "stream.sse", usage(1117, 1024, 0, 46, 0)),
        ("azure", "answer.json", usage(1438, 1280, 0, 12, 0)),
        ("azure", "stream.sse", usage(21, 0, 0, 3, 0)),
        ("qwen", "answer.json", usage(3019, 2048, 512, 104, 0)),
        ("qwen", "stream.sse", usage(26, 0, 0, 87, 71)),
        ("deepseek", "answer.json", usage(1213, 1152, 0, 151, 139)),
        ("deepseek", "stream.sse", usage(17, 0, 0, 33, 26)),
        ("vllm", "answer.json", usage(1042, 1024, 0, 32, 0)),
        ("vllm", "stream.sse", usage(21, 0, 0, 9, 0)),
        ("sglang", "answer.json", usage(812, 768, 0, 27, 19)),
        ("sglang", "stream.sse", usage(9, 0, 0, 3, 0)),
        ("llamacpp", "answer.json", usage(30, 29, 0, 8, 0)),
        ("llamacpp", "stream.sse", usage(30, 29, 0, 8, 0)),
        ("ollama", "answer.json", usage(26, 0, 0, 14, 0)),
        ("ollama", "stream.sse", usage(26, 0, 0, 9, 0)),
        ("tgi", "answer.json", usage(41, 0, 0, 12, 0)),
        ("tgi", "stream.sse", usage(38, 0, 0, 3, 0)),
        ("openai_compatible", "answer.json", usage(32, 6, 0, 103, 94)),
        ("openai_compatible", "stream.sse", usage(14, 0, 8, 4, 0)),
    ];
    assert_eq!(cases.len(), 2 * TABLE.len());
    for (name, file, expected) in cases {
        assert_eq!(provider(name).usage(&recorded_usage(name, file)), Some(expected), "{name}/{file}");
    }
}

#[test]
fn recorded_answers_are_whole_and_carry_something() {
    for provider in TABLE {
        for file in ["answer.json", "stream.sse"] {
            let readings = readings(provider.name(), file);
            let finishes: Vec<_> = readings.iter().filter_map(|reading| reading.finish_reason.as_deref()).collect();
            assert_eq!(finishes.len(), 1, "{}/{file}", provider.name());
            assert!(!provider.failed_finish(finishes[0]), "{}/{file}", provider.name());
            assert!(readings.iter().any(|reading| reading.meaningful), "{}/{file}", provider.name());
            assert!(readings.iter().all(|reading| reading.error.is_none()), "{}/{file}", provider.name());
        }
    }
}

#[test]
fn an_error_inside_a_stream_is_seen_as_one() {
    let inside = recorded_errors().into_iter().filter(|error| error.status == 200 && !error.body.is_empty());
    for error in inside {
        let read = read_event(&Bytes::from(error.body));
        assert!(matches!(read, Data::Chunk(Reading { error: Some(_), .. })), "{}: {read:?}", error.name);
    }
}

#[test]
fn odd_usage_is_none_or_bounded_never_a_surplus() {
    let read = |name: &str, json: &str| provider(name).usage(&RawValue::from_string(json.to_owned()).unwrap());
    for provider in TABLE {
        for none in
            ["{}", "null", "[]", "7", "{\"total_tokens\":9}", "{\"prompt_tokens\":-1}", "{\"prompt_tokens\":1.5}"]
        {
            assert_eq!(read(provider.name(), none), None, "{}: {none}", provider.name());
        }
        let zero = read(provider.name(), "{\"prompt_tokens\":0,\"completion_tokens\":0}");
        assert_eq!(zero, Some(Usage::default()), "an explicit zero is zero");
        let greedy = "{\"prompt_tokens\":10,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":99,\
                      \"cache_creation_input_tokens\":99},\"completion_tokens_details\":{\"reasoning_tokens\":99}}";
        let usage = read(provider.name(), greedy).unwrap();
        assert!(usage.cached_input + usage.cache_write <= usage.input && usage.reasoning <= usage.output, "{usage:?}");
    }
}

#[test]
fn every_recorded_error_is_read_by_class() {
    for Recorded { provider, name, status, verdict: expected, body } in recorded_errors() {
        let failure = provider.classify(status, &HeaderMap::new(), &body);
        let verdict = Verdict { class: failure.class, fault: failure.fault, context_length: failure.context_length };
        assert_eq!(verdict, expected, "{name}: {failure:?}");
        assert!(!failure.message.is_empty() && failure.message.len() <= 500, "{name}: {failure:?}");
        assert!(!failure.message.contains("sk-") && !failure.message.contains("secret plan"), "{name}: {failure:?}");
    }
}

#[test]
fn any_provider_copes_with_any_recorded_error() {
    for Recorded { name, status, verdict: expected, body, .. } in recorded_errors() {
        for other in TABLE {
            let failure = other.classify(status, &HeaderMap::new(), &body);
            if matches!(status.as_u16(), 500..) && expected == Verdict::BACKEND {
                assert_eq!(failure.class, Class::Elsewhere, "{name} read by {}", other.name());
            }
        }
    }
}

#[test]
fn a_message_parks_no_account_and_blames_no_backend() {
    let quoted = "invalid_api_key insufficient_quota rate limit exceeded model not found overloaded 401 429";
    for provider in TABLE {
        let failure = failure(*provider, 400, &format!("{{\"error\":{{\"message\":\"bad value: {quoted}\"}}}}"));
        assert_eq!((failure.class, failure.fault), (Class::Never, Fault::Request), "{}", provider.name());
    }
}

#[test]
fn statuses_alone_tell_the_class() {
    let elsewhere = [408, 409, 425, 429, 500, 502, 503, 504, 529, 401, 402, 403, 404];
    for provider in TABLE {
        for status in elsewhere {
            assert_eq!(failure(*provider, status, "").class, Class::Elsewhere, "{} {status}", provider.name());
        }
        assert_eq!(failure(*provider, 413, "").class, Class::NotHere);
        assert_eq!(failure(*provider, 400, "").class, Class::Never);
        assert_eq!(failure(*provider, 422, "").class, Class::Never);
        assert_eq!(failure(*provider, 429, "").fault, Fault::Quota);
        assert_eq!(failure(*provider, 401, "").fault, Fault::Account);
    }
}

#[test]
fn waits_are_read_in_all_their_forms() {
    type Headers = &'static [(&'static str, &'static str)];
    const DATE: (&str, &str) = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");
    let cases: [(Headers, Option<Duration>); 12] = [
        (&[], None),
        (&[("retry-after", "7")], Some(Duration::from_secs(7))),
        (&[("retry-after", "0.25")], Some(Duration::from_millis(250))),
        (&[("retry-after", "3"), ("retry-after-ms", "120")], Some(Duration::from_millis(120))),
        (&[("retry-after-ms", "120.9")], Some(Duration::from_millis(120))),
        (&[("retry-after", "Mon, 23 Nov 2026 12:00:30 GMT"), DATE], Some(Duration::from_secs(30))),
        (&[("retry-after", "Mon, 23 Nov 2026 11:59:30 GMT"), DATE], None),
        (&[("retry-after", "Mon, 23 Nov 2026 12:00:30 GMT")], None),
        (&[("retry-after", "999999999999999999999")], Some(Duration::from_secs(3600))),
        (&[("retry-after", "-5")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "1e3")], None),
    ];
    for (headers, expected) in cases {
        let map: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let failure = TABLE[0].classify(StatusCode::TOO_MANY_REQUESTS, &map, b"");
        assert_eq!(failure.retry_after, expected, "{headers:?}");
    }
}

#[test]
fn finishes_that_are_failures_are_known() {
    for provider in TABLE {
        for sound in ["stop", "length", "tool_calls", "content_filter", "function_call"] {
            assert!(!provider.failed_finish(sound), "{} {sound}", provider.name());
        }
    }
    assert!(provider("deepseek").failed_finish("insufficient_system_resource"));
    assert!(provider("vllm").failed_finish("abort") && provider("sglang").failed_finish("abort"));
    assert!(provider("openai_compatible").failed_finish("network_error"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_answer_brings_the_reader_down(
        body in prop_oneof![any::<Vec<u8>>(), "[{\\[]?\"(error|detail|usage)\":[{\\[\"0-9a-z:,}\\]é]{0,40}".prop_map(String::into_bytes)],
        status in 100u16..1000,
        wait in "[ -~]{0,40}",
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_str(&wait).unwrap());
        for provider in TABLE {
            let failure = provider.classify(StatusCode::from_u16(status).unwrap(), &headers, &body);
            prop_assert!(!failure.message.is_empty() && failure.message.len() <= 500);
            prop_assert!(failure.retry_after <= Some(Duration::from_secs(3600)));
        }
    }

    #[test]
    fn any_endpoint_is_read_or_refused_and_then_stays_as_it_is(text in "(https?://)?[ -~é]{0,60}") {
        for provider in TABLE {
            if let Ok(uri) = normalise(*provider, &text) {
                prop_assert_eq!(&normalise(*provider, &uri.to_string()).unwrap(), &uri);
                prop_assert!(provider.uri(&uri).path().ends_with(provider.chat_path()));
            }
        }
    }
}
