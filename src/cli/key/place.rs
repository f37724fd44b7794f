//! Where keys are: in a running gateway, or in the file of one that does not run.

use std::{collections::HashMap, os::unix::fs::MetadataExt};

use anyhow::Context;
use jiff::Timestamp;

use crate::{
    admin::{api::KeyList, unknown::UnknownName},
    base::{names::KeyId, store::StoreConfig, tenants::Key},
    cli::{
        books::{self, tell_later},
        remote::{Remote, Server},
    },
    config::{self, Loaded},
    ledger::keys::{Actor, Deed, KeyError, KeySnapshot, KeyStore, KeyStoreError, KeyView, Via, listing},
};

/// Where the keys are that a command is about.
pub(super) enum Place {
    /// In the file; without one there are those of the policies.
    Here(Box<Here>),
    /// In a running gateway.
    There(Remote),
}

/// The configuration, and the store if there is one.
pub(super) struct Here {
    loaded: Loaded,
    store: Option<KeyStore>,
}

impl Place {
    /// Finds the keys. `making`: the store is made where there is none.
    pub(super) fn find(server: &Server, making: bool) -> anyhow::Result<Self> {
        if let Some(remote) = server.named()? {
            return Ok(Self::There(remote));
        }
        let loaded = books::configuration(server)?;
        let journal = &loaded.server.journal;
        if !making && !KeyStore::is_in(journal) {
            return Ok(Self::Here(Box::new(Here { loaded, store: None })));
        }
        match KeyStore::open(journal) {
            Ok(store) => Ok(Self::Here(Box::new(Here { loaded, store: Some(store) }))),
            Err(KeyStoreError::InUse(_)) => Ok(Self::There(server.running(loaded.server.admin.listen)?)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Here {
    /// Whether the policies have that team; what to write instead.
    pub(super) fn knows_team(&self, team: &str) -> anyhow::Result<()> {
        let teams = &self.loaded.policies.teams;
        if teams.contains_key(team) {
            return Ok(());
        }
        let names = teams.keys().map(|name| name.as_str());
        let hint = config::close_names(team, names, "add it to `teams:` in a policy file");
        anyhow::bail!("there is no team `{team}` in the policies\nhint: {hint}")
    }

    /// The `keys:` row of that id.
    pub(super) fn in_file(&self, id: &str) -> Option<&Key> {
        self.loaded.policies.keys.get(id).map(AsRef::as_ref)
    }

    /// The store.
    pub(super) fn store(&self) -> anyhow::Result<&KeyStore> {
        self.store.as_ref().context("there is no key store")
    }

    /// Says when the other gateways hear of what was done here.
    pub(super) fn tell_later(&self) {
        tell_later(matches!(self.loaded.server.store, StoreConfig::Redis(_)));
    }

    /// The store, where there is one.
    pub(super) fn has_store(&self) -> Option<&KeyStore> {
        self.store.as_ref()
    }

    /// All keys.
    pub(super) fn views(&self) -> anyhow::Result<Vec<KeyView>> {
        let (stored, uses): (KeySnapshot, HashMap<KeyId, Timestamp>) = match &self.store {
            Some(store) => (store.export()?, store.uses()?),
            None => Default::default(),
        };
        let files = self.loaded.policies.keys.values().map(AsRef::as_ref);
        Ok(listing(&stored.keys, files, &uses, Timestamp::now()))
    }

    /// The keys, or those of a team.
    pub(super) fn list(&self, team: Option<&str>) -> anyhow::Result<KeyList> {
        let views = self.views()?;
        let teams = views.iter().map(|view| view.key.team.as_str());
        UnknownName::check_team(&self.loaded.policies, teams, team)?;
        let wanted = views.iter().filter(|view| team.is_none_or(|team| view.key.team.as_str() == team));
        Ok(KeyList { keys: wanted.map(Into::into).collect() })
    }

    /// What the user is told of a failure: an unknown key with names that are close.
    pub(super) fn told(&self, failed: KeyError) -> anyhow::Error {
        let KeyError::Unknown(id) = &failed else { return failed.into() };
        let known = self.views().unwrap_or_default();
        let names = known.iter().map(|view| view.key.id.as_str());
        let hint = config::close_names(id, names, "there are no keys; `turnpike key create` makes one");
        anyhow::anyhow!("{failed}\nhint: {hint}")
    }
}

/// A deed of the local user, now.
pub(super) fn deed(why: Option<String>) -> Deed {
    Deed::new(Timestamp::now(), Actor { name: local_user(), via: Via::CommandLine }, why)
}

/// The name of the user that this process runs as. The system's word counts, not a variable that anybody may set.
pub(in crate::cli) fn local_user() -> String {
    let Ok(uid) = std::fs::metadata("/proc/self").map(|own| own.uid()) else { return "unknown".to_owned() };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}
