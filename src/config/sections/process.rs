//! The keys of `turnpike.yaml`: what a restart changes.

use super::{
    super::shape::{Kind, Least, Shape, Unit, may, must},
    DURATION,
    flow::LIMITS,
};

use Kind::{Amount, Either, Filled, List, Name, Secret, Text, Word};

/// `turnpike.yaml`.
pub const SERVER: Shape = Shape {
    name: "turnpike.yaml",
    fields: &[
        may("listen", Amount(Unit::Address), "where clients connect; 127.0.0.1:8080 unless stated"),
        may("admin", Kind::Shape(&ADMIN), "the operators' listener: health, metrics, API"),
        may("tls", Kind::Shape(&TLS), "certificate and key of the clients' listener"),
        may("policies", Text, "the folder of the policy files, relative to this file; `policies` unless stated"),
        may("journal", Text, "the folder of books and keys, relative to this file; `data` unless stated"),
        may("store", Either(&[Word(&["embedded"]), Kind::Shape(&STORE)]), "where budgets are counted"),
        may("catalog", Amount(Unit::Day), "rows of the built-in catalog that begin after this day are not used"),
        may(
            "records",
            Either(&[Word(&["off"]), Kind::Shape(&RECORDS)]),
            "records of requests; without their texts, unless `content` is stated",
        ),
        may("limits", Kind::Shape(&LIMITS), "bounds on what clients may send"),
        may("drain", DURATION, "how long running requests may take after SIGTERM; 600s unless stated"),
        may("stream_commit_after", DURATION, "when a stream without an event gets its status line; 15s unless stated"),
    ],
    later: &["telemetry"],
};

const ADMIN: Shape = Shape {
    name: "`admin`",
    fields: &[
        may("listen", Amount(Unit::Address), "its address; 127.0.0.1:9090 unless stated"),
        may("metrics", Word(&["open", "token"]), "whether /metrics needs a token"),
        may("tokens", List(&Kind::Shape(&TOKEN), Least::None), "who may do what"),
    ],
    later: &[],
};

const TOKEN: Shape = Shape {
    name: "a token",
    fields: &[
        must("name", Name, "who acts, in the books"),
        must("token", Secret, "the secret, as in `${TURNPIKE_ADMIN_TOKEN}`"),
        must("may", List(&Word(&["read", "keys", "budgets", "switch"]), Least::One), "what it allows"),
    ],
    later: &[],
};

const TLS: Shape = Shape {
    name: "`tls`",
    fields: &[
        must("cert", Text, "a PEM file with the certificate chain, relative to this file"),
        must("key", Text, "a PEM file with the private key, relative to this file"),
    ],
    later: &[],
};

const STORE: Shape = Shape {
    name: "`store`",
    fields: &[
        may("redis", Filled, "one server, as in `redis://10.0.0.5:6379`; `rediss://` for TLS"),
        may("cluster", List(&Filled, Least::One), "some servers of a cluster; they tell of the others"),
        may("sentinel", Kind::Shape(&SENTINEL), "sentinels that know the server"),
        may("ca", Text, "a PEM file of certificates to trust instead of the system's, relative to this file"),
        may("name", Text, "gateways with one name count together; `turnpike` unless stated"),
        may("timeout", DURATION, "how long a request may wait for the store; 250ms unless stated"),
        may("lease", Kind::Shape(&LEASE), "what a gateway sets aside in advance"),
    ],
    later: &[],
};

const SENTINEL: Shape = Shape {
    name: "`sentinel`",
    fields: &[
        must("master", Text, "the name under which the sentinels know the server"),
        must("sentinels", List(&Filled, Least::One), "their addresses, as in `redis://10.0.0.5:26379`"),
        may("password", Secret, "the server's own password"),
    ],
    later: &[],
};

const LEASE: Shape = Shape {
    name: "`lease`",
    fields: &[
        may("share", Amount(Unit::Share), "at most so much of what is left; 1% unless stated, 0% for no leases"),
        may("ttl", DURATION, "a slice that is not used for so long is returned; 60s unless stated"),
    ],
    later: &[],
};

const RECORDS: Shape = Shape {
    name: "`records`",
    fields: &[
        may("keep", Amount(Unit::Bytes), "what all files may take, the oldest go first; 4GiB unless stated"),
        may("file", Amount(Unit::Bytes), "a file is closed at this size; 32MiB unless stated"),
        may("every", DURATION, "a file is closed at this age; 1h unless stated"),
        may("content", Amount(Unit::Bytes), "so much of each prompt and answer is kept; nothing unless stated"),
    ],
    later: &[],
};
