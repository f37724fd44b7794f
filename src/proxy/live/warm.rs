//! Conversations whose last turn left a prompt cache warm at some vendor, by a hash of what was said so far.
//!
//! The key of a turn is the hash of all its messages; the next turn's messages begin with the same bytes, up to its
//! last answer. No text is kept, and the hash is keyed anew at each start. A bounded number of turns is remembered, the
//! latest.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{CandidateState, accounts::Seat, lock};
use crate::{provider::PromptCache, wire::request::ChatRequest};

/// So many parts have a lock of their own.
const SHARDS: usize = 16;
/// Turns of one generation in one shard: when the young are so many, the old are forgotten. 65,536 in all at most.
const GENERATION: usize = 2048;
/// Longer prompts are not hashed: it would hold the reactor up for more than a millisecond.
const MAX_HASHED: usize = 1 << 20;

/// A request as a turn of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// All that is said with it; `None` = too long to be looked at.
    whole: Option<u64>,
    /// What had been said up to the last answer; `None` = nothing.
    before: Option<u64>,
}

/// Where a turn was served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) candidate: Arc<CandidateState>,
    /// At which account.
    pub(super) seat: Option<Arc<Seat>>,
    /// Its prompt tokens, as the vendor counted them.
    pub(super) tokens: u64,
    /// When, since the epoch of the gateway.
    pub(super) at: Duration,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Warm {
    key: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u64, Place>,
    old: HashMap<u64, Place>,
}

impl Warm {
    /// The turn that a request is. A session that is named is a conversation whatever is said in it; else the messages
    /// tell. Both are the caller's own: vendors may share a cache between callers, but nobody learns of it here.
    pub fn turn(&self, team: &str, key: &str, session: &str, chat: &ChatRequest) -> Turn {
        let mut hasher = self.key.build_hasher();
        for name in [team, key, session] {
            hasher.write(name.as_bytes());
            hasher.write_u8(0xff);
        }
        if !session.is_empty() {
            let session = Some(hasher.finish());
            return Turn { whole: session, before: session };
        }
        let said = chat.said();
        if said.tools.clone().map(<[u8]>::len).sum::<usize>() + said.before.len() + said.since.len() > MAX_HASHED {
            return Turn::default();
        }
        said.tools.for_each(|tools| hasher.write(tools));
        hasher.write(said.before);
        let before = (!said.before.is_empty()).then(|| hasher.finish());
        hasher.write(said.since);
        Turn { whole: Some(hasher.finish()), before }
    }

    /// Where the conversation was served last: this very turn, else the one before.
    pub(super) fn find(&self, turn: Turn) -> Option<Place> {
        [turn.whole, turn.before].into_iter().flatten().find_map(|hash| {
            let shard = lock(self.shard(hash));
            shard.young.get(&hash).or_else(|| shard.old.get(&hash)).cloned()
        })
    }

    /// Remembers where a turn was served.
    pub(super) fn keep(&self, turn: Turn, place: Place) {
        let Some(hash) = turn.whole else { return };
        let mut shard = lock(self.shard(hash));
        if shard.young.len() >= GENERATION {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(hash, place);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Place {
    /// Prompt tokens that the vendor should still have at `now`.
    pub(super) fn tokens_at(&self, now: Duration, cache: PromptCache) -> u64 {
        if now.saturating_sub(self.at) > cache.lasts || self.tokens < cache.least {
            return 0;
        }
        self.tokens / cache.unit.max(1) * cache.unit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    fn request(messages: &str) -> ChatRequest {
        ChatRequest::parse(format!(r#"{{"model":"m","messages":[{messages}]}}"#).into()).unwrap()
    }

    fn place(tokens: u64) -> Place {
        Place { candidate: Arc::default(), seat: None, tokens, at: Duration::from_secs(100) }
    }

    const FIRST: &str =
        r#"{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi"}]}"#;
    const ANSWER: &str = r#", {"role":"assistant","content":"hello"}, {"role":"user","content":"more"}"#;

    #[test]
    fn the_next_turn_is_known_by_what_was_said_before() {
        let warm = Warm::default();
        let turn = |messages: &str| warm.turn("team", "key", "", &request(messages));
        let first = turn(FIRST);
        assert!(warm.find(first).is_none());
        warm.keep(first, place(1_000));
        let second = turn(&format!("{FIRST}{ANSWER}"));
        assert_eq!(warm.find(second).unwrap().tokens, 1_000);
        warm.keep(second, place(2_000));
        assert_eq!(warm.find(turn(&format!("{FIRST}{ANSWER}{ANSWER}"))).unwrap().tokens, 2_000);
        assert_eq!(warm.find(first).unwrap().tokens, 1_000, "asked again");
        let other = FIRST.replace("hi", "ho");
        assert!(warm.find(turn(&format!("{other}{ANSWER}"))).is_none());
        assert!(warm.find(turn(r#"{"role":"user","content":"more"}"#)).is_none());
    }

    #[test]
    fn a_conversation_is_its_callers_own_and_a_session_is_one() {
        let warm = Warm::default();
        let (first, second) = (request(FIRST), request(&format!("{FIRST}{ANSWER}")));
        warm.keep(warm.turn("team", "key", "", &first), place(1_000));
        assert!(warm.find(warm.turn("team", "other", "", &second)).is_none());
        assert!(warm.find(warm.turn("other", "key", "", &second)).is_none());
        assert!(warm.find(warm.turn("team", "key", "s", &second)).is_none());
        warm.keep(warm.turn("team", "key", "s", &first), place(3_000));
        let unlike = request(r#"{"role":"user","content":"compacted"}"#);
        assert_eq!(warm.find(warm.turn("team", "key", "s", &unlike)).unwrap().tokens, 3_000);
    }

    #[test]
    fn what_a_vendor_keeps_is_rounded_to_its_units_and_ends() {
        let openai = provider::by_name("openai").unwrap().prompt_cache();
        let at = |seconds| place(2_000).tokens_at(Duration::from_secs(seconds), openai);
        assert_eq!((at(100), at(400), at(401)), (1_920, 1_920, 0));
        assert_eq!(place(1_023).tokens_at(Duration::from_secs(100), openai), 0);
        let deepseek = provider::by_name("deepseek").unwrap().prompt_cache();
        assert_eq!(place(2_000).tokens_at(Duration::from_secs(3_000), deepseek), 1_984);
    }

    #[test]
    fn no_more_turns_are_kept_than_there_is_room_for() {
        let warm = Warm::default();
        let turn = |number: u64| Turn { whole: Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), before: None };
        let all = 8 * (SHARDS * GENERATION) as u64;
        (0..all).for_each(|number| warm.keep(turn(number), place(number)));
        let length = |shard: &Shard| shard.young.len() + shard.old.len();
        let kept: usize = warm.shards.iter().map(|shard| length(&lock(shard))).sum();
        assert!(kept <= 2 * SHARDS * GENERATION, "{kept}");
        assert!(warm.find(turn(all - 1)).is_some() && warm.find(turn(0)).is_none());
    }

    #[test]
    fn a_prompt_too_long_to_be_hashed_is_no_turn() {
        let warm = Warm::default();
        let long = request(&format!(r#"{{"role":"user","content":"{}"}}"#, "a".repeat(MAX_HASHED)));
        let turn = warm.turn("team", "key", "", &long);
        assert_eq!(turn, Turn::default());
        warm.keep(turn, place(1));
        assert!(warm.find(turn).is_none());
    }
}
