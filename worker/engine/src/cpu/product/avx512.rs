#![expect(
    unsafe_code,
    reason = "loads and stores through pointers; the caller checks the bounds"
)]
//! Products with AVX-512, faster than gemm's at the sizes of a training step.
//!
//! A tile of the output stays in registers while its terms are added, one fused multiply-add each
//! and in order, as the definition has it. The right matrix is packed to panels as wide as a tile
//! where enough rows use them; the left one is read as it lies, unless it is a transpose whose terms
//! lie far apart and would push each other out of the caches.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};
use std::cell::RefCell;

use super::{Block, Part, Windows};

/// Floats of a register.
const LANES: usize = 16;
/// Rows of a tile at most, and registers of one of its rows: 24 sums of the 32 registers.
const ROWS: usize = 12;
const WIDTH: usize = 2;
/// Columns of a tile.
const COLUMNS: usize = WIDTH * LANES;
/// Rows from which on packing pays.
const PACKED_ROWS: usize = 40;

/// Most rows of the left matrix that are packed at a time.
const LEFT_ROWS: usize = 8 * ROWS;

thread_local! {
    /// One packed panel: `[terms, COLUMNS]`; and rows of the left matrix: `[terms, rows]`.
    static PACKED: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Where a tile's numbers are.
#[derive(Clone, Copy)]
struct Tile {
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
    masks: [__mmask16; WIDTH],
    accumulate: bool,
}

/// One block of terms; the caller has checked that the matrices hold what the strides reach.
#[target_feature(enable = "avx512f")]
pub(super) fn multiply(out: &mut [f32], block: Block<'_>) {
    PACKED.with_borrow_mut(|[panel, left]| {
        let Block { m, n, k, a, .. } = block;
        let far = a.strides.0 == 1 && a.strides.1 > m.min(LEFT_ROWS) && n > COLUMNS;
        if !far {
            return multiply_by(out, block, panel);
        }
        for (index, out) in out.chunks_mut(LEFT_ROWS * n).enumerate() {
            let rows = out.len() / n;
            reserve(left, k * rows);
            let values = &a.values[index * LEFT_ROWS..];
            let terms = values.chunks(a.strides.1);
            for (packed, term) in left.chunks_exact_mut(rows).zip(terms).take(k) {
                packed.copy_from_slice(&term[..rows]);
            }
            let values = &left[..k * rows];
            let strides = (1, rows);
            let a = Part { values, strides };
            multiply_by(
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

#[target_feature(enable = "avx512f")]
fn multiply_by(out: &mut [f32], block: Block<'_>, panel: &mut Vec<f32>) {
    let Block { m, n, k, a, b, .. } = block;
    let pack = b.strides.1 != 1 || (m >= PACKED_ROWS && b.strides.0 > COLUMNS);
    if pack {
        reserve(panel, k * COLUMNS);
    }
    let rows = m.div_ceil(m.div_ceil(ROWS));
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        let values = &b.values[column * b.strides.1..];
        let right = if pack {
            let part = Part { values, ..b };
            pack_panel(&mut panel[..k * COLUMNS], part, width);
            (panel.as_ptr(), COLUMNS)
        } else {
            (values.as_ptr(), b.strides.0)
        };
        for row in (0..m).step_by(rows) {
            let tile = Tile {
                a: a.values[row * a.strides.0..].as_ptr(),
                a_strides: a.strides,
                b: right.0,
                b_stride: right.1,
                out: out[row * n + column..].as_mut_ptr(),
                out_stride: n,
                terms: k,
                runs: (k, k),
                jumps: (0, 0),
                masks: masks(width),
                accumulate: block.accumulate,
            };
            // SAFETY: the tile's rows and columns are inside the matrices, and the masks keep what
            // is beyond `width` from being read or written.
            unsafe { run(rows.min(m - row), width, tile) };
        }
    }
}

/// out = windows b, or out + windows b; the caller has checked the sizes.
#[target_feature(enable = "avx512f")]
pub(super) fn multiply_windows(
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
            multiply_windows_by(out, block, windows, right, n, panel);
        }
    });
}

/// One block of terms: which, how many, and whether they are added to the output.
#[target_feature(enable = "avx512f")]
fn multiply_windows_by(
    out: &mut [f32],
    (first, k, accumulate): (usize, usize, bool),
    windows: Windows<'_>,
    b: Part<'_>,
    n: usize,
    panel: &mut Vec<f32>,
) {
    let Windows { count, step, .. } = windows;
    let pack = b.strides.1 != 1 || b.strides.0 > COLUMNS;
    if pack {
        reserve(panel, k * COLUMNS);
    }
    let rows = count.div_ceil(count.div_ceil(ROWS));
    let (run_index, inside) = (first / windows.run, first % windows.run);
    let start = run_index * windows.run_stride + inside;
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        let values = &b.values[column * b.strides.1..];
        let right = if pack {
            let part = Part { values, ..b };
            pack_panel(&mut panel[..k * COLUMNS], part, width);
            (panel.as_ptr(), COLUMNS)
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
                    masks: masks(width),
                    accumulate,
                };
                // SAFETY: the windows are inside their numbers and b has as many rows as they have
                // terms; the rows are of one line, and the masks end at the last column.
                unsafe { run(rows.min(count - x), width, tile) };
            }
        }
    }
}

