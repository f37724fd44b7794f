//! The standard set of sample requests that a route is tried with: every category, short and long prompts, and what
//! narrows the choice. Sizes are plausible, not measured; they are fixed, so that two runs compare.

use crate::base::facts::{Category, Facts};

/// One sample request.
pub struct Sample {
    /// What it is, for tables.
    pub name: &'static str,
    /// Its facts.
    pub facts: Facts,
}

fn sample(name: &'static str, category: Category, input_tokens: u64) -> Sample {
    let facts = Facts {
        stream: true,
        input_tokens,
        estimated_tokens: input_tokens,
        body_bytes: input_tokens.saturating_mul(4),
        answers: 1,
        messages: 1,
        category,
        category_confident: true,
        ..Facts::default()
    };
    Sample { name, facts }
}

/// All of them.
pub fn all() -> Vec<Sample> {
    let mut samples = vec![
        sample("a short chat", Category::Chat, 120),
        sample("a long chat", Category::Chat, 6_000),
        sample("a function to write", Category::Code, 400),
        sample("a file to mend", Category::Code, 8_000),
        sample("a sum", Category::Math, 150),
        sample("a puzzle", Category::Reasoning, 300),
        sample("a question of fact", Category::Knowledge, 80),
        sample("a translation", Category::Language, 900),
        sample("strict instructions", Category::Instructions, 500),
        sample("a table to analyse", Category::Data, 3_000),
        sample("a book to read", Category::Knowledge, 90_000),
    ];
    let mut tools = sample("a call of tools", Category::Tools, 1_500);
    tools.facts.tools = 6;
    let mut json = sample("an answer in JSON", Category::Data, 700);
    json.facts.json = true;
    let mut image = sample("a picture", Category::Chat, 1_200);
    image.facts.images = 1;
    let mut thinking = sample("a proof, reasoned about", Category::Math, 400);
    thinking.facts.reasoning = Some(true);
    samples.extend([tools, json, image, thinking]);
    samples
}
