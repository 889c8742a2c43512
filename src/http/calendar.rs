//! Days, weeks and months as people have them, in a time zone: a day has 23 to 25 hours, and a week begins on Monday.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// The columns of a graph by the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Every {
    Day,
    Week,
    Month,
}

impl Every {
    const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|every| every.word() == word)
    }

    /// The first day of the one in which a day lies.
    fn first_day(self, day: Date) -> Option<Date> {
        match self {
            Self::Day => Some(day),
            Self::Week => day.checked_sub(i64::from(day.weekday().since(Weekday::Monday)).days()).ok(),
            Self::Month => Some(day.first_of_month()),
        }
    }

    fn next(self, day: Date) -> Option<Date> {
        let span = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
        };
        day.checked_add(span).ok()
    }

    /// The edges of those that have a part of a span: the first one's start, and the end of each. `None` where there are more than
    /// `most`, or the span lies beyond the calendar.
    pub(super) fn edges(self, (from_ms, to_ms): (i64, i64), zone: &TimeZone, most: u32) -> Option<Vec<i64>> {
        let start = |day: Date| Some(day.to_zoned_datetime(zone.clone()).ok()?.timestamp().as_millisecond());
        let mut day =
            self.first_day(Timestamp::from_millisecond(from_ms).ok()?.to_zoned_datetime(zone.clone()).date())?;
        let mut edges = vec![start(day)?];
        while edges.last().is_some_and(|end| *end < to_ms) {
            if edges.len() > usize::try_from(most).ok()? {
                return None;
            }
            day = self.next(day)?;
            edges.push(start(day)?);
        }
        Some(edges)
    }
}

/// A time zone by its name in IANA's list, as `Europe/Berlin`.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn hours(every: Every, zone_name: &str, from: &str, to: &str) -> Vec<i64> {
        let edges = every.edges((ms(from), ms(to)), &zone(zone_name).unwrap(), 100).unwrap();
        edges.windows(2).map(|pair| (pair[1] - pair[0]) / HOUR_MS).collect()
    }

    /// Sentence 9.
    #[test]
    fn a_day_has_as_many_hours_as_its_zone_gives_it() {
        let of = |from, to| hours(Every::Day, "Europe/Berlin", from, to);
        assert_eq!(of("2025-10-25T00:00:00Z", "2025-10-27T12:00:00Z"), [24, 25, 24]);
        assert_eq!(of("2026-03-28T10:00:00Z", "2026-03-30T10:00:00Z"), [24, 23, 24]);
        assert_eq!(of("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), [23]);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let zone = zone("Asia/Kolkata").unwrap();
        let span = (ms("2026-02-11T00:00:00Z"), ms("2026-02-20T00:00:00Z"));
        let at = |text: &str| ms(text) - HOUR_MS * 11 / 2;
        let weeks = ["2026-02-09T00:00:00Z", "2026-02-16T00:00:00Z", "2026-02-23T00:00:00Z"].map(at);
        assert_eq!(Every::Week.edges(span, &zone, 9).unwrap(), weeks);
        let months = ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"].map(at);
        assert_eq!(Every::Month.edges(span, &zone, 9).unwrap(), months);
    }

    #[test]
    fn more_than_was_allowed_are_none_and_so_is_what_lies_beyond_the_calendar() {
        let zone = zone("UTC").unwrap();
        assert_eq!(Every::Day.edges((0, 10 * 24 * HOUR_MS), &zone, 10).map(|edges| edges.len()), Some(11));
        assert_eq!(Every::Day.edges((0, 10 * 24 * HOUR_MS + 1), &zone, 10), None);
        assert_eq!(Every::Day.edges((i64::MAX - 1, i64::MAX), &zone, 10), None);
        assert!(super::zone("Europe/Nowhere").is_none());
    }
}
