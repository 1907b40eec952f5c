#![expect(
    unsafe_code,
    reason = "gemm takes raw pointers; the bounds are checked before the call"
)]
//! Matrix products.
//!
//! A product's element is defined as: per block of `k_block` terms, in order, a chain of fused
//! multiply-adds from zero; the blocks' sums added in order. gemm's blocked kernels compute just
//! that, and so do ours where there is AVX2 or AVX-512. gemm has other paths, for tiny and narrow products,
//! whose sums follow the vector width; those products are computed here instead. So no element
//! depends on instruction set, cache sizes or threads.

#[cfg(target_arch = "x86_64")]
mod tiles;
mod windows;

pub(crate) use windows::{Windows, has_windows, multiply_by_windows, multiply_windows};

use stoker_model::K_BLOCK;

use super::simd::{Level, simd};

/// Products up to this size may take gemm's horizontal path.
const HORIZONTAL_MAX: usize = 16 * 16;
/// Outputs computed side by side.
const LANES: usize = 16;

/// A matrix: row-major, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]`, row-major. `values` holds exactly these.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix is its values");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// `count` of its rows.
    pub(crate) fn rows_from(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows are inside the matrix");
        Self {
            values: &self.values[first * self.row_stride..],
            rows: count,
            ..self
        }
    }

    /// `count` of its columns.
    pub(crate) fn columns_from(self, first: usize, count: usize) -> Self {
        assert!(
            first + count <= self.columns,
            "columns are inside the matrix"
        );
        Self {
            values: &self.values[first * self.column_stride..],
            columns: count,
            ..self
        }
    }

    /// The transpose, without moving anything.
    pub(crate) const fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// out = a b, or out + a b; out is row-major.
pub(crate) fn multiply(
    level: Level,
    k_block: usize,
    out: &mut [f32],
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert_eq!(
        out.len(),
        a.rows * b.columns,
        "the output holds the product"
    );
    multiply_apart(level, k_block, (out, b.columns), accumulate, a, b);
}

/// The same with rows of the output that are `stride` apart.
pub(crate) fn multiply_apart(
    level: Level,
    k_block: usize,
    (out, stride): (&mut [f32], usize),
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert_eq!(a.columns, b.rows, "inner sizes agree");
    assert!(
        b.columns <= stride && (a.rows - 1) * stride + b.columns <= out.len(),
        "the output holds the product"
    );
    let mut first = 0;
    while first < a.columns {
        let k = k_block.min(a.columns - first);
        let block = Block {
            m: a.rows,
            n: b.columns,
            k,
            out_stride: stride,
            accumulate: accumulate || first > 0,
            a: Part {
                values: &a.values[first * a.column_stride..],
                strides: (a.row_stride, a.column_stride),
            },
            b: Part {
                values: &b.values[first * b.row_stride..],
                strides: (b.row_stride, b.column_stride),
            },
        };
        let horizontal =
            block.a.strides.1 == 1 && block.b.strides.0 == 1 && block.m * block.n <= HORIZONTAL_MAX;
        if block.m <= 1 || block.n <= 1 || k <= 2 || horizontal {
            direct(level, out, block);
        } else {
            blocked(level, out, block);
        }
        first += k;
    }
}

/// One block of terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    m: usize,
    n: usize,
    k: usize,
    out_stride: usize,
    accumulate: bool,
    a: Part<'a>,
    b: Part<'a>,
}

/// Columns of `a` or rows of `b` from some term on: (row, column) strides.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    values: &'a [f32],
    strides: (usize, usize),
}

/// Makes gemm find out about the caches and allocate what it keeps per thread.
pub(crate) fn warm_up() {
    const SIZE: usize = 80;
    // As many terms as a product sums at a time: what is packed will never be longer.
    let (a, mut out) = (vec![0.0; K_BLOCK * SIZE], vec![0.0; SIZE * SIZE]);
    let a = Matrix::new(&a, K_BLOCK, SIZE);
    for level in Level::available() {
        multiply(level, K_BLOCK, &mut out, false, a.transposed(), a);
    }
}

