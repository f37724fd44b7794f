//! The shape of a text: program lines, formulas, tables, lists of answers, numbers.

use memchr::{memchr, memchr_iter, memchr2, memmem};

use super::Points;
use crate::base::facts::Category;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Shape {
    fences: u32,
    /// Lines that look like a program's.
    program_lines: u32,
    /// Marks of formulas.
    formulas: u32,
    /// Lines of a table or of comma-separated values.
    table_lines: u32,
    /// Lines such as `A. …` or `(B) …`.
    options: u32,
    numbers: u32,
    questions: u32,
    bytes: usize,
}

/// Line beginnings of programs in the usual languages.
const PROGRAM_STARTS: [&str; 18] = [
    "def ", "class ", "import ", "from ", "#include", "fn ", "pub ", "let ", "const ", "var ", "func ", "return ",
    "assert ", "SELECT ", "public ", "@", "$ ", ">>> ",
];

/// The bytes that one of [`PROGRAM_STARTS`] begins with.
const STARTS_OF_STARTS: [bool; 256] = {
    let (mut starts, mut at) = ([false; 256], 0);
    while at < PROGRAM_STARTS.len() {
        starts[PROGRAM_STARTS[at].as_bytes()[0] as usize] = true;
        at += 1;
    }
    starts
};

/// Marks that hardly stand in anything but a formula.
const FORMULA_MARKS: [&str; 12] =
    ["\\frac", "\\sqrt", "\\[", "\\(", "$$", "\\sum", "\\int", "\\le", "√", "∫", "∑", "≤"];

impl Shape {
    /// Counts what stands in `text`, in which so many numbers were found.
    pub(super) fn read(&mut self, text: &str, numbers: u32) {
        let bytes = text.as_bytes();
        self.bytes += bytes.len();
        self.numbers += numbers;
        if memchr(b'`', bytes).is_some() {
            self.fences += memmem::find_iter(bytes, "```").count().min(8) as u32;
        }
        let mut begin = 0;
        for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
            self.read_line(bytes[begin..end].trim_ascii());
            begin = end + 1;
        }
        if !text.is_ascii() || memchr2(b'\\', b'$', bytes).is_some() {
            for mark in FORMULA_MARKS {
                self.formulas += memmem::find_iter(bytes, mark).count().min(3) as u32;
            }
            self.formulas += (memchr_iter(b'$', bytes).count().min(8) / 4) as u32;
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let Some((&first, &last)) = line.first().zip(line.last()) else { return };
        let ends_like_program = matches!(last, b';' | b'{' | b'}') || line.ends_with(b"):") || line.ends_with(b"):\\");
        let starts_like_program = || {
            STARTS_OF_STARTS[usize::from(first)]
                && PROGRAM_STARTS.iter().any(|start| line.starts_with(start.as_bytes()))
        };
        self.program_lines += u32::from(ends_like_program || starts_like_program());
        let is_row = first == b'|' && last == b'|' || is_separated(line);
        self.table_lines += u32::from(is_row && line.len() > 2);
        self.options += u32::from(is_option(line));
        self.questions += u32::from(last == b'?');
    }

    /// Turns the counts into points.
    pub(super) fn judge(&self, points: &mut Points) {
        let mut when = |holds: bool, category, worth| {
            if holds {
                points.add(category, worth);
            }
        };
        when(self.fences >= 2, Category::Code, 6);
        when(self.program_lines >= 2, Category::Code, 4);
        when(self.program_lines >= 6, Category::Code, 4);
        when(self.formulas >= 1, Category::Math, 4);
        when(self.formulas >= 3, Category::Math, 4);
        // Word problems are short and full of numbers; lists of answers have numbers of their own.
        let story = self.options == 0 && self.bytes < 1200 && self.program_lines == 0;
        when(story && self.numbers >= 2, Category::Math, 2);
        when(story && self.numbers >= 4, Category::Math, 2);
        when(self.table_lines >= 3, Category::Data, 6);
        when(self.options >= 3, Category::Knowledge, 5);
        when(self.bytes < 160 && self.questions > 0 && self.numbers < 2, Category::Knowledge, 2);
    }
}

/// Two commas or more and no space behind any: values, not prose.
fn is_separated(line: &[u8]) -> bool {
    let mut commas = memchr_iter(b',', line);
    commas.by_ref().nth(1).is_some() && memchr_iter(b',', line).all(|at| line.get(at + 1) != Some(&b' '))
}

/// `A. …`, `A) …`, `(A) …`, with a letter up to J.
fn is_option(line: &[u8]) -> bool {
    matches!(
        line,
        [b'(', b'A'..=b'J' | b'a'..=b'j', b')', ..] | [b'A'..=b'J' | b'a'..=b'j', b'.' | b')', b' ', ..]
    )
}
