#![expect(
    unsafe_code,
    reason = "loads and stores through pointers; the caller checks the bounds"
)]
//! Products with vector instructions, faster than gemm's at the sizes of a training step.
//!
//! A tile of the output stays in registers while its terms are added, one fused multiply-add each
//! and in order, as the definition has it. The right matrix is packed to panels as wide as a tile
//! where enough rows use them; the left one is read as it lies, unless it is a transpose whose terms
//! lie far apart and would push each other out of the caches.

mod avx2;
mod avx512;

use std::cell::RefCell;

pub(super) use avx2::Avx2;
pub(super) use avx512::Avx512;

use super::{Block, Part, Windows};
use crate::cpu::lanes::square;
use crate::cpu::simd::{Level, simd};

/// Rows from which on packing pays.
const PACKED_ROWS: usize = 24;
/// Rows of the left matrix that are packed at a time, in tiles.
const LEFT_TILES: usize = 8;

/// The tiles of an instruction set.
pub(super) trait Tiles {
    const LEVEL: Level;
    /// Most rows of a tile, and its columns.
    const ROWS: usize;
    const COLUMNS: usize;
    /// Computes a tile of 1 to `ROWS` rows and 1 to `COLUMNS` columns.
    ///
    /// # Safety
    /// The instructions are there, and the matrices hold what the strides reach.
    unsafe fn run(rows: usize, at: Tile);
}

thread_local! {
    /// One packed panel: `[terms, columns of a tile]`; and rows of the left matrix: `[terms, rows]`.
    static PACKED: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Where a tile's numbers are.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    a: *const f32,
    a_strides: (usize, usize),
    b: *const f32,
    b_stride: usize,
    out: *mut f32,
    out_stride: usize,
    terms: usize,
    /// Terms before a and b jump: the first time, and each time after it.
    runs: (usize, usize),
    jumps: (isize, isize),
    /// Columns.
    width: usize,
    accumulate: bool,
}

/// One block of terms.
///
/// # Safety
/// The instructions are there, and the matrices hold what the strides reach.
pub(super) unsafe fn multiply<T: Tiles>(out: &mut [f32], block: Block<'_>) {
    PACKED.with_borrow_mut(|[panel, left]| {
        let Block {
            m,
            n,
            k,
            out_stride,
            a,
            ..
        } = block;
        let rows_max = LEFT_TILES * T::ROWS;
        let far = a.strides.0 == 1 && a.strides.1 > m.min(rows_max) && n > T::COLUMNS;
        if !far {
            return multiply_by::<T>(out, block, panel);
        }
        for (index, out) in out.chunks_mut(rows_max * out_stride).enumerate() {
            let rows = rows_max.min(m - index * rows_max);
            reserve(left, k * rows);
            let values = &a.values[index * rows_max..];
            let terms = values.chunks(a.strides.1);
            for (packed, term) in left.chunks_exact_mut(rows).zip(terms).take(k) {
                packed.copy_from_slice(&term[..rows]);
            }
            let values = &left[..k * rows];
            let strides = (1, rows);
            let a = Part { values, strides };
            multiply_by::<T>(
                out,
                Block {
                    m: rows,
                    a,
                    ..block
                },
                panel,
            );
        }
    });
}

/// Makes room in a buffer.
fn reserve(buffer: &mut Vec<f32>, floats: usize) {
    if buffer.len() < floats {
        buffer.resize(floats, 0.0);
    }
}

