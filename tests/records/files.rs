//! Files of records: torn, damaged, full, in the way.

use std::{fs, ops::ControlFlow, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};
use turnpike::{
    base::records::RecordsConfig,
    telemetry::record::{
        Record, Trail,
        keep::{Counts, Keeper},
        read::{FindError, each_chunk, files_in, find},
    },
};

use crate::traffic::{demo, record};

fn ids(path: &std::path::Path) -> (Vec<String>, turnpike::telemetry::record::read::Lost) {
    let mut ids = Vec::new();
    let lost = each_chunk(path, |text, _| {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            ids.push(line["id"].as_str().unwrap().to_owned());
        }
        ControlFlow::Continue(())
    });
    (ids, lost.unwrap())
}

#[test]
fn of_a_file_that_is_cut_anywhere_what_is_whole_is_read() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &demo("40 USD", str::to_owned), 400, 2);
    let file = files_in(folder.path()).unwrap().pop().unwrap();
    let (whole, lost) = ids(&file);
    assert_eq!((whole.len(), lost.torn, lost.damaged), (400, 0, 0));
    let bytes = fs::read(&file).unwrap();
    let cut = folder.path().join("cut.jsonl.zst");
    for length in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let (read, lost) = ids(&cut);
        assert_eq!(read, whole[..read.len()], "cut at {length}");
        assert!(length == 0 || lost.torn > 0, "cut at {length}");
    }
}

#[test]
fn a_damaged_frame_costs_itself_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("40 USD", str::to_owned);
    let mut all = Vec::new();
    let mut files = Vec::new();
    for seed in 3..6 {
        let part = tempfile::tempdir().unwrap();
        record(part.path(), &loaded, 50, seed);
        let file = files_in(part.path()).unwrap().pop().unwrap();
        all.push(ids(&file).0);
        files.push(fs::read(file).unwrap());
    }
    let middle = files[1].len() / 2;
    files[1][middle..middle + 40].fill(0xff);
    let file = folder.path().join("a.jsonl.zst");
    fs::write(&file, files.concat()).unwrap();
    let (read, lost) = ids(&file);
    assert!(lost.damaged > 0 && lost.torn == 0, "{lost:?}");
    assert!(read.starts_with(&all[0]) && read.ends_with(&all[2]), "the frames beside it are whole");
}

#[test]
fn of_a_frame_with_a_flipped_bit_no_line_is_used_that_was_never_written() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &demo("40 USD", str::to_owned), 150, 6);
    let file = files_in(folder.path()).unwrap().pop().unwrap();
    let text_of = |file: &std::path::Path| {
        let mut text = Vec::new();
        let lost = each_chunk(file, |lines, _| {
            text.extend_from_slice(lines);
            ControlFlow::Continue(())
        });
        (text, lost.unwrap())
    };
    let (whole, bytes) = (text_of(&file).0, fs::read(&file).unwrap());
    let other = folder.path().join("other.jsonl.zst");
    for place in (bytes.len() / 20..bytes.len() - 1).step_by(bytes.len() / 60) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        fs::write(&other, &damaged).unwrap();
        let (text, lost) = text_of(&other);
        assert!(whole.starts_with(&text), "byte {place} of {}: {lost:?}", bytes.len());
        assert!(lost.damaged + lost.torn == bytes.len() as u64 && (lost.torn > 0 || text.is_empty()), "{lost:?}");
        // The next frame is whole, so that this one is no open end either.
        fs::write(&other, [damaged, bytes.clone()].concat()).unwrap();
        let (text, lost) = text_of(&other);
        assert_eq!((text == whole, lost.damaged, lost.torn), (true, bytes.len() as u64, 0), "byte {place}: {lost:?}");
    }
}

#[test]
fn a_frame_of_any_size_is_read_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    while text.len() < 20 << 20 {
        text.extend_from_slice(format!("{{\"number\":{},\"rest\":\"{:900}\"}}\n", text.len(), "").as_bytes());
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, &text).unwrap();
    let packed = encoder.finish().unwrap();
    let file = folder.path().join("a.jsonl.zst");
    let read_of = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let mut read = Vec::new();
        let lost = each_chunk(&file, |lines, _| {
            read.extend_from_slice(lines);
            ControlFlow::Continue(())
        });
        (read, lost.unwrap())
    };
    let (read, lost) = read_of(&packed);
    assert!(read == text && lost == Default::default(), "{lost:?}");
    let (read, lost) = read_of(&packed[..packed.len() / 2]);
    assert!(read.len() > 8 << 20 && text.starts_with(&read), "{} of {}", read.len(), text.len());
    assert_eq!(lost.torn_lines, read.iter().filter(|byte| **byte == b'\n').count() as u64);
    let mut damaged = packed.clone();
    // The checksum itself.
    *damaged.last_mut().unwrap() ^= 1;
    let (read, lost) = read_of(&damaged);
    assert!(read.is_empty() && lost.damaged == packed.len() as u64 && lost.nothing_whole, "{lost:?}");
}

