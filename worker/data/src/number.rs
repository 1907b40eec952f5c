//! What counts as a number, and what as a value that is missing.

use crate::error::shown;

/// What stands for a value that is missing, besides nothing at all; in any case.
const MISSING: [&str; 5] = ["na", "n/a", "nan", "null", "?"];

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    /// A number in the range of `f32`.
    Number(f64),
    /// Nothing.
    Missing,
    /// A number out of range.
    TooLarge(f64),
    /// Something else.
    Other,
}

/// Reads a field.
pub(crate) fn read(field: &str) -> Field {
    let field = field.trim();
    if field.is_empty() {
        return Field::Missing;
    }
    match field.parse::<f64>() {
        Ok(value) if value.is_nan() => Field::Missing,
        Ok(value) if in_range(value) => Field::Number(value),
        Ok(value) => Field::TooLarge(value),
        Err(_) if MISSING.iter().any(|word| word.eq_ignore_ascii_case(field)) => Field::Missing,
        Err(_) => Field::Other,
    }
}

/// The least magnitude that 32 bits can't hold: half a step above the largest they can.
const RANGE: f64 = f32::MAX as f64 + 1.014_120_480_182_583_5e31;

/// Whether training can use a number, which is done with 32 bits.
pub(crate) const fn in_range(value: f64) -> bool {
    value.abs() < RANGE
}

/// The first number that is too large; NaN is none.
pub(crate) fn first_too_large(values: &[f64]) -> Option<usize> {
    let is_large = |value: &&f64| value.abs() >= RANGE;
    // Counting looks at several at once, as a search that may end early can't.
    if values.iter().filter(is_large).count() == 0 {
        return None;
    }
    values.iter().position(|value| is_large(&value))
}

/// Rows of `width` numbers of which one is missing.
pub(crate) fn rows_missing(values: &[f64], width: usize) -> u64 {
    let missing = values.iter().filter(|value| value.is_nan()).count();
    if width == 1 || missing == 0 {
        return missing as u64;
    }
    let rows = values.chunks(width);
    rows.filter(|row| row.iter().any(|value| value.is_nan()))
        .count() as u64
}

/// What is wrong with a number out of range.
pub(crate) fn too_large(value: f64) -> String {
    format!("{value} is beyond the range of 32-bit numbers; scale it, or leave it empty")
}

/// What is wrong with a field that is no number in a column of numbers.
pub(crate) fn no_number(field: &str) -> String {
    let field = field.trim();
    let remedy = if is_decimal_comma(field) {
        "write decimals with a point"
    } else {
        "correct it, or leave the field empty where the value is missing"
    };
    format!("{:?} is not a number; {remedy}", shown(field))
}

fn is_decimal_comma(field: &str) -> bool {
    field.matches(',').count() == 1 && field.replace(',', ".").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_that_of_32_bits() {
        assert!(in_range(f64::from(f32::MAX)) && !in_range(RANGE));
        assert!((RANGE.next_down() as f32).is_finite() && (RANGE as f32).is_infinite());
        let values = [1.0, f64::NAN, -1e39, f64::INFINITY];
        assert_eq!(first_too_large(&values), Some(2));
        assert_eq!(first_too_large(&values[..2]), None);
        assert_eq!((rows_missing(&values, 2), rows_missing(&values, 1)), (1, 1));
    }

    #[test]
    fn missing_values_are_told_from_numbers_and_words() {
        for missing in ["", "  ", "NA", "n/a", "NaN", "-nan", "NULL", "?"] {
            assert_eq!(read(missing), Field::Missing, "{missing:?}");
        }
        assert_eq!(read(" -1.5e3 "), Field::Number(-1500.0));
        assert_eq!(read("inf"), Field::TooLarge(f64::INFINITY));
        assert_eq!(read("1e39"), Field::TooLarge(1e39));
        for other in ["none", "1,5", "1_000", "0x10", "true"] {
            assert_eq!(read(other), Field::Other, "{other:?}");
        }
        assert!(no_number("1,5").contains("with a point"));
    }
}
