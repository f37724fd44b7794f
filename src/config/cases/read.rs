//! From the node of a policy test to what is given and expected; names that nothing bears are faults.

use std::sync::Arc;

use super::{
    super::{
        close,
        diagnostic::{Report, Span},
        tree::{Key, Node, Value},
        units,
    },
    Case, Expectation, Expected,
};
use crate::{
    base::{
        catalog::{Candidate, CandidateId},
        facts::{Category, Facts},
        money::Money,
        names::RouteName,
        tenants::Team,
        tier::Asked,
    },
    policy::{BudgetSeen, Choice, Policies, Route, Seen, Unavailable, queue::Line},
};

/// Prompt tokens of a request that states none.
const INPUT_TOKENS: u64 = 1000;
/// Bytes of a body for each prompt token: what a hold is bounded by where no vocabulary counted.
const BYTES_A_TOKEN: u64 = 4;

/// Reads one test of a file; `None` where it is too faulty to be tried.
pub(super) fn case(report: &mut Report, policies: &Policies, codes: &[&str], file: &Node, node: &Node) -> Option<Case> {
    let (name, request) = (node.get("name")?, node.get("request")?);
    let at = node.read("at", units::instant).or_else(|| file.read("at", units::instant));
    if at.is_none() && node.get("at").or_else(|| file.get("at")).is_none() {
        let fault = report.fault(name.span, "a test without an instant");
        fault.label("when?").hint("write `at: 2026-11-23T12:00Z` in it or at the head of the file: prices have dates");
    }
    let mut reader = Reader { report, policies, codes };
    let route = reader.route(request.get("model")?)?;
    let team = reader.team(node.get("caller"))?;
    let model = request.word("model").unwrap_or_default();
    let word = |key: &str| node.get("caller").and_then(|caller| caller.word(key)).unwrap_or_default().to_owned();
    let (off, withdrawn) = reader.off(node.get("off"), &route);
    let failed = node.get("failed").map(|list| reader.candidates(list).concat()).unwrap_or_default();
    let budget = node.get("budget");
    let expect = node.get("expect")?;
    Some(Case {
        name: name.text()?.to_owned(),
        at: at?,
        forbidden: !team.may_name(model) && !team.may_name(&route.name),
        facts: facts(request),
        key: word("key"),
        user: word("user"),
        session: word("session"),
        budget: budget.map(state).unwrap_or_default(),
        budgeted: budget.is_some(),
        deadline: request.read("deadline", units::duration),
        seed: node.read("seed", units::count).unwrap_or(1),
        seen: reader.seen(node.get("seen")),
        off,
        withdrawn,
        failed,
        expected: reader.expected(expect, &route),
        place: name.span,
        route: route.name.clone(),
        team,
    })
}

fn facts(node: &Node) -> Facts {
    let count = |key: &str, usual| node.read(key, units::count).unwrap_or(usual);
    let flag = |key: &str| node.word(key).map(|word| word == "true");
    let input_tokens = count("input_tokens", INPUT_TOKENS);
    let category = node.word("category").and_then(Category::parse);
    Facts {
        model: node.word("model").unwrap_or_default().to_owned(),
        stream: flag("stream") == Some(true),
        input_tokens,
        counted_with: node.word("counted_with").and_then(crate::base::catalog::Tokenizer::parse),
        estimated_tokens: input_tokens,
        body_bytes: input_tokens.saturating_mul(BYTES_A_TOKEN),
        max_output: node.read("max_output", units::count),
        answers: count("answers", 1),
        messages: count("messages", 1),
        images: count("images", 0),
        audio: count("audio", 0),
        tools: count("tools", 0),
        json: flag("json") == Some(true),
        reasoning: flag("reasoning"),
        tier: node.word("tier").map_or(Asked::Unsaid, Asked::parse),
        category: category.unwrap_or_default(),
        category_confident: category.is_some(),
        ..Facts::default()
    }
}

fn state(node: &Node) -> BudgetSeen {
    let pace = node.read("pace", units::factor).and_then(|ppm| u64::try_from(ppm).ok());
    BudgetSeen {
        used_ppm: node.read("used", units::share).unwrap_or(0).into(),
        left: node.read("left", units::usd).map(Money::from_nanousd),
        pace_ppm: pace.unwrap_or(0),
    }
}

struct Reader<'r> {
    report: &'r mut Report,
    policies: &'r Policies,
    codes: &'r [&'r str],
}

