//! The books, for commands: the folder of the configuration, or a running gateway that is asked over its admin API.

pub(super) mod ship;

use std::path::PathBuf;

use jiff::Timestamp;

use super::remote::{Remote, Server};
use crate::{
    admin::books::Currencies,
    config::{self, Loaded},
};

/// Stands for a variable that is not set here: no command on the books needs what it holds.
const UNSET: &str = "http://a-variable-that-is-not-set.invalid";

/// Where the books are. They may be read while a gateway writes them.
pub(super) enum Place {
    /// In a folder.
    Here {
        /// The folder of the segments.
        folder: PathBuf,
        /// The exchange rates of the policies.
        currencies: Currencies,
        /// Where the gateway would be, if one runs.
        gateway: String,
    },
    /// In a running gateway.
    There(Remote),
}

impl Place {
    /// Finds the books: with `--server` those of a running gateway, else the folder of the configuration.
    pub(super) fn find(server: &Server) -> anyhow::Result<Self> {
        if let Some(address) = &server.server {
            return Ok(Self::There(Remote::new(address, server.token_file.as_deref())?));
        }
        let loaded = configuration(server)?;
        Ok(Self::Here {
            folder: loaded.server.journal.join("books"),
            currencies: loaded.policies.currencies.clone(),
            gateway: format!("http://{}", loaded.server.admin.listen),
        })
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
