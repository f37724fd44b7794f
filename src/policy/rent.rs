//! From which load on rented servers cost no more than buying the tokens.

use std::sync::Arc;

use jiff::Timestamp;

use super::{BreakEven, Observations, Policies, Question, Ranked, Rejected, Seen, Terms, value::thinks};
use crate::base::{
    catalog::{Backend, Candidate},
    money::{Currency, Money, NANO},
    price::rate_in_force,
    rent,
    usage::Usage,
};

/// For every candidate on rented servers, able or not: `rent of all its servers × tokens of this request ÷ what these
/// tokens cost` at the cheapest able candidate that is paid by the token. The answer is as long as the rented candidate's
/// are measured to be, else as those elsewhere are: the expectation of a model that nobody asks is a guess, and both sides
/// have to be of the same tokens. Empty where nothing is rented or nothing is for sale. It is told beside the decision
/// and enters no candidate's numbers.
pub(super) fn break_even(
    policies: &Policies,
    observations: &dyn Observations,
    question: &Question<'_>,
    ranked: &[Ranked],
    rejected: &[Rejected],
) -> Vec<BreakEven> {
    let measured = |candidate: &Candidate, seen: Option<&Seen>| match seen {
        Some(seen) => seen.output_tokens.is_some(),
        None => observations.seen(candidate).output_tokens.is_some(),
    };
    let worked_out = rejected.iter().filter_map(|rejected| Some((&rejected.candidate, rejected.terms.as_ref()?, None)));
    let able = ranked.iter().map(|ranked| (&ranked.candidate, &ranked.terms, Some(&ranked.seen)));
    let mut rented = able.chain(worked_out).filter(|(candidate, ..)| candidate.backend.rent.is_some()).peekable();
    if rented.peek().is_none() {
        return Vec::new();
    }
    let sold = || ranked.iter().filter(|ranked| ranked.candidate.backend.rent.is_none());
    let elsewhere = sold().filter(|sold| sold.seen.output_tokens.is_some()).min_by_key(|sold| sold.terms.cost);
    let elsewhere = elsewhere.map(|sold| sold.terms.output_tokens);
    rented
        .filter_map(|(candidate, terms, seen)| {
            let servers = seen.map_or(0, |seen| seen.line.servers);
            let rent = policies.rent_per_hour(&candidate.backend, servers, question.now)?;
            let output = elsewhere.filter(|_| !measured(candidate, seen)).unwrap_or(terms.output_tokens);
            let output = output.saturating_mul(question.facts.answers.max(1));
            let costs = sold().filter_map(|sold| Some((cost(sold, output, question)?, sold)));
            let label = |sold: &Ranked| sold.candidate.label();
            let (cost, cheapest) =
                costs.min_by(|(a, one), (b, other)| a.cmp(b).then_with(|| label(one).cmp(&label(other))))?;
            let tokens_per_hour = rent::break_even(rent, terms.input_tokens.saturating_add(output), cost)?;
            let against = Arc::clone(&cheapest.candidate);
            Some(BreakEven { candidate: Arc::clone(candidate), against, tokens_per_hour })
        })
        .collect()
}

/// What the request costs at a candidate that writes so many tokens in all; `None` = nothing, or nobody knows.
fn cost(sold: &Ranked, output: u64, question: &Question<'_>) -> Option<Money> {
    let Terms { input_tokens: input, cached_tokens: cached_input, tier, .. } = sold.terms;
    let usage = Usage { tier, input, cached_input, output, ..Usage::default() };
    let charge = sold.price.as_ref()?.charge(&usage, thinks(&sold.candidate.model, question.facts));
    Some(charge.money).filter(|money| *money > Money::ZERO)
}

impl Policies {
    /// What all servers of a backend cost an hour at the exchange rate of `now`; where their number is not told, those of
    /// the configuration count. `None` = they are not rented, or their currency has no rate.
    pub fn rent_per_hour(&self, backend: &Backend, servers: u32, now: Timestamp) -> Option<Money> {
        let rent = backend.rent.as_ref()?;
        let exchange = self.exchange_nanousd(rent.currency, now)?;
        let listed = u32::try_from(backend.endpoints.len()).unwrap_or(u32::MAX);
        Some(rent.of(if servers == 0 { listed.max(1) } else { servers }, exchange))
    }

    /// What one unit of a currency is worth at `now`, in nano-USD; `None` = its rate is not known.
    pub fn exchange_nanousd(&self, currency: Currency, now: Timestamp) -> Option<i64> {
        if currency == Currency::USD {
            return Some(NANO);
        }
        Some(rate_in_force(self.currencies.get(&currency)?, now)?.nanousd)
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{
        Prefer, Seen,
        decide::decide,
        sample::{Made, World},
    };

    #[test]
    fn both_sides_of_the_break_even_are_of_the_same_tokens() {
        let wrote = |output| Seen { output_tokens: output, ..Seen::default() };
        let found = |own, api| {
            let rented = Made { rent: Some(16_800_000_000), seen: wrote(own), ..Made::new(1) };
            let world = World::new(&[rented, Made { seen: wrote(api), ..Made::new(2) }]);
            let route = world.route(Prefer::BALANCED);
            decide(&world.policies, &world, &world.question(&route)).break_even[0].tokens_per_hour
        };
        // 1,000 and 10 tokens for 0.00103 USD elsewhere: 16.80 USD an hour buy 16.474 million.
        const SHORT: u64 = 16_473_787;
        assert_eq!(found(Some(10), None), SHORT, "nobody asks the API");
        assert_eq!(found(None, Some(10)), SHORT, "nobody asks the servers");
        assert_eq!(found(Some(10), Some(10)), SHORT);
        assert_eq!(found(Some(10), Some(5_000)), SHORT, "its own answers count");
    }
}
