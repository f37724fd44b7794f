//! Splices: slices of the original body with small pieces between them.

use bytes::Bytes;

use super::{CapField, ChatRequest, Edits, History, Spliced, messages::Turn};
use crate::wire::json::{self, Member, Span};

/// The replacements collected for one candidate.
struct Patch<'b> {
    body: &'b Bytes,
    edits: Vec<(Span, Bytes)>,
    /// Members to be written behind the last one, each with a comma before it.
    appended: String,
}

impl Patch<'_> {
    fn replace(&mut self, span: Span, with: impl Into<Bytes>) {
        let with = with.into();
        if span.cut(self.body) != with {
            self.edits.push((span, with));
        }
    }

    fn insert(&mut self, at: u32, what: impl Into<Bytes>) {
        self.edits.push((Span { start: at, end: at }, what.into()));
    }

    fn append(&mut self, name: &str, value: &str) {
        for part in [",\"", name, "\":", value] {
            self.appended.push_str(part);
        }
    }

    /// Takes members out of the outermost object, in which others remain.
    fn remove(&mut self, first: Option<Member>, second: Option<Member>) {
        let (Some(mut first), Some(mut second)) = (first, second) else {
            for member in first.into_iter().chain(second) {
                self.replace(member.removal(self.body), Bytes::new());
            }
            return;
        };
        if second.key.start < first.key.start {
            std::mem::swap(&mut first, &mut second);
        }
        let (before, after) = (first.removal(self.body), second.removal(self.body));
        if before.end == second.key.start && second.is_last(self.body) {
            // Both are at the end: the comma that goes is the one before the first.
            let whole = Span { start: first.end_before(self.body), end: after.end };
            self.replace(whole, Bytes::new());
        } else {
            self.replace(before, Bytes::new());
            self.replace(after, Bytes::new());
        }
    }

    fn finish(mut self) -> Spliced {
        if !self.appended.is_empty() {
            let length = self.body.len() as u32;
            let brace = json::skip_space_back(self.body, length).saturating_sub(1);
            let end = json::skip_space_back(self.body, brace);
            let members = std::mem::take(&mut self.appended);
            self.insert(end, members);
        }
        if self.edits.is_empty() {
            return Spliced { pieces: vec![self.body.clone()] };
        }
        self.edits.sort_by_key(|(span, _)| span.start);
        let mut pieces = Vec::with_capacity(2 * self.edits.len() + 1);
        let mut done = 0;
        for (span, with) in self.edits {
            let start = span.start as usize;
            if done < start {
                pieces.push(self.body.slice(done..start));
            }
            if !with.is_empty() {
                pieces.push(with);
            }
            done = span.end as usize;
        }
        if done < self.body.len() {
            pieces.push(self.body.slice(done..));
        }
        Spliced { pieces }
    }
}

impl ChatRequest {
    /// The body for one candidate. A body that needs no edit comes back as the one piece that it is; a client's
    /// `stream_options` goes where the answer is not streamed, as OpenAI answers 400 to the two together.
    pub fn splice(&self, edits: &Edits<'_>) -> Spliced {
        let mut patch = Patch { body: &self.body, edits: Vec::with_capacity(4), appended: String::new() };
        if self.facts.model != edits.model {
            patch.replace(self.places.model, json::quote(edits.model));
        }
        let other_cap = self.write_cap(&mut patch, edits.cap);
        let stream = edits.stream.unwrap_or(self.facts.stream);
        if stream != self.facts.stream {
            let value = if stream { "true" } else { "false" };
            match self.places.stream {
                Some(member) => patch.replace(member.value, value),
                None => patch.append("stream", value),
            }
        }
        let options = self.places.stream_options.filter(|options| options.value.cut(&self.body) != b"null");
        if stream && edits.include_usage {
            self.write_include_usage(&mut patch);
        }
        patch.remove(other_cap, options.filter(|_| !stream));
        for turn in &self.places.talk.turns {
            write_turn(&mut patch, turn, edits.history);
        }
        patch.finish()
    }

    /// Writes the cap and returns the other cap's member, if it has to go.
    fn write_cap(&self, patch: &mut Patch<'_>, cap: Option<(CapField, u64)>) -> Option<Member> {
        let (field, tokens) = cap?;
        let tokens = tokens.to_string();
        let (same, other) = match field {
            CapField::MaxTokens => (self.places.max_tokens, self.places.max_completion_tokens),
            CapField::MaxCompletionTokens => (self.places.max_completion_tokens, self.places.max_tokens),
        };
        match (same, other) {
            (Some(member), other) => {
                patch.replace(member.value, tokens);
                return other;
            }
            (None, Some(member)) => {
                patch.replace(member.key, json::quote(field.as_str()));
                patch.replace(member.value, tokens);
            }
            (None, None) => patch.append(field.as_str(), &tokens),
        }
        None
    }

    fn write_include_usage(&self, patch: &mut Patch<'_>) {
        let Some(options) = self.places.stream_options else {
            return patch.append("stream_options", r#"{"include_usage":true}"#);
        };
        if let Some(value) = self.places.include_usage {
            return patch.replace(value, "true");
        }
        if options.value.cut(&self.body) == b"null" {
            return patch.replace(options.value, r#"{"include_usage":true}"#);
        }
        let end = json::skip_space_back(&self.body, options.value.end - 1);
        let empty = end > 0 && self.body.get(end as usize - 1) == Some(&b'{');
        patch.insert(end, if empty { r#""include_usage":true"# } else { r#","include_usage":true"# });
    }
}

fn write_turn(patch: &mut Patch<'_>, turn: &Turn, history: History) {
    match (history, turn.reasoning) {
        (History::Drop, Some(member)) => {
            let span = member.removal(patch.body);
            patch.replace(span, Bytes::new());
        }
        (History::Fill, None) if turn.calls_tools => patch.insert(turn.start, r#""reasoning_content":"","#),
        (History::Fill, Some(member)) if turn.calls_tools && member.value.cut(patch.body) == b"null" => {
            patch.replace(member.value, "\"\"");
        }
        (History::Keep | History::Drop | History::Fill, _) => {}
    }
}
