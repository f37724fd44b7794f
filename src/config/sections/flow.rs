//! The keys that say how requests flow: hedges, priorities, and what a gateway takes at once.

use super::super::shape::{Field, Kind, Shape, Unit, even_empty, may};
use crate::base::priority::Priority;

/// A route's hedges.
pub const HEDGE: Field =
    even_empty("hedge", Kind::Shape(&HEDGES), "a second attempt beside one that is overdue; none unless stated");

const HEDGES: Shape = Shape {
    name: "`hedge`",
    fields: &[
        may(
            "after",
            Kind::Amount(Unit::Overdue),
            "when: at the candidate's own `p95` to the first token, or after a time",
        ),
        may("spend", Kind::Amount(Unit::Share), "the share of the route's spend that it may cost; 2% unless stated"),
    ],
    later: &[],
};

/// The class of a team's, a key's or a route's requests.
pub const PRIORITY: Field = may(
    "priority",
    Kind::Word(&Priority::WORDS),
    "the best class of its requests; they may ask for a lower one; `standard` unless stated",
);

/// `limits` of the gateway itself.
pub const LIMITS: Shape = Shape {
    name: "`limits`",
    fields: &[
        may("body", Kind::Amount(Unit::Bytes), "the largest request body; 32MiB unless stated"),
        may("connections", Kind::Amount(Unit::Count(1, 10_000_000)), "open client connections; 20000 unless stated"),
        may("in_flight", Kind::Amount(Unit::Count(1, 10_000_000)), "chat requests at once; 20000 unless stated"),
        may("queue_wait", Kind::Amount(Unit::Duration), "the longest wait for a place; 5s unless stated"),
        may("lag", Kind::Amount(Unit::Duration), "later than this, lower classes are turned away; 100ms unless stated"),
    ],
    later: &[],
};
