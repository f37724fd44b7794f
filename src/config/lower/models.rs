//! `models:`: what a model is, who serves it, and what each of the pairs costs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{catalog, close, tree::Key, tree::Node, units},
    Named, Work, amounts, fences,
    prices::Own,
    rows,
};
use crate::{
    base::{
        catalog::{Backend, Candidate, CandidateId, Model, Tokenizer},
        fences::Owner,
        names::{BackendName, ModelName},
        price::PriceRow,
    },
    provider,
};

/// Models by name, and all pairs in the order of names, so that numbers do not depend on the order of files.
pub fn lower(
    work: &mut Work<'_, '_>,
    backends: &Named<BackendName, Backend>,
    own: &Own,
) -> (Named<ModelName, Model>, Vec<Arc<Candidate>>) {
    let sections = work.sections;
    let mut entries: Vec<&(Key, Node)> = sections.table("models").iter().collect();
    entries.sort_by(|a, b| a.0.text.cmp(&b.0.text));
    let (mut models, mut candidates) = (BTreeMap::new(), Vec::new());
    for (key, node) in entries {
        let served = served_by(work, key, node, backends);
        let entry = recognise(work, &key.text, node, &served);
        let model = Arc::new(model(work, &key.text, node, entry));
        for (backend, upstream) in served {
            let id = CandidateId(u32::try_from(candidates.len()).unwrap_or(u32::MAX));
            candidates.push(Arc::new(candidate(work, id, &model, backend, upstream, own)));
        }
        models.insert(model.name.clone(), model);
    }
    (models, candidates)
}

/// The backends that a model names, in the order of their names, with what each calls it.
fn served_by<'b>(
    work: &mut Work<'_, '_>,
    key: &Key,
    node: &'b Node,
    backends: &'b Named<BackendName, Backend>,
) -> Vec<(&'b Arc<Backend>, &'b str)> {
    let Some(list) = node.get("backends") else { return Vec::new() };
    if list.entries().is_empty() {
        let fault = work.report.fault(key.span, format!("model `{}` has no backend", key.text));
        fault.label("served by nobody").hint("write `backends: {openai: gpt-4o}`");
    }
    let mut served = Vec::new();
    for (name, upstream) in list.entries() {
        let known = work.known("backends", "backend", &name.text, name.span);
        match upstream.text() {
            Some("") => {
                work.report
                    .fault(upstream.span, "an empty name")
                    .label("no name")
                    .hint("write what the backend calls the model");
            }
            Some(upstream) if known => served.extend(backends.get(name.text.as_str()).map(|found| (found, upstream))),
            Some(_) | None => {}
        }
    }
    served.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    served
}

/// The entry of the catalog that the operator's model is: as `catalog:` says, else by who serves it under which
/// name, else by the name that a self-hosted server has for it, else by the operator's own name.
fn recognise(work: &mut Work<'_, '_>, own: &str, node: &Node, served: &[(&Arc<Backend>, &str)]) -> Option<ModelName> {
    let catalog = work.catalog;
    if let Some(place) = node.get("catalog") {
        let name = place.text()?;
        if let Some((known, _)) = catalog.models.get_key_value(name) {
            return Some(known.clone());
        }
        let names = catalog.models.keys().map(ModelName::as_str);
        let fault = work.report.fault(place.span, format!("no model `{name}` in the catalog"));
        fault.label("not an entry").hint(close::hint(name, names, "leave `catalog` out for a model of your own"));
        return None;
    }
    let vendor = served.iter().find_map(|(backend, upstream)| catalog.recognise(backend.provider, upstream, own));
    let self_hosted =
        |backend: &Backend| provider::by_name(backend.provider).is_some_and(|dialect| dialect.self_hosted());
    let anywhere = || {
        let mut own_servers = served.iter().filter(|(backend, _)| self_hosted(backend));
        own_servers.find_map(|(_, upstream)| catalog.recognise_anywhere(upstream))
    };
    let by_name = || catalog.models.get_key_value(own).map(|(name, _)| name);
    vendor.or_else(anywhere).or_else(by_name).cloned()
}

fn model(work: &mut Work<'_, '_>, name: &str, node: &Node, entry: Option<ModelName>) -> Model {
    let fences = fences::around(work, &Owner::Model(name.into()), node);
    let facts = entry.as_ref().and_then(|name| work.catalog.models.get(name));
    let count = |key: &str, known: Option<u64>| node.read(key, units::count).or(known).unwrap_or(0);
    let thinking = node.word("thinking").and_then(amounts::thinking);
    let tokenizer = node.word("tokenizer").and_then(Tokenizer::parse);
    let output = node.read("expected_output", units::count).or(facts.map(|facts| facts.expected_output));
    Model {
        name: ModelName::from(name),
        context: count("context", facts.map(|facts| facts.context)),
        max_output: count("max_output", facts.map(|facts| facts.max_output)),
        abilities: node.get("abilities").map(amounts::abilities).or(facts.and_then(|facts| facts.abilities)),
        thinking: thinking.or(facts.map(|facts| facts.thinking)).unwrap_or_default(),
        tokenizer: tokenizer.or(facts.map(|facts| facts.tokenizer)).unwrap_or_default(),
        prior: node.get("speed").map(catalog::speed).or(facts.map(|facts| facts.prior)).unwrap_or_default(),
        expected_output: output.unwrap_or(catalog::EXPECTED_OUTPUT),
        catalog: entry,
        fences,
    }
}

fn candidate(
    work: &Work<'_, '_>,
    id: CandidateId,
    model: &Arc<Model>,
    backend: &Arc<Backend>,
    upstream: &str,
    own: &Own,
) -> Candidate {
    let entry = model.catalog.as_ref();
    // Own servers have no price in the catalog but what their rent comes to.
    let known = match backend.rent.and_then(|rent| rent.row()) {
        Some(row) => vec![Arc::new(row)],
        None => catalog_prices(work.catalog, backend, upstream),
    };
    Candidate {
        id,
        model: Arc::clone(model),
        backend: Arc::clone(backend),
        upstream: Arc::from(upstream),
        prices: rows::merge(&own.rows(&backend.name, upstream), &known),
        served: entry.map(|entry| work.catalog.served(backend.provider, upstream, entry)).unwrap_or_default(),
    }
}

/// The catalog's rows for a pair, at the vendor's usual site where the backend names none.
pub fn catalog_prices(catalog: &catalog::Catalog, backend: &Backend, upstream: &str) -> Vec<Arc<PriceRow>> {
    let usual = provider::by_name(backend.provider).and_then(|dialect| dialect.regions().first().copied());
    let region = backend.region.as_deref().or(usual).unwrap_or("intl");
    catalog.prices_of(backend.provider, Some(region), upstream)
}
