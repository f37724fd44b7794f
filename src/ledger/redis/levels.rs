//! What all gateways together have used of each fence, asked for once a second: what rules and metrics see is never
//! older, whoever spends.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    desk::Used,
    keeper::{Broken, SILENCE, lost},
    link::Live,
    protocol::Unknown,
    scripts::Script,
    store::Inner,
    words::Words,
};

/// Fences in one script: what else waits for the store must not wait long.
const BATCH: usize = 200;

/// Asks for the levels of all fences that this gateway's policies know.
pub(super) async fn refresh(inner: &Inner, live: &Arc<Live>) -> Result<(), Broken> {
    let followed = inner.followed.load_full();
    for batch in followed.fences.chunks(BATCH) {
        let windows: Vec<_> = {
            let (desk, now) = (inner.desk(), Timestamp::now());
            batch.iter().map(|fence| desk.window(fence, now)).collect()
        };
        let mut cmd = live.wire.call(Script::Levels);
        cmd.arg(&live.epoch);
        for (fence, window) in batch.iter().zip(&windows) {
            cmd.arg(&*fence.id).arg(window.start.as_second());
        }
        let answer = inner.link.send(live, &cmd, SILENCE).await?;
        let Some(stands) = stands(answer, batch.len())? else { return Err(lost()) };
        let mut desk = inner.desk();
        for ((fence, window), used) in batch.iter().zip(windows).zip(stands) {
            desk.used(fence, window, used);
        }
    }
    Ok(())
}

/// What the script answers; `None` when the epoch is another.
fn stands(answer: ::redis::Value, count: usize) -> Result<Option<Vec<Used>>, Unknown> {
    let mut words = Words::of(answer)?;
    match &*words.text()? {
        "ok" => {}
        "epoch" => return Ok(None),
        _ => return Err(Unknown),
    }
    let mut stands = Vec::with_capacity(count);
    for _ in 0..count {
        stands.push(Used { settled: words.number()?, held: words.number()?, leased: words.number()? });
    }
    Ok(Some(stands))
}
