//! Many files, one set of sections: any file may hold any section, and no name may be defined twice.

use std::collections::{BTreeMap, HashMap};

use super::{
    diagnostic::{Report, Span},
    sections,
    tree::{Key, Node, Value},
};

/// The sections of all policy files together.
#[derive(Debug, Default)]
pub struct Sections {
    tables: BTreeMap<String, Vec<(Key, Node)>>,
    lists: BTreeMap<String, Vec<Node>>,
}

impl Sections {
    /// Checks each file's keys and values, and merges what it holds.
    pub fn merge(report: &mut Report, roots: Vec<Node>) -> Self {
        let mut merged = Self::default();
        let mut seen: HashMap<(String, String), Span> = HashMap::new();
        for root in roots {
            if !matches!(root.value, Value::Map(_) | Value::Null) {
                let fault = report.fault(root.span, format!("expected sections, found {}", root.form()));
                fault.label("no section").hint("a policy file begins with a section such as `models:`");
                continue;
            }
            sections::POLICIES.check(report, &root);
            let Value::Map(entries) = root.value else { continue };
            for (section, node) in entries {
                merged.take(report, &mut seen, &section.text, node);
            }
        }
        merged
    }

    fn take(&mut self, report: &mut Report, seen: &mut HashMap<(String, String), Span>, section: &str, node: Node) {
        match node.value {
            Value::List(items) => self.lists.entry(section.to_owned()).or_default().extend(items),
            Value::Map(entries) => {
                for (key, value) in entries {
                    let name = (section.to_owned(), key.text.clone());
                    match seen.get(&name) {
                        // A key that stands twice in one mapping has been told of when the file was parsed.
                        Some(first) if first.same_file(key.span) => {}
                        Some(first) => {
                            let fault =
                                report.fault(key.span, format!("`{}` is defined twice in `{section}`", key.text));
                            fault
                                .label("here again")
                                .also(*first, "first here")
                                .hint("keep one of them, or rename one");
                        }
                        None => {
                            seen.insert(name, key.span);
                            self.tables.entry(section.to_owned()).or_default().push((key, value));
                        }
                    }
                }
            }
            Value::Null | Value::Scalar(_) => {}
        }
    }

    /// The entries of a section that maps names, or the keys of one that stands once (`trust`, `defaults`).
    pub fn table(&self, section: &str) -> &[(Key, Node)] {
        self.tables.get(section).map(Vec::as_slice).unwrap_or_default()
    }

    /// The rows of a section that is a list.
    pub fn list(&self, section: &str) -> &[Node] {
        self.lists.get(section).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names of a section.
    pub fn names(&self, section: &str) -> impl Iterator<Item = &str> + Clone {
        self.table(section).iter().map(|(key, _)| key.text.as_str())
    }

    /// The entry of that name.
    pub fn find(&self, section: &str, name: &str) -> Option<&(Key, Node)> {
        self.table(section).iter().find(|(key, _)| key.text == name)
    }

    /// Where `name` is defined.
    pub fn place(&self, section: &str, name: &str) -> Option<Span> {
        self.find(section, name).map(|(key, _)| key.span)
    }
}