fn multiply_by<T: Tiles>(out: &mut [f32], block: Block<'_>, panel: &mut Vec<f32>) {
    let Block {
        m,
        n,
        k,
        out_stride,
        a,
        b,
        ..
    } = block;
    let pack = b.strides.1 != 1 || (m >= PACKED_ROWS && b.strides.0 > T::COLUMNS);
    if pack {
        reserve(panel, k * T::COLUMNS);
    }
    let rows = m.div_ceil(m.div_ceil(T::ROWS));
    for column in (0..n).step_by(T::COLUMNS) {
        let width = T::COLUMNS.min(n - column);
        let values = &b.values[column * b.strides.1..];
        let right = if pack {
            let part = Part { values, ..b };
            pack_panel::<T>(&mut panel[..k * T::COLUMNS], part, width);
            (panel.as_ptr(), T::COLUMNS)
        } else {
            (values.as_ptr(), b.strides.0)
        };
        for row in (0..m).step_by(rows) {
            let tile = Tile {
                a: a.values[row * a.strides.0..].as_ptr(),
                a_strides: a.strides,
                b: right.0,
                b_stride: right.1,
                out: out[row * out_stride + column..].as_mut_ptr(),
                out_stride,
                terms: k,
                runs: (k, k),
                jumps: (0, 0),
                width,
                accumulate: block.accumulate,
            };
            // SAFETY: the tile's rows and columns are inside the matrices, and the masks keep what
            // is beyond `width` from being read or written.
            unsafe { T::run(rows.min(m - row), tile) };
        }
    }
}

/// out = windows b, or out + windows b.
///
/// # Safety
/// The instructions are there, and the sizes agree.
pub(super) unsafe fn multiply_windows<T: Tiles>(
    out: &mut [f32],
    (k_block, accumulate): (usize, bool),
    windows: Windows<'_>,
    b: Part<'_>,
    n: usize,
) {
    PACKED.with_borrow_mut(|[panel, _]| {
        let size = windows.size();
        for first in (0..size).step_by(k_block) {
            let k = k_block.min(size - first);
            let right = Part {
                values: &b.values[first * b.strides.0..],
                ..b
            };
            let block = (first, k, accumulate || first > 0);
            multiply_windows_by::<T>(out, block, windows, right, n, panel);
        }
    });
}

/// One block of terms: which, how many, and whether they are added to the output.
fn multiply_windows_by<T: Tiles>(
    out: &mut [f32],
    (first, k, accumulate): (usize, usize, bool),
    windows: Windows<'_>,
    b: Part<'_>,
    n: usize,
    panel: &mut Vec<f32>,
) {
    let Windows { count, step, .. } = windows;
    let pack = b.strides.1 != 1 || b.strides.0 > T::COLUMNS;
    if pack {
        reserve(panel, k * T::COLUMNS);
    }
    let rows = count.div_ceil(count.div_ceil(T::ROWS));
    let (run_index, inside) = (first / windows.run, first % windows.run);
    let start = run_index * windows.run_stride + inside;
    for column in (0..n).step_by(T::COLUMNS) {
        let width = T::COLUMNS.min(n - column);
        let values = &b.values[column * b.strides.1..];
        let right = if pack {
            let part = Part { values, ..b };
            pack_panel::<T>(&mut panel[..k * T::COLUMNS], part, width);
            (panel.as_ptr(), T::COLUMNS)
        } else {
            (values.as_ptr(), b.strides.0)
        };
        for line in 0..windows.lines {
            for x in (0..count).step_by(rows) {
                let from = line * windows.line_stride + x * step + start;
                let tile = Tile {
                    a: windows.values[from..].as_ptr(),
                    a_strides: (step, 1),
                    b: right.0,
                    b_stride: right.1,
                    out: out[(line * count + x) * n + column..].as_mut_ptr(),
                    out_stride: n,
                    terms: k,
                    runs: (windows.run - inside, windows.run),
                    jumps: (difference(windows.run_stride, windows.run), 0),
                    width,
                    accumulate,
                };
                // SAFETY: the windows are inside their numbers and b has as many rows as they have
                // terms; the rows are of one line, and the masks end at the last column.
                unsafe { T::run(rows.min(count - x), tile) };
            }
        }
    }
}

