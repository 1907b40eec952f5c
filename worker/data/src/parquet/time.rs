//! Dates and times as ISO 8601 writes them.

use std::fmt::Write;

const DAY_NANOS: i128 = 86_400_000_000_000;
/// The Julian day of 1970-01-01, from which the old 96-bit times count.
const JULIAN_EPOCH: i64 = 2_440_588;

/// A date, `2026-11-25`, of a number of days since 1970.
pub(super) fn date(days: i64) -> String {
    // H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

/// A time of day, `13:05:00` or `13:05:00.25`, of nanoseconds since midnight.
pub(super) fn time(nanos: i128) -> String {
    let nanos = nanos.rem_euclid(DAY_NANOS);
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    text
}

/// A date with a time of day, of nanoseconds since 1970.
pub(super) fn timestamp(nanos: i128, is_utc: bool) -> String {
    let days = nanos.div_euclid(DAY_NANOS) as i64;
    let zone = if is_utc { "Z" } else { "" };
    format!("{}T{}{zone}", date(days), time(nanos))
}

/// The same, of the old 96 bits: nanoseconds of the day, and a Julian day.
pub(super) fn timestamp_of_96([low, high, day]: [u32; 3]) -> String {
    let nanos = i128::from(u64::from(high) << 32 | u64::from(low));
    let days = i128::from(i64::from(day) - JULIAN_EPOCH);
    timestamp(days * DAY_NANOS + nanos, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iso_8601_does() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(20_782), "2026-11-25");
        assert_eq!(date(-719_529), "-0001-12-31");
        assert_eq!(timestamp(1_500_000_000, true), "1970-01-01T00:00:01.5Z");
        assert_eq!(timestamp(-1, false), "1969-12-31T23:59:59.999999999");
        assert_eq!(
            timestamp_of_96([5, 0, 2_440_589]),
            "1970-01-02T00:00:00.000000005"
        );
        date(i64::from(i32::MIN));
        timestamp(i128::from(i64::MAX) * 1_000_000, true);
    }
}
