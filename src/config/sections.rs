//! The keys of `policies/*.yaml` and, in [`process`], of `turnpike.yaml`, as tables.

pub mod cases;
mod flow;
mod process;
mod rollout;
mod scores;
mod servers;
mod tenants;

use crate::{base::notices::EventKind, policy::balance};

use super::shape::{Field, Kind, Least, Shape, Unit, may, must};
use flow::{HEDGE, PRIORITY};
pub use process::SERVER;
pub use scores::BENCHMARK;
#[cfg(test)]
pub use scores::{EXPIRES, INTERVAL, SAMPLE_SIZE};
use scores::{SCORE, TRUST};
use servers::{DISCOVER, ENDPOINT, PROBE};
use tenants::{BUDGETS, DEFAULTS, KEY, LIMITS_OF_OWNERS, PROVIDER, TEAM};

use Kind::{Amount, Either, Entries, Flag, List, Name, Secret, Table, Text, Word};

/// `model` or `model@backend`.
const CANDIDATES: Kind = List(&Text, Least::One);
const DURATION: Kind = Amount(Unit::Duration);
const INSTANT: Kind = Amount(Unit::Instant);
const TOKENS: Kind = Amount(Unit::Tokens);

/// `policies/*.yaml`: any file may hold any section.
pub const POLICIES: Shape = Shape {
    name: "a policy file",
    fields: &[
        may("backends", Table(&Kind::Shape(&BACKEND)), "upstreams: a vendor's site or a pool of own servers"),
        may("models", Table(&Kind::Shape(&MODEL)), "models, and which backend serves them under which name"),
        may("aliases", Table(&Name), "other names of routes and models"),
        may("currencies", Entries(&List(&Kind::Shape(&CURRENCY), Least::One)), "dated exchange rates"),
        may("prices", List(&Kind::Shape(&PRICE), Least::None), "dated prices per million tokens"),
        may("holidays", Entries(&List(&Amount(Unit::Day), Least::None)), "dates on which a price window stays shut"),
        may("scores", List(&Kind::Shape(&SCORE), Least::None), "benchmark scores"),
        may("benchmarks", Entries(&Kind::Shape(&BENCHMARK)), "own benchmarks"),
        may("trust", Kind::Shape(&TRUST), "how much a score counts, by who measured and when"),
        may("routes", Table(&Kind::Shape(&ROUTE)), "what clients name as `model`, and how it chooses"),
        may("defaults", Kind::Shape(&DEFAULTS), "what holds for every team that does not say otherwise"),
        may("teams", Table(&Kind::Shape(&TEAM)), "who pays, and within which fences"),
        may("keys", List(&Kind::Shape(&KEY), Least::None), "client keys, as hashes"),
        may("notify", List(&Kind::Shape(&NOTIFY), Least::None), "where operators are told of what"),
        may("providers", Table(&Kind::Shape(&PROVIDER)), "what may be spent on all backends of a provider"),
    ],
    later: &[],
};

const NOTIFY: Shape = Shape {
    name: "a receiver of notices",
    fields: &[
        must("webhook", Secret, "the address that is called, as in `https://host/path`"),
        must("on", List(&Word(&EventKind::WORDS), Least::One), "of what it is told"),
    ],
    later: &[],
};

/// Tiers of service.
const TIERS: &[&str] = &["default", "flex", "priority", "scale", "fast", "batch"];

const BACKEND: Shape = Shape {
    name: "a backend",
    fields: &[
        must("provider", Name, "the vendor or server whose dialect it speaks"),
        may("api_key", Secret, "its key, as in `${OPENAI_API_KEY}`"),
        may("accounts", List(&Kind::Shape(&ACCOUNT), Least::One), "several keys, each with a name"),
        may("pick", Word(&["order", "spread"]), "which account goes first"),
        may("endpoints", List(&ENDPOINT, Least::One), "base URLs as an SDK takes them, or `{url, weight}`"),
        may("discover", Kind::Shape(&DISCOVER), "own servers are found by their name"),
        may("probe", Kind::Shape(&PROBE), "how often its servers are asked whether they are ready, and for their load"),
        may("region", Name, "the vendor's site"),
        may("location", Name, "where data goes"),
        may("balance", Word(balance::NAMES), "how endpoints share the requests"),
        may("timeouts", Kind::Shape(&TIMEOUTS), "four clocks of an attempt"),
        may("tier", Word(TIERS), "the service tier that the vendor's project gives to requests that name none"),
        may("max_in_flight", Amount(Unit::Count(1, 1_000_000)), "requests at once"),
        may("rent", Kind::Shape(&RENT), "what one of its endpoints costs whatever it does"),
        may("spill", Kind::Shape(&SPILL), "when requests go elsewhere rather than wait"),
        may("off", Text, "why it is switched off"),
        may("if_missing_secret", Word(&["off", "fault"]), "what a missing secret means"),
        BUDGETS,
        LIMITS_OF_OWNERS,
    ],
    later: &[],
};

