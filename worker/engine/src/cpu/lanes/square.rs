#![expect(
    unsafe_code,
    reason = "loads and stores through pointers; the bounds are checked first"
)]
//! Transposes squares of 16 x 16 numbers in the registers of AVX-512.

use std::arch::x86_64::{
    _mm512_loadu_ps, _mm512_permutex2var_ps, _mm512_set_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Rows and columns of a square.
pub(crate) const SIZE: usize = 16;

/// Writes the transpose of the square at the start of `a`, whose rows are `stride` apart, to the
/// start of `out`, where they are `out_stride` apart.
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(out: &mut [f32], out_stride: usize, a: &[f32], stride: usize) {
    let reach = |stride: usize| (SIZE - 1) * stride + SIZE;
    assert!(
        a.len() >= reach(stride) && out.len() >= reach(out_stride),
        "a square is inside its matrices"
    );
    let low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    let high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    let mut rows = [_mm512_setzero_ps(); SIZE];
    for (index, row) in rows.iter_mut().enumerate() {
        // SAFETY: the assertion covers every row.
        *row = unsafe { _mm512_loadu_ps(a.as_ptr().add(index * stride)) };
    }
    // Interleaving the upper half's rows with the lower half's, four times over, transposes.
    for _ in 0..SIZE.ilog2() {
        let mut next = rows;
        for pair in 0..SIZE / 2 {
            let (upper, lower) = (rows[pair], rows[pair + SIZE / 2]);
            next[2 * pair] = _mm512_permutex2var_ps(upper, low, lower);
            next[2 * pair + 1] = _mm512_permutex2var_ps(upper, high, lower);
        }
        rows = next;
    }
    for (index, &row) in rows.iter().enumerate() {
        // SAFETY: the assertion covers every row.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(index * out_stride), row) };
    }
}
