//! Rules: CEL conditions that tighten a route for the requests they match.

use super::{Floor, Prefer};
use crate::base::{catalog::CandidateId, money::Money};
use std::{sync::Arc, time::Duration};

/// One entry of `rules:`.
pub struct Rule {
    /// `rule 1`, or the name that the operator gave.
    pub name: Arc<str>,
    /// The compiled condition.
    pub when: Condition,
    /// Who may win, instead of the route's.
    pub candidates: Option<Vec<CandidateId>>,
    /// What is preferred, instead of the route's.
    pub prefer: Option<Prefer>,
    /// Further conditions: each takes effect only where it is tighter.
    pub right: Option<Floor>,
    /// See `Require::max_cost`.
    pub max_cost: Option<Money>,
    /// See `Require::first_token_p95`.
    pub first_token_p95: Option<Duration>,
}

/// A compiled CEL condition.
pub struct Condition;