const RENT: Shape = Shape {
    name: "`rent`",
    fields: &[
        must("gpu_hour", MONEY, "what an hour of one GPU costs"),
        may("gpus", Amount(Unit::Count(1, 100_000)), "how many an endpoint has; 1 unless stated"),
        may("tokens_per_hour", Kind::Shape(&CAPACITY), "what an endpoint does in an hour; teams pay their share of it"),
    ],
    later: &[],
};

const CAPACITY: Shape = Shape {
    name: "`tokens_per_hour`",
    fields: &[
        must("input", Amount(Unit::Count(1, 1_000_000_000_000)), "prompt tokens, if it only reads"),
        must("output", Amount(Unit::Count(1, 1_000_000_000_000)), "completion tokens, if it only writes"),
    ],
    later: &[],
};

const SPILL: Shape = Shape {
    name: "`spill`",
    fields: &[must("queue_wait", DURATION, "what would wait longer than this for its turn goes elsewhere")],
    later: &[],
};

const ACCOUNT: Shape = Shape {
    name: "an account",
    fields: &[
        must("name", Name, "its name in headers and books"),
        must("api_key", Secret, "its key"),
        LIMITS_OF_OWNERS,
    ],
    later: &[],
};

const TIMEOUTS: Shape = Shape {
    name: "`timeouts`",
    fields: &[
        may("connect", DURATION, "TCP and TLS"),
        may("first_token", DURATION, "from dispatch to the first meaningful event"),
        may("idle", DURATION, "between two events"),
        may("total", DURATION, "the whole attempt"),
    ],
    later: &[],
};

/// Where a tokenizer is named: one of these.
pub const TOKENIZERS: &[&str] = &["o200k", "cl100k", "qwen", "deepseek", "llama3", "kimi", "glm", "other"];
/// What a model can do.
pub const ABILITIES: Kind = List(&Word(&["tools", "json", "images", "audio", "reasoning"]), Least::None);
/// How a model reasons.
pub const THINKING: &[&str] = &["never", "on_request", "by_default", "always"];

const MODEL: Shape = Shape {
    name: "a model",
    fields: &[
        must("backends", Table(&Text), "who serves it, under which name"),
        may("catalog", Name, "the entry of the built-in catalog whose facts and scores it takes"),
        may("context", TOKENS, "tokens of prompt and answer together"),
        may("max_output", TOKENS, "the longest answer"),
        may("abilities", ABILITIES, "what it can do"),
        may("thinking", Word(THINKING), "how it reasons"),
        may("tokenizer", Word(TOKENIZERS), "its vocabulary; `other` = estimated from bytes"),
        may("expected_output", TOKENS, "tokens of an answer until they have been measured"),
        may("speed", Kind::Shape(&SPEED), "what is expected until it has been measured"),
        BUDGETS,
        LIMITS_OF_OWNERS,
    ],
    later: &[],
};

/// A prior of a model's speed.
pub const SPEED: Shape = Shape {
    name: "`speed`",
    fields: &[
        must("first_token", DURATION, "time to the first token"),
        must("per_token", DURATION, "time for each further token"),
    ],
    later: &[],
};

const CURRENCY: Shape = Shape {
    name: "an exchange rate",
    fields: &[
        must("rate", Amount(Unit::Usd), "what one unit is worth"),
        may("from", INSTANT, "the first instant at which it holds"),
    ],
    later: &[],
};

const MONEY: Kind = Amount(Unit::Money);

const PRICE: Shape = Shape {
    name: "a price",
    fields: &[
        may("model", Name, "the model, where one backend serves it"),
        may("backend", Name, "the backend"),
        may("upstream", Text, "what the backend calls the model"),
        may("from", INSTANT, "the first instant at which it holds"),
        may("until", INSTANT, "the first instant at which it holds no more"),
        may("input", MONEY, "prompt tokens"),
        may("cached_input", MONEY, "prompt tokens read from the vendor's cache"),
        may("cache_write", MONEY, "prompt tokens written into the vendor's cache"),
        may("output", MONEY, "completion tokens"),
        may("reasoning", MONEY, "reasoning tokens"),
        may("audio_input", MONEY, "audio in the prompt"),
        may("audio_output", MONEY, "audio in the answer"),
        may(
            "rates",
            List(&Kind::Shape(&RATE), Least::One),
            "rates by size, kind and service tier; the first that matches is charged",
        ),
        may("calendar", List(&Kind::Shape(&WINDOW), Least::One), "hours in which the price is multiplied"),
        may("source", Text, "where the numbers were read"),
    ],
    later: &[],
};

