//! What an answer in prose says: the letter of a choice, or a number.
//!
//! A choice is read by the first of these rules that gives a letter: the first letter behind the last `answer` (or
//! `correct option` and its like); the last letter that is said to be right; a letter at the beginning; the last that
//! stands alone, capitals before small ones. A small letter counts only where it cannot be a word: within marks, before a
//! bracket, behind `answer is`, or alone.

use super::grade::PLACES;
use crate::config;

/// Words behind which an answer's letter stands.
const BEFORE: [&str; 5] = ["answer", "correct option", "correct choice", "right option", "right choice"];
/// What is said of a letter that is right.
const RIGHT: [&str; 4] = ["is right", "is correct", "is the right", "is the correct"];

/// The letter that an answer names.
pub fn chosen(answer: &str, of: u32) -> Option<char> {
    let index = |letter: char| u32::from(letter.to_ascii_uppercase()) - u32::from('A');
    let letters: Vec<(usize, char)> = alone(answer).filter(|(_, letter)| index(*letter) < of).collect();
    let lower = answer.to_ascii_lowercase();
    let said = BEFORE.iter().filter_map(|word| lower.rfind(word)).max();
    let behind = said.and_then(|at| letters.iter().find(|(place, _)| *place > at));
    let right = letters.iter().rfind(|(place, letter)| called_right(&answer[place + letter.len_utf8()..]));
    let first = letters.first().filter(|(place, _)| answer[..*place].chars().all(|letter| !letter.is_alphanumeric()));
    let capital = letters.iter().rfind(|(_, letter)| letter.is_ascii_uppercase());
    let found = behind.or(right).or(first).or(capital).or(letters.last());
    found.map(|(_, letter)| letter.to_ascii_uppercase())
}

/// Whether what follows a letter says that it is right.
fn called_right(rest: &str) -> bool {
    let rest = rest.trim_start_matches([')', ']', '*', '"', '`', '\'', '.', ' ']);
    let ends = |word: &&str| {
        rest.strip_prefix(*word)
            .is_some_and(|after| after.chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '?'))
    };
    RIGHT.iter().any(ends)
}

/// Letters that are words of their own; `A` and `I` inside a sentence are English.
fn alone(text: &str) -> impl Iterator<Item = (usize, char)> {
    text.char_indices().filter(move |(at, letter)| {
        let (before, rest) = (&text[..*at], &text[at + letter.len_utf8()..]);
        let mut after = rest.chars();
        let (next, then) = (after.next(), after.next());
        // `it's` is one word, `'B'` a letter in quotes.
        let joined = |near: Option<char>, far: Option<char>| {
            let word = |letter: char| letter.is_alphanumeric();
            near.is_some_and(|near| word(near) || matches!(near, '\'' | '’') && far.is_some_and(word))
        };
        let mut back = before.chars().rev();
        if !letter.is_ascii_alphabetic() || joined(back.next(), back.next()) || joined(next, then) {
            return false;
        }
        if letter.is_ascii_lowercase() {
            return named(before, rest);
        }
        let sentence = matches!(letter, 'A' | 'I') && next == Some(' ') && then.is_some_and(char::is_lowercase);
        !sentence || called_right(rest)
    })
}

/// Whether a small letter between these is no word.
fn named(before: &str, rest: &str) -> bool {
    let (last, next) = (before.chars().next_back(), rest.chars().next());
    let word = |letter: char| letter.is_alphanumeric();
    let marked = last.is_some_and(|last| "*_`\"'".contains(last)) && last == next;
    let behind = before.trim_end_matches([' ', ':', '*', '(']);
    let ends = |words: &str| {
        let tail = behind.len().checked_sub(words.len()).and_then(|at| behind.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(words))
    };
    let said = (ends("answer is") || ends("answer")) && next.is_none_or(|next| next != ' ' && !word(next));
    marked || said || matches!(next, Some(')' | ']')) || !(before.contains(word) || rest.contains(word))
}

/// The last number behind the word `answer`, else of the whole text, in 10⁻⁹, with its text: `1,234.5`, `-3`, `25 %`,
/// `.5`, `1.5e3`.
pub fn last_number(answer: &str) -> Option<(i128, String)> {
    let lower = answer.to_ascii_lowercase();
    let from = lower
        .rfind("answer")
        .filter(|at| answer.get(*at..).is_some_and(|rest| rest.contains(|letter: char| letter.is_ascii_digit())));
    let text = answer.get(from.unwrap_or(0)..)?;
    let mut found = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let digit = at;
        while at < bytes.len()
            && (bytes[at].is_ascii_digit()
                || (matches!(bytes[at], b'.' | b',') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
        {
            at += 1;
        }
        let word = |letter: char| letter.is_alphanumeric();
        // `.5` without its zero, but not the 5 of `v.5` or of `...5`.
        let bare = text[..digit].strip_suffix('.').filter(|before| !before.ends_with(|c: char| word(c) || c == '.'));
        let start = bare.map_or(digit, str::len);
        let negative =
            text[..start].ends_with(['-', '−']) && !text[..start].trim_end_matches(['-', '−']).ends_with(word);
        let digits: String = text[digit..at].chars().filter(|letter| *letter != ',').collect();
        let digits = if bare.is_some() { format!("0.{digits}") } else { digits };
        let (power, length) = exponent(&text[at..]).unwrap_or((0, 0));
        at += length;
        let shown = format!("{}{}", if negative { "-" } else { "" }, shifted(&digits, power));
        if let Ok(value) = config::decimal(&shown, PLACES) {
            found = Some((value, shown));
        }
    }
    found
}

/// The exponent at the beginning of a text, `e3` or `E-06`, with its length in bytes. Beyond 10^±30 no question asks.
fn exponent(text: &str) -> Option<(i32, usize)> {
    let rest = text.strip_prefix(['e', 'E'])?;
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let ends = digits[end..].chars().next().is_none_or(|letter| !letter.is_alphanumeric());
    let power: i32 = digits[..end].parse::<i32>().ok().filter(|power| *power <= 30 && ends)?;
    Some((if rest.starts_with('-') { -power } else { power }, text.len() - digits[end..].len()))
}

/// Digits with a point or without times 10^`power`, as a plain decimal. More places than are compared are cut off.
fn shifted(digits: &str, power: i32) -> String {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let zeros = "0".repeat(usize::try_from(power.unsigned_abs()).unwrap_or(0));
    let (before, after) = if power < 0 { (zeros.as_str(), "") } else { ("", zeros.as_str()) };
    let all = format!("{before}{whole}{part}{after}");
    let (whole, part) = all.split_at(whole.len() + after.len());
    let part = part.get(..PLACES).unwrap_or(part);
    format!("{whole}{}{part}", if part.is_empty() { "" } else { "." })
}
