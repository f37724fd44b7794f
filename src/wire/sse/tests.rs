//! Framing: single cases, and the properties against a plain reader of whole streams.

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};

use super::{Event, Framer};

/// Cases of each property.
const CASES: u32 = 100_000;

fn frame<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Framer) {
    let (mut framer, mut events) = (Framer::default(), Vec::new());
    for chunk in chunks {
        framer.push(Bytes::copy_from_slice(chunk)).expect("short events");
        events.extend(std::iter::from_fn(|| framer.next_event()));
    }
    (events, framer)
}

/// Name and data of an event.
type Said<T> = (Option<T>, Option<T>);

/// Name and data of the events that have any.
fn said(events: &[Event]) -> Vec<Said<&[u8]>> {
    let said = events.iter().map(|event| (event.name.as_deref(), event.data.as_deref()));
    said.filter(|said| *said != (None, None)).collect()
}

fn data(stream: &str) -> Vec<String> {
    let (events, _) = frame([stream.as_bytes()]);
    events.into_iter().filter_map(|event| event.data).map(|data| String::from_utf8_lossy(&data).into_owned()).collect()
}

#[test]
fn lines_may_end_in_lf_cr_or_crlf() {
    assert_eq!(data("data: a\n\ndata: b\r\rdata: c\r\n\r\ndata: d\r\n\n"), ["a", "b", "c", "d"]);
}

#[test]
fn one_space_after_the_colon_goes() {
    assert_eq!(
        data("data:a\n\ndata: b\n\ndata:  c\n\ndata\n\ndata:\n\ndata\n: x\ndata\n\n"),
        ["a", "b", " c", "", "", "\n"]
    );
}

#[test]
fn lines_of_data_are_joined_by_lf() {
    assert_eq!(data("data: {\r\nid: 7\r\ndata: }\r\n\r\n"), ["{\n}"]);
}

#[test]
fn comments_and_blank_lines_are_events_without_data() {
    let (events, framer) = frame([b": ping\n\n\ndatum: x\n\nevent: stop\n\n".as_slice()]);
    let raws: Vec<_> = events.iter().map(|event| &event.raw[..]).collect();
    assert_eq!(raws, [b": ping\n\n".as_slice(), b"\n", b"datum: x\n\n", b"event: stop\n\n"]);
    assert!(events.iter().all(|event| event.data.is_none()));
    assert_eq!(events[3].name.as_deref(), Some(b"stop".as_slice()));
    assert!(!framer.has_rest());
}

#[test]
fn a_byte_order_mark_at_the_start_is_passed_over() {
    assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
    assert_eq!(data("data: a\n\n\u{feff}data: b\n\n"), ["a"]);
    let (events, _) = frame([b"\xef".as_slice(), b"\xbb", b"\xbfdata: a\n\n"]);
    assert_eq!(said(&events), [(None, Some(b"a".as_slice()))]);
}

#[test]
fn an_event_without_its_blank_line_is_a_rest() {
    let (events, framer) = frame([b"data: a\n\ndata: [DONE]\n".as_slice()]);
    assert_eq!(events.len(), 1);
    assert!(framer.has_rest());
    assert_eq!(framer.rest(), b"data: [DONE]\n");
}

#[test]
fn a_crlf_split_between_chunks_is_one_line_end() {
    let (events, framer) = frame([b"data: a\r".as_slice(), b"\n\r", b"\ndata: b\r\n\r", b"\n"]);
    assert_eq!(said(&events), [(None, Some(b"a".as_slice())), (None, Some(b"b"))]);
    assert!(!framer.has_rest(), "the LF of the last CRLF is no event");
}

#[test]
fn an_event_within_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b": hi\n\ndata: a\n\ndata: b\n\n");
    let mut framer = Framer::default();
    framer.push(chunk.clone()).expect("short");
    for _ in 0..3 {
        let event = framer.next_event().expect("three events");
        assert!(chunk.as_ptr_range().contains(&event.raw.as_ptr()));
    }
}