impl Reader<'_> {
    fn route(&mut self, node: &Node) -> Option<Arc<Route>> {
        let name = node.text()?;
        let found = self.policies.route(name).cloned();
        if found.is_none() {
            let aliases = self.policies.aliases.keys().map(String::as_str);
            let names: Vec<&str> = self.policies.routes.keys().map(|name| name.as_str()).chain(aliases).collect();
            self.unknown("route, model or alias", name, node.span, names);
        }
        found
    }

    /// The caller's team with the caller's own labels.
    fn team(&mut self, caller: Option<&Node>) -> Option<Team> {
        let mut team = match caller.and_then(|caller| caller.get("team")) {
            None => Team::named("anybody"),
            Some(node) => {
                let name = node.text()?;
                let Some(team) = self.policies.teams.get(name) else {
                    let names: Vec<&str> = self.policies.teams.keys().map(|name| name.as_str()).collect();
                    self.unknown("team", name, node.span, names);
                    return None;
                };
                Team::clone(team)
            }
        };
        if let Some(labels) = caller.and_then(|caller| caller.get("labels")) {
            let own =
                labels.entries().iter().filter_map(|(key, node)| Some((key.text.clone(), node.text()?.to_owned())));
            Arc::make_mut(&mut team.labels).extend(own);
        }
        Some(team)
    }

    fn unknown(&mut self, what: &str, name: &str, place: Span, names: Vec<&str>) {
        let hint = close::hint(name, names, "the policies define none");
        self.report.fault(place, format!("no {what} `{name}`")).label("not defined").hint(hint);
    }

    /// The candidates that `model`, `model@backend` or `@backend` means; none, with a fault, where nothing does.
    fn named(&mut self, text: &str, place: Span) -> Vec<CandidateId> {
        let (model, backend) = text.split_once('@').map_or((text, None), |(model, backend)| (model, Some(backend)));
        let fits = |candidate: &&Arc<Candidate>| {
            (model.is_empty() || candidate.model.name.as_str() == model)
                && backend.is_none_or(|backend| candidate.backend.name.as_str() == backend)
        };
        let found: Vec<CandidateId> =
            self.policies.candidates.iter().filter(fits).map(|candidate| candidate.id).collect();
        if found.is_empty() {
            let labels: Vec<String> = self.policies.candidates.iter().map(|candidate| candidate.label()).collect();
            let models = self.policies.models.keys().map(|name| name.as_str());
            let names: Vec<&str> =
                if backend.is_some() { labels.iter().map(String::as_str).collect() } else { models.collect() };
            self.unknown("candidate", text, place, names);
        }
        found
    }

    /// What each item of a list (or the one text) names.
    fn candidates(&mut self, node: &Node) -> Vec<Vec<CandidateId>> {
        let mut named = Vec::new();
        for place in one_or_more(node) {
            if let Some(text) = place.text() {
                named.push(self.named(text, place.span));
            }
        }
        named
    }

    fn seen(&mut self, node: Option<&Node>) -> Vec<Seen> {
        let mut seen = vec![Seen::default(); self.policies.candidates.len()];
        for (key, node) in node.map(Node::entries).unwrap_or_default() {
            for id in self.named(&key.text, key.span) {
                if let Some(seen) = seen.get_mut(id.0 as usize) {
                    observe(seen, node);
                }
            }
        }
        seen
    }

    /// Candidates that are switched off, and arms of the route that are withdrawn.
    fn off(&mut self, node: Option<&Node>, route: &Route) -> (Vec<CandidateId>, Vec<RouteName>) {
        let (mut off, mut withdrawn) = (Vec::new(), Vec::new());
        for place in node.map(Node::items).unwrap_or_default() {
            let Some(text) = place.text() else { continue };
            let (kind, name) = text.split_once(':').unwrap_or_default();
            let candidates = self.policies.candidates.iter();
            let found: Vec<CandidateId> = match kind {
                "backend" => ids(candidates.filter(|candidate| candidate.backend.name.as_str() == name)),
                "provider" => ids(candidates.filter(|candidate| candidate.backend.provider == name)),
                "model" => ids(candidates.filter(|candidate| candidate.model.name.as_str() == name)),
                "arm" => {
                    let of_route = name.split_once('@').filter(|(_, of)| *of == route.name.as_str());
                    withdrawn.extend(of_route.map(|(arm, _)| RouteName::from(arm)));
                    if of_route.is_some() { continue } else { Vec::new() }
                }
                _ => Vec::new(),
            };
            if found.is_empty() {
                let hint = "write `backend:X`, `provider:X`, `model:X` or `arm:X@ROUTE` with names of the policies";
                self.report.fault(place.span, format!("`{text}` is nothing here")).label("not defined").hint(hint);
            }
            off.extend(found);
        }
        (off, withdrawn)
    }

    fn expected(&mut self, node: &Node, route: &Route) -> Vec<Expected> {
        let mut expected = Vec::new();
        if node.entries().is_empty() {
            self.report.fault(node.span, "nothing is expected").label("empty").hint("write `expect: {model: …}`");
        }
        for (key, node) in node.entries().iter().filter(|(_, node)| !matches!(node.value, Value::Null)) {
            for what in self.expectation(key, node, route) {
                expected.push(Expected { what, place: key.span.to(node.span) });
            }
        }
        expected
    }

    fn expectation(&mut self, key: &Key, node: &Node, route: &Route) -> Vec<Expectation> {
        let usd = |node: &Node| node.text().and_then(|text| units::usd(text).ok()).map(Money::from_nanousd);
        let one = match key.text.as_str() {
            "model" => Some(Expectation::Winner(self.candidates(node))),
            "order" => Some(Expectation::Order(self.candidates(node))),
            "able" => Some(Expectation::Able(self.candidates(node).concat())),
            "backend" => {
                let names: Vec<&str> = self.policies.backends.keys().map(|name| name.as_str()).collect();
                Some(Expectation::Backend(self.among(node, "backend", &names)))
            }
            "arm" => {
                let arms: Vec<&str> = match &route.choice {
                    Choice::Split { arms, .. } => arms.iter().map(|arm| arm.route.as_str()).collect(),
                    Choice::Value { .. } | Choice::Order(_) => Vec::new(),
                };
                Some(Expectation::Arm(self.among(node, "arm", &arms)))
            }
            "rejected" => {
                let mut all = Vec::new();
                for (name, why) in node.entries() {
                    let ids = self.named(&name.text, name.span);
                    all.extend(why.text().map(|why| Expectation::Rejected(ids, why.to_owned())));
                }
                return all;
            }
            "max_cost" => usd(node).map(Expectation::MaxCost),
            "max_hold" => usd(node).map(Expectation::MaxHold),
            "right" => node.text().and_then(|text| units::share(text).ok()).map(Expectation::Right),
            "rules" => {
                let known = self.rules(route);
                let names: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
                Some(Expectation::Rules(self.among(node, "rule", &names)))
            }
            "refused" => self.refused(node),
            _ => None,
        };
        one.into_iter().collect()
    }

    /// The names of the rules that may match: of the route, and of what its split deals to.
    fn rules(&self, route: &Route) -> Vec<Arc<str>> {
        let arms = match &route.choice {
            Choice::Split { arms, .. } => arms.as_slice(),
            Choice::Value { .. } | Choice::Order(_) => &[],
        };
        let of_arms = arms.iter().filter_map(|arm| self.policies.routes.get(&arm.route)).flat_map(|arm| &arm.rules);
        route.rules.iter().chain(of_arms).map(|rule| Arc::clone(&rule.name)).collect()
    }

    fn refused(&mut self, node: &Node) -> Option<Expectation> {
        let place = if node.text().is_some() { node } else { node.get("code")? };
        let code = place.text()?.to_owned();
        if !self.codes.contains(&code.as_str()) {
            self.unknown("error code", &code, place.span, self.codes.to_vec());
        }
        let status = node.read("status", units::count).and_then(|status| u16::try_from(status).ok());
        Some(Expectation::Refused { code, status })
    }

    /// Texts that are to stand in `names`.
    fn among(&mut self, node: &Node, what: &str, names: &[&str]) -> Vec<String> {
        for place in one_or_more(node) {
            if let Some(text) = place.text().filter(|text| !names.contains(text)) {
                self.unknown(what, text, place.span, names.to_vec());
            }
        }
        texts(node)
    }
}