/// out = a windows, or out + a windows, with the windows as rows; the caller has checked the sizes.
#[target_feature(enable = "avx512f")]
pub(super) fn multiply_by_windows(
    out: &mut [f32],
    (k_block, accumulate): (usize, bool),
    a: Part<'_>,
    m: usize,
    windows: Windows<'_>,
) {
    let Windows { count, step, .. } = windows;
    let (terms, columns) = (windows.positions(), windows.size());
    let rows = m.div_ceil(m.div_ceil(ROWS));
    for first in (0..terms).step_by(k_block) {
        let (line, x) = (first / count, first % count);
        let start = line * windows.line_stride + x * step;
        for index in 0..windows.runs {
            for column in (0..windows.run).step_by(COLUMNS) {
                let width = COLUMNS.min(windows.run - column);
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
                        masks: masks(width),
                        accumulate: accumulate || first > 0,
                    };
                    // SAFETY: the windows are inside their numbers and a has as many terms; the
                    // rows are inside the output, and the masks end at the run's last number.
                    unsafe { run(rows.min(m - row), width, tile) };
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_wrap, reason = "strides are sizes of slices")]
const fn difference(a: usize, b: usize) -> isize {
    a as isize - b as isize
}

/// The lanes of a tile's registers that `width` columns fill.
const fn masks(width: usize) -> [__mmask16; WIDTH] {
    [mask(width), mask(width.saturating_sub(LANES))]
}

/// The lanes of the first `count` numbers.
const fn mask(count: usize) -> __mmask16 {
    if count >= LANES {
        __mmask16::MAX
    } else {
        (1 << count) - 1
    }
}

/// Copies `width` columns of `b`; what is beyond them is never read.
fn pack_panel(panel: &mut [f32], b: Part<'_>, width: usize) {
    for (term, packed) in panel.chunks_exact_mut(COLUMNS).enumerate() {
        let row = &b.values[term * b.strides.0..];
        if let (Some(packed), Some(row), 1) = (
            packed.first_chunk_mut::<COLUMNS>(),
            row.first_chunk::<COLUMNS>(),
            b.strides.1,
        ) && width == COLUMNS
        {
            *packed = *row;
        } else if b.strides.1 == 1 {
            packed[..width].copy_from_slice(&row[..width]);
        } else {
            for (column, packed) in packed[..width].iter_mut().enumerate() {
                *packed = row[column * b.strides.1];
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn run(rows: usize, width: usize, at: Tile) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match (rows, width > LANES) {
                $(
                    // SAFETY: the caller's promise.
                    ($rows, true) => unsafe { tile::<$rows, 2>(at) },
                    // SAFETY: the caller's promise.
                    ($rows, false) => unsafe { tile::<$rows, 1>(at) },
                )*
                _ => unreachable!("a tile has 1 to {ROWS} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// `R` rows of `V` registers.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize, const V: usize>(at: Tile) {
    let mut sums: [[__m512; V]; R] = [[_mm512_setzero_ps(); V]; R];
    let (mut a, mut b) = (at.a, at.b);
    let (mut left, mut now) = (at.terms, at.runs.0.min(at.terms));
    // Wrapping, so that no checks stand between the multiply-adds where the profile has checks.
    loop {
        for _ in 0..now {
            let mut right = [_mm512_setzero_ps(); V];
            for (index, right) in right.iter_mut().enumerate() {
                let b = b.wrapping_add(index * LANES);
                // SAFETY: this term's row of b is there, and the mask ends at its last column.
                *right = unsafe { _mm512_maskz_loadu_ps(at.masks[index], b) };
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row and term are inside a.
                let left = unsafe { *a.wrapping_add(row.wrapping_mul(at.a_strides.0)) };
                let left = _mm512_set1_ps(left);
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
            a = a.wrapping_add(at.a_strides.1);
            b = b.wrapping_add(at.b_stride);
        }
        left -= now;
        if left == 0 {
            break;
        }
        a = a.wrapping_offset(at.jumps.0);
        b = b.wrapping_offset(at.jumps.1);
        now = at.runs.1.min(left);
    }
    for (row, sums) in sums.iter().enumerate() {
        for (index, &sum) in sums.iter().enumerate() {
            let mask = at.masks[index];
            // SAFETY: the row is inside the output, and the mask ends at its last column.
            unsafe {
                let out = at.out.add(row * at.out_stride + index * LANES);
                let sum = if at.accumulate {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(out, mask, sum);
            }
        }
    }
}
