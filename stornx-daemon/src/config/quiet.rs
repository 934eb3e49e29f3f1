//! `MOVE_QUIET_HOURS`: when no move begins, as cron expressions. A minute is quiet when one
//! of them matches it: `* 8-17 * * MON-FRI` is every minute of the working hours. In UTC,
//! as the schedule of cycles is.

use jiff::{RoundMode, Timestamp as Instant, Unit, Zoned, ZonedRound, tz::TimeZone};

use super::values::{self, SettingValue};

/// The minutes in which no move begins; none unless it is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QuietHours(Vec<String>);

impl QuietHours {
    /// Whether an instant lies in one of them.
    pub(crate) fn contain(&self, now: Instant) -> bool {
        let minute = start_of_minute(now.to_zoned(TimeZone::UTC));
        self.0
            .iter()
            .filter_map(|text| values::parse_cron(text))
            .any(|cron| cron.is_time_matching(&minute).unwrap_or(false))
    }

    /// There are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The beginning of its minute: cron expressions of five fields match nothing else.
fn start_of_minute(time: Zoned) -> Zoned {
    let floor = ZonedRound::new().smallest(Unit::Minute).mode(RoundMode::Floor);
    time.round(floor).unwrap_or(time)
}

impl SettingValue for QuietHours {
    fn read(text: &str) -> Option<Self> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let one = |part: &str| {
            let five = part.split_whitespace().count() == 5;
            (five && values::parse_cron(part).is_some()).then(|| part.to_owned())
        };
        parts.map(one).collect::<Option<_>>().map(Self)
    }
    fn write(&self) -> String {
        self.0.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(hours: &str, at: &str) -> bool {
        QuietHours::read(hours).unwrap().contain(at.parse().unwrap())
    }

    #[test]
    fn each_minute_that_matches_is_quiet_to_its_end() {
        // 2026-11-27 is a Friday.
        let working = "* 8-17 * * MON-FRI";
        for (at, expected) in [
            ("2026-11-27T07:59:59Z", false),
            ("2026-11-27T08:00:00Z", true),
            ("2026-11-27T17:59:59.9Z", true),
            ("2026-11-27T18:00:00Z", false),
            ("2026-11-28T12:00:00Z", false),
        ] {
            assert_eq!(quiet(working, at), expected, "{at}");
        }
    }

    #[test]
    fn several_may_be_given_and_none_is_none() {
        let both = "* 8-17 * * MON-FRI; * * 24-26 12 *";
        assert!(quiet(both, "2026-12-26T03:00:00Z"), "a Saturday");
        assert!(!quiet("", "2026-12-26T03:00:00Z"));
        assert_eq!(QuietHours::read(both).unwrap().write(), both);
        assert!(QuietHours::read(" ; ").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_cron_expression_means_nothing() {
        for bad in ["8-17", "* 25 * * *", "0 * 8-17 * * *", "* 8-17 * * MON-FRI, * * * * *"] {
            assert_eq!(QuietHours::read(bad), None, "{bad}");
        }
    }
}
