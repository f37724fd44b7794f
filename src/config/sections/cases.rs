//! The keys of `policies/tests/*.yaml`: what is given, and what is expected of the decision.

use super::super::shape::{Kind, Least, Shape, Unit, may, must};
use super::{TIERS, TOKENIZERS, scores::CATEGORIES};
use crate::policy::Rejection;

use Kind::{Amount, Either, Entries, Flag, List, Name, Text, Word};

const DURATION: Kind = Amount(Unit::Duration);
const INSTANT: Kind = Amount(Unit::Instant);
const TOKENS: Kind = Amount(Unit::Tokens);
const USD: Kind = Amount(Unit::Usd);
const SOME: Kind = Amount(Unit::Count(0, 1_000_000));
/// One name, or several of which one is expected.
const ONE_OF: Kind = Either(&[Text, List(&Text, Least::One)]);

/// A file of policy tests.
pub const CASES: Shape = Shape {
    name: "a file of policy tests",
    fields: &[
        may("at", INSTANT, "the instant of every test that states none"),
        must("tests", List(&Kind::Shape(&CASE), Least::One), "the tests"),
    ],
    later: &[],
};

const CASE: Shape = Shape {
    name: "a policy test",
    fields: &[
        must("name", Text, "what it shows, in words"),
        may("at", INSTANT, "the instant that prices, calendars and rules are read at"),
        must("request", Kind::Shape(&REQUEST), "what is asked"),
        may("caller", Kind::Shape(&CALLER), "who asks"),
        may("budget", Kind::Shape(&BUDGET), "the tightest budget as it stands"),
        may("seen", Entries(&Kind::Shape(&SEEN)), "what has been seen of `model`, `model@backend` or `@backend`"),
        may("off", List(&Text, Least::None), "what is switched off, as in `backend:qwen` or `arm:cheap@canary`"),
        may("failed", List(&Text, Least::None), "models or model@backend that failed on this request already"),
        may("seed", Amount(Unit::Count(0, 1_000_000_000)), "what the deal of a split by request is drawn from"),
        must("expect", Kind::Shape(&EXPECT), "what must come of it"),
    ],
    later: &[],
};

const REQUEST: Shape = Shape {
    name: "a request",
    fields: &[
        must("model", Name, "the route, model or alias that it names"),
        may("input_tokens", Amount(Unit::Count(0, 1_000_000_000)), "prompt tokens; 1000 unless stated"),
        may("counted_with", Word(TOKENIZERS), "the vocabulary that they were counted with; estimated unless stated"),
        may("max_output", TOKENS, "its own cap on the answer"),
        may("stream", Flag, "it asks for a stream"),
        may("answers", Amount(Unit::Count(1, 128)), "how many answers; 1 unless stated"),
        may("messages", SOME, "messages; 1 unless stated"),
        may("images", SOME, "images in the prompt"),
        may("audio", SOME, "pieces of audio in the prompt"),
        may("tools", SOME, "tools that it offers"),
        may("json", Flag, "it demands JSON"),
        may("reasoning", Flag, "it asks for reasoning, or for none"),
        may("category", Word(CATEGORIES), "the kind of work, as if it were certain; unknown unless stated"),
        may("tier", Word(TIERS), "the service tier that it asks for"),
        may("deadline", DURATION, "how long it may take"),
    ],
    later: &[],
};

const CALLER: Shape = Shape {
    name: "a caller",
    fields: &[
        may("team", Name, "the team; one without any fence unless stated"),
        may("key", Text, "the public id of its key"),
        may("user", Text, "the end user"),
        may("session", Text, "the session"),
        may("labels", Entries(&Text), "labels beside the team's own"),
    ],
    later: &[],
};

const BUDGET: Shape = Shape {
    name: "the state of a budget",
    fields: &[
        may("used", Amount(Unit::Share), "the share that is spent or held"),
        may("left", USD, "what it can still pay"),
        may("pace", Amount(Unit::Factor), "the share that is spent ÷ the share of its window gone by"),
    ],
    later: &[],
};

const SEEN: Shape = Shape {
    name: "what has been seen of a candidate",
    fields: &[
        may("first_token", DURATION, "mean time to the first token"),
        may("first_token_p95", DURATION, "95th percentile of it"),
        may("per_token", DURATION, "mean time for each further token"),
        may("output_tokens", TOKENS, "mean tokens of an answer"),
        may("cached", Amount(Unit::Share), "share of a prompt that its vendor has cached"),
        may("queue_wait", DURATION, "how long it would wait for its turn at own servers"),
        may("load", Amount(Unit::Share), "the load of those servers, as a share of what they can do"),
        may("queue_step", DURATION, "what one more request adds to the wait of the next"),
        may("broken", DURATION, "its breaker is open for so long"),
        may("parked", DURATION, "all its accounts are parked for so long"),
        may("full", Flag, "it has as many requests in flight as it takes"),
        may("crowded", Flag, "it has as many in flight as it took before it last refused"),
        may("not_ready", Flag, "none of its servers is ready"),
    ],
    later: &[],
};

const EXPECT: Shape = Shape {
    name: "what is expected",
    fields: &[
        may("model", ONE_OF, "who wins: a model or model@backend, or one of several"),
        may("backend", ONE_OF, "through which backend"),
        may("arm", ONE_OF, "which arm of a split is dealt"),
        may("order", List(&Text, Least::One), "who is tried first, second, …"),
        may("able", List(&Text, Least::None), "exactly who may be tried, in any order"),
        may("rejected", Entries(&Word(&Rejection::WORDS)), "who may not, and why"),
        may("max_cost", USD, "the most that the winner is expected to cost"),
        may("max_hold", USD, "the most that is held before the first attempt"),
        may("right", Amount(Unit::Share), "the least lower end of the winner's chance of a right answer"),
        may("rules", List(&Text, Least::None), "exactly which rules match, in order"),
        may("refused", Either(&[Text, Kind::Shape(&REFUSED)]), "nobody is tried, and the client sees this code"),
    ],
    later: &[],
};

const REFUSED: Shape = Shape {
    name: "a refusal",
    fields: &[
        must("code", Text, "the error code, as in `no_candidate`"),
        may("status", Amount(Unit::Count(400, 599)), "the HTTP status"),
    ],
    later: &[],
};
