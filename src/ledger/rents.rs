//! Keeping the rent of own servers: see [`books`](super::books). With a store one node books each hour: the first that asks
//! and knows what all were paid in it.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{Ledger, books::Rented, redis::Store, row::RentHour};

impl Ledger {
    /// Notes what is rented now, books the hours that are over, and corrects those that this node has booked. To be called
    /// about once a minute.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read or written; what is not booked then is booked later.
    pub async fn keep_rent(&self, rented: &[Rented], now: Timestamp) -> io::Result<()> {
        for one in rented {
            self.books.note_rent(one, now)?;
        }
        let (over, late) = (self.books.rents_over(now), self.books.rents_late(now));
        if over.is_empty() && late.is_empty() {
            return Ok(());
        }
        let (mine, node) = match &self.store {
            None => ([over, late].concat(), String::new()),
            Some(store) => (claimed(store, over, late).await, store.node().to_owned()),
        };
        if mine.is_empty() {
            return Ok(());
        }
        let books = Arc::clone(&self.books);
        tokio::task::spawn_blocking(move || books.settle_rents(&mine, &node, now))
            .await
            .map_err(io::Error::other)??;
        if let Some(store) = &self.store {
            store.journaled();
        }
        Ok(())
    }
}

/// Those of the hours that this node is to book, and those that it may correct; none while the store is away.
async fn claimed(store: &Store, over: Vec<RentHour>, late: Vec<RentHour>) -> Vec<RentHour> {
    // What the others were paid is to be known here, and what they have booked.
    if store.count(&[]).await.is_err() {
        return Vec::new();
    }
    let since_ms = store.rows_since_ms();
    let known = |hour: &RentHour| hour.hour.saturating_mul(1_000) > since_ms;
    let mut mine = Vec::new();
    for hour in over.into_iter().filter(known) {
        match store.claim_rent(&hour).await {
            Ok(node) if node == store.node() => mine.push(hour),
            Ok(_) => {}
            Err(_) => return Vec::new(),
        }
    }
    // Whoever was relieved may have told its row since: then the hour is not open any more.
    if !mine.is_empty() && store.count(&[]).await.is_err() {
        return Vec::new();
    }
    mine.extend(late.into_iter().filter(known));
    mine
}
