//! What was asked and answered, collected where an operator keeps texts (`records: {content: …}`); else there is nothing
//! of this in a request's path but a `None`.

use bytes::Bytes;

use super::{Gateway, admit::Ask};
use crate::{telemetry::record::texts::Texts, wire::answer::Assembler};

/// The texts of one request as they come.
#[derive(Debug)]
pub struct Heard {
    most: usize,
    texts: Texts,
    stream: Assembler,
}

impl Heard {
    /// Begins with the prompt, if texts of that request may be kept.
    pub fn listen(gateway: &Gateway, ask: &Ask) -> Option<Box<Self>> {
        let most = gateway.records()?.content_bytes()?;
        if ask.trail.is_none() || !ask.caller.team.may_keep_texts() {
            return None;
        }
        let (prompt, prompt_cut) = Texts::begin(&ask.chat.body, most);
        let texts = Texts { prompt, prompt_cut, ..Texts::default() };
        Some(Box::new(Self { most, texts, stream: Assembler::default() }))
    }

    /// Takes in the data of one event, as long as there is room.
    pub fn event(&mut self, data: &Bytes) {
        if self.stream.size() <= self.most {
            self.stream.push(data);
        }
    }

    /// Takes in a whole answer.
    pub fn whole(&mut self, body: &Bytes) {
        (self.texts.answer, self.texts.answer_cut) = Texts::begin(body, self.most);
    }

    /// What there is of both.
    pub fn texts(self) -> Box<Texts> {
        let Self { most, mut texts, stream } = self;
        if let Some(answer) = stream.so_far() {
            let full = stream.size() > most;
            let (answer, cut) = Texts::begin(answer.as_bytes(), most);
            (texts.answer, texts.answer_cut) = (answer, cut || full);
        }
        Box::new(texts)
    }
}
