//! A LiteLLM proxy's configuration as policies (docs.litellm.ai/docs/proxy/configs, as of October 2026).

use std::collections::BTreeSet;

use super::{
    Imported, Text, Work, deployments, people, settings,
    write::{self, section},
};
use crate::config::{Faults, tree::Node};

/// Reads `config` and the exports of teams and keys beside it.
///
/// # Errors
/// A file that is no YAML or JSON, or no configuration of LiteLLM's.
pub fn litellm(config: Text, exports: Vec<Text>) -> Result<Imported, Faults> {
    let mut work = Work::new();
    let source = config.0.display().to_string();
    let (file, _) = (0_u32, ());
    let root = work.read(config).unwrap_or_else(|| Node::empty(file));
    let exports: Vec<Node> = exports.into_iter().filter_map(|text| work.read(text)).collect();
    let list = root.get("model_list").filter(|list| !list.items().is_empty());
    let Some(list) = list.filter(|_| !work.report.has_faults()) else {
        if !work.report.has_faults() {
            let fault = work.report.fault(root.span, "no `model_list`");
            fault.label("not a configuration of LiteLLM's proxy").hint("name the file that `litellm --config` reads");
        }
        return Err(work.report.into_faults());
    };
    let models = deployments::read(&mut work, list);
    let settings = settings::read(&mut work, &root, &models);
    let names: BTreeSet<String> = models.models.keys().cloned().chain(settings.names.iter().cloned()).collect();
    let people = people::read(&mut work, &root, &exports, &names);
    let backends: Vec<String> = models.backends.iter().map(|backend| backend.line.clone()).collect();
    let model_lines: Vec<String> = models
        .models
        .iter()
        .map(|(name, model)| {
            let served: Vec<(String, String)> =
                model.served.iter().map(|(backend, upstream)| (backend.clone(), write::scalar(upstream))).collect();
            let mut fields = vec![("backends".to_owned(), write::map(&served))];
            fields.extend(model.rest.iter().cloned());
            format!("{}: {}    # {}", write::scalar(name), write::map(&fields), model.place)
        })
        .collect();
    let prices: Vec<String> = models.prices.values().map(|(_, line)| line.clone()).collect();
    let mut text = format!(
        "# Made by `turnpike import litellm` from {source}; the comment behind each line says where it came from.\n\
         # Keys are read from the environment; a backend whose key is not set is off.\n"
    );
    for (name, lines) in [
        ("backends", &backends),
        ("models", &model_lines),
        ("aliases", &settings.aliases),
        ("prices", &prices),
        ("routes", &settings.routes),
        ("teams", &people.teams),
        ("keys", &people.keys),
    ] {
        text.push_str(&section(name, lines));
    }
    let counts = [
        ("backend", backends.len()),
        ("model", model_lines.len()),
        ("price", prices.len()),
        ("route", settings.routes.len()),
        ("team", people.teams.len()),
        ("key", people.keys.len()),
    ];
    Ok(Imported { policies: text, notes: work.finish()?, counts })
}
