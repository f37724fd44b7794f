//! The keys of `defaults`, `teams`, `keys` and `providers`, and the budgets and limits that every owner may have.

use super::{
    super::shape::{Field, Kind, Least, Shape, Unit, may, must},
    flow::PRIORITY,
};

use Kind::{Amount, Entries, Flag, List, Name, Text, Word};

/// What may be spent, of teams, keys, routes, models, backends and providers alike.
pub const BUDGETS: Field = may("budgets", List(&Kind::Shape(&BUDGET), Least::None), "what may be spent");
/// How fast, of the same.
pub const LIMITS_OF_OWNERS: Field = may("limits", Kind::Shape(&LIMITS), "how fast it may be asked");

/// `defaults`.
pub const DEFAULTS: Shape =
    Shape { name: "`defaults`", fields: &[may("team", Kind::Shape(&DEFAULT_TEAM), "for every team")], later: &[] };

const MAY_USE: Field = may("may_use", List(&Name, Least::None), "routes, models and aliases that it may name");
const LOCATIONS: Field = may("locations", List(&Name, Least::None), "where its data may go");
const LABELS: Field = may("labels", Entries(&Text), "booked with every row");
const PER_USER: Field = may("per_user", Kind::Shape(&ALLOWANCE), "what each of its users may spend, and how fast");
const USER_FROM: Field = may(
    "user_from",
    List(&Amount(Unit::UserSource), Least::One),
    "where a request names its user, the first that is there; x-turnpike-user, safety_identifier, user unless stated",
);
const ON_EMPTY: Field = may(
    "on_empty",
    Word(&["refuse", "downgrade"]),
    "what happens when a budget has too little left; `downgrade` = the cheapest able candidate that it can still pay",
);
const CLAMP_OUTPUT: Field = may(
    "clamp_output",
    Flag,
    "whether an answer's cap may be lowered to what a budget can still pay; false unless stated",
);
const MIDSTREAM: Field = may("midstream", Word(&["cut", "finish"]), "what happens to a stream that outgrows a budget");
const ON_STORE_LOSS: Field =
    may("on_store_loss", Amount(Unit::StoreLoss), "what happens while the store is away; `lease` unless stated");

const RECORDS: Field = may("records", Kind::Shape(&RECORDS_OF_TEAM), "what records of its requests may hold");

const RECORDS_OF_TEAM: Shape = Shape {
    name: "`records` of a team",
    fields: &[must("content", Word(&["never"]), "`never` = no text is kept, whatever `turnpike.yaml` says")],
    later: &[],
};

const DEFAULT_TEAM: Shape = Shape {
    name: "`defaults.team`",
    fields: &[
        MAY_USE,
        LOCATIONS,
        PRIORITY,
        BUDGETS,
        LIMITS_OF_OWNERS,
        PER_USER,
        USER_FROM,
        ON_EMPTY,
        CLAMP_OUTPUT,
        MIDSTREAM,
        ON_STORE_LOSS,
        LABELS,
        RECORDS,
    ],
    later: &[],
};

/// A team.
pub const TEAM: Shape = Shape {
    name: "a team",
    fields: &[
        may("parent", Name, "the team above, whose fences bind too"),
        MAY_USE,
        LOCATIONS,
        PRIORITY,
        BUDGETS,
        LIMITS_OF_OWNERS,
        PER_USER,
        USER_FROM,
        ON_EMPTY,
        CLAMP_OUTPUT,
        MIDSTREAM,
        ON_STORE_LOSS,
        LABELS,
        RECORDS,
    ],
    later: &[],
};

const ALLOWANCE: Shape = Shape { name: "`per_user`", fields: &[BUDGETS, LIMITS_OF_OWNERS], later: &[] };

/// A provider as an owner of budgets and limits.
pub const PROVIDER: Shape = Shape { name: "a provider", fields: &[BUDGETS, LIMITS_OF_OWNERS], later: &[] };

const BUDGET: Shape = Shape {
    name: "a budget",
    fields: &[
        must("name", Name, "its name; edits of the rest never reset what is booked under it"),
        must("limit", Amount(Unit::Quota), "the amount for one window: money, tokens or requests"),
        must("per", Word(&["minute", "hour", "day", "week", "month"]), "the length of a window"),
        may("zone", Amount(Unit::Zone), "whose calendar cuts the windows; UTC unless stated"),
        may("warn", List(&Amount(Unit::Share), Least::None), "shares of the limit that operators are told of"),
    ],
    later: &[],
};

const LIMITS: Shape = Shape {
    name: "`limits`",
    fields: &[
        may("requests", Amount(Unit::Rate), "requests, as in `600/min`"),
        may("tokens", Amount(Unit::Rate), "tokens of prompts and answers, as in `400k/min`"),
        may("concurrent", Amount(Unit::Count(1, 1_000_000)), "requests at once"),
    ],
    later: &[],
};

/// A client key.
pub const KEY: Shape = Shape {
    name: "a key",
    fields: &[
        must("id", Name, "its public part"),
        must("team", Name, "who pays"),
        must("hash", Text, "`sha256:` and 64 hexadecimal digits"),
        may("name", Text, "what its owner calls it"),
        may("expires", Amount(Unit::Instant), "the first instant at which it is no longer valid"),
        may("explain", Flag, "may ask for the decision in a header"),
        PRIORITY,
        BUDGETS,
        LIMITS_OF_OWNERS,
    ],
    later: &[],
};
