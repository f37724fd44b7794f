//! `notify:`: where operators are told of what.

use secrecy::SecretString;

use super::{super::tree::Node, Work};
use crate::base::notices::{EventKind, Webhook};

/// The webhooks.
pub fn lower(work: &mut Work<'_, '_>) -> Vec<Webhook> {
    let sections = work.sections;
    sections.list("notify").iter().filter_map(|node| webhook(work, node)).collect()
}

fn webhook(work: &mut Work<'_, '_>, node: &Node) -> Option<Webhook> {
    let place = node.get("webhook")?;
    let url = match work.secrets.fill(place.text()?) {
        Ok(url) => url,
        Err(unfilled) => {
            let hint = unfilled.hint.split(", or write `if_missing").next().unwrap_or_default().to_owned();
            work.report.fault(place.span, unfilled.problem).label("no address here").hint(hint);
            return None;
        }
    };
    let uri: Option<http::Uri> = url.parse().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str).unwrap_or_default();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let credentials = uri.as_ref().and_then(http::Uri::authority).is_some_and(|all| all.as_str().contains('@'));
    if !matches!(scheme, "http" | "https") || host.is_empty() || credentials {
        let fault = work.report.fault(place.span, "not an address that can be called");
        fault
            .label("no address here")
            .hint("write it as `https://host/path`, without a user; a secret may be in the path");
        return None;
    }
    if scheme == "http" && !is_near(host) {
        let warning = work.report.warning(place.span, "notices travel in the clear");
        warning.label("read and changed by anybody on the way").hint("write `https://…`");
    }
    let words = node.get("on").map(Node::items).unwrap_or_default();
    let on = words.iter().filter_map(Node::text).filter_map(EventKind::parse).collect();
    Some(Webhook { url: SecretString::from(url), on })
}

/// Whether nobody is between here and that host.
fn is_near(host: &str) -> bool {
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}
