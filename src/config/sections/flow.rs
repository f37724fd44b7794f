//! The keys that say how requests flow: hedges.

use super::super::shape::{Field, Kind, Shape, Unit, may};

/// A route's hedges.
pub const HEDGE: Field =
    may("hedge", Kind::Shape(&HEDGES), "a second attempt beside one that is overdue; none unless stated");

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
