//! Data sets: immutable versions with a schema and statistics, made once when they are created.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Version tag of stored data set records.
pub const RECORD_VERSION: u16 = 1;

/// How a data set's bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// Delimited values (RFC 4180), with or without a header row.
    Csv,
    /// The same, compressed by gzip.
    CsvGz,
    /// A JSON object a line: a column per name.
    Jsonl,
    /// The same, compressed by gzip.
    JsonlGz,
    /// Apache Parquet.
    Parquet,
    /// One NumPy array: the first axis is the row; the column is named `array`.
    Npy,
    /// Named NumPy arrays with one first axis in common: a column each.
    Npz,
    /// Plain text: a row per line, in the column `text`.
    Text,
    /// The same, compressed by gzip.
    TextGz,
    /// Pictures in a tar, gzip or not: columns `image`, `label` (the folder that a picture is in)
    /// and `path`.
    Images,
    /// A tokenizer of the library `tokenizers`, as its `tokenizer.json`: a row per id, in the column
    /// `token`. The step `tokenise` takes it.
    Tokenizer,
}

impl DataFormat {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Csv,
        Self::CsvGz,
        Self::Jsonl,
        Self::JsonlGz,
        Self::Parquet,
        Self::Npy,
        Self::Npz,
        Self::Text,
        Self::TextGz,
        Self::Images,
        Self::Tokenizer,
    ];

    /// The format that a file's name stands for.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let known = [
            (".csv.gz", Self::CsvGz),
            (".csv", Self::Csv),
            (".tsv.gz", Self::CsvGz),
            (".tsv", Self::Csv),
            (".jsonl.gz", Self::JsonlGz),
            (".jsonl", Self::Jsonl),
            (".ndjson", Self::Jsonl),
            (".parquet", Self::Parquet),
            (".npy", Self::Npy),
            (".npz", Self::Npz),
            (".txt.gz", Self::TextGz),
            (".txt", Self::Text),
            (".tar.gz", Self::Images),
            (".tgz", Self::Images),
            (".tar", Self::Images),
            ("tokenizer.json", Self::Tokenizer),
        ];
        known
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, format)| format)
    }

    /// The format as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::CsvGz => "csv_gz",
            Self::Jsonl => "jsonl",
            Self::JsonlGz => "jsonl_gz",
            Self::Parquet => "parquet",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Text => "text",
            Self::TextGz => "text_gz",
            Self::Images => "images",
            Self::Tokenizer => "tokenizer",
        }
    }
}

/// What is to be known of a data set before a job may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schema {
    /// Rows.
    pub rows: u64,
    /// Columns, in the order of the file.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Column {
    /// Its name; `column_<index>` where the file has none.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
    /// Shape of one row's value: empty for a number, `[8, 8]` for an 8 x 8 array.
    pub shape: Vec<u32>,
    /// Statistics over all values that are there; absent for text and pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// Rows without a value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// The different values of a column of text, sorted, where they are few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Column {
    /// Numbers per row.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.shape.iter().map(|&n| u64::from(n)).product()
    }
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Whole numbers.
    Integer,
    /// Numbers.
    Float,
    /// Text, which a preprocessing step turns into numbers.
    Text,
    /// Pictures: bytes, `shape` rows by columns by channels; an empty shape where they differ.
    Image,
}

/// Statistics of a numeric column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
    /// Number of different values of an integer column, when at most 65,536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
}

/// One immutable version of a data set, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The name.
    pub name: String,
    /// 1, 2, 3, …
    pub version: u64,
    /// How its bytes are written.
    pub format: DataFormat,
    /// Whether a CSV's first row names the columns.
    pub header: bool,
    /// What stands between the fields of a CSV; a comma where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// BLAKE3 of its bytes.
    pub blake3: String,
    /// Its length.
    pub size_bytes: u64,
    /// Where its bytes were fetched from, without secrets; absent when they were uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Rows, columns and statistics.
    pub schema: Schema,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
