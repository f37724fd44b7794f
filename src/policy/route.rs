//! Routes as operators wrote them: who may answer, how one of them is chosen, and what he must fulfil.

use std::{sync::Arc, time::Duration};

use super::{hedge::Hedge, rollout::Guard, rules::Rule};
use crate::base::{
    catalog::CandidateId,
    facts::Category,
    fences::Fence,
    money::Money,
    names::{BenchmarkName, ModelName, RouteName},
    priority::Priority,
};

/// One entry of `routes:`, or the route that every model has.
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// Made from a model, not written by an operator.
    pub implicit: bool,
    /// How it chooses.
    pub choice: Choice,
    /// What a candidate must fulfil.
    pub require: Require,
    /// How the category is found.
    pub category: Option<Category>,
    /// Rules in the order of the file.
    pub rules: Vec<Rule>,
    /// How many attempts one request may make.
    pub attempts: u32,
    /// The best class of its requests; `None` = their caller's own.
    pub priority: Option<Priority>,
    /// How a second attempt is begun beside one that is overdue; `None` = never.
    pub hedge: Option<Hedge>,
    /// The cap on an answer's tokens when the client names none.
    pub max_output: u64,
    /// What may be spent through it, and how fast.
    pub fences: Arc<[Arc<Fence>]>,
    /// Another model that answers a share of its requests unseen.
    pub shadow: Option<Arc<Shadow>>,
}

/// What a share of a route's requests is sent to besides, off the client's path and at the operator's expense.
pub struct Shadow {
    /// The share, in parts per million.
    pub share_ppm: u32,
    /// What the operator pays for it.
    pub fence: Arc<Fence>,
    /// The one model, as a route of its own.
    pub route: Arc<Route>,
}

impl Shadow {
    /// Whether the request of that seed is among the share. The arm of a split is drawn from the same seed by other
    /// means, so that both are independent.
    pub fn takes(&self, seed: u64) -> bool {
        // The finaliser of splitmix64 (G. Steele et al., 2014).
        let mut z = seed ^ 0x5348_4144_4f57;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1_000_000 < u64::from(self.share_ppm)
    }
}

/// How a route chooses.
pub enum Choice {
    /// The highest value in money.
    Value {
        /// Who may win.
        candidates: Vec<CandidateId>,
        /// What a right answer and a second are worth.
        prefer: Prefer,
    },
    /// The first that can.
    Order(Vec<CandidateId>),
    /// A share of requests to each arm.
    Split {
        /// Arms with their weights (parts of the sum).
        arms: Vec<Arm>,
        /// What keeps a caller on one arm.
        by: StickyBy,
        /// What withdraws an arm.
        guard: Option<Guard>,
        /// Twelve hex digits of the split and its arms as they are written: a withdrawal ends when they are edited.
        revision: Arc<str>,
    },
}

/// One arm of a split.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The route (every model has one) that the arm hands over to. Never a split itself.
    pub route: RouteName,
    /// Its weight.
    pub weight: u32,
}

/// What keeps a caller on one arm of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StickyBy {
    /// The user; without one the key.
    #[default]
    User,
    /// The `x-turnpike-session` header; without one the key.
    Session,
    /// The client key.
    Key,
    /// Nothing: every request is dealt anew.
    Request,
}

/// What is maximised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Lowest expected cost.
    Cheapest,
    /// Fewest expected seconds.
    Fastest,
    /// Highest chance of a right answer.
    Best,
    /// `P(right) × right_answer − seconds × second − cost`.
    Worth {
        /// What a right answer is worth.
        right_answer: Money,
        /// What a second of waiting costs.
        second: Money,
    },
}

impl Prefer {
    /// `prefer: balanced`: at recorded outcomes 98 % or more of the best single model's right answers at 17 to 83 % of
    /// its cost (ARCHITECTURE.md, "What `balanced` buys").
    pub const BALANCED: Self =
        Self::Worth { right_answer: Money::from_nanousd(20_000_000), second: Money::from_nanousd(200_000) };
}

/// Hard conditions; nothing later loosens them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Require {
    /// The floor on the chance of a right answer.
    pub right: Option<Floor>,
    /// The most that one request may be expected to cost.
    pub max_cost: Option<Money>,
    /// The longest acceptable 95th percentile of the time to the first token.
    pub first_token_p95: Option<Duration>,
}

/// A floor on quality; shares are parts per million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Floor {
    /// `right: 70%`: the lower end of the fitted chance.
    Fitted(u32),
    /// `right: {at_least: 95%, of: gpt-4o}`: a share of another model's fitted chance.
    Of {
        /// The share.
        at_least_ppm: u32,
        /// The other model.
        model: ModelName,
    },
    /// `right: {benchmark: …, at_least: 70}`: the newest row of one benchmark, in thousandths of its unit.
    Benchmark {
        /// The benchmark.
        benchmark: BenchmarkName,
        /// The lowest value, in thousandths.
        at_least_milli: i64,
    },
}
