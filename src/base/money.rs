//! Money: integers in nano-USD. No float reaches an amount.

use std::{
    fmt,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
};

/// Nano-dollars in one dollar.
pub const NANO: i64 = 1_000_000_000;

/// An amount in nano-USD (10⁻⁹ USD). The range of `i64` is ±9.2 billion USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that can be written.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount of so many nano-dollars.
    pub const fn from_nanousd(nanousd: i64) -> Self {
        Self(nanousd)
    }

    /// The amount in nano-dollars.
    pub const fn nanousd(self) -> i64 {
        self.0
    }

    /// An amount of nano-dollars held in a wider integer; amounts beyond the range stop at its end,
    /// so that a cost that "does not fit" becomes unaffordable rather than free.
    pub fn saturating_from(nanousd: i128) -> Self {
        Self(i64::try_from(nanousd).unwrap_or(if nanousd < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The sum, stopping at the end of the range.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, stopping at the end of the range.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Dollars as a plain decimal without trailing zeros: `0.000412`, `12.5`, `0`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nano(f, i128::from(self.0))
    }
}

/// Writes a number of billionths as a decimal. Every answer's head has two of them, so nothing is allocated.
pub fn write_nano(f: &mut fmt::Formatter<'_>, nano: i128) -> fmt::Result {
    let scale = i128::from(NANO).unsigned_abs();
    let (mut whole, part) = (nano.unsigned_abs() / scale, nano.unsigned_abs() % scale);
    // Filled from its end: the longest is a sign, 30 digits, a point and 9 digits.
    let mut text = [0_u8; 48];
    let mut at = text.len();
    let mut put = |byte: u8| {
        at -= 1;
        text[at] = byte;
    };
    let mut part = u64::try_from(part).unwrap_or(0);
    if part > 0 {
        let mut digits = 9;
        while part.is_multiple_of(10) {
            part /= 10;
            digits -= 1;
        }
        for _ in 0..digits {
            put(digit(part % 10));
            part /= 10;
        }
        put(b'.');
    }
    // Divisions of 128 bits are calls; only amounts beyond 18 billion whole units need them.
    while whole > u128::from(u64::MAX) {
        put(digit(u64::try_from(whole % 10).unwrap_or(0)));
        whole /= 10;
    }
    let mut whole = u64::try_from(whole).unwrap_or(0);
    loop {
        put(digit(whole % 10));
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if nano < 0 {
        put(b'-');
    }
    f.pad(str::from_utf8(&text[at..]).unwrap_or_default())
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}

/// An ISO 4217 currency code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency that all amounts are held in.
    pub const USD: Self = Self(*b"USD");

    /// Reads three upper-case letters; `None` for anything else.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An amount in a vendor's currency, in billionths of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Native {
    /// Billionths of the unit.
    pub nano: i128,
    /// The unit.
    pub currency: Currency,
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nano(f, self.nano)?;
        write!(f, " {}", self.currency)
    }
}

/// What one unit of a currency is worth, in nano-USD, from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// Nano-USD for one unit (0.1389 USD = 138,900,000).
    pub nanousd: i64,
    /// The first instant at which it holds.
    pub from: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_without_trailing_zeros() {
        let text = |nanousd| Money::from_nanousd(nanousd).to_string();
        assert_eq!(text(412_000), "0.000412");
        assert_eq!(text(12_500_000_000), "12.5");
        assert_eq!(text(0), "0");
        assert_eq!(text(-1), "-0.000000001");
        assert_eq!(text(i64::MIN), "-9223372036.854775808");
    }

    #[test]
    fn an_amount_beyond_the_range_stops_at_its_end() {
        assert_eq!(Money::saturating_from(i128::MAX), Money::MAX);
        assert_eq!(Money::MAX + Money::from_nanousd(1), Money::MAX);
    }
}
