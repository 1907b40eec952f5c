//! How the values of an array are written.

use crate::error::{DataError, shown};

/// The kind of number that a `Dtype` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// How one value is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dtype {
    number: Number,
    pub(super) size: usize,
    big_endian: bool,
}

impl Dtype {
    pub(super) fn parse(descr: &str) -> Result<Self, DataError> {
        let (order, rest) = descr.split_at_checked(1).unwrap_or_default();
        let (letter, size) = rest.split_at_checked(1).unwrap_or_default();
        let number = match (letter, size) {
            ("f", "4" | "8") => Number::Float,
            ("i", "1" | "2" | "4" | "8") => Number::Signed,
            ("u", "1" | "2" | "4" | "8") => Number::Unsigned,
            ("b", "1") => Number::Bool,
            _ => return Err(Self::unknown(descr)),
        };
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return Err(Self::unknown(descr)),
        };
        let size = size.parse().map_err(|_| Self::unknown(descr))?;
        Ok(Self {
            number,
            size,
            big_endian,
        })
    }

    fn unknown(descr: &str) -> DataError {
        DataError::Malformed(format!(
            "the array's type {:?} can't be read; those that can: f4, f8, i1, i2, i4, i8, u1, u2, u4, u8, bool",
            shown(descr)
        ))
    }

    /// The values that `bytes` are.
    pub(super) fn values(self, bytes: &[u8]) -> Vec<f64> {
        macro_rules! decode {
            ($type:ty, $size:literal) => {{
                let (values, _) = bytes.as_chunks::<$size>();
                if self.big_endian {
                    let of = |bytes: &[u8; $size]| <$type>::from_be_bytes(*bytes) as f64;
                    values.iter().map(of).collect()
                } else {
                    let of = |bytes: &[u8; $size]| <$type>::from_le_bytes(*bytes) as f64;
                    values.iter().map(of).collect()
                }
            }};
        }
        match (self.number, self.size) {
            (Number::Float, 4) => decode!(f32, 4),
            (Number::Float, _) => decode!(f64, 8),
            (Number::Signed, 1) => decode!(i8, 1),
            (Number::Signed, 2) => decode!(i16, 2),
            (Number::Signed, 4) => decode!(i32, 4),
            (Number::Signed, _) => decode!(i64, 8),
            (Number::Unsigned, 1) => decode!(u8, 1),
            (Number::Unsigned, 2) => decode!(u16, 2),
            (Number::Unsigned, 4) => decode!(u32, 4),
            (Number::Unsigned, _) => decode!(u64, 8),
            (Number::Bool, _) => bytes.iter().map(|&b| f64::from(u8::from(b != 0))).collect(),
        }
    }
}