/// Prices under one condition.
pub const RATE: Shape = Shape {
    name: "a rate",
    fields: &[
        may("when", Kind::Shape(&WHEN), "when it applies; always, if left out"),
        must("input", MONEY, "prompt tokens"),
        may("cached_input", MONEY, "prompt tokens read from the vendor's cache"),
        may("cache_write", MONEY, "prompt tokens written into the vendor's cache"),
        must("output", MONEY, "completion tokens"),
        may("reasoning", MONEY, "reasoning tokens"),
        may("audio_input", MONEY, "audio in the prompt"),
        may("audio_output", MONEY, "audio in the answer"),
    ],
    later: &[],
};

const WHEN: Shape = Shape {
    name: "`when`",
    fields: &[
        may("tier", Word(TIERS), "the service tier that the answer names; `default` unless stated"),
        may("input_upto", TOKENS, "prompts of at most so many tokens"),
        may("output_upto", TOKENS, "answers of at most so many tokens"),
        may("thinking", Flag, "thinking on or off"),
    ],
    later: &[],
};

/// Hours in which a price is multiplied.
pub const WINDOW: Shape = Shape {
    name: "a price window",
    fields: &[
        must("zone", Amount(Unit::Zone), "whose clock the hours are read from"),
        may("days", List(&Amount(Unit::Weekdays), Least::One), "on which days it opens; all, if left out"),
        may("not_on", Name, "holidays on which it stays shut"),
        may("hours", Amount(Unit::Hours), "when it opens and closes; the whole day, if left out"),
        must("factor", Amount(Unit::Factor), "what prices are multiplied by"),
    ],
    later: &[],
};

const ROUTE: Shape = Shape {
    name: "a route",
    fields: &[
        may("candidates", CANDIDATES, "models or model@backend; the highest value wins"),
        may("order", CANDIDATES, "models or model@backend; the first that can"),
        may("split", Table(&Amount(Unit::Count(1, 1_000_000))), "routes or models with their shares"),
        may("by", Word(&["user", "session", "key", "request"]), "what keeps a caller on one arm of a split"),
        may("guard", Kind::Shape(&rollout::GUARD), "bounds that withdraw an arm of a split when it passes them"),
        may("shadow", Kind::Shape(&rollout::SHADOW), "another model that answers a share of the requests unseen"),
        PREFER,
        may("category", Word(CATEGORIES_OR_AUTO), "the kind of work; `auto` reads it from the prompt"),
        may("require", Kind::Shape(&REQUIRE), "what a candidate must fulfil"),
        may("attempts", Amount(Unit::Count(1, 20)), "how many attempts a request may make; 3 unless stated"),
        may("max_output", TOKENS, "the cap when the client names none; 4096 unless stated"),
        HEDGE,
        PRIORITY,
        may("rules", List(&Kind::Shape(&RULE), Least::None), "conditions that tighten the route"),
        BUDGETS,
        LIMITS_OF_OWNERS,
    ],
    later: &["continue"],
};

const CATEGORIES_OR_AUTO: &[&str] =
    &["auto", "chat", "code", "math", "reasoning", "knowledge", "language", "instructions", "data", "tools"];

const PREFER: Field = may(
    "prefer",
    Either(&[Word(&["balanced", "cheapest", "fastest", "best"]), Kind::Shape(&WORTH)]),
    "what is maximised; `balanced` unless stated",
);

const WORTH: Shape = Shape {
    name: "`prefer`",
    fields: &[
        must("right_answer", Amount(Unit::Usd), "what a right answer is worth"),
        must("second", Amount(Unit::Usd), "what a second of waiting costs"),
    ],
    later: &[],
};

const REQUIRE: Shape = Shape {
    name: "`require`",
    fields: &[
        may("right", Either(&[Amount(Unit::Share), Kind::Shape(&FLOOR)]), "the floor on the chance of a right answer"),
        may("max_cost", Amount(Unit::Usd), "the most a request may be expected to cost"),
        may("first_token_p95", DURATION, "the longest 95th percentile of the time to the first token"),
    ],
    later: &[],
};

const FLOOR: Shape = Shape {
    name: "`right`",
    fields: &[
        must("at_least", Amount(Unit::Score), "the share of another model's chance, or the score in a benchmark"),
        may("of", Name, "the other model"),
        may("benchmark", Text, "the benchmark"),
    ],
    later: &[],
};

const RULE: Shape = Shape {
    name: "a rule",
    fields: &[
        must("when", Text, "a condition in CEL"),
        may("name", Text, "its name in decisions"),
        may("candidates", CANDIDATES, "who may win then"),
        PREFER,
        may("require", Kind::Shape(&REQUIRE), "what a candidate must fulfil besides"),
    ],
    later: &[],
};
