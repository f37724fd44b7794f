//! The books, for commands: the folder of the configuration, or a running gateway that is asked over its admin API.
//!
//! [`Place`] is for those that only read the journal, [`Till`] for those that need what it amounts to or write in it.

pub(super) mod ship;

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;

use super::remote::{Remote, Server};
use crate::{
    base::store::StoreConfig,
    config::{self, Loaded},
    ledger::{BooksError, Ledger},
    policy::Policies,
};

/// Stands for a variable that is not set here: the gateway has it, and no command needs what it holds. It is an address,
/// since endpoints may come from variables.
const UNSET: &str = "http://a-variable-that-is-not-set.invalid";

/// Where the books are. They may be read while a gateway writes them.
pub(super) enum Place {
    /// In a folder.
    Here {
        /// The folder of the segments.
        folder: PathBuf,
        /// What the operator wrote.
        policies: Arc<Policies>,
        /// Where the gateway would be, if one runs.
        gateway: String,
    },
    /// In a running gateway.
    There(Remote),
}

impl Place {
    /// Finds the books: with `--server` those of a running gateway, else the folder of the configuration.
    pub(super) fn find(server: &Server) -> anyhow::Result<Self> {
        if let Some(remote) = server.named()? {
            return Ok(Self::There(remote));
        }
        let loaded = configuration(server)?;
        Ok(Self::Here {
            folder: loaded.server.journal.join("books"),
            gateway: format!("http://{}", loaded.server.admin.listen),
            policies: loaded.policies,
        })
    }
}

/// Books that a command writes in.
pub(super) enum Till {
    /// Those of a gateway that does not run.
    Here(Box<Here>),
    /// Those of a running one.
    There(Remote),
}

/// The books of a gateway that does not run, opened.
pub(super) struct Here {
    pub(super) policies: Arc<Policies>,
    /// The folder that they are in, with the key store beside them.
    pub(super) journal: PathBuf,
    pub(super) ledger: Ledger,
    /// Other gateways count in the same store.
    pub(super) shared: bool,
}

impl Till {
    /// Finds the books: with `--server`, or where a gateway has them open, those of the running one.
    pub(super) fn find(server: &Server) -> anyhow::Result<Self> {
        if let Some(remote) = server.named()? {
            return Ok(Self::There(remote));
        }
        let Loaded { server: settings, policies, .. } = configuration(server)?;
        let shared = matches!(settings.store, StoreConfig::Redis(_));
        match Ledger::at_rest(&settings.journal.join("books"), shared, Timestamp::now()) {
            Ok((ledger, _)) => Ok(Self::Here(Box::new(Here { policies, journal: settings.journal, ledger, shared }))),
            Err(BooksError::InUse(_)) => Ok(Self::There(server.running(settings.admin.listen)?)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Here {
    /// Says whose sums are shown, where they are not all.
    pub(super) fn tell_own(&self) {
        if self.shared {
            anstream::eprintln!(
                "these are the sums of this gateway alone; what the others have spent is in their store\n\
                 hint: `--server URL` asks a gateway that runs"
            );
        }
    }

    /// Says when the other gateways hear of what was done here.
    pub(super) fn tell_later(&self) {
        tell_later(self.shared);
    }
}

/// The same; `shared`: there are others.
pub(super) fn tell_later(shared: bool) {
    if shared {
        anstream::eprintln!(
            "no gateway runs here: the others hear of this when this one does\n\
             hint: `--server URL` does it at a gateway that runs"
        );
    }
}

/// Says whether what was done at a running gateway has got to the others; `None` = there are none.
pub(super) fn tell_reach(reached: Option<bool>) {
    match reached {
        None => {}
        Some(true) => anstream::eprintln!("it is in the store: the other gateways have it within a second"),
        Some(false) => anstream::eprintln!("the store is away: the other gateways hear of this when it is back"),
    }
}

/// The configuration, or the last good one where it is at fault.
pub(super) fn configuration(server: &Server) -> anyhow::Result<Loaded> {
    let environment = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| UNSET.to_owned()));
    let loaded = config::load_or_kept(&server.config, &environment);
    let (loaded, faults) = loaded.map_err(|faults| anyhow::anyhow!("the configuration is at fault\n{faults}"))?;
    if faults.is_some() {
        anstream::eprintln!("warning: the policies are at fault, so the last good ones count; see `turnpike check`");
    }
    Ok(loaded)
}

/// A path with its query, of names and values.
pub(super) fn path(path: &str, pairs: &[(String, String)]) -> String {
    let mut text = path.to_owned();
    for (index, (name, value)) in pairs.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        escape(&mut text, name);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

fn escape(text: &mut String, word: &str) {
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A text for the terminal: users and labels come from clients, and may hold what moves the cursor.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// An instant to the minute where it is one.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%MZ").to_string()
}
