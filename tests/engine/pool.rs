//! A pool of real engines in hard weather: whoever asks it sees nothing of that.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use crate::{World, harness::until, prompt, streamed};

/// Users who ask one after the other, half of them for streams.
struct Users {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    running: JoinSet<()>,
}

impl Users {
    fn start(world: &World, count: usize, streams: bool) -> Self {
        let mut users =
            Self { stop: Arc::default(), served: Arc::default(), failures: Arc::default(), running: JoinSet::new() };
        for user in 0..count {
            let client = world.gateway.client();
            let (stop, served, failures) = (users.stop.clone(), users.served.clone(), users.failures.clone());
            users.running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let failed = if streams && user % 2 == 0 {
                        let stream = client.post_stream("/v1/chat/completions", &streamed("tiny", 16)).await;
                        let stream = stream.transcript().await;
                        (!stream.is_done() || stream.error().is_some()).then(|| stream.text())
                    } else {
                        let answer = client.post("/v1/chat/completions", &prompt("tiny", 16)).await;
                        (answer.status != 200).then(|| answer.text())
                    };
                    failures.lock().unwrap().extend(failed);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        users
    }

    /// Waits until so many more were served.
    async fn more(&self, count: usize) {
        let enough = self.served.load(Ordering::Relaxed) + count;
        until("more are served", async || self.served.load(Ordering::Relaxed) >= enough).await;
    }

    /// Nobody has seen a failure.
    async fn were_all_served(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join_all().await;
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
    }
}

/// The state of one of the pool's engines, as operators see it.
async fn state(world: &World, engine: usize) -> String {
    let address = world.engines[engine].address.to_string();
    let seen = world.seen("gpus").await;
    let endpoints = seen["endpoints"].as_array().unwrap();
    let endpoint = endpoints.iter().find(|endpoint| endpoint["url"].as_str().unwrap().contains(&address)).unwrap();
    endpoint["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_engine_that_is_killed_and_restarted_under_load_fails_nobody() {
    let mut world = World::start().await;
    // A stream that has begun cannot be begun again elsewhere, so these ask for whole answers.
    let users = Users::start(&world, 8, false);
    users.more(40).await;
    world.engines[1].kill();
    until("it is known to be gone", async || state(&world, 1).await == "not_ready").await;
    users.more(40).await;
    world.restart(1);
    until("it is back", async || state(&world, 1).await == "warming").await;
    users.more(40).await;
    users.were_all_served().await;
}

#[tokio::test]
async fn an_engine_that_stands_still_for_a_while_fails_nobody() {
    let world = World::start().await;
    let users = Users::start(&world, 8, true);
    users.more(40).await;
    world.engines[0].freeze().await;
    until("its silence is known", async || state(&world, 0).await == "not_ready").await;
    users.more(40).await;
    world.engines[0].thaw();
    until("it answers again", async || state(&world, 0).await == "warming").await;
    users.more(40).await;
    users.were_all_served().await;
}

#[tokio::test]
async fn an_engine_that_is_slowed_fails_nobody() {
    let world = World::start().await;
    let users = Users::start(&world, 8, true);
    users.more(40).await;
    // It moves only while every second pair of answers is given, so whatever it gives takes twice as long or longer.
    for _ in 0..20 {
        world.engines[2].freeze().await;
        users.more(2).await;
        world.engines[2].thaw();
        users.more(2).await;
    }
    users.were_all_served().await;
}

#[tokio::test]
async fn real_engines_tell_of_their_load() {
    let world = World::start().await;
    let client = world.gateway.client();
    let mut stream = client.post_stream("/v1/chat/completions", &streamed("tiny0", 3000)).await;
    stream.read_until("\"content\":\"").await;
    // The same engine is in the pool, which has sent it nothing: it tells so itself.
    let load = async || world.seen("gpus").await["endpoints"][0]["load"]["requests"].as_u64();
    until("it tells of the one that it works on", async || load().await == Some(1)).await;
    stream.transcript().await;
    until("it tells that it is idle", async || load().await == Some(0)).await;
}
