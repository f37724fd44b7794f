//! Who asks: the client key, and the team that pays for it.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use secrecy::SecretString;

use super::refusal::{Code, Refusal};
use crate::{
    base::{
        names::{KeyId, TeamName},
        tenants::Team,
    },
    ledger::keys::KeyRing,
    policy::Policies,
};

/// The longest key that is looked at.
const MAX_KEY: usize = 512;
/// The team of a gateway that is open on its own machine.
pub const OPEN_TEAM: &str = "default";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who pays.
    pub team: Arc<Team>,
    /// The key's public id; empty when the gateway is open.
    pub key: KeyId,
}

/// How requests are let in: fixed when the gateway starts, so that no edit of a policy opens it.
#[derive(Clone, Copy, Debug)]
pub enum Door<'a> {
    /// Everyone is team `default`: a gateway without any key, on loopback only.
    Open,
    /// A key is needed.
    Keys(&'a KeyRing),
}

/// Finds the caller by the key in `authorization` or `x-api-key`.
///
/// # Errors
/// `invalid_api_key` for a key that is missing, unknown, expired, or whose team is gone.
pub fn authenticate(
    headers: &HeaderMap,
    door: Door<'_>,
    policies: &Policies,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let refused = |message: &str| Refusal::new(Code::InvalidApiKey, message);
    let Door::Keys(ring) = door else {
        let team = policies.teams.get(&TeamName::from(OPEN_TEAM)).cloned();
        let team = team.ok_or_else(|| refused("this gateway has no keys and no team `default`"))?;
        return Ok(Caller { team, key: KeyId::from("") });
    };
    let presented = presented(headers).ok_or_else(|| {
        refused("no key was sent\nhint: send `authorization: Bearer tpk_…`; an SDK takes it as its api key")
    })?;
    let key = ring.find(&presented).ok_or_else(|| refused("the key is not known to this gateway"))?;
    if key.expires.is_some_and(|end| now >= end) {
        return Err(refused("the key has expired"));
    }
    let team = policies.teams.get(&key.team).cloned();
    let team = team.ok_or_else(|| refused("the key's team no longer exists"))?;
    Ok(Caller { team, key: key.id.clone() })
}

fn presented(headers: &HeaderMap) -> Option<SecretString> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let plain = || headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim);
    let key = bearer.or_else(plain)?;
    (!key.is_empty() && key.len() <= MAX_KEY).then(|| key.to_owned().into())
}
