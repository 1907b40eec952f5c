//! The values of an array, row by row.

use std::io::Read;

use stoker_domain::dataset::{Column, ColumnKind};

use super::dtype::Dtype;
use super::header::{Header, read_header};
use crate::Limits;
use crate::chunks::rows_of;
use crate::error::{DataError, shown};
use crate::number::{first_too_large, rows_missing, too_large};
use crate::statistics::{Budget, Running};

/// Most axes of an array.
const AXES_MAX: usize = 8;
/// Most bytes of an array that lies column by column: it has to be held to be read by row.
const FORTRAN_MAX_BYTES: u64 = 256 << 20;

/// An array whose header was read and whose values follow.
pub(crate) struct Array<R> {
    source: R,
    pub(crate) name: String,
    dtype: Dtype,
    /// Extent of the first axis.
    pub(crate) rows: u64,
    /// Extents of the others.
    pub(crate) shape: Vec<u32>,
    /// Numbers per row.
    pub(crate) width: usize,
    /// The next row.
    at: u64,
    fortran: Option<Fortran>,
}

/// An array that lies column by column, in memory.
struct Fortran {
    bytes: Vec<u8>,
    /// Where in a row each of its columns belongs.
    places: Vec<usize>,
}

impl<R: Read> Array<R> {
    /// Reads the header; `size` is what header and values may have in bytes.
    pub(crate) fn open(
        mut source: R,
        name: &str,
        size: u64,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let text = read_header(&mut source)?;
        let header = Header::parse(&text).ok_or_else(|| {
            DataError::Malformed(format!("{:?} is not an NPY header", shown(&text)))
        })?;
        let dtype = Dtype::parse(&header.descr)?;
        let (rows, shape, width) = extents(&header.shape)?;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the array has {rows} rows, at most {} are allowed",
                limits.rows
            )));
        }
        let bytes = rows
            .checked_mul(width)
            .and_then(|values| values.checked_mul(dtype.size as u64))
            .filter(|&bytes| bytes <= size)
            .ok_or_else(|| {
                DataError::Malformed(format!(
                    "the shape {:?} needs more bytes than the file has",
                    header.shape
                ))
            })?;
        let width = usize::try_from(width)
            .ok()
            .filter(|&width| width <= limits.row_values)
            .ok_or_else(|| {
                DataError::TooLarge(format!(
                    "a row has {width} numbers, at most {} are allowed",
                    limits.row_values
                ))
            })?;
        let fortran = header.fortran && width > 1 && rows > 1;
        let fortran = fortran.then(|| Fortran::read(&mut source, bytes, &shape));
        Ok(Self {
            fortran: fortran.transpose()?,
            source,
            name: name.to_owned(),
            dtype,
            rows,
            shape,
            width,
            at: 0,
        })
    }

    /// Parses all values.
    pub(crate) fn describe(&mut self, budget: &mut Budget) -> Result<Column, DataError> {
        let mut running = Running::default();
        let mut missing = 0;
        while self.at < self.rows {
            let rows = (self.rows - self.at).min(rows_of(self.width * 8) as u64);
            let values = self.read(rows as usize)?;
            missing += rows_missing(&values, self.width);
            running.add(&values, budget);
        }
        let found = running.finish();
        Ok(Column {
            name: self.name.clone(),
            kind: found.as_ref().map_or(ColumnKind::Float, |(kind, _)| *kind),
            shape: self.shape.clone(),
            statistics: found.map(|(_, statistics)| statistics),
            missing,
            categories: None,
        })
    }

    /// The next rows.
    pub(crate) fn read(&mut self, rows: usize) -> Result<Vec<f64>, DataError> {
        let values = match &self.fortran {
            Some(fortran) => fortran.rows(self.dtype, self.rows, self.at, rows),
            None => {
                let mut bytes = vec![0; rows * self.width * self.dtype.size];
                self.source.read_exact(&mut bytes)?;
                self.dtype.values(&bytes)
            }
        };
        if let Some(index) = first_too_large(&values) {
            let row = self.at + (index / self.width) as u64 + 1;
            let message = too_large(values[index]);
            return Err(DataError::record(row, &self.name, message));
        }
        self.at += rows as u64;
        if self.at == self.rows && self.source.read(&mut [0])? > 0 {
            return Err(DataError::Malformed(
                "there are bytes after the array's last value".to_owned(),
            ));
        }
        Ok(values)
    }
}

impl Fortran {
    fn read(source: &mut impl Read, bytes: u64, shape: &[u32]) -> Result<Self, DataError> {
        if bytes > FORTRAN_MAX_BYTES {
            return Err(DataError::TooLarge(format!(
                "the array is in Fortran order and has {bytes} bytes, at most {FORTRAN_MAX_BYTES} \
                 are allowed; save `numpy.ascontiguousarray(array)`"
            )));
        }
        let mut all = vec![0; bytes as usize];
        source.read_exact(&mut all)?;
        Ok(Self {
            bytes: all,
            places: places(shape),
        })
    }

    /// `count` rows from `first`, of `rows` that there are.
    fn rows(&self, dtype: Dtype, rows: u64, first: u64, count: usize) -> Vec<f64> {
        let width = self.places.len();
        let mut values = vec![0.0; count * width];
        for (column, &place) in self.places.iter().enumerate() {
            let begin = (column as u64 * rows + first) as usize * dtype.size;
            let bytes = &self.bytes[begin..begin + count * dtype.size];
            for (row, value) in dtype.values(bytes).into_iter().enumerate() {
                values[row * width + place] = value;
            }
        }
        values
    }
}

/// Where in row-major order each value of a row lies, in the order in which the first axis moves
/// fastest.
fn places(shape: &[u32]) -> Vec<usize> {
    let mut places = vec![0];
    let mut stride: usize = shape.iter().map(|&extent| extent as usize).product();
    for &extent in shape {
        stride /= extent as usize;
        let before = std::mem::take(&mut places);
        let steps = (0..extent as usize).map(|index| index * stride);
        let along = steps.flat_map(|step| before.iter().map(move |place| place + step));
        places = along.collect();
    }
    places
}

/// Rows, shape of a row, and values per row.
fn extents(shape: &[u64]) -> Result<(u64, Vec<u32>, u64), DataError> {
    let refused = |why: &str| DataError::Malformed(format!("the array's shape {shape:?} {why}"));
    let (&rows, rest) = shape.split_first().ok_or_else(|| refused("has no rows"))?;
    if shape.contains(&0) {
        return Err(refused("is empty"));
    }
    if shape.len() > AXES_MAX {
        return Err(refused(&format!("has more than {AXES_MAX} axes")));
    }
    let row = rest.iter().map(|&n| u32::try_from(n));
    let row = row.collect::<Result<Vec<_>, _>>();
    let width = rest.iter().try_fold(1_u64, |all, &n| all.checked_mul(n));
    match (row, width) {
        (Ok(row), Some(width)) => Ok((rows, row, width)),
        _ => Err(refused("is too large")),
    }
}
