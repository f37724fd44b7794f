//! The breaker before a store that answers when it is told to, in a time that passes when it is told to.

use ::redis::{RedisConnectionInfo, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

use super::*;

/// Above [`TRIP`], and so short that a clock on the wall would have rung long before a test looks.
const PATIENCE: Duration = Duration::from_millis(30);
/// Beats of 5 ms in [`TRIP`], and in [`PATIENCE`].
const TRIPPED: u32 = 5;
const SPENT: u32 = 6;

/// A store that takes every command for good, once it may speak.
async fn store(mut stream: DuplexStream, mut speaks: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut text = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..read]);
        while let Some(length) = command(&text) {
            text.drain(..length);
            if speaks.wait_for(|speaks| *speaks).await.is_err() || stream.write_all(b"+OK\r\n").await.is_err() {
                return;
            }
        }
    }
}

/// How many bytes the first command takes (`*2 $4 …`), if it is whole.
fn command(text: &[u8]) -> Option<usize> {
    let line = |from: usize| {
        let end = from + text.get(from..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let number = std::str::from_utf8(&text[from + 1..end]).ok()?.parse::<usize>().ok()?;
        Some((number, end + 2))
    };
    let (words, mut at) = line(0)?;
    for _ in 0..words {
        let (length, from) = line(at)?;
        at = from + length + 2;
    }
    (text.len() >= at).then_some(at)
}

struct World {
    link: Arc<Link>,
    live: Arc<Live>,
    speaks: watch::Sender<bool>,
}

/// A link that is up, in a time that passes by hand.
async fn world() -> World {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (speaks, hears) = watch::channel(true);
    tokio::spawn(store(theirs, hears));
    let (connected, connection) = oneshot::channel();
    tokio::spawn(async move {
        let info = RedisConnectionInfo::default();
        let (connection, driver) = MultiplexedConnection::new(&info, ours).await.unwrap();
        assert!(connected.send(connection).is_ok());
        driver.await;
    });
    let wire = Wire::new(connection.await.unwrap(), "test").await.unwrap();
    let live = Arc::new(Live { wire, epoch: "e".to_owned() });
    let link = Arc::new(Link::within(PATIENCE, Presence::by_hand()));
    link.up(Arc::clone(&live));
    World { link, live, speaks }
}

impl World {
    fn call(&self) -> JoinHandle<Result<Value, Failure>> {
        let link = Arc::clone(&self.link);
        tokio::spawn(async move { link.call(|_| ::redis::cmd("PING")).await })
    }

    async fn until_slow(&self) {
        let mut watch = self.link.watch();
        watch.wait_for(|standing| matches!(standing, Standing::Slow(..))).await.unwrap();
    }
}

/// A link whose store has gone silent, with a call that waits for its answer.
async fn silent() -> (World, JoinHandle<Result<Value, Failure>>) {
    let world = world().await;
    world.speaks.send_replace(false);
    let call = world.call();
    while world.link.presence.is_unheard() {
        tokio::task::yield_now().await;
    }
    (world, call)
}

#[tokio::test]
async fn a_process_that_is_not_run_takes_no_silence_for_the_stores() {
    let (world, call) = silent().await;
    // Far beyond what a call waits by the clock on the wall.
    let began = Instant::now();
    while began.elapsed() < 8 * PATIENCE {
        tokio::task::yield_now().await;
    }
    assert!(world.link.is_up() && !call.is_finished());
    world.speaks.send_replace(true);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_that_is_silent_trips_the_breaker_and_then_fails_the_call() {
    let (world, call) = silent().await;
    world.link.presence.beats(TRIPPED);
    world.until_slow().await;
    let later = world.call();
    while !call.is_finished() || !later.is_finished() {
        world.link.presence.beats(SPENT);
        tokio::task::yield_now().await;
    }
    assert_eq!(call.await.unwrap(), Err(Failure::Unanswered));
    assert!(matches!(later.await.unwrap(), Err(Failure::Away(_))));
    // Who comes now is told at once: no time needs to pass.
    assert!(matches!(world.call().await.unwrap(), Err(Failure::Away(_))));
}

#[tokio::test]
async fn any_answer_closes_the_breaker() {
    let (world, call) = silent().await;
    world.link.presence.beats(TRIPPED);
    world.until_slow().await;
    world.speaks.send_replace(true);
    let other = world.link.send(&world.live, &::redis::cmd("PING"), PATIENCE).await;
    assert!(other.is_ok() && world.link.is_up());
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_to_others_are_no_silence() {
    let (world, call) = silent().await;
    // Each time just before the end of its patience the store is heard.
    for _ in 0..10 {
        world.link.presence.beats(TRIPPED - 3);
        world.link.answered(&world.live);
        tokio::task::yield_now().await;
    }
    assert!(world.link.is_up() && !call.is_finished());
    world.speaks.send_replace(true);
    call.await.unwrap().unwrap();
}
