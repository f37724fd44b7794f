//! `endpoints:`, `discover:` and `probe:` of a backend: its servers, or where they are asked for, and how often each is
//! asked how it is.

use std::time::Duration;

use super::{
    super::{tree::Key, tree::Node, units},
    Work,
    backends::filled,
};
use crate::{
    base::catalog::{Discover, Endpoint, USUAL_PROBE, USUAL_WEIGHT_MILLI},
    provider::{self, Provider},
};

/// How often a name is asked for unless stated.
const REFRESH: Duration = Duration::from_secs(5);
/// The shortest and the longest interval.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// The shortest and the longest between two questions to a server: a page of metrics is up to 4 MiB, and an engine that is
/// away should be missed within minutes.
const PROBES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// The longest name of a host (RFC 1035).
const NAME: usize = 253;

/// Its servers; without `endpoints` the vendor's own site.
pub(super) fn endpoints(
    work: &mut Work<'_, '_>,
    key: &Key,
    node: &Node,
    dialect: &dyn Provider,
    region: Option<&str>,
    off: &mut Option<std::sync::Arc<str>>,
) -> Vec<Endpoint> {
    let Some(list) = node.get("endpoints") else {
        let site = dialect.base_url(region).or_else(|| dialect.base_url(None)).and_then(|url| url.parse().ok());
        if site.is_none() && node.get("discover").is_none() {
            let fault = work.report.fault(key.span, format!("backend `{}` needs `endpoints`", key.text));
            let hint = format!("`{}` has no fixed address: write `endpoints: [\"http://host:8000\"]`", dialect.name());
            fault.label("no address").hint(hint);
        }
        return site.map(Endpoint::usual).into_iter().collect();
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in list.items() {
        let place = item.get("url").unwrap_or(item);
        let Some(text) = filled(work, node, place, off) else { continue };
        match provider::normalise(dialect, &text) {
            Ok(url) if endpoints.iter().any(|known| known.url == url) => {
                work.report.fault(place.span, "the same endpoint twice").label("here again").hint("keep one of them");
            }
            Ok(url) => {
                let weight_milli = item.read("weight", units::weight).unwrap_or(USUAL_WEIGHT_MILLI);
                endpoints.push(Endpoint { url, weight_milli });
            }
            Err(bad) => {
                let text = bad.to_string();
                let (problem, hint) = text.split_once("; hint: ").unwrap_or((&text, "write it as `https://host/v1`"));
                work.report.fault(place.span, problem).label("not a base URL").hint(hint);
            }
        }
    }
    if endpoints.is_empty() && (off.is_some() || work.secrets.lenient) {
        // Nobody calls a backend that is off; the pool still wants one address.
        endpoints.push(Endpoint::usual(http::Uri::from_static("http://127.0.0.1:9")));
    }
    endpoints
}

/// Where its servers are asked for.
pub(super) fn discover(work: &mut Work<'_, '_>, node: &Node, dialect: &dyn Provider) -> Option<Discover> {
    let place = node.get("discover")?;
    if let Some(list) = node.get("endpoints") {
        let fault = work.report.fault(place.span, "both `endpoints` and `discover`");
        fault.label("found by name").also(list.span, "listed").hint("keep one of them");
    }
    if !dialect.self_hosted() {
        let fault =
            work.report.fault(place.span, format!("`{}` is a vendor, not a pool of own servers", dialect.name()));
        fault
            .label("found by name")
            .hint("own servers are `vllm`, `sglang`, `llamacpp`, `tgi`, `ollama` or `openai_compatible`");
    }
    let named = place.get("dns")?;
    let dns = named.text()?;
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if dns.parse::<std::net::IpAddr>().is_ok() {
        let fault = work.report.fault(named.span, format!("`{dns}` is an address already"));
        fault.label("there is nothing to ask for").hint("list it under `endpoints:`, as in `[\"http://HOST:8000\"]`");
    } else if dns.len() > NAME || !dns.strip_suffix('.').unwrap_or(dns).split('.').all(fits) {
        let fault = work.report.fault(named.span, format!("`{dns}` is no name of a host"));
        fault.label("asked of a name server").hint("write it without scheme and port, as in `vllm.ml.svc`");
    }
    let port = place.read("port", units::count).and_then(|port| u16::try_from(port).ok());
    match (dns.starts_with('_'), place.get("port")) {
        (true, Some(port)) => {
            let fault = work.report.fault(port.span, "a port beside SRV records");
            fault
                .label("each record has its own")
                .hint("leave `port` out, or name a host instead of `_service._tcp.…`");
        }
        (false, None) => {
            let fault = work.report.fault(place.span, "`discover` needs `port`");
            fault
                .label("addresses have no port")
                .hint("write `port: 8000`, or name SRV records as in `_http._tcp.vllm.ml.svc`");
        }
        (true, None) | (false, Some(_)) => {}
    }
    let refresh = place.read("refresh", units::duration).unwrap_or(REFRESH);
    if !INTERVALS.contains(&refresh) {
        let span = place.get("refresh").map_or(place.span, |refresh| refresh.span);
        let fault = work.report.fault(span, "`refresh` is out of range");
        fault.label("how often the name is asked for").hint("write from `1s` to `1h`");
    }
    let server = place.read("server", units::server).map(|server| server.to_string().into());
    let tls = place.word("tls") == Some("true");
    let discover = Discover { dns: dns.into(), port, refresh, server, tls };
    // What certificates are for (RFC 5890 §2.3.1): no label begins or ends with a hyphen or has an underscore.
    let certifiable =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && !label.contains('_');
    if tls && !discover.host().split('.').all(certifiable) {
        let fault = work.report.fault(named.span, format!("no certificate is for `{}`", discover.host()));
        fault.label("asked for with `tls: true`").hint("write a name of letters, digits and hyphens");
    }
    Some(discover)
}

/// How often each of its servers is asked how it is.
pub(super) fn probe(work: &mut Work<'_, '_>, node: &Node, dialect: &dyn Provider) -> Duration {
    let Some(place) = node.get("probe") else { return USUAL_PROBE };
    if dialect.ready_path().is_none() && dialect.load_paths().is_empty() {
        let fault = work.report.fault(place.span, format!("servers of `{}` are asked nothing", dialect.name()));
        fault.label("a question without a path").hint("leave `probe` out: requests tell how such a server is");
    }
    let every = place.read("every", units::duration).unwrap_or(USUAL_PROBE);
    if !PROBES.contains(&every) {
        let span = place.get("every").map_or(place.span, |every| every.span);
        let fault = work.report.fault(span, "`every` is out of range");
        fault.label("how often each server is asked").hint("write from `100ms` to `1m`");
    }
    every
}
