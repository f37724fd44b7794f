//! Answers of `/api/v1/usage` and `/api/v1/audit`.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    base::money::write_nano,
    ledger::report::{csv::read_nano, usage::Sums},
};

/// An amount: in JSON a number with all its digits, which no float ever held.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(Box<RawValue>);

impl Decimal {
    /// So many billionths.
    pub fn from_nano(nano: i128) -> Self {
        struct Nano(i128);
        impl fmt::Display for Nano {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_nano(f, self.0)
            }
        }
        // A decimal without an exponent is a JSON number.
        Self(RawValue::from_string(Nano(nano).to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Billionths; nothing where it is not a number.
    pub fn nano(&self) -> i128 {
        read_nano(self.as_str()).unwrap_or(0)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer to `GET /api/v1/usage`.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsageAnswer {
    /// The first instant.
    pub since: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// Whose calendar tells days and months.
    pub zone: String,
    /// What the lines are grouped by, in this order.
    pub by: Vec<String>,
    /// The currency of `amount`.
    pub currency: String,
    /// The rates by which amounts were exchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateUsed>,
    /// One line a group.
    pub lines: Vec<UsageLine>,
    /// All together.
    pub total: UsageLine,
    /// Values that were asked for and that nothing of that time bears.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<AbsentLine>,
    /// Bytes of the journal that could not be read.
    pub damaged_bytes: u64,
    /// The difference to the other stretch of time, split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyAnswer>,
}

/// A value that nothing in the books of that time bears.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AbsentLine {
    /// Of what it is one: `user`, `outcome`, `label:NAME`.
    pub what: String,
    /// The value.
    pub value: String,
    /// What is close to it, or else what there is.
    pub hint: String,
}

/// A rate by which charges that were not billed in the wanted currency were exchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateUsed {
    /// What one unit was worth.
    pub usd: Decimal,
    /// The sum of what was exchanged by it, in USD.
    pub exchanged_usd: Decimal,
}

/// The sums of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageLine {
    /// Its values.
    pub group: BTreeMap<String, String>,
    /// Requests, each where its last attempt was made.
    pub requests: u64,
    /// Attempts.
    pub attempts: u64,
    /// All prompt tokens.
    pub input_tokens: u64,
    /// Of these, read from vendors' caches.
    pub cached_input_tokens: u64,
    /// Of these, written into them.
    pub cache_write_tokens: u64,
    /// Of these, audio.
    pub audio_input_tokens: u64,
    /// All completion tokens.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Of these, audio.
    pub audio_output_tokens: u64,
    /// What was charged.
    pub charge_usd: Decimal,
    /// Of this, by numbers that Turnpike estimated.
    pub estimated_usd: Decimal,
    /// Of this, held by requests of which nothing more was heard.
    pub swept_usd: Decimal,
    /// Of this, rent that no request paid for; below nothing where requests paid more than the rent.
    pub unallocated_usd: Decimal,
    /// Attempts that used tokens without a known price.
    pub unpriced: u64,
    /// What vendors billed, by currency.
    pub native: BTreeMap<String, Decimal>,
    /// The charge in the wanted currency; in USD the charge itself.
    pub amount: Decimal,
}

impl UsageLine {
    /// The line of a group; `amount` is its charge in the wanted currency.
    pub fn new(group: BTreeMap<String, String>, sums: &Sums, amount: i128) -> Self {
        let native = sums.native.iter().map(|(currency, nano)| (currency.clone(), Decimal::from_nano(*nano)));
        Self {
            group,
            requests: sums.requests,
            attempts: sums.attempts,
            input_tokens: sums.tokens.input,
            cached_input_tokens: sums.tokens.cached_input,
            cache_write_tokens: sums.tokens.cache_write,
            audio_input_tokens: sums.tokens.audio_input,
            output_tokens: sums.tokens.output,
            reasoning_tokens: sums.tokens.reasoning,
            audio_output_tokens: sums.tokens.audio_output,
            charge_usd: Decimal::from_nano(sums.charge),
            estimated_usd: Decimal::from_nano(sums.estimated),
            swept_usd: Decimal::from_nano(sums.swept),
            unallocated_usd: Decimal::from_nano(sums.unallocated),
            unpriced: sums.unpriced,
            native: native.collect(),
            amount: Decimal::from_nano(amount),
        }
    }
}

/// What the stretch of time cost more than another one, and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// The other one's first instant.
    pub since: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// Its requests.
    pub requests_before: u64,
    /// The requests of the stretch that was asked for.
    pub requests: u64,
    /// What the other one cost.
    pub before_usd: Decimal,
    /// What this one cost.
    pub after_usd: Decimal,
    /// What this one cost more: the sum of the parts.
    pub difference_usd: Decimal,
    /// The parts, in the order in which they were taken.
    pub parts: Vec<PartLine>,
}

