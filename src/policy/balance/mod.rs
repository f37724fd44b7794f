//! Which server of a pool serves a request: balance algorithms, one a file, over what a [`Pool`] has seen.
//!
//! Everything here is calculation on given times and seeds. An algorithm chooses among replicas that are sound; which
//! those are, [`Pool::pick`] says. To add one: a file, and a line in [`TABLE`].

mod index;
mod least_loaded;
mod pace;
mod pool;
mod prefix;
mod replica;
mod round_robin;
mod shared;
mod sticky;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    index::{BLOCK, MAX_BLOCKS, blocks},
    pool::{End, Pool, Ticket},
    prefix::warm_tokens,
    replica::{Load, Ready, Replica, ReplicaId, State},
};

/// A way to share a pool's requests.
pub trait Balancer: Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// Whether it looks at [`Ask::blocks`]: hashing a prompt costs, so nobody does it for nothing.
    fn needs_blocks(&self) -> bool {
        false
    }

    /// The place in [`Scene::sound`] of the replica to ask; `None` only if there is none.
    fn pick(&self, scene: &Scene<'_>) -> Option<usize>;
}

/// All algorithms; the first is the usual one.
pub const TABLE: &[&dyn Balancer] =
    &[&least_loaded::LeastLoaded, &prefix::Prefix, &round_robin::RoundRobin, &sticky::Sticky];

/// Their names, in the order of [`TABLE`].
pub const NAMES: &[&str] = &["least_loaded", "prefix", "round_robin", "sticky"];

/// The algorithm of that name; the usual one for a name that is unknown.
pub fn by_name(name: &str) -> &'static dyn Balancer {
    TABLE.iter().copied().find(|balancer| balancer.name() == name).unwrap_or(TABLE[0])
}

/// What an algorithm may know of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Its prompt in [`blocks`]; empty = not looked at.
    pub blocks: &'a [u64],
    /// Tokens of its prompt.
    pub tokens: u64,
    /// Tokens of it that earlier turns of its conversation said: somebody should have them cached.
    pub settled: u64,
    /// What `sticky` keeps together, as a hash.
    pub affinity: u64,
    /// How its conversation began, as a hash that is the same in every gateway.
    pub opening: u64,
    /// Its answer comes as a stream, so that its first token will be seen.
    pub streams: bool,
    /// Its randomness: ties are drawn from it.
    pub seed: u64,
}

/// What an algorithm chooses from.
pub struct Scene<'a> {
    /// The replicas that may be asked, in the order of the configuration.
    pub sound: &'a [&'a Replica],
    /// The request.
    pub ask: &'a Ask<'a>,
    /// How many requests the pool was asked for before this one.
    pub turn: usize,
    /// Other gateways ask the pool too, as far as conversations tell that come here in their midst.
    pub shared: bool,
    /// The share of a conversation that is cached at its home, where another gateway had it, in thousandths.
    pub trust_milli: u64,
    /// The instant, since the origin of the pool's times.
    pub now: Duration,
}

impl Scene<'_> {
    /// The place with the least score; equals are drawn by the request's seed.
    pub fn least<S: Ord>(&self, score: impl Fn(&Replica) -> S) -> Option<usize> {
        (0..self.sound.len()).min_by_key(|&place| (score(self.sound[place]), self.draw(place as u64)))
    }

    /// Where every gateway would begin this conversation: the replica that its opening draws (rendezvous hashing).
    pub fn home(&self) -> Option<usize> {
        let drawn = |&place: &usize| mix(self.ask.opening ^ mix(self.sound[place].name_hash()));
        (0..self.sound.len()).max_by_key(drawn)
    }

    /// A number that the request's seed draws for `place`.
    pub fn draw(&self, place: u64) -> u64 {
        mix(self.ask.seed ^ mix(place))
    }
}

/// SplitMix64's finaliser: one well-mixed number from one seed.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
