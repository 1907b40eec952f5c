//! Values that Parquet writes as bytes or whole numbers.

use super::leaf::Kind;
use super::time;

/// A decimal number: an integer in big-endian two's complement, times its scale.
pub(super) fn decimal(bytes: &[u8], scale: f64) -> f64 {
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let start = if negative { -1.0 } else { 0.0 };
    let whole = bytes
        .iter()
        .fold(start, |value, &byte| value * 256.0 + f64::from(byte));
    whole * scale
}

/// A 16-bit float (IEEE 754).
pub(super) fn half(bytes: &[u8]) -> f64 {
    let bits = bytes
        .first_chunk()
        .map_or(0, |bytes| u16::from_le_bytes(*bytes));
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    }
}

/// A date or time as text.
pub(super) fn point(kind: Kind, value: i64) -> Option<String> {
    let wide = i128::from(value);
    Some(match kind {
        Kind::Date => time::date(value),
        Kind::Time(unit) => time::time(wide * unit),
        Kind::Timestamp(unit, is_utc) => time::timestamp(wide * unit, is_utc),
        _ => return None,
    })
}

/// An identifier of 16 bytes as text.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_numbers_and_texts() {
        assert_eq!(decimal(&[0xff, 0xfe], 1.0), -2.0);
        assert_eq!(decimal(&[1, 0, 0], 0.5), 32_768.0);
        let halves = [
            (0x3c00_u16, 1.0),
            (0xc000, -2.0),
            (1, 2_f64.powi(-24)),
            (0x7bff, 65_504.0),
        ];
        for (bits, value) in halves {
            assert_eq!(half(&bits.to_le_bytes()), value);
        }
        assert!(half(&0x7e00_u16.to_le_bytes()).is_nan());
        assert_eq!(uuid(&[0x12; 16]), "12121212-1212-1212-1212-121212121212");
    }
}
