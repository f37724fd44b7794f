//! The decision itself.

use super::{Decision, Observations, Policies, Question};

/// Ranks the candidates of a route for one request.
pub fn decide(policies: &Policies, observations: &dyn Observations, question: &Question<'_>) -> Decision {
    let _ = (policies, observations, question);
    todo!()
}
