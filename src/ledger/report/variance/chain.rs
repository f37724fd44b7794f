//! The steps of the split in fixed point: what the measured requests would have cost with some things as they were
//! before and the others as they were after.

use super::side::{Group, KINDS, OF_INPUT, Side};

/// Parts of a token, and so of a millionth of a nano-dollar, that are calculated with.
const SCALE: u128 = 1_000_000_000_000;
/// The fixed point of a nano-dollar.
const NANO: i128 = 1_000_000 * 1_000_000_000_000;

/// What the measured requests cost after each step.
pub(super) struct Steps {
    /// At the first's share of measured requests: after volume, mix, prompts, answers, caches, prices, exchange.
    pub(super) old_requests: [u128; 7],
    /// At the second's own number of measured requests, with everything changed.
    pub(super) new_requests: u128,
}

/// The difference in nano-dollars, to the nearest.
pub(super) fn difference(before: u128, after: u128) -> i128 {
    let before = i128::try_from(before).unwrap_or(i128::MAX);
    super::divided(i128::try_from(after).unwrap_or(i128::MAX).saturating_sub(before), NANO)
}

/// All steps, summed over the groups.
pub(super) fn steps(before: &Side, after: &Side) -> Steps {
    let scaled = |requests: u64| u128::from(requests).saturating_mul(SCALE);
    let requests = times(scaled(after.requests), before.measured.into(), before.requests.into());
    let mut steps = Steps { old_requests: [0; 7], new_requests: 0 };
    let none = Group::default();
    let mut keys: Vec<_> = before.groups.keys().chain(after.groups.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let old = before.groups.get(key);
        let new = after.groups.get(key);
        let dollars = mixed_currencies(old, new);
        // Who is in one of the two only has the same tokens and prices in both.
        let (old_facts, new_facts) = (old.or(new).unwrap_or(&none), new.or(old).unwrap_or(&none));
        let share = |group: Option<&Group>, side: &Side| (group.map_or(0, |group| group.requests), side.measured);
        let old_share = share(old, before);
        // Without a single measured request the second has no mix of its own.
        let new_share = if after.measured == 0 { old_share } else { share(new, after) };
        let of = |step: usize| {
            let at = |from: usize| if step >= from { new_facts } else { old_facts };
            Point {
                share: if step >= 1 { new_share } else { old_share },
                input: at(2),
                output: at(3),
                shares: at(4),
                price: at(5),
                exchange: at(6),
                other: if step >= 4 { old_facts } else { new_facts },
                dollars,
            }
        };
        for (step, sum) in steps.old_requests.iter_mut().enumerate() {
            *sum = sum.saturating_add(of(step).cost(requests));
        }
        let last = of(6).cost(scaled(after.measured));
        steps.new_requests = steps.new_requests.saturating_add(last);
    }
    steps
}

/// A group whose vendor changed the currency, or had several: its prices are compared in dollars.
fn mixed_currencies(old: Option<&Group>, new: Option<&Group>) -> bool {
    let mut all = old.into_iter().chain(new).flat_map(|group| &group.currencies);
    let first = all.next();
    all.any(|currency| Some(currency) != first)
}

/// One group with each thing as it was in one of the two stretches.
struct Point<'a> {
    share: (u64, u64),
    input: &'a Group,
    output: &'a Group,
    shares: &'a Group,
    price: &'a Group,
    exchange: &'a Group,
    /// Whose shares of kinds are taken where `shares` has no prompt tokens at all.
    other: &'a Group,
    dollars: bool,
}

