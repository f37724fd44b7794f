//! Facts as they are written, and back: numbers and the model's name, never a text.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::line::{is_default, is_one, one};
use crate::base::{
    catalog::Tokenizer,
    facts::{Category, Facts},
    tier::{Asked, Tier},
};

/// What was known of a request. What is absent is nothing, `false` or not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FactsLine {
    /// The `model` of the body: a route, a model or an alias.
    pub model: String,
    /// A stream was asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub stream: bool,
    /// Prompt tokens, counted with `counted_with`, else estimated.
    pub input_tokens: u64,
    /// The vocabulary of the count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_with: Option<Arc<str>>,
    /// Prompt tokens estimated from bytes.
    pub estimated_tokens: u64,
    /// Millionths of the prompt's bytes that are written beyond ASCII.
    #[serde(skip_serializing_if = "is_default")]
    pub other_script_ppm: u32,
    /// The upper bound of prompt tokens that needs no vocabulary.
    pub input_bound: u64,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The client's cap on the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// How many answers.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub answers: u64,
    /// Messages.
    pub messages: u64,
    /// Image parts.
    #[serde(skip_serializing_if = "is_default")]
    pub images: u64,
    /// Audio parts.
    #[serde(skip_serializing_if = "is_default")]
    pub audio: u64,
    /// Tools.
    #[serde(skip_serializing_if = "is_default")]
    pub tools: u64,
    /// A JSON answer is demanded.
    #[serde(skip_serializing_if = "is_default")]
    pub json: bool,
    /// Reasoning was asked for, or declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
    /// The tier of service that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// The kind of work.
    pub category: Arc<str>,
    /// The category was good enough to be used.
    #[serde(skip_serializing_if = "is_default")]
    pub category_confident: bool,
}

impl From<&Facts> for FactsLine {
    fn from(facts: &Facts) -> Self {
        let tier = match facts.tier {
            Asked::Unsaid => None,
            Asked::Auto => Some("auto".into()),
            Asked::Named(tier) => Some(tier.as_str().into()),
        };
        Self {
            model: facts.model.clone(),
            stream: facts.stream,
            input_tokens: facts.input_tokens,
            counted_with: facts.counted_with.map(|tokenizer| tokenizer.as_str().into()),
            estimated_tokens: facts.estimated_tokens,
            other_script_ppm: facts.other_script_ppm,
            input_bound: facts.input_bound,
            body_bytes: facts.body_bytes,
            max_output: facts.max_output,
            answers: facts.answers,
            messages: facts.messages,
            images: facts.images,
            audio: facts.audio,
            tools: facts.tools,
            json: facts.json,
            reasoning: facts.reasoning,
            tier,
            category: facts.category.as_str().into(),
            category_confident: facts.category_confident,
        }
    }
}

impl From<&FactsLine> for Facts {
    /// Words that this version does not know count as not said.
    fn from(line: &FactsLine) -> Self {
        let tier = match line.tier.as_deref() {
            None => Asked::Unsaid,
            Some("auto") => Asked::Auto,
            Some(word) => Asked::Named(Tier::parse(word)),
        };
        Self {
            model: line.model.clone(),
            stream: line.stream,
            input_tokens: line.input_tokens,
            counted_with: line.counted_with.as_deref().and_then(Tokenizer::parse),
            estimated_tokens: line.estimated_tokens,
            other_script_ppm: line.other_script_ppm,
            input_bound: line.input_bound,
            body_bytes: line.body_bytes,
            max_output: line.max_output,
            answers: line.answers,
            messages: line.messages,
            images: line.images,
            audio: line.audio,
            tools: line.tools,
            json: line.json,
            reasoning: line.reasoning,
            tier,
            category: Category::parse(&line.category).unwrap_or_default(),
            category_confident: line.category_confident,
        }
    }
}
