//! Receipts: what the last requests cost, for clients whose stream carried no usage.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crate::base::money::Money;

/// How many receipts are kept; the oldest go first.
const KEPT: usize = 16_384;

/// What one request cost, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The public id of the key that asked.
    pub key: Arc<str>,
    /// The cost of all its attempts.
    pub cost: Money,
}

/// The receipts of the last requests by request id.
#[derive(Debug, Default)]
pub struct Receipts {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<Arc<str>, Receipt>,
    order: VecDeque<Arc<str>>,
}

impl Receipts {
    /// Keeps one receipt.
    pub fn keep(&self, id: &str, receipt: Receipt) {
        let id: Arc<str> = id.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.order.len() >= KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_id.remove(&oldest);
        }
        if kept.by_id.insert(Arc::clone(&id), receipt).is_none() {
            kept.order.push_back(id);
        }
    }

    /// The receipt of a request, for the key that made it.
    pub fn find(&self, id: &str, key: &str) -> Option<Receipt> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_id.get(id).filter(|receipt| receipt.key.as_ref() == key).cloned()
    }
}
