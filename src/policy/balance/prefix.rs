//! `prefix`: the least product of work before the first token and of company after it.
//!
//! `(2 × new prefill + queued prefill + 1) × (in flight + 1) × slowdown ÷ weight`. New prefill is what of the prompt the
//! replica does not have in its cache; queued prefill is what it has been sent and has not answered yet. The product
//! (LMetric) weighs load against company; the slowdown tells replicas apart that are of different or failing hardware.
//! New prefill counts twice, since it delays everybody who comes after, too: in `tests/sim`, over LMetric's single
//! weight, that gives 4 points more of cached tokens and a burst × 5 a fifth less at the 99th percentile; three times
//! and more piles requests up where a popular prefix is.

use super::{Ask, Balancer, Replica, Scene};

/// Up to so many replicas each is looked at.
const ALL: usize = 16;
/// Beyond, the one with the most of the prompt and so many others.
const OTHERS: u64 = 3;
/// How much a token that has to be read counts against one that is queued before it.
const NEW: u64 = 2;

/// See the module's text.
pub struct Prefix;

impl Balancer for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn needs_blocks(&self) -> bool {
        true
    }

    fn pick(&self, scene: &Scene<'_>) -> Option<usize> {
        if scene.sound.len() <= ALL {
            return scene.least(|replica| score(replica, scene));
        }
        let warmest = scene.least(|replica| std::cmp::Reverse(replica.warm_blocks(scene.ask.blocks)))?;
        let drawn = (0..OTHERS).map(|number| (scene.draw(!number) % scene.sound.len() as u64) as usize);
        drawn.chain([warmest]).min_by_key(|&place| (score(scene.sound[place], scene), scene.draw(place as u64)))
    }
}

/// Tokens of the prompt that stand in so many warm blocks.
pub fn warm_tokens(ask: &Ask<'_>, warm: usize) -> u64 {
    let tokens = u128::from(ask.tokens) * warm as u128;
    tokens.checked_div(ask.blocks.len() as u128).and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0)
}

fn score(replica: &Replica, scene: &Scene<'_>) -> u128 {
    let new = scene.ask.tokens.saturating_sub(warm_tokens(scene.ask, replica.warm_blocks(scene.ask.blocks)));
    let work = u128::from(new.saturating_mul(NEW).saturating_add(replica.queued_tokens())) + 1;
    let company = u128::from(replica.in_flight(scene.now)) + 1;
    let slowdown = u128::from(replica.slowdown_milli(scene.now));
    work.saturating_mul(company).saturating_mul(slowdown * 1_000) / u128::from(replica.share_milli(scene.now))
}
