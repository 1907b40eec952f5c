//! Rows in a file: records of one size, a row's features and then its targets, as little-endian
//! words of 32 bits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use stoker_domain::job::FailureKind;

use crate::error::EngineError;

/// Most bytes that are read at once.
const SPAN_BYTES: usize = 1 << 20;
/// Bytes that nobody asked for and are read nevertheless, rather than to read twice.
const GAP_BYTES: usize = 64 << 10;

/// The rows of a table in a file that nobody else changes.
#[derive(Debug)]
pub(crate) struct Records {
    pub(super) file: File,
    pub(super) record_bytes: usize,
    /// The largest class of any row, and the first row that has it.
    pub(super) largest_class: Option<(u32, u64)>,
}

/// Records in memory, by their rows.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Ascending.
    rows: Vec<u64>,
    /// Theirs, one after the other.
    bytes: Vec<u8>,
}

/// Looks at a row's record.
type Look<'a> = dyn FnMut(u64, &[u8]) -> Result<(), EngineError> + 'a;

impl Loaded {
    /// The record of a row; empty when it isn't there.
    pub(crate) fn record(&self, row: u64) -> &[u8] {
        let each = self.bytes.len().checked_div(self.rows.len()).unwrap_or(0);
        let at = self.rows.binary_search(&row);
        at.map_or(&[], |at| &self.bytes[at * each..][..each])
    }
}

impl Records {
    /// Reads the records of `rows`, whose ids come in any order. `spare` gives its memory.
    pub(super) fn load(&self, rows: &[u64], spare: Loaded) -> Result<Loaded, EngineError> {
        let mut loaded = spare;
        loaded.rows.clear();
        loaded.rows.extend_from_slice(rows);
        loaded.rows.sort_unstable();
        loaded.bytes.clear();
        loaded.bytes.reserve_exact(rows.len() * self.record_bytes);
        let Loaded { rows, bytes } = &mut loaded;
        self.visit(rows.iter().copied(), &mut |_, record| {
            bytes.extend_from_slice(record);
            Ok(())
        })?;
        Ok(loaded)
    }

    /// Goes through the records of `rows`, whose ids ascend: those that are near one another are
    /// read at once.
    pub(super) fn visit(
        &self,
        rows: impl Iterator<Item = u64>,
        look: &mut Look<'_>,
    ) -> Result<(), EngineError> {
        let each = self.record_bytes as u64;
        let (most, gap) = (SPAN_BYTES as u64 / each, GAP_BYTES as u64 / each);
        let (mut span, mut buffer) = (Vec::new(), Vec::new());
        for row in rows {
            let far = |(first, last): (u64, u64)| row - last > gap + 1 || row - first >= most;
            if span
                .first()
                .copied()
                .zip(span.last().copied())
                .is_some_and(far)
            {
                self.read(&span, &mut buffer, look)?;
                span.clear();
            }
            span.push(row);
        }
        self.read(&span, &mut buffer, look)
    }

    /// Reads from the first of these rows to the last.
    fn read(
        &self,
        span: &[u64],
        buffer: &mut Vec<u8>,
        look: &mut Look<'_>,
    ) -> Result<(), EngineError> {
        let (Some(first), Some(last)) = (span.first(), span.last()) else {
            return Ok(());
        };
        let at = |row: u64| crate::normalise::index_of(row - first) * self.record_bytes;
        buffer.resize(at(last + 1), 0);
        let begin = first * self.record_bytes as u64;
        self.file.read_exact_at(buffer, begin).map_err(unreadable)?;
        for &row in span {
            look(row, &buffer[at(row)..][..self.record_bytes])?;
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is given up")]
fn unreadable(error: io::Error) -> EngineError {
    let message = format!("prepared rows can't be read from the disk of the worker: {error}");
    EngineError::new(FailureKind::Platform, message)
}
