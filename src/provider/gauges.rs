//! Prometheus' text format, as far as sums of a few gauges go.
//!
//! Names are compared whole: `vllm:num_requests_waiting` has siblings that begin with it. Values are read into
//! thousandths without floats; what is no number, is negative or infinite is passed over, like every line that breaks the
//! format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// The longest page that is read, in bytes; an engine's histograms make one of some hundred KB.
pub const MAX_PAGE: usize = 4 << 20;
/// No value counts as more, in thousandths: ten thousand million.
const MOST: u64 = 10_000_000_000_000;

/// One series of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    /// In thousandths.
    pub(super) milli: u64,
}

impl Series<'_> {
    /// The value of a label. Labels whose values hold quotes or backslashes are not looked at.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim().trim_matches('"'))
        })
    }
}

/// The series of a page, with a value that is a finite number from zero on.
pub(super) fn series(page: &[u8]) -> impl Iterator<Item = Series<'_>> {
    let page = &page[..page.len().min(MAX_PAGE)];
    page.split(|byte| *byte == b'\n').filter_map(|line| one(std::str::from_utf8(line).ok()?.trim()))
}

fn one(line: &str) -> Option<Series<'_>> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|letter: char| letter == '{' || letter.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        // A value of a label may hold a brace; the last one is the end.
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    let milli = milli(rest.split_ascii_whitespace().next()?)?;
    Some(Series { name, labels, milli })
}

/// A decimal number such as `3`, `0.28`, `8.1e+06`, in thousandths, rounded down.
pub(super) fn milli(text: &str) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 400)?),
        None => (text, 0),
    };
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && part.is_empty() || mantissa.len() > 400 {
        return None;
    }
    let mut digits: u128 = 0;
    // The place of the decimal point behind the digits that are kept.
    let mut scale = exponent + 3;
    for (place, digit) in whole.bytes().chain(part.bytes()).enumerate() {
        let digit = digit.is_ascii_digit().then(|| u128::from(digit - b'0'))?;
        let of_part = place >= whole.len();
        if digits < u128::from(u64::MAX) {
            digits = digits * 10 + digit;
            scale -= i32::from(of_part);
        } else {
            scale += i32::from(!of_part);
        }
    }
    let most = u128::from(MOST);
    while scale > 0 && digits > 0 && digits <= most {
        (digits, scale) = (digits * 10, scale - 1);
    }
    while scale < 0 && digits > 0 {
        (digits, scale) = (digits / 10, scale + 1);
    }
    u64::try_from(digits.min(most)).ok()
}

/// What a page says of some gauges.
#[derive(Debug)]
pub(super) struct Page<'a> {
    series: Vec<Series<'a>>,
}

impl<'a> Page<'a> {
    /// The series whose whole names are among these.
    pub(super) fn of(page: &'a [u8], names: &[&[&str]]) -> Self {
        let wanted = |series: &Series<'_>| names.iter().any(|names| names.contains(&series.name));
        Self { series: series(page).filter(wanted).collect() }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Series<'a>> {
        self.series.iter().filter(move |series| series.name == name)
    }

    /// The sum over all series of the first name that the page has, rounded down. `None` = it has none of them.
    pub(super) fn sum(&self, names: &[&str], counts: impl Fn(&Series<'a>) -> bool) -> Option<u64> {
        names.iter().find_map(|name| {
            let mut found = self.named(name).filter(|series| counts(series)).peekable();
            found.peek()?;
            Some(found.map(|series| series.milli).fold(0, u64::saturating_add) / 1_000)
        })
    }

    /// The largest share (`0` to `1`) of the first name that the page has, in parts per million.
    pub(super) fn most_ppm(&self, names: &[&str]) -> Option<u64> {
        let most = names.iter().find_map(|name| self.named(name).map(|series| series.milli).max())?;
        Some(most.saturating_mul(1_000).min(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_into_thousandths() {
        let cases = [
            ("0", 0),
            ("3", 3_000),
            ("3.0", 3_000),
            ("0.28", 280),
            (".5", 500),
            ("7.", 7_000),
            ("+2", 2_000),
            ("8.128902e+06", 8_128_902_000),
            ("1e3", 1_000_000),
            ("12345E-4", 1_234),
            ("0.0009", 0),
            ("1e-400", 0),
            ("1e400", MOST),
            ("99999999999999999999999999999999999999999999", MOST),
            ("0.000000000000000000000000000000000000000001", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for bad in ["", ".", "e3", "-1", "NaN", "+Inf", "1e", "1e999999", "0x10", "1,5", "1e1e1", "٣"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_whole_and_series_are_summed() {
        let page = b"# HELP vllm:num_requests_waiting Number of requests waiting.\n\
            # TYPE vllm:num_requests_waiting gauge\n\
            vllm:num_requests_waiting{engine=\"0\",model_name=\"a {b} c\"} 3.0\n\
            vllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 4.0 1700000000000\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 2\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"deferred\"} 5\n\
            vllm:num_requests_waiting{engine=\"2\"} NaN\n\
            plain 7\r\n\
            broken{a=\"b\" 3\n\
            \xff\xfe 3\n\
            share{engine=\"0\"} 0.25\n share{engine=\"1\"} 0.75\n";
        let names: &[&[&str]] =
            &[&["vllm:num_requests_waiting"], &["vllm:num_requests_waiting_by_reason"], &["plain"], &["share"]];
        let page = Page::of(page, names);
        let all = |_: &Series<'_>| true;
        assert_eq!(page.sum(&["vllm:num_requests_waiting"], all), Some(7));
        let capacity = |series: &Series<'_>| series.label("reason") == Some("capacity");
        assert_eq!(page.sum(&["vllm:num_requests_waiting_by_reason"], capacity), Some(2));
        assert_eq!(page.sum(&["new_name", "plain"], all), Some(7), "the first that is there");
        assert_eq!(page.sum(&["broken"], all), None);
        assert_eq!(page.most_ppm(&["share"]), Some(750_000));
    }

    #[test]
    fn no_page_breaks_it() {
        for page in [&b""[..], b"{", b"}", b"a{", b"a}{ 1", b"a {} 1", b"= = =", b"a{b} 1", b"\n\n\n", b"a{b=\"} 1"] {
            let page = Page::of(page, &[&["a"]]);
            let _ = (page.sum(&["a"], |series| series.label("b").is_none()), page.most_ppm(&["a"]));
        }
        let long = "a 1\n".repeat(2 << 20);
        assert_eq!(Page::of(long.as_bytes(), &[&["a"]]).sum(&["a"], |_| true), Some(MAX_PAGE as u64 / 4));
    }
}
