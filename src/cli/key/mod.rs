//! `turnpike key`: client keys. A secret is shown once and stored nowhere.

mod place;
mod show;

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::bail;
use http::Method;
use jiff::Timestamp;
use secrecy::ExposeSecret;

pub(super) use self::place::local_user;
use self::place::{Place, deed};
use super::{
    books::{self, tell_reach},
    flags::{self, BadUsage, Length},
    remote::Server,
};
use crate::{
    admin::api::{CreateKey, KeyDetail, KeyLine, KeyRevoked, NewSecret, RevokeKey, RotateKey},
    base::{hex, tenants::Key},
    ledger::keys::{KeyError, KeyOrder, id_of, make},
};

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and show it, this once.
    Create(Create),
    /// List the keys of the store and of the policy files; with an id, also what was done to it.
    List(List),
    /// Give a key another secret and show it, this once; id, team, name and expiry stay.
    Rotate(Rotate),
    /// Revoke a key, at once and for good, also one of a policy file.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The team that pays.
    #[arg(long)]
    team: String,
    /// What the key is for.
    #[arg(long)]
    name: Option<String>,
    /// When it ends (`2027-01-01` or an instant).
    #[arg(long, value_name = "TIME", value_parser = flags::end)]
    expires: Option<Timestamp>,
    /// It may ask why: `x-turnpike-explain: true` is answered with the decision.
    #[arg(long)]
    explain: bool,
    /// Why it is made; booked.
    #[arg(long, value_name = "TEXT", conflicts_with = "yaml")]
    why: Option<String>,
    /// Store nothing; print the row for the `keys:` section of a policy file.
    #[arg(long)]
    yaml: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "yaml")]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct List {
    /// The key to tell all of.
    id: Option<String>,
    /// Only the keys of this team.
    #[arg(long, conflicts_with = "id")]
    team: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// The key.
    id: String,
    /// How long the secret before stays valid (`7d`); without it, it ends at once.
    #[arg(long, value_name = "TIME", value_parser = flags::length)]
    overlap: Option<Length>,
    /// Why; booked.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key; a whole key that was found somewhere will do.
    id: String,
    /// Why; booked.
    #[arg(long, value_name = "TEXT")]
    why: String,
    #[command(flatten)]
    server: Server,
}

/// Runs one action.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Create(create) => create.run(),
        Action::List(list) => list.run(),
        Action::Rotate(rotate) => rotate.run(),
        Action::Revoke(revoke) => revoke.run(),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The id that is meant: operators paste whole keys, which must not travel any further.
fn id(text: &str) -> anyhow::Result<&str> {
    let id = id_of(text).unwrap_or(text);
    if id.is_empty() || id.len() > 200 || id.starts_with("tpk_") {
        let hint = "`turnpike key list` shows them; a key's id stands behind its `tpk_`";
        bail!(BadUsage(format!("this is not the id of a key\nhint: {hint}")));
    }
    Ok(id)
}

/// The path of a key in the admin API. Ids from policy files may hold what a path may not.
fn path(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    id.bytes().fold("/api/v1/keys/".to_owned(), |mut path, byte| {
        let _ = if plain(byte) { write!(path, "{}", char::from(byte)) } else { write!(path, "%{byte:02X}") };
        path
    })
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let order = self.order();
        if self.yaml {
            let made = make(&order)?;
            anstream::println!("{}", yaml_row(&made.key));
            anstream::eprintln!("the key, shown this once: {}", made.secret.expose_secret());
            return Ok(());
        }
        let NewSecret { id, secret, reached, .. } = self.stored(&order)?;
        tell_reach(reached);
        if self.json {
            anstream::println!("{}", serde_json::json!({"id": id, "key": secret}));
        } else {
            anstream::println!("{secret}");
            anstream::eprintln!("key `{id}` of team `{}` was made; it is shown this once", order.team);
        }
        Ok(())
    }

    fn order(&self) -> KeyOrder {
        let (name, expires) = (self.name.clone(), self.expires);
        KeyOrder { team: self.team.as_str().into(), name, expires, explain: self.explain }
    }

    fn stored(&self, order: &KeyOrder) -> anyhow::Result<NewSecret> {
        match Place::find(&self.server, true)? {
            Place::Here(here) => {
                here.knows_team(&self.team)?;
                let made = here.store()?.create(order, &deed(self.why.clone()))?;
                here.tell_later();
                let (id, secret) = (made.key.id.to_string(), made.secret.expose_secret().to_owned());
                Ok(NewSecret { id, secret, former_until: None, reached: None })
            }
            Place::There(remote) => {
                let KeyOrder { name, expires, explain, .. } = order.clone();
                let body = CreateKey { team: self.team.clone(), name, expires, explain, why: self.why.clone() };
                remote.ask(Method::POST, "/api/v1/keys", Some(&body))
            }
        }
    }
}

