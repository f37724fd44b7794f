//! The amounts of the configuration, each with its unit: what is wanted in which place.

use super::super::{
    allowances,
    units::{self, Unfit},
};

/// The amounts of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `2.10 USD`, `8 CNY`.
    Money,
    /// `0.02 USD`.
    Usd,
    /// `500 USD`, `10M tokens`, `10k requests`; more than nothing, and below 2⁵³ of its smallest part.
    Quota,
    /// `400k/min`.
    Rate,
    /// `20 USD/day`.
    Spend,
    /// `header:NAME`, `body:NAME`.
    UserSource,
    /// `lease`, `closed`, `open(20 USD)`.
    StoreLoss,
    /// `p95`, `800ms`.
    Overdue,
    /// `30s`.
    Duration,
    /// `128k`.
    Tokens,
    /// A count from the first number to the second.
    Count(u64, u64),
    /// `32MiB`.
    Bytes,
    /// `95%`.
    Share,
    /// `+20%`.
    Excess,
    /// `2%`, `+2%`.
    ErrorBound,
    /// `70` or `70%`, as thousandths.
    Score,
    /// `0.5`.
    Number,
    /// `2`.
    Factor,
    /// `2`, as thousandths.
    Weight,
    /// An instant.
    Instant,
    /// A day.
    Day,
    /// `09:00-12:00`.
    Hours,
    /// `mon-fri`.
    Weekdays,
    /// `Europe/Berlin`.
    Zone,
    /// `127.0.0.1:8080`.
    Address,
    /// `10.0.0.2:53`: where a server of others is.
    Server,
}

impl Unit {
    /// What it is, for messages.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Money => "a price with its currency",
            Self::Usd => "an amount in USD",
            Self::Quota => "an amount of money, tokens or requests above zero",
            Self::Rate => "a rate such as `600/min`",
            Self::Spend => "an amount of money and a time",
            Self::UserSource => "a header or a field of the body",
            Self::Overdue => "`p95` or a length of time",
            Self::StoreLoss => "`lease`, `closed` or `open(AMOUNT)`",
            Self::Duration => "a length of time",
            Self::Tokens | Self::Count(..) => "a whole number",
            Self::Bytes => "a size with its unit",
            Self::Share => "a share in per cent",
            Self::Excess => "by how much more, in per cent",
            Self::ErrorBound => "a share, or how much beyond the control's",
            Self::Score | Self::Number => "a number",
            Self::Factor => "a factor above zero",
            Self::Weight => "a weight above zero",
            Self::Instant => "a date or an instant",
            Self::Day => "a day",
            Self::Hours => "two hours of the day",
            Self::Weekdays => "days of the week",
            Self::Zone => "a time zone",
            Self::Address | Self::Server => "an address with its port",
        }
    }

    /// A value that fits.
    pub fn example(self) -> &'static str {
        match self {
            Self::Money | Self::Usd | Self::Quota => "2.10 USD",
            Self::Rate => "400k/min",
            Self::Spend => "20 USD/day",
            Self::UserSource => "header:x-turnpike-user",
            Self::Overdue => "p95",
            Self::StoreLoss => "open(20 USD)",
            Self::Duration => "30s",
            Self::Tokens => "128k",
            Self::Count(..) => "20",
            Self::Bytes => "32MiB",
            Self::Share => "95%",
            Self::Excess => "+20%",
            Self::ErrorBound => "2%",
            Self::Score | Self::Number => "64.4",
            Self::Factor | Self::Weight => "0.5",
            Self::Instant => "2025-02-09T00:00+08:00",
            Self::Day => "2025-02-09",
            Self::Hours => "09:00-12:00",
            Self::Weekdays => "mon-fri",
            Self::Zone => "Europe/Berlin",
            Self::Address => "127.0.0.1:8080",
            Self::Server => "10.0.0.2:53",
        }
    }

    /// Whether `text` is such an amount.
    pub fn check(self, text: &str) -> Result<(), Unfit> {
        match self {
            Self::Money => units::money(text).map(drop),
            Self::Usd => units::usd(text).map(drop),
            Self::Quota => allowances::quota(text).map(drop),
            Self::Rate => allowances::rate(text).map(drop),
            Self::Spend => allowances::spend(text).map(drop),
            Self::UserSource => allowances::user_source(text).map(drop),
            Self::Overdue => allowances::overdue(text).map(drop),
            Self::StoreLoss => allowances::store_loss(text).map(drop),
            Self::Duration => units::some_duration(text).map(drop),
            Self::Tokens => units::count_in(text, &(1..=1_000_000_000)).map(drop),
            Self::Count(least, most) => units::count_in(text, &(least..=most)).map(drop),
            Self::Bytes => units::bytes(text).map(drop),
            Self::Share => units::share(text).map(drop),
            Self::Excess => units::excess(text).map(drop),
            Self::ErrorBound => units::error_bound(text).map(drop),
            Self::Score => units::thousandths(text).map(drop),
            Self::Number => units::number(text).map(drop),
            Self::Factor => units::factor(text).map(drop),
            Self::Weight => units::weight(text).map(drop),
            Self::Instant => units::instant(text).map(drop),
            Self::Day => units::day(text).map(drop),
            Self::Hours => units::hours(text).map(drop),
            Self::Weekdays => units::weekdays(text).map(drop),
            Self::Zone => units::zone(text).map(drop),
            Self::Address => units::address(text).map(drop),
            Self::Server => units::server(text).map(drop),
        }
    }
}