fn ids<'c>(candidates: impl Iterator<Item = &'c Arc<Candidate>>) -> Vec<CandidateId> {
    candidates.map(|candidate| candidate.id).collect()
}

fn observe(seen: &mut Seen, node: &Node) {
    let broken = node.read("broken", units::duration).map(Unavailable::Broken);
    let parked = node.read("parked", units::duration).map(Unavailable::Parked);
    let flag = |key: &str, why: Unavailable| (node.word(key) == Some("true")).then_some(why);
    let full = flag("full", Unavailable::Full);
    let crowded = flag("crowded", Unavailable::Crowded);
    let not_ready = flag("not_ready", Unavailable::NotReady);
    *seen = Seen {
        first_token: node.read("first_token", units::duration).or(seen.first_token),
        first_token_p95: node.read("first_token_p95", units::duration).or(seen.first_token_p95),
        per_token: node.read("per_token", units::duration).or(seen.per_token),
        output_tokens: node.read("output_tokens", units::count).or(seen.output_tokens),
        cached_ppm: node.read("cached", units::share).unwrap_or(seen.cached_ppm),
        line: Line {
            wait: node.read("queue_wait", units::duration).unwrap_or(seen.line.wait),
            each: node.read("queue_step", units::duration).unwrap_or(seen.line.each),
            load_ppm: node.read("load", units::share).map_or(seen.line.load_ppm, u64::from),
            ..seen.line
        },
        unavailable: broken.or(parked).or(full).or(crowded).or(not_ready).or(seen.unavailable),
        ..*seen
    };
}

/// The items of a list, or the one value.
fn one_or_more(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null | Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(node),
    }
}

fn texts(node: &Node) -> Vec<String> {
    one_or_more(node).iter().filter_map(Node::text).map(str::to_owned).collect()
}
