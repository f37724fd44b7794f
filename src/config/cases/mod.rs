//! Policy tests: `tests/*.yaml` beside the policies, read for `turnpike check` alone. A gateway does not read them.
//!
//! They are read by the same machinery as policies, so that a fault has its place and a hint; and they are tried on
//! policies in which no backend is off for want of a secret, so that they show the same on every machine.

mod read;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Environment, Faults, Loaded, Places,
    diagnostic::{Diagnostic, Report, Span},
    files, lower_texts,
    secrets::Secrets,
    sections,
    tree::{self, Node},
};
use crate::{
    base::{catalog::CandidateId, facts::Facts, money::Money, names::RouteName, tenants::Team},
    policy::{BudgetSeen, Policies, Seen},
};

/// The folder of the tests, in the policies' folder.
pub const FOLDER: &str = "tests";

/// One policy test: what is given and what is expected.
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The instant.
    pub at: Timestamp,
    /// The route that it names.
    pub route: RouteName,
    /// The caller may not name it.
    pub forbidden: bool,
    /// What is known of the request.
    pub facts: Facts,
    /// Who asks.
    pub team: Team,
    /// The key's public id.
    pub key: String,
    /// The end user.
    pub user: String,
    /// The session.
    pub session: String,
    /// The tightest budget.
    pub budget: BudgetSeen,
    /// A budget was given.
    pub budgeted: bool,
    /// How long it may take.
    pub deadline: Option<Duration>,
    /// What is drawn from.
    pub seed: u64,
    /// What has been seen, by candidate.
    pub seen: Vec<Seen>,
    /// Candidates that an operator has switched off.
    pub off: Vec<CandidateId>,
    /// Arms of the route that are withdrawn.
    pub withdrawn: Vec<RouteName>,
    /// Candidates that failed already.
    pub failed: Vec<CandidateId>,
    /// What is expected.
    pub expected: Vec<Expected>,
    place: Span,
}

/// One thing that is expected, and where it is written.
pub struct Expected {
    /// What.
    pub what: Expectation,
    place: Span,
}

/// What a policy test can expect.
pub enum Expectation {
    /// One of these candidates wins.
    Winner(Vec<Vec<CandidateId>>),
    /// The winner is behind one of these backends.
    Backend(Vec<String>),
    /// One of these arms is dealt.
    Arm(Vec<String>),
    /// Who is tried first, second, …
    Order(Vec<Vec<CandidateId>>),
    /// Exactly who may be tried.
    Able(Vec<CandidateId>),
    /// All of these may not be tried, for the reason of that word.
    Rejected(Vec<CandidateId>, String),
    /// The winner is expected to cost so much at most.
    MaxCost(Money),
    /// So much is held at most.
    MaxHold(Money),
    /// The winner's chance of a right answer is surely so much, in parts per million.
    Right(u32),
    /// Exactly these rules match.
    Rules(Vec<String>),
    /// Nobody is tried.
    Refused {
        /// The code that the client sees.
        code: String,
        /// The status, if that is stated.
        status: Option<u16>,
    },
}

/// The policy tests of a configuration, and what is found out by them.
pub struct Cases {
    /// What they are tried on.
    pub policies: Arc<Policies>,
    /// The tests in the order of files and lines.
    pub list: Vec<Case>,
    report: Report,
    rules: Vec<(RouteName, Vec<Span>)>,
}

impl Cases {
    /// The policy tests beside the policies of `loaded`; `None` = there are none. `codes`: those that a client can see.
    ///
    /// # Errors
    /// Everything that is wrong with their files.
    pub fn load(loaded: &Loaded, codes: &[&str], env: Environment<'_>, now: Timestamp) -> Result<Option<Self>, Faults> {
        let mut report = Report::default();
        let folder = loaded.server.policies.join(FOLDER);
        let texts = if folder.is_dir() { files::policies(&mut report, &folder, None) } else { Vec::new() };
        let unread = files::below(&folder);
        for path in &unread {
            let (file, _) = report.add(path.clone(), files::read(path).unwrap_or_default());
            let warning = report.warning(Span::new(file, 0..0), "policy tests in a subfolder are not read");
            warning.label("passed over, and all beside it").hint(format!("move them up into `{FOLDER}`"));
        }
        if texts.is_empty() && unread.is_empty() {
            return report.finish().map(|_| None);
        }
        let mut secrets = Secrets::new(env);
        secrets.lenient = true;
        let (server, places) = (loaded.server.clone(), Places::default());
        let tried = lower_texts(Report::default(), &mut secrets, server, places, loaded.texts.clone(), now)?;
        let rules = rules(&mut report, &loaded.texts);
        let mut cases = Self { policies: tried.policies, list: Vec::new(), report, rules };
        cases.read(texts, codes);
        if cases.report.has_faults() { Err(cases.report.into_faults()) } else { Ok(Some(cases)) }
    }

