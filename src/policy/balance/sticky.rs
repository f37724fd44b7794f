//! `sticky`: the same session on the same replica, as long as that one is not much busier than the others.
//!
//! Rendezvous hashing, so that a replica that comes or goes moves only the sessions it must, with bounded loads
//! (Mirrokni, Thorup, Zadimoghaddam 2016): nobody takes more than 5/4 of the mean; who would goes to the next in the
//! session's own order.

use super::{Balancer, Scene, mix};

/// See the module's text.
pub struct Sticky;

impl Balancer for Sticky {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        let in_flight = |place: usize| scene.sound[place].in_flight(scene.now);
        let all: u64 = (0..scene.sound.len()).map(in_flight).sum();
        let bound = ((all + 1) * 5).div_ceil(4 * (scene.sound.len() as u64).max(1));
        let places = 0..scene.sound.len();
        places.max_by_key(|&place| {
            let replica = scene.sound[place];
            (in_flight(place) < bound, mix(scene.ask.affinity ^ mix(replica.name_hash())))
        })
    }
}