fn yaml_row(key: &Key) -> String {
    let name = key.name.as_deref().map(|name| format!(", name: {}", serde_json::json!(name))).unwrap_or_default();
    let expires = key.expires.map(|end| format!(", expires: {end}")).unwrap_or_default();
    let explain = if key.explain { ", explain: true" } else { "" };
    let team = serde_json::json!(key.team.as_str());
    format!("- {{id: {}, team: {team}, hash: \"sha256:{}\"{name}{expires}{explain}}}", key.id, hex::digits(&key.hash))
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let place = Place::find(&self.server, false)?;
        if let Some(wanted) = &self.id {
            let detail = one(&place, id(wanted)?)?;
            let text = if self.json { serde_json::to_string(&detail)? } else { show::detail(&detail) };
            anstream::println!("{text}");
            return Ok(());
        }
        let list = match &place {
            Place::Here(here) => here.list(self.team.as_deref())?,
            Place::There(remote) => {
                let wanted: Vec<_> = self.team.iter().map(|team| ("team".to_owned(), team.clone())).collect();
                remote.ask(Method::GET, &books::path("/api/v1/keys", &wanted), None::<&()>)?
            }
        };
        if self.json {
            anstream::println!("{}", serde_json::to_string(&list)?);
        } else if list.keys.is_empty() {
            anstream::eprintln!("there are no keys; `turnpike key create` makes one");
        } else {
            anstream::println!("{}", show::keys(&list.keys));
        }
        Ok(())
    }
}

fn one(place: &Place, id: &str) -> anyhow::Result<KeyDetail> {
    match place {
        Place::Here(here) => {
            let view = here.views()?.into_iter().find(|view| view.key.id.as_str() == id);
            let view = view.ok_or_else(|| here.told(KeyError::Unknown(id.to_owned())))?;
            let acts = here.has_store().map(|store| store.acts(Some(id))).transpose()?.unwrap_or_default();
            Ok(KeyDetail { key: KeyLine::from(&view), acts: acts.iter().map(Into::into).collect() })
        }
        Place::There(remote) => remote.ask(Method::GET, &path(id), None::<&()>),
    }
}

impl Rotate {
    fn run(self) -> anyhow::Result<()> {
        let overlap = self.overlap.as_ref().map_or(Duration::ZERO, |length| length.time);
        let id = id(&self.id)?;
        let rotated = match Place::find(&self.server, true)? {
            Place::Here(here) => {
                let rotated = here.store()?.rotate(id, here.in_file(id), overlap, &deed(self.why));
                let (made, until) = rotated.map_err(|failed| here.told(failed))?;
                here.tell_later();
                let (id, secret) = (made.key.id.to_string(), made.secret.expose_secret().to_owned());
                NewSecret { id, secret, former_until: Some(until), reached: None }
            }
            Place::There(remote) => {
                let body = RotateKey { overlap: self.overlap.map(|length| length.text), why: self.why };
                remote.ask(Method::POST, &format!("{}/rotate", path(id)), Some(&body))?
            }
        };
        let NewSecret { id, secret, former_until, reached } = rotated;
        tell_reach(reached);
        if self.json {
            anstream::println!("{}", serde_json::json!({"id": id, "key": secret, "former_until": former_until}));
            return Ok(());
        }
        anstream::println!("{secret}");
        match former_until.filter(|_| !overlap.is_zero()) {
            Some(until) => {
                anstream::eprintln!("key `{id}` has this secret now, shown this once; the one before ends at {until}");
            }
            None => anstream::eprintln!(
                "key `{id}` has this secret now, shown this once; the one before has ended\n\
                 hint: `--overlap 7d` would have left it valid for a week"
            ),
        }
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> anyhow::Result<()> {
        let id = id(&self.id)?;
        match Place::find(&self.server, true)? {
            Place::Here(here) => {
                let revoked = here.store()?.revoke(id, here.in_file(id), &deed(Some(self.why)));
                revoked.map_err(|failed| here.told(failed))?;
                here.tell_later();
            }
            Place::There(remote) => {
                let body = RevokeKey { why: self.why };
                let revoked: KeyRevoked = remote.ask(Method::POST, &format!("{}/revoke", path(id)), Some(&body))?;
                tell_reach(revoked.reached);
            }
        }
        anstream::eprintln!("key `{id}` is revoked");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_policy_file_calls_a_key_fits_into_a_path() {
        assert_eq!(path("k7Qm2x9Z"), "/api/v1/keys/k7Qm2x9Z");
        assert_eq!(path("team/ci?.%#"), "/api/v1/keys/team%2Fci%3F%2E%25%23");
    }

    #[test]
    fn a_whole_key_is_cut_down_to_its_id_and_a_piece_of_one_is_turned_away() {
        let order = KeyOrder { team: "t".into(), name: None, expires: None, explain: false };
        let made = make(&order).unwrap();
        let text = made.secret.expose_secret();
        assert_eq!(id(text).unwrap(), made.key.id.as_str());
        assert_eq!(id("ci").unwrap(), "ci");
        for other in ["", &text[..40], "tpk_"] {
            let refused = id(other).unwrap_err().to_string();
            assert!(!refused.contains(&text[13..40]), "{refused}");
        }
    }
}