#[test]
fn a_request_is_found_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &demo("40 USD", str::to_owned), 100, 7);
    let file = files_in(folder.path()).unwrap().pop().unwrap();
    for id in ids(&file).0.iter().step_by(17) {
        let line = find(folder.path(), id).unwrap().line.unwrap();
        assert_eq!(line.id.as_ref(), id);
    }
    let unknown = uuid::Builder::from_unix_timestamp_millis(1_800_000_000_000, &[7; 10]).into_uuid();
    assert!(find(folder.path(), &unknown.to_string()).unwrap().line.is_none());
    for id in ["", "x", "00000000-0000-4000-8000-000000000000"] {
        assert!(matches!(find(folder.path(), id), Err(FindError::NoId)), "{id}");
    }
}

fn empty_record(number: usize) -> Arc<Record> {
    let loaded = demo("40 USD", str::to_owned);
    let facts = turnpike::base::facts::Facts { model: "auto".into(), ..Default::default() };
    let mut random = StdRng::seed_from_u64(number as u64);
    let noise: String = (0..2000).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    let trail = Trail::new(jiff::Timestamp::now(), facts, noise, String::new(), 0, loaded.policies);
    Arc::new(Record { id: format!("r{number}"), trail: Some(Arc::new(trail)), ..Record::default() })
}

#[test]
fn files_are_rotated_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let config = RecordsConfig { file_bytes: 4 << 10, keep_bytes: 20 << 10, ..RecordsConfig::default() };
    let foreign =
        ["20200101T000000.000Z.jsonl", "20200101.jsonl.zst", "20200101T000000.000Z copy.jsonl.zst", "mine.jsonl"];
    let foreign = foreign.map(|name| folder.path().join(name));
    foreign.iter().for_each(|path| fs::write(path, "mine").unwrap());
    let keeper = Keeper::start(folder.path(), config, Counts::default()).unwrap();
    let one = empty_record(1);
    for number in 0..60 {
        let record = Record { id: format!("r{number}"), ..one.as_ref().clone() };
        keeper.keep(Arc::new(record), None);
        keeper.keep(empty_record(number), None);
        keeper.flush();
    }
    keeper.close();
    assert!(foreign.iter().all(|path| path.exists()), "what the writer has not made is not its own to remove");
    foreign.iter().for_each(|path| fs::remove_file(path).unwrap());
    let files = files_in(folder.path()).unwrap();
    let size: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(files.len() > 1 && size <= 24 << 10, "{} files of {size} bytes", files.len());
    let (last, _) = ids(files.last().unwrap());
    assert_eq!(last.last().unwrap(), "r59", "the newest are there");
    assert!(!ids(&files[0]).0.contains(&"r0".to_owned()), "the oldest are gone");
}

#[test]
fn what_cannot_be_written_is_dropped_and_counted_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    let keeper = Keeper::start(folder.path(), RecordsConfig::default(), counts.clone()).unwrap();
    // The folder is gone, and a file is in its place.
    fs::remove_dir(folder.path()).unwrap();
    fs::write(folder.path(), "").unwrap();
    let record = empty_record(1);
    (0..100).for_each(|_| keeper.keep(Arc::clone(&record), None));
    keeper.flush();
    assert_eq!((counts.written.get(), counts.dropped.get()), (0, 100));
    keeper.close();
    keeper.keep(record, None);
    assert_eq!(counts.dropped.get(), 101, "whoever comes after the end is counted, too");
    fs::remove_file(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
}

#[test]
fn why_says_what_it_could_not_read_whether_it_found_the_request_or_not() {
    let why = |folder: &std::path::Path, id: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_turnpike"));
        let output = command.arg("why").arg(id).arg("--records").arg(folder).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("40 USD", str::to_owned);
    let mut parts = Vec::new();
    for seed in 8..12 {
        let part = tempfile::tempdir().unwrap();
        record(part.path(), &loaded, 20, seed);
        let file = files_in(part.path()).unwrap().pop().unwrap();
        parts.push((ids(&file).0, fs::read(file).unwrap()));
    }
    let middle = parts[1].1.len() / 2;
    parts[1].1[middle..middle + 40].fill(0xff);
    let whole: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    fs::write(folder.path().join("a.jsonl.zst"), &whole[..whole.len() - 9]).unwrap();
    let (found, told) = why(folder.path(), &parts[0].0[3]);
    assert!(found && !told.contains("damaged"), "it is before the damage: {told}");
    let (found, told) = why(folder.path(), &parts[2].0[3]);
    assert!(found && told.contains("warning: ") && told.contains("bytes are damaged"), "{told}");
    let (found, told) = why(folder.path(), &parts[1].0[19]);
    assert!(!found, "{told}");
    for part in ["as far as they can be read", "are damaged", "were cut off", "hint: "] {
        assert!(told.contains(part), "`{part}` is missing: {told}");
    }
}