    fn read(&mut self, texts: Vec<(PathBuf, String)>, codes: &[&str]) {
        let mut names = BTreeMap::new();
        for (path, text) in texts {
            let (file, source) = self.report.add(path, text);
            // A file that cannot be read further has been told of.
            let Ok(root) = tree::parse(&mut self.report, file, &source.text) else { continue };
            let Some(root) = root else {
                let warning = self.report.warning(Span::new(file, 0..0), "a file without a policy test");
                warning.label("empty").hint("write `tests:` with tests into it, or take it out");
                continue;
            };
            sections::cases::CASES.check(&mut self.report, &root);
            let list = root.get("tests").map(Node::items).unwrap_or_default();
            for node in list {
                self.name(&mut names, node);
                let case = read::case(&mut self.report, &self.policies, codes, &root, node);
                self.list.extend(case);
            }
        }
    }

    /// Notes a name that an earlier test of any file bears: whoever reads of a failure could not tell which it was.
    fn name(&mut self, names: &mut BTreeMap<String, Span>, node: &Node) {
        let Some((name, place)) = node.get("name").and_then(|node| Some((node.text()?, node.span))) else { return };
        match names.get(name) {
            None => {
                names.insert(name.to_owned(), place);
            }
            Some(first) => {
                let fault = self.report.fault(place, "two policy tests of one name");
                fault.label("here again").also(*first, "first here").hint("rename one of them");
            }
        }
    }

    /// Notes that a test failed: what was expected and did not come, by its place among the expectations, and the
    /// table of candidates.
    pub fn fail(&mut self, case: usize, unmet: &[(usize, String)], table: String) {
        let Some(case) = self.list.get(case) else { return };
        let mut places = unmet.iter().filter_map(|(index, found)| Some((case.expected.get(*index)?.place, found)));
        let Some((place, found)) = places.next() else {
            return;
        };
        let title = format!("policy test failed: {}", case.name);
        let mut fault = self.report.fault(place, title).label(found.as_str()).note(table);
        for (place, found) in places {
            fault = fault.also(place, found.as_str());
        }
        fault.also(case.place, "in this test").hint("mend the policies, or what the test expects of them");
    }

    /// Notes that no test meets the rule of that place in a route.
    pub fn untested(&mut self, route: &RouteName, rule: usize, name: &str) {
        let of_route = self.rules.iter().find(|(known, _)| known == route);
        let place = of_route.and_then(|(_, places)| places.get(rule)).copied();
        let title = format!("no policy test meets {name} of route `{route}`");
        let warning = self.report.warning_at(place, title).label("never seen to match");
        warning.hint("add a test whose request fulfils it, or take the rule out");
    }

    /// The warnings, or else the faults.
    ///
    /// # Errors
    /// The tests that failed.
    pub fn finish(self) -> Result<Vec<Diagnostic>, Faults> {
        self.report.finish()
    }
}

/// Where the rules of each route stand. The policies have been loaded, so that nothing is at fault in them.
fn rules(report: &mut Report, texts: &[(PathBuf, String)]) -> Vec<(RouteName, Vec<Span>)> {
    let mut found = Vec::new();
    for (path, text) in texts {
        let (file, source) = report.add(path.clone(), text.clone());
        let Ok(Some(root)) = tree::parse(report, file, &source.text) else { continue };
        // The check hides what is secret.
        sections::POLICIES.check(report, &root);
        for (key, route) in root.get("routes").map(Node::entries).unwrap_or_default() {
            let rules = route.get("rules").map(Node::items).unwrap_or_default();
            let places = rules.iter().map(|rule| rule.get("when").map_or(rule.span, |when| when.span));
            found.push((RouteName::from(key.text.as_str()), places.collect()));
        }
    }
    found
}
