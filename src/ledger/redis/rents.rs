//! Which of several nodes books the rent of an hour, and whether this one knows what all were paid in it.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::{
    audit::answered,
    link::{Failure, Live},
    scripts::Script,
    store::Store,
};
use crate::ledger::row::{RENT_PATIENCE, RentHour};

/// For how long the store knows who books an hour, in seconds: 35 days.
const REMEMBER: u64 = 35 * 24 * 3_600;

impl Store {
    /// The name of this node.
    pub fn node(&self) -> &str {
        self.inner.source.node()
    }

    /// The node that books the rent of that hour: the first that has asked, or one that has relieved it, [`RENT_PATIENCE`]
    /// later. Only who has not read its row may ask.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be asked.
    pub async fn claim_rent(&self, hour: &RentHour) -> Result<String, Failure> {
        let name = format!("{}:{}", hour.hour, hour.backend);
        let claim = |live: &Live| {
            let mut cmd = live.wire.call(Script::Rent);
            cmd.arg(&live.epoch).arg(&name).arg(self.node()).arg(REMEMBER).arg(RENT_PATIENCE * 1_000);
            cmd
        };
        let answer = self.inner.link.call(claim).await?;
        Ok(answered(answer)?.text()?)
    }

    /// All rows are known here, of every node, that were settled after this instant, in milliseconds since 1970.
    pub fn rows_since_ms(&self) -> i64 {
        let inner = &self.inner;
        let now = Timestamp::now().as_millisecond();
        let peers = inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let heard: Vec<_> = peers
            .iter()
            .filter(|(peer, _)| peer.node != inner.source.node())
            .map(|(peer, heard)| {
                let silent = i64::try_from(heard.elapsed().as_millis()).unwrap_or(i64::MAX);
                (peer.node.clone(), now.saturating_sub(silent))
            })
            .collect();
        drop(peers);
        let mirror = inner.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended, and never says what it settled, is at fault only in the hours in which it was heard.
        let untold = heard.into_iter().filter(|(node, _)| !mirror.is_whole(node)).map(|(_, heard_ms)| heard_ms);
        untold.chain([mirror.rows_since_ms()]).max().unwrap_or(i64::MIN)
    }
}
