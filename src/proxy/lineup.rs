//! A line of requests that wait for a place: `policy::lineup` with somebody to wake.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use super::live::lock;
use crate::{
    base::priority::Priority,
    policy::lineup::{Queue, Ticket},
};

/// See the module's text.
#[derive(Debug, Default)]
pub struct Lineup {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    wake: HashMap<Ticket, oneshot::Sender<()>>,
}

impl Lineup {
    /// Whether somebody of `class` who has just come may take a place.
    pub fn may_pass(&self, class: Priority) -> bool {
        lock(&self.state).queue.may_pass(class)
    }

    /// Gets in line; `None` where that class does not wait, or too many do.
    pub fn join(self: &Arc<Self>, class: Priority) -> Option<Waiter> {
        let mut state = lock(&self.state);
        let ticket = state.queue.join(class)?;
        let (wake, called) = oneshot::channel();
        state.wake.insert(ticket, wake);
        drop(state);
        Some(Waiter { line: Arc::clone(self), ticket, called, seated: false })
    }

    /// A place may be free: calls the next one.
    pub fn call(&self) {
        let mut state = lock(&self.state);
        let Some(ticket) = state.queue.call() else { return };
        // Who has just gone passes the call on when it leaves.
        if let Some(wake) = state.wake.remove(&ticket) {
            let _ = wake.send(());
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }
}

/// Somebody who waits; dropped, it has left.
#[derive(Debug)]
pub struct Waiter {
    line: Arc<Lineup>,
    ticket: Ticket,
    called: oneshot::Receiver<()>,
    seated: bool,
}

impl Waiter {
    /// Resolves when it is called.
    pub async fn called(&mut self) {
        // The other end is kept until it is called.
        let _ = (&mut self.called).await;
    }

    /// It found no place, and waits on where it stood.
    pub fn wait_on(&mut self) {
        let (wake, called) = oneshot::channel();
        let mut state = lock(&self.line.state);
        state.queue.wait_on(self.ticket);
        state.wake.insert(self.ticket, wake);
        self.called = called;
    }

    /// It has a place.
    pub fn seated(mut self) {
        self.seated = true;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let was_called = {
            let mut state = lock(&self.line.state);
            state.wake.remove(&self.ticket);
            state.queue.leave(self.ticket)
        };
        if was_called && !self.seated {
            self.line.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_nobody_takes_goes_to_the_next() {
        let line = Arc::new(Lineup::default());
        let (mut first, mut second) = (line.join(Priority::Standard).unwrap(), line.join(Priority::Standard).unwrap());
        line.call();
        first.called().await;
        drop(first);
        second.called().await;
        assert!(!line.may_pass(Priority::Standard) && line.may_pass(Priority::Critical));
        second.seated();
        assert_eq!(line.len(), 0);
    }

    #[tokio::test]
    async fn who_waits_on_is_called_again_before_others() {
        let line = Arc::new(Lineup::default());
        let (mut first, mut second) = (line.join(Priority::Standard).unwrap(), line.join(Priority::Standard).unwrap());
        line.call();
        first.called().await;
        first.wait_on();
        line.call();
        first.called().await;
        first.seated();
        line.call();
        second.called().await;
    }
}
