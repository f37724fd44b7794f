//! What gateways on one store tell each other of upstreams: a breaker that opened, an account that was parked or refused
//! for its load.
//!
//! A hint spares another gateway the failures from which this one learned. None is needed: who does not hear one learns by
//! itself, and what was learned from a hint ends as if it had been learned here (a probe after 10 s, the end of a parking).
//! What a hint brought about is never told on, so that two gateways cannot keep each other from a backend.

use std::{fmt::Write as _, time::Duration};

/// The longest text that is read.
const MAX_TEXT: usize = 64 << 10;
/// The most that is read of one gateway.
const MAX_HINTS: usize = 1_000;
/// The longest time that is believed.
const LONGEST: Duration = Duration::from_secs(3600);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint<'a> {
    /// The breaker of a candidate opened.
    Broken {
        /// The model.
        model: &'a str,
        /// The backend.
        backend: &'a str,
        /// For how long it stays open there.
        left: Duration,
        /// How long ago it opened.
        age: Duration,
    },
    /// An account was turned away or asked to wait.
    Parked {
        /// The backend.
        backend: &'a str,
        /// Its account.
        account: &'a str,
        /// For how long.
        left: Duration,
    },
    /// An account was refused for its load.
    Refused {
        /// The backend.
        backend: &'a str,
        /// Its account.
        account: &'a str,
        /// So often since the gateway's start.
        times: u64,
    },
}

/// The hints as a text, one a line.
pub fn write(hints: &[Hint<'_>]) -> String {
    let mut text = String::new();
    for hint in hints.iter().take(MAX_HINTS) {
        // Names have no blanks; writing to a String cannot fail.
        let _ = match hint {
            Hint::Broken { model, backend, left, age } => {
                writeln!(text, "broken {model} {backend} {} {}", left.as_millis(), age.as_millis())
            }
            Hint::Parked { backend, account, left } => {
                writeln!(text, "parked {backend} {account} {}", left.as_millis())
            }
            Hint::Refused { backend, account, times } => writeln!(text, "refused {backend} {account} {times}"),
        };
    }
    text
}

/// The hints of a text; what this version does not understand is passed over.
pub fn read(text: &str) -> impl Iterator<Item = Hint<'_>> {
    let text = if text.len() > MAX_TEXT { "" } else { text };
    text.lines().take(MAX_HINTS).filter_map(line)
}

fn line(line: &str) -> Option<Hint<'_>> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let time = |word: Option<&str>| Some(Duration::from_millis(word?.parse().ok()?).min(LONGEST));
    match next()? {
        "broken" => {
            let (model, backend) = (next()?, next()?);
            Some(Hint::Broken { model, backend, left: time(next())?, age: time(next())? })
        }
        "parked" => Some(Hint::Parked { backend: next()?, account: next()?, left: time(next())? }),
        "refused" => Some(Hint::Refused { backend: next()?, account: next()?, times: next()?.parse().ok()? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_passed_over() {
        let ms = Duration::from_millis;
        let hints = [
            Hint::Broken { model: "m", backend: "b", left: ms(9_000), age: ms(200) },
            Hint::Parked { backend: "b", account: "a", left: ms(5_000) },
            Hint::Refused { backend: "b", account: "a", times: 3 },
        ];
        let text = write(&hints) + "broken m b 5\nparked b a x\nnonsense\n\nrefused b\nparked b a 99999999999999\n";
        let read: Vec<Hint<'_>> = read(&text).collect();
        assert_eq!(read[..3], hints);
        assert_eq!(read[3..], [Hint::Parked { backend: "b", account: "a", left: LONGEST }]);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".{0,300}", lines in prop::collection::vec("(broken|parked|refused)( [a-z0-9]{0,22}){0,5}", 0..20)) {
            for hint in read(&text).chain(read(&lines.join("\n"))) {
                let again = write(&[hint]);
                prop_assert_eq!(read(&again).collect::<Vec<_>>(), vec![hint]);
            }
        }
    }
}