impl Point<'_> {
    /// What the group's share of so many requests costs, in the fixed point.
    fn cost(&self, requests: u128) -> u128 {
        let requests = times(requests, self.share.0.into(), self.share.1.into());
        let input = times(requests, self.input.input(), self.input.requests.into());
        let output = times(requests, self.output.output(), self.output.requests.into());
        let shares = if self.shares.input() == 0 { self.other } else { self.shares };
        let native = (0..KINDS).fold(0_u128, |sum, kind| {
            let tokens = if kind < OF_INPUT {
                times(input, shares.kinds[kind].tokens, shares.input())
            } else {
                times(output, self.output.kinds[kind].tokens, self.output.output())
            };
            let (price, of) = self.price(kind);
            sum.saturating_add(times(tokens, price, of))
        });
        if self.dollars {
            return native;
        }
        let (usd, of) = self.exchange();
        times(native, usd, of)
    }

    /// The mean price of a token that was used; of one that was not, the mean of the list.
    fn price(&self, kind: usize) -> (u128, u128) {
        let used = &self.price.kinds[kind];
        match (used.tokens, self.dollars) {
            (0, false) => (used.list, self.price.requests.into()),
            (0, true) => (used.list_usd, self.price.requests.into()),
            (tokens, false) => (used.native, tokens),
            (tokens, true) => (used.usd, tokens),
        }
    }

    /// Dollars for what was billed; where nothing was, the mean rate.
    fn exchange(&self) -> (u128, u128) {
        let native: u128 = self.exchange.kinds.iter().map(|kind| kind.native).sum();
        if native == 0 {
            return (self.exchange.exchanges, u128::from(self.exchange.requests) * 1_000_000_000);
        }
        (self.exchange.kinds.iter().map(|kind| kind.usd).sum(), native)
    }
}

/// `a × b ÷ c`, rounded down, exact in between; nothing for `c` = 0, the largest number where it does not fit.
fn times(a: u128, b: u128, c: u128) -> u128 {
    if c == 0 {
        return 0;
    }
    if let Some(product) = a.checked_mul(b) {
        return product / c;
    }
    let (high, low) = wide(a, b);
    if high >= c {
        return u128::MAX;
    }
    // Long division, a bit at a time: the rest stays below `c`, and a bit that leaves the word is taken along.
    let (mut rest, mut quotient) = (high, 0_u128);
    for bit in (0..128).rev() {
        let carried = rest >> 127 == 1;
        rest = (rest << 1) | ((low >> bit) & 1);
        quotient <<= 1;
        if carried || rest >= c {
            rest = rest.wrapping_sub(c);
            quotient |= 1;
        }
    }
    quotient
}

/// The product in 256 bits: the upper and the lower half.
fn wide(a: u128, b: u128) -> (u128, u128) {
    let halves = |x: u128| (x >> 64, x & u128::from(u64::MAX));
    let ((a1, a0), (b1, b0)) = (halves(a), halves(b));
    let (low, middle, other, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let carry = (low >> 64) + (middle & u128::from(u64::MAX)) + (other & u128::from(u64::MAX));
    let lower = (low & u128::from(u64::MAX)) | (carry << 64);
    (high + (middle >> 64) + (other >> 64) + (carry >> 64), lower)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_product_is_divided_as_exactly_as_if_it_fitted(a: u64, b: u64, c in 1_u64.., shift in 0_u32..60) {
            let (a, b, c) = (u128::from(a), u128::from(b), u128::from(c));
            let exact = a * b / c;
            prop_assert_eq!(times(a, b, c), exact);
            // The same quotient of numbers whose product does not fit.
            prop_assert_eq!(times(a << shift, b, c << shift), exact);
            let (all, most) = (2 * shift, (2 * shift).min(60));
            if exact.leading_zeros() >= all - most {
                prop_assert_eq!(times(a << shift, b << shift, c << most) >> (all - most), exact);
            }
        }
    }

    #[test]
    fn what_does_not_fit_stops_at_the_end() {
        assert_eq!(times(u128::MAX, u128::MAX, 1), u128::MAX);
        assert_eq!(times(u128::MAX, u128::MAX, u128::MAX), u128::MAX);
        assert_eq!(times(1, 1, 0), 0);
    }
}
