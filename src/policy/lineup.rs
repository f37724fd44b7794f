//! Who waits for a place, and who is called next: the most important class first, within a class the longest waiting.
//!
//! How many places there are is not known here. Whoever gives one back calls the next; who is called takes a place if one
//! is left and leaves, or waits on where it stood. Nobody who comes later passes those of its own class or a higher one.

use std::collections::VecDeque;

use crate::base::priority::Priority;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    class: Priority,
    number: u64,
}

/// The lines of all classes.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    // The first `called` of each line have been called.
    lines: [Line; 3],
    next: u64,
}

#[derive(Clone, Debug, Default)]
struct Line {
    waiting: VecDeque<u64>,
    called: Vec<u64>,
}

/// The longest line of one class: who would stand behind so many is told to come again.
const LONGEST: usize = 1_000;

impl Queue {
    /// Whether somebody of `class` who has just come may take a place: nobody of that class or above waits for one.
    pub fn may_pass(&self, class: Priority) -> bool {
        self.lines[class.index()..].iter().all(|line| line.waiting.is_empty() && line.called.is_empty())
    }

    /// Gets in line. The least important class does not wait, and no line is longer than a thousand.
    pub fn join(&mut self, class: Priority) -> Option<Ticket> {
        let line = &mut self.lines[class.index()];
        if class == Priority::Sheddable || line.waiting.len() + line.called.len() >= LONGEST {
            return None;
        }
        let number = self.next;
        self.next += 1;
        line.waiting.push_back(number);
        Some(Ticket { class, number })
    }

    /// Calls the next one: a place may be free.
    pub fn call(&mut self) -> Option<Ticket> {
        Priority::ALL.into_iter().rev().find_map(|class| {
            let line = &mut self.lines[class.index()];
            let number = line.waiting.pop_front()?;
            line.called.push(number);
            Some(Ticket { class, number })
        })
    }

    /// Who was called found no place left, and waits on where it stood.
    pub fn wait_on(&mut self, ticket: Ticket) {
        let line = &mut self.lines[ticket.class.index()];
        if let Some(at) = line.called.iter().position(|number| *number == ticket.number) {
            line.called.swap_remove(at);
            let place = line.waiting.partition_point(|number| *number < ticket.number);
            line.waiting.insert(place, ticket.number);
        }
    }

    /// Leaves the line, with a place or without. Whether it had been called: what it was called for may be the next one's.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let line = &mut self.lines[ticket.class.index()];
        if let Some(at) = line.called.iter().position(|number| *number == ticket.number) {
            line.called.swap_remove(at);
            return true;
        }
        line.waiting.retain(|number| *number != ticket.number);
        false
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len() + line.called.len()).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Priority::{Critical, Sheddable, Standard};

    #[test]
    fn the_most_important_is_called_first_and_then_who_waits_longest() {
        let mut queue = Queue::default();
        let joined: Vec<Ticket> =
            [Standard, Critical, Standard, Critical].into_iter().map(|class| queue.join(class).unwrap()).collect();
        let called: Vec<Ticket> = std::iter::from_fn(|| queue.call()).collect();
        assert_eq!(called, [joined[1], joined[3], joined[0], joined[2]]);
        assert!(!queue.may_pass(Critical) && queue.len() == 4, "they have no place yet");
        assert!(called.into_iter().all(|ticket| queue.leave(ticket)) && queue.is_empty());
    }

    #[test]
    fn nobody_passes_its_own_class_and_a_higher_one_passes_a_lower() {
        let mut queue = Queue::default();
        assert!(Priority::ALL.into_iter().all(|class| queue.may_pass(class)));
        let ticket = queue.join(Standard).unwrap();
        assert_eq!(Priority::ALL.map(|class| queue.may_pass(class)), [false, false, true]);
        queue.call();
        assert_eq!(Priority::ALL.map(|class| queue.may_pass(class)), [false, false, true]);
        assert!(queue.leave(ticket) && !queue.leave(ticket));
    }

    #[test]
    fn who_finds_no_place_keeps_its_own() {
        let mut queue = Queue::default();
        let (first, second) = (queue.join(Standard).unwrap(), queue.join(Standard).unwrap());
        assert_eq!(queue.call(), Some(first));
        queue.wait_on(first);
        assert_eq!((queue.call(), queue.call(), queue.call()), (Some(first), Some(second), None));
    }

    #[test]
    fn a_line_has_an_end_and_the_least_important_have_none() {
        let mut queue = Queue::default();
        assert!(queue.join(Sheddable).is_none());
        assert!((0..LONGEST).all(|_| queue.join(Standard).is_some()));
        assert!(queue.join(Standard).is_none() && queue.join(Critical).is_some());
    }

    /// What may happen at a place that so many share.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Come(Priority),
        End(usize),
        GiveUp(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let class = prop::sample::select(Priority::ALL.to_vec());
        let step = prop_oneof![
            3 => class.prop_map(Step::Come),
            2 => any::<usize>().prop_map(Step::End),
            1 => any::<usize>().prop_map(Step::GiveUp),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        /// Places are never oversubscribed, none lies idle while somebody waits, and nobody waits behind a lesser one.
        #[test]
        fn a_place_goes_to_the_most_important_who_waits(steps in steps(), places in 1_usize..8) {
            let (mut queue, mut served, mut waiting) = (Queue::default(), Vec::new(), Vec::<Ticket>::new());
            for step in steps {
                match step {
                    Step::Come(class) if served.len() < places && queue.may_pass(class) => served.push(class),
                    Step::Come(class) => waiting.extend(queue.join(class)),
                    Step::End(at) if !served.is_empty() => {
                        served.swap_remove(at % served.len());
                        if let Some(ticket) = queue.call() {
                            let best = waiting.iter().map(|waiter| waiter.class).max();
                            prop_assert_eq!(Some(ticket.class), best);
                            let first = waiting.iter().filter(|waiter| waiter.class == ticket.class).map(|it| it.number);
                            prop_assert_eq!(Some(ticket.number), first.min());
                            prop_assert!(queue.leave(ticket));
                            waiting.retain(|waiter| *waiter != ticket);
                            served.push(ticket.class);
                        }
                    }
                    Step::GiveUp(at) if !waiting.is_empty() => {
                        prop_assert!(!queue.leave(waiting.swap_remove(at % waiting.len())));
                    }
                    Step::End(_) | Step::GiveUp(_) => {}
                }
                prop_assert!(served.len() <= places && queue.len() == waiting.len());
                prop_assert!(served.len() == places || waiting.is_empty());
            }
        }
    }
}
