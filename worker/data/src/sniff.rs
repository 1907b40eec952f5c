//! Tells what a file is by its first bytes, whatever it is called.

use std::io::Read;

use flate2::read::GzDecoder;
use stoker_domain::dataset::DataFormat;

use crate::error::DataError;

/// First bytes that are looked at: a tar's mark is at 257.
pub(crate) const LOOKED_AT_BYTES: usize = 4_096;

/// What some first bytes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Zip,
    Parquet,
    Npy,
    Tar,
    Jpeg,
    Png,
    Utf16,
    Zstd,
    Hdf5,
    Pdf,
}

const MARKS: [(&[u8], Kind); 11] = [
    (b"\x1f\x8b", Kind::Gzip),
    (b"PK\x03\x04", Kind::Zip),
    (b"PK\x05\x06", Kind::Zip),
    (b"PAR1", Kind::Parquet),
    (b"\x93NUMPY", Kind::Npy),
    (b"\xff\xd8\xff", Kind::Jpeg),
    (b"\x89PNG", Kind::Png),
    (b"\xff\xfe", Kind::Utf16),
    (b"\xfe\xff", Kind::Utf16),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    (b"\x89HDF", Kind::Hdf5),
];

impl Kind {
    fn of(bytes: &[u8]) -> Option<Self> {
        let marked = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark));
        if let Some((_, kind)) = marked {
            return Some(*kind);
        }
        if bytes.starts_with(b"%PDF") {
            return Some(Self::Pdf);
        }
        (bytes.get(257..262) == Some(b"ustar")).then_some(Self::Tar)
    }

    /// What it is, and what to do with it.
    const fn say(self) -> &'static str {
        match self {
            Self::Gzip => "compressed by gzip; use the format `csv_gz`, `jsonl_gz` or `text_gz`",
            Self::Zip => "a zip archive; use the format `npz` for arrays, or `images` for pictures",
            Self::Parquet => "Parquet; use the format `parquet`",
            Self::Npy => "a NumPy array; use the format `npy`",
            Self::Tar => "a tar archive; use the format `images`, or unpack it",
            Self::Jpeg | Self::Png => {
                "a picture; put the pictures in a tar and use the format `images`"
            }
            Self::Utf16 => "text in UTF-16; save it as UTF-8 (`iconv -f utf-16 -t utf-8`)",
            Self::Zstd => "compressed by zstd; decompress it first, or use gzip",
            Self::Hdf5 => "HDF5; export it as Parquet or NPY",
            Self::Pdf => "a PDF; extract its text first",
        }
    }
}

/// Refuses a file whose first bytes are not those of its format.
pub(crate) fn check(first: &[u8], format: DataFormat) -> Result<(), DataError> {
    if first.is_empty() {
        return Err(DataError::Malformed("the file is empty".to_owned()));
    }
    let (kind, inside) = (Kind::of(first), inside(first));
    match (format, kind, inside) {
        (
            DataFormat::Csv | DataFormat::Jsonl | DataFormat::Text | DataFormat::Tokenizer,
            None,
            _,
        )
        | (DataFormat::CsvGz | DataFormat::JsonlGz | DataFormat::TextGz, Some(Kind::Gzip), None)
        | (DataFormat::Parquet, Some(Kind::Parquet), _)
        | (DataFormat::Npy, Some(Kind::Npy), _)
        | (DataFormat::Npz, Some(Kind::Zip), _)
        | (DataFormat::Images, None | Some(Kind::Tar | Kind::Zip), _)
        | (DataFormat::Images, Some(Kind::Gzip), None | Some(Kind::Tar)) => Ok(()),
        (_, Some(Kind::Gzip), Some(kind)) => Err(DataError::Malformed(format!(
            "the file isn't {}: inside gzip it is {}",
            format.as_str(),
            kind.say()
        ))),
        (_, Some(kind), _) => Err(DataError::Malformed(format!(
            "the file isn't {}: it is {}",
            format.as_str(),
            kind.say()
        ))),
        (DataFormat::CsvGz | DataFormat::JsonlGz | DataFormat::TextGz, None, _) => Err(
            DataError::Malformed("the file isn't compressed by gzip".to_owned()),
        ),
        (_, None, _) => Err(DataError::Malformed(format!(
            "this is not {} file",
            match format {
                DataFormat::Npy => "an NPY",
                DataFormat::Npz => "an NPZ",
                _ => "a Parquet",
            }
        ))),
    }
}

/// What is inside gzip.
fn inside(first: &[u8]) -> Option<Kind> {
    let mut bytes = [0; 512];
    let mut length = 0;
    let mut decoder = GzDecoder::new(first);
    while length < bytes.len() {
        match decoder.read(&mut bytes[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    Kind::of(&bytes[..length])
}