#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "gemm chooses by itself")
)]
fn blocked(level: Level, out: &mut [f32], block: Block<'_>) {
    let Block {
        m,
        n,
        k,
        out_stride,
        accumulate,
        a,
        b,
    } = block;
    let reach = |part: Part<'_>, rows: usize, columns: usize| {
        (rows - 1) * part.strides.0 + (columns - 1) * part.strides.1 < part.values.len()
    };
    assert!(
        reach(a, m, k) && reach(b, k, n) && (m - 1) * out_stride + n <= out.len(),
        "a block stays inside its matrices"
    );
    #[cfg(target_arch = "x86_64")]
    match level {
        // SAFETY: a level exists only where its instructions were detected.
        Level::Avx512 => return unsafe { tiles::multiply::<tiles::Avx512>(out, block) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { tiles::multiply::<tiles::Avx2>(out, block) },
        Level::Scalar => {}
    }
    #[expect(clippy::cast_possible_wrap, reason = "strides are sizes of slices")]
    let signed = |stride: usize| stride as isize;
    // SAFETY: the assertion covers every element that the strides reach; `out` is borrowed
    // mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            signed(out_stride),
            accumulate,
            a.values.as_ptr(),
            signed(a.strides.1),
            signed(a.strides.0),
            b.values.as_ptr(),
            signed(b.strides.1),
            signed(b.strides.0),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

simd! {
    /// The definition, sixteen outputs side by side: along a row, or along a column of a narrow
    /// product.
    fn direct(out: &mut [f32], block: Block<'_>) {
        let Block { m, n, k, out_stride, accumulate, a, b } = block;
        let along_row = n >= LANES || n >= m;
        let (outer, inner) = if along_row { (m, n) } else { (n, m) };
        for fixed in 0..outer {
            for start in (0..inner).step_by(LANES) {
                let lanes = LANES.min(inner - start);
                let mut sums = [0_f32; LANES];
                for p in 0..k {
                    if along_row {
                        let left = a.values[fixed * a.strides.0 + p * a.strides.1];
                        let right = &b.values[p * b.strides.0 + start * b.strides.1..];
                        for (lane, sum) in sums.iter_mut().enumerate().take(lanes) {
                            *sum = left.mul_add(right[lane * b.strides.1], *sum);
                        }
                    } else {
                        let right = b.values[p * b.strides.0 + fixed * b.strides.1];
                        let left = &a.values[start * a.strides.0 + p * a.strides.1..];
                        for (lane, sum) in sums.iter_mut().enumerate().take(lanes) {
                            *sum = left[lane * a.strides.0].mul_add(right, *sum);
                        }
                    }
                }
                for (lane, &sum) in sums.iter().enumerate().take(lanes) {
                    let at = if along_row { fixed * out_stride + start + lane } else { (start + lane) * out_stride + fixed };
                    out[at] = if accumulate { out[at] + sum } else { sum };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::{Purpose, Stream};

    fn numbers(count: usize, site: u16) -> Vec<f32> {
        let stream = Stream::new(1, Purpose::Init, site, 0);
        (0..count as u64)
            .map(|i| (stream.word64(i) as f64 / 2_f64.powi(63) - 1.0) as f32)
            .collect()
    }

    /// Every path gives the bits of the definition, at every shape and layout. So gemm's kernels
    /// and ours may be chosen by shape, and shapes may be cut, without a result changing.
    #[test]
    fn products_have_the_bits_of_their_definition() {
        let sizes = [1, 2, 3, 5, 8, 16, 17, 31, 64, 67, 131];
        let depths = [1, 2, 3, 4, 7, 64, 255, 512, 513, 514, 515, 1030];
        let levels = Level::available();
        let mut kinds = 0;
        for (index, &k) in depths.iter().enumerate() {
            for &m in &sizes {
                for &n in &sizes {
                    if (m * n * k) > 500_000 && (m + n + index) % 3 != 0 {
                        continue;
                    }
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    for layout in 0..4 {
                        let a = if layout & 1 == 0 {
                            Matrix::new(&a, m, k)
                        } else {
                            Matrix::new(&a, k, m).transposed()
                        };
                        let b = if layout & 2 == 0 {
                            Matrix::new(&b, k, n)
                        } else {
                            Matrix::new(&b, n, k).transposed()
                        };
                        for accumulate in [false, true] {
                            let start = numbers(m * n, 3);
                            let expected = definition(&start, accumulate, a, b);
                            for &level in &levels {
                                let mut out = start.clone();
                                multiply(level, 512, &mut out, accumulate, a, b);
                                let mut pairs = out.iter().zip(&expected);
                                let same = pairs.all(|(x, y)| x.to_bits() == y.to_bits());
                                let what = format!("m {m}, n {n}, k {k}, layout {layout}");
                                assert!(same, "{level:?}, {what}, {accumulate}");
                            }
                            kinds += 1;
                        }
                    }
                }
            }
        }
        assert!(kinds > 5_000);
    }

    fn definition(start: &[f32], accumulate: bool, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
        let mut out = start.to_vec();
        for i in 0..a.rows {
            for j in 0..b.columns {
                let mut total = accumulate.then_some(start[i * b.columns + j]);
                for first in (0..a.columns).step_by(512) {
                    let mut sum = 0_f32;
                    for p in first..a.columns.min(first + 512) {
                        let left = a.values[i * a.row_stride + p * a.column_stride];
                        sum = left.mul_add(b.values[p * b.row_stride + j * b.column_stride], sum);
                    }
                    total = Some(total.map_or(sum, |total| total + sum));
                }
                out[i * b.columns + j] = total.unwrap();
            }
        }
        out
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for (m, n, k) in [(1, 37, 600), (53, 1, 77), (7, 9, 513), (40, 20, 2)] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            let product = |level| {
                let mut out = vec![0.0; m * n];
                let b = Matrix::new(&b, n, k).transposed();
                multiply(level, 512, &mut out, false, Matrix::new(&a, m, k), b);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            for level in Level::available() {
                assert_eq!(product(level), product(Level::Scalar), "{level:?}");
            }
        }
    }
}
