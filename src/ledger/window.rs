//! Calendar windows: which stretch of time a budget's spend belongs to.

use jiff::{Timestamp, ToSpan, Unit, civil, tz::TimeZone};

use crate::base::{fences::Fence, tenants::Period};

/// One stretch of a budget's calendar, from its first instant to the first after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Window {
    /// All of time: the window of what is counted while it is under way.
    pub const ALWAYS: Self = Self { start: Timestamp::UNIX_EPOCH, end: Timestamp::MAX };

    /// The window that a fence counts in at `at`.
    pub fn of(fence: &Fence, at: Timestamp) -> Self {
        fence.per.map_or(Self::ALWAYS, |per| Self::containing(at, per, &fence.zone))
    }

    /// The window of `period` in `zone` that contains `at`. A clock change makes a window longer or shorter, never
    /// twice or missing. At the ends of the calendar the window is all of time.
    pub fn containing(at: Timestamp, period: Period, zone: &TimeZone) -> Self {
        Self::on_calendar(at, period, zone).unwrap_or(Self::ALWAYS)
    }

    fn on_calendar(at: Timestamp, period: Period, zone: &TimeZone) -> Option<Self> {
        let local = at.to_zoned(zone.clone());
        let (start, end) = match period {
            // Zones differ from UTC by whole minutes, so minutes and hours are cut on the zoned clock itself:
            // the hour that a clock change repeats is then two windows, not one.
            Period::Minute | Period::Hour => {
                let unit = if period == Period::Minute { Unit::Minute } else { Unit::Hour };
                let start = local.round(jiff::ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc)).ok()?;
                let length = if period == Period::Minute { 1.minute() } else { 1.hour() };
                let end = start.checked_add(length).ok()?;
                return Some(Self { start: start.timestamp(), end: end.timestamp() });
            }
            Period::Day => (local.date(), local.date().tomorrow().ok()?),
            Period::Week => {
                let back = i64::from(local.date().weekday().to_monday_zero_offset());
                let monday = local.date().checked_sub(back.days()).ok()?;
                (monday, monday.checked_add(7.days()).ok()?)
            }
            Period::Month => {
                let first = local.date().first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        let instant = |day: civil::Date| Some(day.to_zoned(zone.clone()).ok()?.timestamp());
        Some(Self { start: instant(start)?, end: instant(end)? })
    }

    /// How much of the window has gone by at `at`, in parts per million; at least 1.
    pub fn elapsed_ppm(&self, at: Timestamp) -> u64 {
        let (start, end) = (i128::from(self.start.as_second()), i128::from(self.end.as_second()));
        let gone = i128::from(at.as_second()) - start;
        let share = gone.clamp(0, end - start) * 1_000_000 / (end - start).max(1);
        u64::try_from(share).unwrap_or(0).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(at: &str, period: Period, zone: &str) -> (String, String) {
        let window = Window::containing(at.parse().unwrap(), period, &TimeZone::get(zone).unwrap());
        (window.start.to_string(), window.end.to_string())
    }

    #[test]
    fn windows_are_cut_in_the_budgets_own_zone() {
        let berlin = "Europe/Berlin";
        assert_eq!(
            window("2026-11-30T23:30:00Z", Period::Month, berlin),
            ("2026-11-30T23:00:00Z".into(), "2026-12-31T23:00:00Z".into())
        );
        assert_eq!(
            window("2026-11-23T00:00:00Z", Period::Day, berlin),
            ("2026-11-22T23:00:00Z".into(), "2026-11-23T23:00:00Z".into())
        );
        assert_eq!(
            window("2026-11-23T12:00:00Z", Period::Week, "UTC"),
            ("2026-11-23T00:00:00Z".into(), "2026-11-30T00:00:00Z".into())
        );
        assert_eq!(
            window("2026-11-23T12:34:56Z", Period::Minute, "UTC"),
            ("2026-11-23T12:34:00Z".into(), "2026-11-23T12:35:00Z".into())
        );
    }

    #[test]
    fn a_day_with_a_clock_change_is_one_window_of_its_true_length() {
        assert_eq!(
            window("2026-03-29T12:00:00Z", Period::Day, "Europe/Berlin"),
            ("2026-03-28T23:00:00Z".into(), "2026-03-29T22:00:00Z".into())
        );
        assert_eq!(
            window("2026-10-25T12:00:00Z", Period::Day, "Europe/Berlin"),
            ("2026-10-24T22:00:00Z".into(), "2026-10-25T23:00:00Z".into())
        );
    }

    #[test]
    fn the_elapsed_share_runs_from_one_to_a_million() {
        let day = Window::containing("2026-11-23T00:00:00Z".parse().unwrap(), Period::Day, &TimeZone::UTC);
        assert_eq!(day.elapsed_ppm(day.start), 1);
        assert_eq!(day.elapsed_ppm("2026-11-23T12:00:00Z".parse().unwrap()), 500_000);
        assert_eq!(day.elapsed_ppm(day.end), 1_000_000);
    }
}
