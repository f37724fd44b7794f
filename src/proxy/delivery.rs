//! What a request's course ends in: an answer, or a refusal once there is a hold to be settled.

use bytes::Bytes;

use super::{
    attempt::Given,
    code::Code,
    course::{Leg, standing},
    explain,
    head::Head,
    nobody::exhausted,
    race::Entrant,
    refusal::Refusal,
    relay::Relay,
    report,
    toll::{Bill, Outcome, Verdict},
};

/// What a request's course ends in.
pub enum Delivery {
    /// A whole answer; it is settled.
    Plain {
        /// Its headers.
        head: Head,
        /// Its body.
        body: Bytes,
    },
    /// A stream that has begun.
    Stream {
        /// Its headers.
        head: Head,
        /// The rest.
        relay: Box<Relay>,
    },
}

impl Leg {
    /// Somebody answers.
    pub(super) fn deliver(mut self, given: Given, entrant: Entrant) -> Delivery {
        let Entrant { ranked, account, cut, overtook, .. } = entrant;
        let reason = overtook.unwrap_or_else(|| self.decision.reason());
        let (ranked, account) = (&ranked, &*account);
        self.toll.won(ranked, account, &reason);
        let mut head = Head::new(&self.ask, &self.decision, ranked, account, reason, self.toll.attempts());
        head.standing = self.standing;
        match given {
            // What comes in parts has been read to its end by then.
            Given::Parts(opening, _) | Given::Stream(opening) => {
                self.toll.first_byte(200);
                Delivery::Stream { head, relay: Box::new(Relay::new(*opening, self.toll, cut)) }
            }
            Given::Plain(body) => {
                let (label, verdict, bill) = ("ok", Verdict::Served, Bill::Metered);
                self.toll.close(Outcome { label, status: 200, message: String::new(), verdict, bill });
                self.toll.hear_whole(&body);
                head.cost = Some(self.toll.charged());
                self.toll.first_byte(200);
                self.toll.settle("", "whole");
                head.standing.budget_left = standing(&self.gateway, &self.ask).budget_left;
                Delivery::Plain { head, body }
            }
        }
    }

    /// The upstream's own verdict on the request goes to the client as it is.
    pub(super) fn verdict(&mut self, verbatim: Option<(http::StatusCode, Bytes)>) -> Refusal {
        let mut refusal = self.in_vain();
        if verbatim.is_some() {
            refusal =
                Refusal { verbatim: verbatim.map(Box::new), ..Refusal::new(Code::InvalidRequest, refusal.message) };
        }
        self.end(refusal)
    }

    /// Nobody is left, or `why`.
    pub(super) fn give_up(&mut self, why: Option<Refusal>) -> Refusal {
        let refusal = why.unwrap_or_else(|| self.in_vain());
        self.end(refusal)
    }

    fn in_vain(&self) -> Refusal {
        match self.toll.tried() {
            [] => self.gateway.nobody(&self.decision),
            tried => exhausted(tried, &self.seen, self.context_length),
        }
    }

    fn end(&mut self, refusal: Refusal) -> Refusal {
        report::refusal(&self.gateway.metrics, &self.ask.caller.team.name, refusal.code.as_str());
        self.toll.first_byte(refusal.status().as_u16());
        let attempts = self.toll.attempts();
        self.toll.settle(refusal.code.as_str(), "failed");
        Refusal { attempts, ..refusal }.standing(self.standing).decided(
            self.decision.arm.as_ref().map(|arm| arm.shared()),
            explain::header(&self.ask, Some(&self.decision)),
        )
    }
}
