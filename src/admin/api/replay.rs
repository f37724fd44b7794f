//! What `turnpike replay --json` prints.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::telemetry::record::line::Label;

/// Recorded requests under other policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayAnswer {
    /// Requests that were decided again.
    pub requests: u64,
    /// When the first of them came.
    pub since: Option<Timestamp>,
    /// When the last of them came.
    pub until: Option<Timestamp>,
    /// The policies on the old side: `recorded`, or a hash.
    pub old_policies: String,
    /// The policies on the new side.
    pub new_policies: String,
    /// The date whose prices the new side pays; absent = those of each request's moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices_at: Option<Timestamp>,
    /// The old side.
    pub old: SideLine,
    /// The new side.
    pub new: SideLine,
    /// New cost less old, in nano-USD, of the requests whose cost is known on both sides.
    pub difference_nanousd: i64,
    /// What the replay does not follow, in words.
    #[serde(default)]
    pub not_followed: Vec<String>,
    /// Whether recorded decisions come out the same when they are made again.
    pub verified: VerifiedLine,
    /// Requests that another candidate answers, or nobody, by (from, to); the most first.
    pub moves: Vec<MoveLine>,
    /// The ten requests whose cost changed most.
    pub changed_most: Vec<ChangeLine>,
    /// Cost by hour, `[old, new]`, in nano-USD, of the requests whose cost is known on both sides.
    pub hours: BTreeMap<Timestamp, [i64; 2]>,
    /// Shadows among the records: no client asked for them, so they are left out.
    #[serde(default)]
    pub shadows: u64,
    /// Lines that could not be read.
    pub unreadable_lines: u64,
    /// Records that are copies of others, which count once.
    #[serde(default)]
    pub repeated: u64,
    /// Bytes that are damaged: nothing was read of them.
    pub lost_bytes: u64,
    /// Files that are damaged, with how many bytes of each.
    #[serde(default)]
    pub damaged_files: BTreeMap<String, u64>,
    /// Files that were closed without an end, as by a gateway that was killed, with how many requests were read of their
    /// last frame: what followed is lost.
    #[serde(default)]
    pub cut_files: BTreeMap<String, u64>,
    /// Bytes at the end of the newest files that no frame closes: what is whole of them was read.
    pub open_bytes: u64,
}

/// One side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideLine {
    /// Requests that were answered.
    pub served: u64,
    /// Of these, such that their answer is recorded.
    pub known: u64,
    /// Of these, such that their answer had to be estimated.
    pub estimated: u64,
    /// Cost of all requests, in nano-USD, without those attempts whose price is not known.
    pub cost_nanousd: i64,
    /// Requests whose cost is not known, because one who served or tried them has no price.
    #[serde(default)]
    pub unpriced: u64,
    /// Of these, how many each candidate without a price had a hand in.
    #[serde(default)]
    pub unpriced_by_candidate: BTreeMap<Label, u64>,
    /// The part of it that is estimated.
    pub estimated_nanousd: i64,
    /// Within which the cost is with 80 % probability; both the cost itself where nothing is estimated.
    pub cost_low_nanousd: i64,
    /// See `cost_low_nanousd`.
    pub cost_high_nanousd: i64,
    /// The mean chance of a right answer of those served, in parts per million.
    pub right_ppm: u64,
    /// Milliseconds to the first token: median, 95th and 99th percentile; of streams.
    pub first_token_ms: [u64; 3],
    /// Milliseconds of all attempts: median, 95th and 99th percentile.
    pub total_ms: [u64; 3],
    /// Requests that nobody answered, by the code.
    pub refused: BTreeMap<Arc<str>, u64>,
    /// Requests served by each candidate.
    pub by_candidate: BTreeMap<Label, CandidateLine>,
    /// When budgets were found with too little left, first in each window.
    pub exhausted: Vec<ExhaustedLine>,
}

/// What one candidate served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateLine {
    /// Requests.
    pub requests: u64,
    /// Their cost, in nano-USD.
    pub cost_nanousd: i64,
}

/// A budget that ran out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExhaustedLine {
    /// Which.
    pub budget: Arc<str>,
    /// The beginning of its window.
    pub window: Timestamp,
    /// When.
    pub at: Timestamp,
}

/// Whether decisions come out the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedLine {
    /// Decisions that were made again under the policies that they were recorded under, all numbers alike.
    pub same: u64,
    /// Decisions that came out otherwise.
    pub other: u64,
    /// Decisions whose policies are not kept.
    pub unknown: u64,
}

/// Requests that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveLine {
    /// Who answered; absent = nobody.
    pub from: Option<Label>,
    /// Who answers; absent = nobody.
    pub to: Option<Label>,
    /// How many.
    pub requests: u64,
    /// What that changes in all, in nano-USD, as far as costs are known.
    pub difference_nanousd: i64,
    /// How many of them have a cost that is not known on one side or the other.
    #[serde(default)]
    pub unpriced: u64,
}

/// A request that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// The `x-request-id`.
    pub id: Arc<str>,
    /// When it came.
    pub at: Timestamp,
    /// Who answered.
    pub from: Option<Label>,
    /// Who answers.
    pub to: Option<Label>,
    /// What it cost, in nano-USD.
    pub old_nanousd: i64,
    /// What it costs.
    pub new_nanousd: i64,
    /// Its answer had to be estimated.
    pub estimated: bool,
}
