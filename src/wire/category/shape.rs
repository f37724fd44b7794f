//! The shape of a text: program lines, formulas, tables, lists of answers, numbers.

use memchr::{memchr_iter, memmem};

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

/// Marks that hardly stand in anything but a formula.
const FORMULA_MARKS: [&str; 12] =
    ["\\frac", "\\sqrt", "\\[", "\\(", "$$", "\\sum", "\\int", "\\le", "√", "∫", "∑", "≤"];

impl Shape {
    /// Counts what stands in `text`.
    pub(super) fn read(&mut self, text: &str) {
        self.bytes += text.len();
        self.fences += memmem::find_iter(text.as_bytes(), "```").count().min(8) as u32;
        for line in text.lines() {
            self.read_line(line);
        }
        if text.bytes().any(|byte| matches!(byte, b'\\' | b'$') || byte >= 0x80) {
            for mark in FORMULA_MARKS {
                self.formulas += memmem::find_iter(text.as_bytes(), mark).count().min(3) as u32;
            }
            self.formulas += (memchr_iter(b'$', text.as_bytes()).count().min(8) / 4) as u32;
        }
    }

    fn read_line(&mut self, line: &str) {
        let line = line.trim();
        let bytes = line.as_bytes();
        let Some((&first, &last)) = bytes.first().zip(bytes.last()) else { return };
        let ends_like_program = matches!(last, b';' | b'{' | b'}') || line.ends_with("):") || line.ends_with("):\\");
        if ends_like_program || PROGRAM_STARTS.iter().any(|start| line.starts_with(start)) {
            self.program_lines += 1;
        }
        let commas = memchr_iter(b',', bytes).take(4).count();
        let is_row = first == b'|' && last == b'|' || commas >= 2 && memmem::find(bytes, b", ").is_none();
        self.table_lines += u32::from(is_row && bytes.len() > 2);
        self.options += u32::from(is_option(bytes));
        self.questions += u32::from(last == b'?');
        let mut before = b' ';
        for &byte in bytes {
            self.numbers += u32::from(byte.is_ascii_digit() && !before.is_ascii_alphanumeric());
            before = byte;
        }
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

/// `A. …`, `A) …`, `(A) …`, with a letter up to J.
fn is_option(line: &[u8]) -> bool {
    matches!(
        line,
        [b'(', b'A'..=b'J' | b'a'..=b'j', b')', ..] | [b'A'..=b'J' | b'a'..=b'j', b'.' | b')', b' ', ..]
    )
}
