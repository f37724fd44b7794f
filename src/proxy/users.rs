//! End users: where a request names its own, and the fences around each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderMap;

use super::{code::Code, refusal::Refusal};
use crate::{
    base::{
        fences::{Fence, Owner},
        names::TeamName,
        tenants::{Team, UserSource},
    },
    wire::request::ChatRequest,
};

/// The longest name of a user in a header, in bytes.
const MAX_HEADER: usize = 256;
/// So many users of a team are remembered at least, and at most twice as many.
const GENERATION: usize = 4096;

/// The user that a request names in the first of its team's places that it fills; "" = none.
///
/// # Errors
/// 400 for a header that cannot be a name: a user that names itself out of its fences would not be counted.
pub fn named(team: &Team, headers: &HeaderMap, chat: &ChatRequest) -> Result<String, Refusal> {
    for source in team.user_from.iter() {
        let found = match source {
            UserSource::Header(name) => in_header(headers, name)?.map(str::to_owned),
            UserSource::Body(field) => chat.top_text(field).map(std::borrow::Cow::into_owned),
        };
        if let Some(user) = found.filter(|user| !user.is_empty()) {
            return Ok(user);
        }
    }
    Ok(String::new())
}

fn in_header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok(user) if user.len() <= MAX_HEADER => Ok(Some(user)),
        _ => {
            let message = format!(
                "header `{name}` names no user: more than {MAX_HEADER} bytes, or beyond ASCII\n\
                 hint: send an identifier or its hash"
            );
            Err(Refusal::new(Code::InvalidRequest, message).param(name))
        }
    }
}

type Fences = Arc<[Arc<Fence>]>;

/// The fences of users seen lately: a request of a known user makes none.
#[derive(Debug, Default)]
pub struct Users {
    teams: Mutex<HashMap<TeamName, Generations>>,
}

/// Two generations: when the young one is full it becomes the old one, and what was old and not asked for is forgotten.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Arc<str>, Fences>,
    old: HashMap<Arc<str>, Fences>,
}

impl Users {
    /// The fences around `user` that its team and the teams above put around each of theirs.
    pub fn fences(&self, team: &Team, user: &str) -> Fences {
        if user.is_empty() || team.lineage().all(|team| team.per_user.is_none()) {
            return Fences::default();
        }
        let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
        if !teams.contains_key(&team.name) {
            teams.insert(team.name.clone(), Generations::default());
        }
        match teams.get_mut(&team.name) {
            Some(known) => known.find(user, || around(team, user)),
            None => around(team, user),
        }
    }
}

impl Generations {
    fn find(&mut self, user: &str, make: impl FnOnce() -> Fences) -> Fences {
        if let Some(fences) = self.young.get(user) {
            return Arc::clone(fences);
        }
        let (name, fences) = self.old.remove_entry(user).unwrap_or_else(|| (Arc::from(user), make()));
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, Arc::clone(&fences));
        fences
    }
}

fn around(team: &Team, user: &str) -> Fences {
    let of = |team: &Team| {
        let owner = Owner::User(team.name.clone(), user.into());
        let fences = team.per_user.as_ref().map(|allowance| allowance.around(&owner).collect::<Vec<_>>());
        fences.unwrap_or_default()
    };
    team.lineage().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tenants::{Allowance, Limits};

    #[test]
    fn a_known_users_fences_are_made_once_and_strangers_do_not_pile_up() {
        let limits = Limits { concurrent: Some(1), ..Limits::default() };
        let per_user = Some(Allowance { limits, ..Allowance::default() });
        let team = Team { per_user, ..Team::named("search") };
        let users = Users::default();
        let first = users.fences(&team, "ann");
        assert_eq!(&*first[0].id, "user/search/ann/concurrent");
        for stranger in 0..3 * GENERATION {
            users.fences(&team, &format!("stranger {stranger}"));
            assert!(Arc::ptr_eq(&first, &users.fences(&team, "ann")));
        }
        let known = users.teams.lock().unwrap();
        assert!(known["search"].young.len() + known["search"].old.len() <= 2 * GENERATION);
    }

    #[test]
    fn nobody_has_no_fences() {
        let users = Users::default();
        assert!(users.fences(&Team::named("search"), "ann").is_empty());
        let team = Team { per_user: Some(Allowance::default()), ..Team::named("search") };
        assert!(users.fences(&team, "").is_empty());
    }
}
