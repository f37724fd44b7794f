//! `least_loaded`: the fewest requests in flight for what the replica can take, slow ones counted as smaller.

use super::{Balancer, Replica, Scene};

/// See the module's text.
pub struct LeastLoaded;

impl Balancer for LeastLoaded {
    fn name(&self) -> &'static str {
        "least_loaded"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        scene.least(|replica| load(replica, scene))
    }
}

fn load(replica: &Replica, scene: &Scene<'_>) -> u128 {
    let waiting = u128::from(replica.in_flight(scene.now)) + 1;
    waiting * u128::from(replica.slowdown_milli(scene.now)) * 1_000_000 / u128::from(replica.share_milli(scene.now))
}
