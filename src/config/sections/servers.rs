//! The keys of a backend's servers.

use super::super::shape::{Kind, Shape, Unit, may, must};

use Kind::{Amount, Either, Filled, Flag, Text};

/// A base URL, or one with its weight.
pub(super) const ENDPOINT: Kind = Either(&[Filled, Kind::Shape(&WEIGHTED)]);

const WEIGHTED: Shape = Shape {
    name: "an endpoint",
    fields: &[
        must("url", Filled, "its base URL as an SDK takes it"),
        may("weight", Amount(Unit::Weight), "its share of the requests beside the others; 1 unless stated"),
    ],
    later: &[],
};

/// `discover:`.
pub(super) const DISCOVER: Shape = Shape {
    name: "`discover`",
    fields: &[
        must("dns", Text, "a name: its addresses are the servers, or the targets of its SRV records (`_http._tcp.…`)"),
        may("port", Amount(Unit::Count(1, 65_535)), "the port of every server; SRV records have their own"),
        may("refresh", Amount(Unit::Duration), "how often the name is asked for; 5s unless stated"),
        may("server", Amount(Unit::Server), "the name server, as in `127.0.0.1:8600`; the system's unless stated"),
        may("tls", Flag, "they speak TLS, with a certificate for the name"),
    ],
    later: &[],
};

/// `probe:`.
pub(super) const PROBE: Shape = Shape {
    name: "`probe`",
    fields: &[must("every", Amount(Unit::Duration), "how often each server is asked; 1s unless stated")],
    later: &[],
};
