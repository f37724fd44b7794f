//! Splits: which arm a request is dealt to, the same for every gateway and for as long as names and weights stand.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Arm, Observations, Question, StickyBy};
use crate::base::names::RouteName;

/// The route of the arm that this request is dealt to, and the arms that nobody is dealt to now, with the reason.
///
/// Weighted rendezvous hashing: an arm's share follows its weight, and a change of one weight moves only the callers
/// that it must; so does an arm that is withdrawn. The draw depends on the route's name too, so that two splits deal independently.
pub(super) fn deal<'a>(
    question: &Question<'_>,
    observations: &dyn Observations,
    arms: &'a [Arm],
    by: StickyBy,
) -> (Option<&'a RouteName>, Vec<(RouteName, Arc<str>)>) {
    let mut withdrawn: Vec<(RouteName, Arc<str>)> = Vec::new();
    for arm in arms {
        withdrawn.extend(observations.withdrawn(&question.route.name, &arm.route).map(|why| (arm.route.clone(), why)));
    }
    let dealt = |arm: &&Arm| arm.weight > 0 && withdrawn.iter().all(|(route, _)| *route != arm.route);
    let caller = &question.caller;
    let sticky = match by {
        StickyBy::User if !caller.user.is_empty() => ("user", caller.user),
        StickyBy::Session if !caller.session.is_empty() => ("session", caller.session),
        StickyBy::User | StickyBy::Session | StickyBy::Key => ("key", caller.key),
        StickyBy::Request => ("", ""),
    };
    // A caller without any name is dealt request by request.
    let seed = if sticky.1.is_empty() { question.seed.to_le_bytes() } else { [0; 8] };
    let mut sha = Sha256::new();
    for text in [question.route.name.as_str(), caller.team.name.as_str(), sticky.0, sticky.1] {
        sha.update(text.as_bytes());
        sha.update([0]);
    }
    sha.update(seed);
    let draws = arms.iter().filter(dealt).map(|arm| {
        let draw = sha.clone().chain_update(arm.route.as_bytes()).finalize();
        let draw = draw.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (exponential(draw) / u64::from(arm.weight), arm)
    });
    let drawn = draws.min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.route.cmp(&b.1.route)));
    (drawn.map(|(_, arm)| &arm.route), withdrawn)
}

/// `−log2(draw ÷ 2⁶⁴)` in units of 2⁻⁵², in integers: whole bits from the leading zeros, and 52 bits of the fraction
/// by repeated squaring. Of exponential variables divided by weights, each is the least in proportion to its weight.
fn exponential(draw: u64) -> u64 {
    const FRACTION_BITS: u32 = 52;
    let draw = draw.max(1);
    let whole = u64::from(draw.leading_zeros());
    let mut mantissa = draw << whole;
    let mut fraction = 0_u64;
    for _ in 0..FRACTION_BITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = square >> 64 != 0;
        mantissa = u64::try_from(if carry { square >> 1 } else { square }).unwrap_or(u64::MAX);
        fraction = fraction << 1 | u64::from(carry);
    }
    // log2(draw) = 63 − whole + fraction, so that at most 64 is missing to 64: 58 bits.
    ((whole + 1) << FRACTION_BITS).saturating_sub(fraction)
}
