//! Edits of budgets: a changed limit counts from the next look on, a changed period or zone moves the budget into its
//! new window together with what all gateways have spent of it.
//!
//! The gateway with the newest policies finds that a fence runs in another window than they say, and posts the new one.
//! Whoever hears of it reads in its own journal what its requests of that window were charged, and brings it. A second
//! later, when all have, the fence counts in the new window; what was settled between is brought once more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    keeper::{Broken, errand, lost},
    link::Live,
    scripts::{Script, Wire},
    store::{Followed, Inner},
    upkeep,
    words::Words,
};
use crate::{
    base::fences::Fence,
    ledger::{
        row::edits::{EditRow, WindowRow},
        window::Window,
    },
};

/// So long the others have to bring their part before a fence is moved.
const GATHER: Duration = Duration::from_secs(1);
/// So long after it was heard of an edit is counted again.
const AGAIN: Duration = Duration::from_secs(3);
/// Fences in one script.
const BATCH: usize = 200;
/// Looks between two searches for edits.
const LOOKS: u64 = 20;

/// The edits that this connection has seen.
#[derive(Debug, Default)]
pub(super) struct Moves {
    seen: HashMap<Arc<str>, Move>,
    looks: u64,
    searched: Option<Arc<Followed>>,
}

#[derive(Debug)]
struct Move {
    edit: EditRow,
    since: Instant,
    moved: bool,
    again: bool,
}

impl Moves {
    /// What is to be sent now: edits with whether they move; and the windows that are to be counted again.
    fn due(&mut self, edits: Vec<EditRow>) -> (Vec<(EditRow, bool)>, Vec<WindowRow>) {
        let (mut send, mut again) = (Vec::new(), Vec::new());
        for edit in edits {
            let fence = Arc::clone(&edit.window.fence);
            let known = self.seen.get_mut(&fence).filter(|known| known.edit.window == edit.window);
            let Some(known) = known else {
                send.push((edit.clone(), false));
                self.seen.insert(fence, Move { edit, since: Instant::now(), moved: false, again: false });
                continue;
            };
            let age = known.since.elapsed();
            if age >= GATHER && !known.moved {
                known.moved = true;
                send.push((edit, true));
            } else if edit.elsewhere != known.edit.elsewhere {
                known.edit = edit.clone();
                send.push((edit, false));
            } else if age >= AGAIN && !known.again {
                known.again = true;
                again.push(edit.window);
            }
        }
        (send, again)
    }

    /// Whether it is time to search for edits: when the policies have changed, and now and then.
    fn is_due(&mut self, inner: &Inner) -> bool {
        let now = inner.followed.load_full();
        self.looks += 1;
        let same = self.searched.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now));
        let due = !same || self.looks.is_multiple_of(LOOKS);
        self.searched = Some(now);
        due
    }
}

/// Sends what is due; gives the windows that are to be counted again.
pub(super) async fn send(
    inner: &Inner,
    live: &Live,
    moves: &mut Moves,
    edits: Vec<EditRow>,
) -> Result<Vec<WindowRow>, Broken> {
    let (send, again) = moves.due(edits);
    bring(inner, &live.wire, &live.epoch, &send).await?;
    for (edit, _) in send.iter().filter(|(_, moves)| *moves) {
        inner.desk().moved(&edit.window.fence, edit.window.window());
    }
    Ok(again)
}

/// Brings what this node's requests were charged elsewhere.
pub(super) async fn bring(inner: &Inner, wire: &Wire, epoch: &str, edits: &[(EditRow, bool)]) -> Result<(), Broken> {
    for batch in edits.chunks(BATCH) {
        let mut cmd = wire.call(Script::Edit);
        cmd.arg(epoch).arg(inner.source.node());
        for (EditRow { window, elsewhere, .. }, moves) in batch {
            cmd.arg(&*window.fence).arg(window.from).arg(window.to).arg(window.cap).arg(window.revision);
            cmd.arg(elsewhere).arg(i32::from(*moves));
        }
        if !upkeep::done(errand(wire, &cmd).await?)? {
            return Err(lost());
        }
    }
    Ok(())
}

/// The fences that run in another window than our policies say, where ours are the newest.
pub(super) async fn search(inner: &Inner, live: &Live, moves: &mut Moves) -> Result<Vec<WindowRow>, Broken> {
    let mut found = Vec::new();
    if !moves.is_due(inner) {
        return Ok(found);
    }
    let followed = inner.followed.load_full();
    let (revision, fences) = (followed.revision, &followed.fences);
    let timed: Vec<&Arc<Fence>> = fences.iter().filter(|fence| fence.per.is_some()).collect();
    for batch in timed.chunks(BATCH) {
        let now = Timestamp::now();
        let windows: Vec<Window> = batch.iter().map(|fence| Window::of(fence, now)).collect();
        let mut cmd = live.wire.call(Script::Windows);
        cmd.arg(&live.epoch).arg(revision);
        for (fence, window) in batch.iter().zip(&windows) {
            cmd.arg(&*fence.id).arg(window.start.as_second()).arg(window.end.as_second()).arg(fence.cap - fence.raised);
        }
        let mut words = Words::of(errand(&live.wire, &cmd).await?)?;
        if words.text()? != "ok" {
            return Err(lost());
        }
        for (fence, window) in batch.iter().zip(windows) {
            let (running, newest) = (words.text()?, words.number()?);
            let (from, to) = (window.start.as_second(), window.end.as_second());
            let is_newer = u64::try_from(newest).is_ok_and(|newest| newest < revision);
            let other = running.split_once(':').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            if is_newer && other.is_some_and(|other: (i64, i64)| is_edited(other, (from, to))) {
                found.push(WindowRow {
                    fence: Arc::clone(&fence.id),
                    from,
                    to,
                    cap: fence.cap - fence.raised,
                    revision,
                });
            }
        }
    }
    Ok(found)
}

/// Whether a fence that runs in one window should run in another: they overlap, so no clock is between them.
fn is_edited(running: (i64, i64), wanted: (i64, i64)) -> bool {
    running != wanted && running.0 < wanted.1 && wanted.0 < running.1
}
