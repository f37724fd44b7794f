//! Decisions made again from what is written.

use std::{collections::BTreeMap, ops::ControlFlow};

use turnpike::{
    policy::Policies,
    telemetry::record::{
        Line,
        decided::DecidedLine,
        read::{each_chunk, files_in},
        recall::{Again, Change},
    },
};

use crate::traffic::{demo, record, requests};

/// Every line in `folder`.
pub fn lines(folder: &std::path::Path, mut show: impl FnMut(&[u8])) {
    for file in files_in(folder).unwrap() {
        let lost = each_chunk(&file, |text, _| {
            text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(&mut show);
            ControlFlow::Continue(())
        });
        assert_eq!(lost.unwrap(), Default::default(), "nothing is lost");
    }
}

fn made_again(policies: &Policies, line: &Line) -> Vec<DecidedLine> {
    let again = Again::new(policies, line, None).unwrap();
    line.decisions.iter().map(|made| DecidedLine::from(&again.decide(&made.asked, &Change::default()))).collect()
}

#[test]
fn every_recorded_decision_is_made_again_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = demo("1.5 USD", str::to_owned);
    record(folder.path(), &loaded, requests(), 1);
    let kept = turnpike::config::recorded(folder.path(), &loaded.policies.hash).unwrap();
    let (mut requests, mut decisions, mut bytes) = (0, 0, 0);
    let (mut failovers, mut refused) = (0, 0);
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    lines(folder.path(), |text| {
        let line: Line = serde_json::from_slice(text).unwrap();
        let again = made_again(&kept.policies, &line);
        for (made, recorded) in again.iter().zip(&line.decisions) {
            assert_eq!(*made, recorded.decided, "{}", line.id);
        }
        assert_eq!(serde_json::to_vec(&line).unwrap(), text, "a line that is read and written is the same");
        (requests, decisions, bytes) = (requests + 1, decisions + again.len(), bytes + text.len());
        failovers += usize::from(line.decisions.len() > 1);
        refused += usize::from(line.status == 402);
        for seen in line.decisions.iter().flat_map(|decision| &decision.asked.seen) {
            let parked_or_broken = [("broken", seen.broken_ns.is_some()), ("parked", seen.parked_ns.is_some())];
            for (state, is) in parked_or_broken.into_iter().chain([("full", seen.full), ("crowded", seen.crowded)]) {
                *states.entry(state).or_default() += usize::from(is);
            }
        }
        let attempts = line.attempts.iter();
        *states.entry("429").or_default() += attempts.filter(|attempt| attempt.upstream_status == 429).count();
        *states.entry("last resort").or_default() +=
            line.decisions.iter().filter(|decision| decision.decided.last_resort).count();
    });
    println!("{states:?}");
    assert!(states.len() == 6 && states.values().all(|many| *many > 0), "not all weather was met: {states:?}");
    assert_eq!(requests, self::requests());
    assert!(failovers > requests / 100 && refused > 0, "{failovers} failovers, {refused} refused: too dull");
    let packed: u64 = files_in(folder.path()).unwrap().iter().map(|file| file.metadata().unwrap().len()).sum();
    println!(
        "{requests} requests, {decisions} decisions alike; {} bytes of text, {} packed a request",
        bytes / requests,
        packed / requests as u64
    );
}
