//! What a gateway has seen of guarded splits, as it stands in its file and in the store: one page of JSON.

use serde_json::{Value, json};

use super::Rollouts;
use crate::policy::rollout::{KeptSlot, KeptTally, Seen};

/// A page of another version tells nothing.
const VERSION: u64 = 2;
/// The longest page that is read, in bytes: some thousand arms.
const MAX: usize = 1 << 20;

/// A page that was read.
pub(super) struct Page(Value);

/// What it says of one arm.
pub(super) struct Told<'a> {
    pub(super) route: &'a str,
    /// The revision of the split.
    pub(super) revision: &'a str,
    pub(super) arm: &'a str,
    pub(super) seen: Seen,
}

impl Rollouts {
    /// What was seen of all splits, for a page.
    pub(super) fn seen(&self) -> Value {
        let splits = self.all().into_iter().map(|watched| {
            let state = watched.state();
            let arms = state.seen().map(|(arm, seen)| {
                let (since_ms, total, slots) = (seen.since_ms, seen.total, seen.kept());
                json!({"arm": arm.as_str(), "since_ms": since_ms, "total": total, "slots": slots})
            });
            let arms: Vec<Value> = arms.collect();
            json!({"route": watched.route.as_str(), "revision": &*watched.revision, "arms": arms})
        });
        splits.collect()
    }
}

impl Page {
    /// The page of the gateway `node` at `at_ms`, in milliseconds since 1970.
    pub(super) fn write(node: &str, at_ms: i64, splits: &Value) -> String {
        json!({"v": VERSION, "node": node, "at_ms": at_ms, "splits": splits}).to_string()
    }

    /// A page, unless it is damaged or of another version.
    pub(super) fn read(text: &str) -> Option<Self> {
        let page: Value = serde_json::from_str(text).ok().filter(|_| text.len() <= MAX)?;
        (page["v"] == VERSION).then_some(Self(page))
    }

    /// The gateway's name; nothing where none is known.
    pub(super) fn node(&self) -> &str {
        self.0["node"].as_str().unwrap_or_default()
    }

    /// When it was written, in milliseconds since 1970.
    pub(super) fn at_ms(&self) -> i64 {
        self.0["at_ms"].as_i64().unwrap_or_default()
    }

    /// What it says; what contradicts itself is left out.
    pub(super) fn told(&self) -> impl Iterator<Item = Told<'_>> {
        self.0["splits"].as_array().into_iter().flatten().flat_map(|split| {
            split["arms"].as_array().into_iter().flatten().filter_map(|arm| {
                let slots: Option<Vec<KeptSlot>> = arm["slots"].as_array()?.iter().map(slot).collect();
                let seen = Seen::of_kept(arm["since_ms"].as_i64()?, arm["total"].as_u64()?, &slots?)?;
                let (route, revision) = (split["route"].as_str()?, split["revision"].as_str()?);
                Some(Told { route, revision, arm: arm["arm"].as_str()?, seen })
            })
        })
    }
}

fn slot(slot: &Value) -> Option<KeptSlot> {
    Some((slot[0].as_i64()?, tally(&slot[1])?, tally(&slot[2])?))
}

fn tally(tally: &Value) -> Option<KeptTally> {
    let count = |index: usize| u32::try_from(tally[0][index].as_u64()?).ok();
    let cost = |index: usize| tally[1][index].as_f64();
    Some(([count(0)?, count(1)?, count(2)?, count(3)?], [cost(0)?, cost(1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_damaged_or_of_another_version_tells_nothing() {
        let slot = json!([5, [[2, 1, 0, 0], [1.5e3, 2.25e6]], [[9, 0, 0, 0], [0.0, 0.0]]]);
        let arm = json!({"arm": "new", "since_ms": 3, "total": 2, "slots": [slot]});
        let odd = json!({"arm": "odd", "since_ms": 3, "total": 1, "slots": [slot]});
        let splits = json!([{"route": "r", "revision": "abc", "arms": [arm, odd, 7, {}]}, {"route": 7}, null]);
        let text = Page::write("n", 17, &splits);
        let page = Page::read(&text).unwrap();
        assert_eq!((page.node(), page.at_ms()), ("n", 17));
        let told: Vec<_> = page.told().collect();
        assert_eq!((told.len(), told[0].route, told[0].revision, told[0].arm), (1, "r", "abc", "new"));
        let kept = [(5, ([2, 1, 0, 0], [1.5e3, 2.25e6]), ([9, 0, 0, 0], [0.0, 0.0]))];
        assert_eq!((told[0].seen.since_ms, told[0].seen.total, told[0].seen.kept()), (3, 2, kept.to_vec()));
        for other in
            [text.replace("\"v\":2", "\"v\":1"), text[..40].to_owned(), "[]".to_owned(), text + &" ".repeat(MAX)]
        {
            assert!(Page::read(&other).is_none());
        }
    }
}
