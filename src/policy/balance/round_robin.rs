//! `round_robin`: in turn, whatever is going on.

use super::{Balancer, Scene};

/// See the module's text.
pub struct RoundRobin;

impl Balancer for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        scene.turn.checked_rem(scene.sound.len())
    }
}