/// out = a windows, or out + a windows, with the windows as rows.
///
/// # Safety
/// The instructions are there, and the sizes agree.
pub(super) unsafe fn multiply_by_windows<T: Tiles>(
    out: &mut [f32],
    (k_block, accumulate): (usize, bool),
    a: Part<'_>,
    m: usize,
    windows: Windows<'_>,
) {
    let Windows { count, step, .. } = windows;
    let (terms, columns) = (windows.positions(), windows.size());
    let rows = m.div_ceil(m.div_ceil(T::ROWS));
    for first in (0..terms).step_by(k_block) {
        let (line, x) = (first / count, first % count);
        let start = line * windows.line_stride + x * step;
        for index in 0..windows.runs {
            for column in (0..windows.run).step_by(T::COLUMNS) {
                let width = T::COLUMNS.min(windows.run - column);
                let right = &windows.values[start + index * windows.run_stride + column..];
                for row in (0..m).step_by(rows) {
                    let tile = Tile {
                        a: a.values[row * a.strides.0 + first * a.strides.1..].as_ptr(),
                        a_strides: a.strides,
                        b: right.as_ptr(),
                        b_stride: step,
                        out: out[row * columns + index * windows.run + column..].as_mut_ptr(),
                        out_stride: columns,
                        terms: k_block.min(terms - first),
                        runs: (count - x, count),
                        jumps: (0, difference(windows.line_stride, count * step)),
                        width,
                        accumulate: accumulate || first > 0,
                    };
                    // SAFETY: the windows are inside their numbers and a has as many terms; the
                    // rows are inside the output, and the masks end at the run's last number.
                    unsafe { T::run(rows.min(m - row), tile) };
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_wrap, reason = "strides are sizes of slices")]
const fn difference(a: usize, b: usize) -> isize {
    a as isize - b as isize
}

/// Calls `add` with where a and b are and how many terms follow there, for each run of a tile's
/// terms.
#[inline(always)]
fn each_run(at: &Tile, mut add: impl FnMut(*const f32, *const f32, usize)) {
    let (mut a, mut b) = (at.a, at.b);
    let (mut left, mut now) = (at.terms, at.runs.0.min(at.terms));
    loop {
        add(a, b, now);
        left -= now;
        if left == 0 {
            return;
        }
        a = a
            .wrapping_add(now * at.a_strides.1)
            .wrapping_offset(at.jumps.0);
        b = b
            .wrapping_add(now * at.b_stride)
            .wrapping_offset(at.jumps.1);
        now = at.runs.1.min(left);
    }
}

/// Copies `width` columns of `b`; what is beyond them is never used.
fn pack_panel<T: Tiles>(panel: &mut [f32], b: Part<'_>, width: usize) {
    let (term_stride, column_stride) = b.strides;
    if column_stride == 1 {
        return pack_rows(T::LEVEL, panel, T::COLUMNS, b, width);
    }
    let mut squares = [0; 2];
    if T::LEVEL == Level::Avx512 && term_stride == 1 {
        squares = [width, panel.len() / T::COLUMNS].map(|count| count - count % square::SIZE);
        for column in (0..squares[0]).step_by(square::SIZE) {
            for term in (0..squares[1]).step_by(square::SIZE) {
                let to = &mut panel[term * T::COLUMNS + column..];
                let from = &b.values[column * column_stride + term..];
                // SAFETY: the level's instructions are there.
                unsafe { square::transpose(to, T::COLUMNS, from, column_stride) };
            }
        }
    }
    for (term, packed) in panel.chunks_exact_mut(T::COLUMNS).enumerate() {
        let row = &b.values[term * term_stride..];
        let done = if term < squares[1] { squares[0] } else { 0 };
        for (column, packed) in packed[..width].iter_mut().enumerate().skip(done) {
            *packed = row[column * column_stride];
        }
    }
}

simd! {
    /// The same of rows whose columns are neighbours.
    fn pack_rows(panel: &mut [f32], columns: usize, b: Part<'_>, width: usize) {
        for (term, packed) in panel.chunks_exact_mut(columns).enumerate() {
            let row = &b.values[term * b.strides.0..][..width];
            let (packed, packed_rest) = packed[..width].as_chunks_mut::<16>();
            let (row, row_rest) = row.as_chunks::<16>();
            for (packed, row) in packed.iter_mut().zip(row) {
                *packed = *row;
            }
            for (packed, row) in packed_rest.iter_mut().zip(row_rest) {
                *packed = *row;
            }
        }
    }
}
