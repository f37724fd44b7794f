//! Which of several nodes books the rent of an hour.

use super::{
    audit::answered,
    link::{Failure, Live},
    scripts::Script,
    store::Store,
};
use crate::ledger::row::RentHour;

/// For how long the store knows who books an hour, in seconds: 35 days.
const REMEMBER: u64 = 35 * 24 * 3_600;

impl Store {
    /// The name of this node.
    pub fn node(&self) -> &str {
        self.inner.source.node()
    }

    /// The node that books the rent of that hour: the first that has asked.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be asked.
    pub async fn claim_rent(&self, hour: &RentHour) -> Result<String, Failure> {
        let name = format!("{}:{}", hour.hour, hour.backend);
        let claim = |live: &Live| {
            let mut cmd = live.wire.call(Script::Rent);
            cmd.arg(&live.epoch).arg(&name).arg(self.node()).arg(REMEMBER);
            cmd
        };
        let answer = self.inner.link.call(claim).await?;
        Ok(answered(answer)?.text()?)
    }
}
