//! From which load on rented servers cost no more than buying the tokens.

use std::sync::Arc;

use jiff::Timestamp;

use super::{BreakEven, Policies, Question, Ranked, Rejected, Terms};
use crate::base::{
    catalog::Backend,
    money::{Currency, Money, NANO},
    price::rate_in_force,
    rent,
};

/// For every candidate on rented servers, able or not: `rent of all its servers × tokens of this request ÷ cost of this
/// request at the cheapest able candidate that is paid by the token`. Empty where nothing is rented or nothing is for
/// sale. It is told beside the decision and enters no candidate's numbers.
pub(super) fn break_even(
    policies: &Policies,
    question: &Question<'_>,
    ranked: &[Ranked],
    rejected: &[Rejected],
) -> Vec<BreakEven> {
    let worked_out = rejected.iter().filter_map(|rejected| Some((&rejected.candidate, rejected.terms.as_ref()?, 0)));
    let able = ranked.iter().map(|ranked| (&ranked.candidate, &ranked.terms, ranked.seen.line.servers));
    let mut rented = able.chain(worked_out).filter(|(candidate, ..)| candidate.backend.rent.is_some()).peekable();
    if rented.peek().is_none() {
        return Vec::new();
    }
    let sold = ranked.iter().filter(|ranked| ranked.candidate.backend.rent.is_none() && ranked.price.is_some());
    let name = |ranked: &&Ranked| (ranked.terms.cost, ranked.candidate.label());
    let Some(cheapest) = sold.filter(|sold| sold.terms.cost > Money::ZERO).min_by_key(name) else { return Vec::new() };
    rented
        .filter_map(|(candidate, terms, servers)| {
            let rent = policies.rent_per_hour(&candidate.backend, servers, question.now)?;
            let tokens_per_hour = rent::break_even(rent, tokens(terms, question), cheapest.terms.cost)?;
            let against = Arc::clone(&cheapest.candidate);
            Some(BreakEven { candidate: Arc::clone(candidate), against, tokens_per_hour })
        })
        .collect()
}

/// Prompt and completion tokens of a request.
fn tokens(terms: &Terms, question: &Question<'_>) -> u64 {
    terms.input_tokens.saturating_add(terms.output_tokens.saturating_mul(question.facts.answers.max(1)))
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
