//! Keeping the rent of own servers: see [`books`](super::books). With a store one node books each hour, the first that asks.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{Ledger, books::Rented, redis::Store, row::RentHour};

impl Ledger {
    /// Notes what is rented now, and books the hours that are over. To be called about once a minute.
    ///
    /// # Errors
    /// The system's error when the journal cannot be read or written; what is not booked then is booked later.
    pub async fn keep_rent(&self, rented: &[Rented], now: Timestamp) -> io::Result<()> {
        for one in rented {
            self.books.note_rent(one, now)?;
        }
        let over = self.books.rents_over(now);
        if over.is_empty() {
            return Ok(());
        }
        let mine = match &self.store {
            None => over,
            Some(store) => self.claimed(store, over).await?,
        };
        if mine.is_empty() {
            return Ok(());
        }
        let books = Arc::clone(&self.books);
        tokio::task::spawn_blocking(move || books.settle_rents(&mine, now)).await.map_err(io::Error::other)??;
        if let Some(store) = &self.store {
            store.journaled();
        }
        Ok(())
    }

    /// Those of `hours` that this node is to book; none while the store is away.
    async fn claimed(&self, store: &Store, hours: Vec<RentHour>) -> io::Result<Vec<RentHour>> {
        // What the others were paid is to be known here.
        if store.count(&[]).await.is_err() {
            return Ok(Vec::new());
        }
        let mut mine = Vec::new();
        for hour in hours {
            match store.claim_rent(&hour).await {
                Ok(node) if node == store.node() => mine.push(hour),
                Ok(node) => self.books.rent_elsewhere(&hour, &node)?,
                Err(_) => break,
            }
        }
        Ok(mine)
    }
}