#[test]
fn an_event_past_the_limit_is_refused_in_one_chunk_or_in_many() {
    for pieces in [1, 7, 40] {
        let mut framer = Framer::default();
        let stream = format!("data: ok\n\ndata: {}\n\n", "x".repeat(100));
        let pushed: Result<(), _> = stream
            .as_bytes()
            .chunks(stream.len().div_ceil(pieces))
            .try_for_each(|chunk| framer.push_within(Bytes::copy_from_slice(chunk), 64));
        assert!(pushed.is_err());
        assert_eq!(framer.next_event().and_then(|event| event.data).as_deref(), Some(b"ok".as_slice()));
        assert!(framer.next_event().is_none());
        assert!(framer.push_within(Bytes::from_static(b"\n\n"), 64).is_err(), "what follows is lost");
    }
}

#[test]
fn a_stream_cut_anywhere_gives_whole_events_and_no_false_end() {
    let stream = include_bytes!("../../../tests/fixtures/wire/chat.sse");
    let (whole, _) = frame([stream.as_slice()]);
    assert_eq!(whole.last().and_then(|event| event.data.as_deref()), Some(b"[DONE]".as_slice()));
    for cut in 0..stream.len() {
        let (events, framer) = frame([&stream[..cut]]);
        assert_eq!(events, whole[..events.len()]);
        assert!(events.len() < whole.len());
        let framed: usize = events.iter().map(|event| event.raw.len()).sum();
        assert_eq!(framer.rest(), &stream[framed..cut]);
    }
}

/// Reads a whole stream as the standard says, in the plainest way.
fn plain_reading(stream: &[u8]) -> Vec<Said<Vec<u8>>> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut unified = Vec::new();
    for (at, &byte) in stream.iter().enumerate() {
        match byte {
            b'\r' => unified.push(b'\n'),
            b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
            other => unified.push(other),
        }
    }
    let mut lines: Vec<&[u8]> = unified.split(|&byte| byte == b'\n').collect();
    lines.pop();
    let (mut events, mut name, mut data) = (Vec::new(), None, None::<Vec<u8>>);
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':');
        let (field, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (line, field) {
            (b"", _) => events.push((name.take(), data.take())),
            (_, b"event") => name = Some(value.to_vec()),
            (_, b"data") => match &mut data {
                Some(data) => data.extend([b"\n", value].concat()),
                None => data = Some(value.to_vec()),
            },
            _ => {}
        }
    }
    events.retain(|event| *event != (None, None));
    events
}

/// Streams that are rich in what matters.
fn a_stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        b"\n".as_slice(),
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n",
        b"data",
        b"data:",
        b"data: ",
        b"data: {\"a\":1}",
        b"event: x",
        b":",
        b" ",
        b": hi",
        b"id: 1",
        b"x",
        "é😀".as_bytes(),
        b"\xef",
        b"\xbb\xbf",
        b"\xef\xbb\xbf",
        b"\0",
    ]);
    prop::collection::vec(token, 0..16).prop_map(|tokens| tokens.concat())
}

#[test]
fn any_splitting_gives_the_events_of_the_whole_stream() {
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::default() };
    let cuts = prop::collection::vec(0..90_usize, 0..6);
    let test = |(stream, mut cuts): (Vec<u8>, Vec<usize>)| {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let (events, framer) = frame(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]));
        let plain = plain_reading(&stream);
        let plain: Vec<_> = plain.iter().map(|(name, data)| (name.as_deref(), data.as_deref())).collect();
        prop_assert_eq!(said(&events), plain);
        let mut raws: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        raws.extend(&framer.carry[..]);
        prop_assert_eq!(&raws, &stream);
        let bytewise = frame(stream.chunks(1));
        prop_assert_eq!(said(&bytewise.0), said(&events));
        prop_assert_eq!(bytewise.1.has_rest(), framer.has_rest());
        Ok(())
    };
    TestRunner::new(config).run(&(a_stream(), cuts), test).expect("the property");
}
