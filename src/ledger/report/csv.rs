//! Comma-separated values as spreadsheets and vendors write them (RFC 4180), and decimals without floats.

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quote is opened and not closed.
    #[error("line {0}: a quote is not closed")]
    OpenQuote(usize),
}

/// One record, with the line that it begins on, from 1.
pub type Record = (usize, Vec<String>);

/// The records of `text`, empty lines left out. The separator is what the first line has more of: commas, semicolons
/// or tabs.
///
/// # Errors
/// [`CsvError`].
pub fn records(text: &str) -> Result<Vec<Record>, CsvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let head = text.lines().next().unwrap_or_default();
    let most = |separator: &char| (head.matches(*separator).count(), *separator == ',');
    let separator = [',', ';', '\t'].into_iter().max_by_key(most).unwrap_or(',');
    let mut records = Vec::new();
    let (mut record, mut field) = (Vec::new(), String::new());
    let (mut line, mut began, mut quoted) = (1, 1, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                keep(&mut records, began, std::mem::take(&mut record));
                line += 1;
                began = line;
            }
            '\r' if !quoted && letters.peek() == Some(&'\n') => {}
            letter if letter == separator && !quoted => record.push(std::mem::take(&mut field)),
            letter => {
                line += usize::from(letter == '\n');
                field.push(letter);
            }
        }
    }
    if quoted {
        return Err(CsvError::OpenQuote(began));
    }
    record.push(field);
    keep(&mut records, began, record);
    Ok(records)
}

fn keep(records: &mut Vec<Record>, line: usize, record: Vec<String>) {
    if record.iter().any(|field| !field.trim().is_empty()) {
        records.push((line, record));
    }
}

/// A field as it is written: in quotes where it must be.
pub fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// A decimal in billionths, rounded to the nearest: `0.000412`, `-1.44`, `1e-05`, `1,234.50`. `None` for anything else.
pub fn read_nano(text: &str) -> Option<i128> {
    let text = text.trim().replace(',', "");
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !plain(whole) || !plain(part) || digits.len() > 36 {
        return None;
    }
    let number: i128 = format!("{whole}{part}").parse().ok()?;
    let places = 9 + exponent - i32::try_from(part.len()).ok()?;
    let power = |places: i32| 10_i128.checked_pow(places.unsigned_abs());
    let nano = match (places >= 0, power(places)) {
        _ if number == 0 => 0,
        (true, power) => number.checked_mul(power?)?,
        (false, Some(power)) => super::divided(number, power),
        (false, None) => 0,
    };
    Some(if negative { -nano } else { nano })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_spreadsheets_write_them() {
        let text = "\u{feff}a,b\r\n\"x, y\",\"say \"\"hi\"\"\"\r\n\r\n\"two\nlines\",1\nlast,2";
        let fields: Vec<_> = records(text).unwrap();
        let line = |number, fields: [&str; 2]| (number, fields.map(str::to_owned).to_vec());
        assert_eq!(
            fields,
            [
                line(1, ["a", "b"]),
                line(2, ["x, y", "say \"hi\""]),
                line(4, ["two\nlines", "1"]),
                line(6, ["last", "2"])
            ]
        );
        assert_eq!(records("a\tb\n1\t2").unwrap()[1].1, ["1", "2"]);
        assert_eq!(records("a,b\n1,\"2"), Err(CsvError::OpenQuote(2)));
        assert_eq!(field("say \"hi\", twice"), "\"say \"\"hi\"\", twice\"");
    }

    #[test]
    fn decimals_are_read_without_floats() {
        for (text, nano) in [
            ("0.000412", 412_000),
            ("-1.44", -1_440_000_000),
            ("1e-05", 10_000),
            ("2.5E1", 25_000_000_000),
            ("0.8958740000000000", 895_874_000),
            ("0.0000000005", 1),
            ("1,234.50", 1_234_500_000_000),
            ("59200.0", 59_200_000_000_000),
            ("1e-99", 0),
            ("0", 0),
        ] {
            assert_eq!(read_nano(text), Some(nano), "{text}");
        }
        for text in ["", ".", "x", "1.2.3", "--1", "1e", "1e99"] {
            assert_eq!(read_nano(text), None, "{text}");
        }
    }
}
