//! What a column of a Parquet file becomes.

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor, SchemaDescriptor, Type};

use crate::error::DataError;

/// A column that can be read.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) name: String,
    /// Its place among the file's leaves.
    pub(super) index: usize,
    pub(super) descr: ColumnDescPtr,
    pub(super) kind: Kind,
}

/// How its values are to be understood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Numbers, times a factor: that of a decimal's scale, or 1.
    Numbers(f64),
    /// Whole numbers without a sign.
    Unsigned,
    /// 16-bit floats.
    Half,
    /// UTF-8.
    Text,
    /// Days since 1970.
    Date,
    /// A time of day, in units of so many nanoseconds.
    Time(i128),
    /// A point in time, in units of so many nanoseconds, and whether in UTC.
    Timestamp(i128, bool),
    /// 16 bytes.
    Uuid,
}

impl Kind {
    pub(super) const fn is_text(self) -> bool {
        !matches!(self, Self::Numbers(_) | Self::Unsigned | Self::Half)
    }
}

impl Leaf {
    /// Whether a row has a list of values.
    pub(super) fn is_list(&self) -> bool {
        self.descr.max_rep_level() > 0
    }
}

/// All columns, or the first that can't be read.
pub(super) fn leaves(schema: &SchemaDescriptor) -> Result<Vec<Leaf>, DataError> {
    let mut leaves: Vec<Leaf> = Vec::new();
    for (index, descr) in schema.columns().iter().enumerate() {
        let root = schema.get_column_root(index);
        let name = root.name().to_owned();
        let refuse = |why: &str| DataError::Malformed(format!("column `{name}` {why}"));
        if !is_plain(root) {
            return Err(refuse(
                "has parts of its own; give each part a column (pandas: `json_normalize`)",
            ));
        }
        let kind = kind(descr).ok_or_else(|| {
            refuse(&format!(
                "is of the type {:?}, which can't be read; those that can: numbers, decimals, \
                 booleans, strings, dates, times, and lists of numbers",
                descr.physical_type()
            ))
        })?;
        if kind.is_text() && descr.max_rep_level() > 0 {
            return Err(refuse(
                "is a list of texts; only lists of numbers can be read",
            ));
        }
        if leaves.iter().any(|leaf| leaf.name == name) {
            return Err(DataError::Malformed(format!(
                "two columns have the name `{name}`; rename one"
            )));
        }
        leaves.push(Leaf {
            name,
            index,
            descr: descr.clone(),
            kind,
        });
    }
    if leaves.is_empty() {
        return Err(DataError::Malformed("the file has no columns".to_owned()));
    }
    Ok(leaves)
}

/// Whether a column is a value, or lists of them; no struct and no map.
fn is_plain(root: &Type) -> bool {
    let mut node = root;
    while node.is_group() {
        let [only] = node.get_fields() else {
            return false;
        };
        let basic = node.get_basic_info();
        let is_list = basic.converted_type() == ConvertedType::LIST
            || basic.logical_type_ref() == Some(&LogicalType::List)
            || (basic.has_repetition() && basic.repetition() == Repetition::REPEATED);
        if !is_list {
            return false;
        }
        node = only;
    }
    true
}

fn kind(descr: &ColumnDescriptor) -> Option<Kind> {
    let logical = descr.logical_type_ref();
    let converted = descr.converted_type();
    let decimal =
        converted == ConvertedType::DECIMAL || matches!(logical, Some(LogicalType::Decimal(_)));
    let numbers = if decimal {
        Kind::Numbers(10_f64.powi(-descr.type_scale().clamp(0, 300)))
    } else {
        Kind::Numbers(1.0)
    };
    if let Some(LogicalType::Timestamp(timestamp)) = logical {
        return Some(Kind::Timestamp(
            nanos(timestamp.unit),
            timestamp.is_adjusted_to_u_t_c,
        ));
    }
    if let Some(LogicalType::Time(time)) = logical {
        return Some(Kind::Time(nanos(time.unit)));
    }
    Some(match (descr.physical_type(), converted, logical) {
        (Physical::BOOLEAN | Physical::FLOAT | Physical::DOUBLE, ..) => Kind::Numbers(1.0),
        (Physical::INT32, ConvertedType::DATE, _)
        | (Physical::INT32, _, Some(LogicalType::Date)) => Kind::Date,
        (Physical::INT32, ConvertedType::TIME_MILLIS, _) => Kind::Time(1_000_000),
        (Physical::INT64, ConvertedType::TIME_MICROS, _) => Kind::Time(1_000),
        (Physical::INT64, ConvertedType::TIMESTAMP_MILLIS, _) => Kind::Timestamp(1_000_000, true),
        (Physical::INT64, ConvertedType::TIMESTAMP_MICROS, _) => Kind::Timestamp(1_000, true),
        (Physical::INT32, ConvertedType::UINT_8 | ConvertedType::UINT_16, _)
        | (Physical::INT32 | Physical::INT64, ConvertedType::UINT_32 | ConvertedType::UINT_64, _) => {
            Kind::Unsigned
        }
        (Physical::INT32 | Physical::INT64, _, Some(LogicalType::Integer(int)))
            if !int.is_signed =>
        {
            Kind::Unsigned
        }
        (Physical::INT32 | Physical::INT64, ..) => numbers,
        (Physical::INT96, ..) => Kind::Timestamp(1, false),
        (Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY, ..) if decimal => numbers,
        (Physical::BYTE_ARRAY, ..) => Kind::Text,
        (Physical::FIXED_LEN_BYTE_ARRAY, _, Some(LogicalType::Float16)) => Kind::Half,
        (Physical::FIXED_LEN_BYTE_ARRAY, _, Some(LogicalType::Uuid)) => Kind::Uuid,
        (Physical::FIXED_LEN_BYTE_ARRAY, ..) => return None,
    })
}

const fn nanos(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1_000,
        TimeUnit::NANOS => 1,
    }
}