/// One part of a difference.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartLine {
    /// Its name.
    pub part: String,
    /// What it means.
    pub about: String,
    /// What it adds.
    pub usd: Decimal,
}

/// The answer to `GET /api/v1/audit`.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditAnswer {
    /// Whether everything balances.
    pub balanced: bool,
    /// Settled requests.
    pub requests: u64,
    /// Rows.
    pub rows: u64,
    /// Requests under way.
    pub under_way: u64,
    /// What all rows charge.
    pub charge_usd: Decimal,
    /// Of this, held by requests of which nothing more was heard: at least what was billed.
    pub swept_usd: Decimal,
    /// What later rows changed of it.
    pub corrected_usd: Decimal,
    /// The rent of own servers in the hours that are booked.
    pub rent_usd: Decimal,
    /// Of this, what no request paid for.
    pub unallocated_usd: Decimal,
    /// Hours of rent that were compared with what is booked at their backends.
    pub rents: u64,
    /// Hours of rent that were not compared, since this node does not know all that other nodes have booked in them.
    #[serde(default)]
    pub rents_in_part: u64,
    /// Windows of budgets and limits that were compared with the store.
    pub compared: u64,
    /// How much does not balance.
    pub found: u64,
    /// What does not, the first thousand.
    pub findings: Vec<FindingLine>,
    /// How the store stands that several gateways share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreLine>,
}

/// The shared store in an audit.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StoreLine {
    /// Why it could not be asked: then nothing was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// Nodes of whose books this one does not know all: the store may count more than is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_part: Vec<String>,
    /// Windows that were too many to be compared.
    #[serde(default)]
    pub passed_over: usize,
    /// Nodes that are silent, with slices that count as spent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputed: Vec<DisputedLine>,
}

/// A silent node.
#[derive(Debug, Serialize, Deserialize)]
pub struct DisputedLine {
    /// Its name.
    pub node: String,
    /// For how long nothing was heard of it.
    pub silent_seconds: i64,
    /// What it leases.
    pub slices: Vec<SliceLine>,
}

/// A slice of a budget.
#[derive(Debug, Serialize, Deserialize)]
pub struct SliceLine {
    /// The budget's id.
    pub fence: String,
    /// Nano-dollars, tokens or requests.
    pub amount: i64,
}

/// The body of `POST /api/v1/audit/release`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseNode {
    /// Whose slices are given back.
    pub node: String,
    /// Why.
    pub why: String,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleasedNode {
    /// Whose slices were given back.
    pub node: String,
    /// What was given back.
    pub slices: Vec<SliceLine>,
}

/// Something that does not balance.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindingLine {
    /// Its kind.
    pub kind: String,
    /// The whole of it.
    pub what: String,
}

/// What `turnpike audit --invoice --json` prints.
#[derive(Debug, Serialize)]
pub struct BillAnswer {
    /// Whose form the bill has.
    pub bill: String,
    /// Whether all of it agrees with the books.
    pub agree: bool,
    /// How many lines do not.
    pub differ: usize,
    /// One line a day and model.
    pub lines: Vec<BillLine>,
}

/// What both say of one day and model.
#[derive(Debug, Serialize)]
pub struct BillLine {
    /// The day.
    pub day: String,
    /// The model, as the vendor calls it.
    pub model: String,
    /// Whether all of it agrees.
    pub agree: bool,
    /// What is compared.
    pub numbers: Vec<BillNumber>,
}

/// One number of both.
#[derive(Debug, Serialize)]
pub struct BillNumber {
    /// `input`, `cached`, `output`, `requests`, or a currency.
    pub what: String,
    /// What the books say.
    pub books: Decimal,
    /// What the bill says.
    pub bill: Decimal,
    /// What the books say more.
    pub difference: Decimal,
    /// Whether both agree.
    pub agree: bool,
}
