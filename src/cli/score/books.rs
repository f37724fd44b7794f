//! Where a run's money is booked: in the journal of the configuration, as a gateway would; with a shared store as one of
//! the gateways that count in it. A folder of policies alone has no journal.

use std::{path::Path, sync::Arc, time::Duration};

use super::super::serve;
use crate::{
    base::store::StoreConfig,
    config::ServerConfig,
    ledger::{
        BooksError, Ledger,
        keys::{KeyStore, KeyStoreError},
    },
    proxy::Gateway,
};

/// How long the end waits for settlements to get into the budget store; the rest is in the journal.
const STORE_CLOSE: Duration = Duration::from_secs(5);

/// The books that a run writes in.
pub struct Till {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The folder's keys: through them a shared store tells what operators have switched off and raised.
    keys: Option<Arc<KeyStore>>,
}

impl Till {
    /// Opens the books of the configuration at `path`. Within a runtime.
    ///
    /// # Errors
    /// Books that cannot be opened, or that a gateway or another run has open.
    pub fn open(path: &Path, server: &ServerConfig) -> anyhow::Result<Self> {
        if path.is_dir() {
            anstream::eprintln!(
                "there is no turnpike.yaml and so no journal: what this costs is in the results file alone"
            );
            return Ok(Self { ledger: Arc::default(), keys: None });
        }
        let taken = || {
            anyhow::anyhow!(
                "the journal in `{}` is in use by another process: a gateway, or another run of `score`\n\
                 hint: wait for the end of that run; a gateway is asked with `--through http://{}` and the client key in \
                 `TURNPIKE_KEY`, and its team pays",
                server.journal.display(),
                server.listen
            )
        };
        let shared = matches!(server.store, StoreConfig::Redis(_));
        let keys = if shared {
            match KeyStore::open(&server.journal) {
                Err(KeyStoreError::InUse(_)) => return Err(taken()),
                opened => Some(Arc::new(opened?)),
            }
        } else {
            None
        };
        match serve::open_books(server) {
            Ok(ledger) => Ok(Self { ledger: Arc::new(ledger), keys }),
            Err(BooksError::InUse(_)) => Err(taken()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the shared store, and for what operators did at other gateways.
    pub async fn join(&self, gateway: &Arc<Gateway>) {
        serve::reach(&self.ledger).await;
        serve::share(gateway, self.keys.as_ref()).await;
    }
}

/// Ends the books well.
pub async fn close(ledger: &Ledger) {
    if let Some(store) = ledger.store() {
        store.close(STORE_CLOSE).await;
    }
    ledger.books().close();
}
