//! Who asks: the client key, and the team that pays for it.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;

use super::{Gateway, code::Code, refusal::Refusal};
use crate::{
    base::{
        names::{KeyId, TeamName},
        tenants::Team,
    },
    ledger::keys::{KeyRing, Standing},
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
    /// May ask for the decision in a header. A gateway that is open serves its own machine, so that there everybody may.
    pub explain: bool,
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
/// `invalid_api_key` for a key that is missing, unknown, expired, replaced, revoked, or whose team is gone;
/// `key_store_unavailable` for an unknown one while another gateway may have made it unheard; `switched_off`.
pub fn authenticate(
    gateway: &Gateway,
    headers: &HeaderMap,
    policies: &Policies,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let caller = identify(gateway, headers, policies, now)?;
    gateway.let_in(&caller)?;
    Ok(caller)
}

fn identify(gateway: &Gateway, headers: &HeaderMap, policies: &Policies, now: Timestamp) -> Result<Caller, Refusal> {
    let refused = |message: &str| Refusal::new(Code::InvalidApiKey, message);
    let Door::Keys(ring) = gateway.door() else {
        let team = policies.teams.get(&TeamName::from(OPEN_TEAM)).cloned();
        let team = team.ok_or_else(|| refused("this gateway has no keys and no team `default`"))?;
        return Ok(Caller { team, key: KeyId::from(""), explain: true });
    };
    let presented = presented(headers).ok_or_else(|| {
        refused("no key was sent\nhint: send `authorization: Bearer tpk_…`; an SDK takes it as its api key")
    })?;
    let held = ring.find(presented).ok_or_else(|| {
        if gateway.ledger.knows_all_keys() {
            return refused("the key is not known to this gateway");
        }
        let message = "the key is not known here, and the store that may tell of it is away";
        Refusal::new(Code::KeyStoreUnavailable, message)
    })?;
    match held.standing(now) {
        Standing::Valid => {}
        Standing::Expired => return Err(refused("the key has expired")),
        Standing::Replaced => {
            return Err(refused(
                "the key was given another secret, and the time for which this one stayed valid is over",
            ));
        }
        Standing::Revoked => return Err(refused("the key was revoked")),
    }
    let team = policies.teams.get(&held.key.team).cloned();
    let team = team.ok_or_else(|| refused("the key's team no longer exists"))?;
    held.note_use(now);
    Ok(Caller { team, key: held.key.id.clone(), explain: held.key.explain })
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let plain = || headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim);
    let key = bearer.or_else(plain)?;
    (!key.is_empty() && key.len() <= MAX_KEY).then_some(key)
}
