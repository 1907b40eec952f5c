#![expect(
    unsafe_code,
    reason = "the loop is written for the machine, whose registers a compiler spills"
)]
//! Tiles in the registers of AVX2: as those of AVX-512, with half the columns and half the rows.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm256_setzero_ps,
};

use super::{Tile, Tiles, each_run};
use crate::cpu::simd::Level;

/// Floats of a register.
const LANES: usize = 8;

/// Six rows of two registers: 12 sums of the 16 registers.
pub(in crate::cpu::product) enum Avx2 {}

impl Tiles for Avx2 {
    const LEVEL: Level = Level::Avx2;
    const ROWS: usize = 6;
    const COLUMNS: usize = 2 * LANES;

    unsafe fn run(rows: usize, at: Tile) {
        // SAFETY: the caller's promise.
        unsafe { run(rows, at) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn run(rows: usize, at: Tile) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match (rows, at.width > LANES) {
                $(
                    // SAFETY: the caller's promise.
                    ($rows, true) => unsafe { tile::<$rows, 2>(at) },
                    // SAFETY: the caller's promise.
                    ($rows, false) => unsafe { tile::<$rows, 1>(at) },
                )*
                _ => unreachable!("a tile has 1 to {} rows", Avx2::ROWS),
            }
        };
    }
    by_rows!(1 2 3 4 5 6);
}

/// `R` rows of `V` registers.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const V: usize>(at: Tile)
where
    Sums<R, V>: Terms,
{
    let masks = [mask(at.width), mask(at.width.saturating_sub(LANES))];
    let mut sums = Sums([[_mm256_setzero_ps(); V]; R]);
    // SAFETY: the terms are inside the matrices, and the last mask ends at the last column.
    each_run(&at, |a, b, count| unsafe {
        sums.add(a, b, count, &at, masks[V - 1]);
    });
    for (row, sums) in sums.0.iter().enumerate() {
        for (index, &sum) in sums.iter().enumerate() {
            let mask = masks[index];
            // SAFETY: the row is inside the output, and the mask ends at its last column.
            unsafe {
                let out = at.out.add(row * at.out_stride + index * LANES);
                let sum = if at.accumulate {
                    _mm256_add_ps(_mm256_maskload_ps(out, mask), sum)
                } else {
                    sum
                };
                _mm256_maskstore_ps(out, mask, sum);
            }
        }
    }
}

/// The lanes of the first `count` numbers.
#[target_feature(enable = "avx2")]
fn mask(count: usize) -> __m256i {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes)
}

/// The sums of `R` rows of `V` registers.
struct Sums<const R: usize, const V: usize>([[__m256; V]; R]);

/// What adds terms to sums.
trait Terms {
    /// Adds `count` terms from a and b on, one at a time and in order. The mask is that of the last
    /// register of b's columns.
    ///
    /// # Safety
    /// `count` is above 0, AVX2 is there, and so many terms are inside the matrices.
    unsafe fn add(&mut self, a: *const f32, b: *const f32, count: usize, at: &Tile, mask: __m256i);
}

/// The loop over as many rows as are given: where each one's number is, and the registers of its
/// sums.
macro_rules! terms {
    ($(($row:literal $place:literal $first:tt $second:tt))*) => {
        terms! {
            $($row)*, 2,
            [
                "vmovups ymm0, ymmword ptr [{b}]",
                "vmaskmovps ymm1, ymm3, ymmword ptr [{b} + 32]",
                $(
                    concat!("vbroadcastss ymm2, dword ptr [", $place, "]"),
                    concat!("vfmadd231ps ", $first, ", ymm2, ymm0"),
                    concat!("vfmadd231ps ", $second, ", ymm2, ymm1"),
                )*
            ]
            [$($row 0 $first)* $($row 1 $second)*]
        }
        terms! {
            $($row)*, 1,
            [
                "vmaskmovps ymm0, ymm3, ymmword ptr [{b}]",
                $(
                    concat!("vbroadcastss ymm2, dword ptr [", $place, "]"),
                    concat!("vfmadd231ps ", $first, ", ymm2, ymm0"),
                )*
            ]
            [$($row 0 $first)*]
        }
    };
    ($($rows:literal)*, $registers:literal, [$($code:tt)*] [$($row:literal $index:literal $sum:tt)*]) => {
        impl Terms for Sums<{ [$($rows),*].len() }, $registers> {
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn add(&mut self, a: *const f32, b: *const f32, count: usize, at: &Tile, mask: __m256i) {
                let Self(sums) = self;
                // SAFETY: reads what the caller promises, and writes to registers alone.
                unsafe {
                    asm!(
                        "# {s} {s3} {s5}",
                        "2:",
                        $($code)*
                        "add {a}, {a_step}",
                        "add {b}, {b_step}",
                        "dec {count}",
                        "jnz 2b",
                        a = inout(reg) a => _,
                        s = in(reg) 4 * at.a_strides.0,
                        s3 = in(reg) 12 * at.a_strides.0,
                        s5 = in(reg) 20 * at.a_strides.0,
                        a_step = in(reg) 4 * at.a_strides.1,
                        b = inout(reg) b => _,
                        b_step = in(reg) 4 * at.b_stride,
                        count = inout(reg) count => _,
                        in("ymm3") mask,
                        $(inout($sum) sums[$row][$index],)*
                        out("ymm0") _, out("ymm1") _, out("ymm2") _,
                        options(nostack, readonly),
                    );
                }
            }
        }
    };
}

/// The loops over the first row, the first two, and so on.
macro_rules! up_to {
    ([$($rows:tt)*]) => {};
    ([$($rows:tt)*] $row:tt $($more:tt)*) => {
        terms!($($rows)* $row);
        up_to!([$($rows)* $row] $($more)*);
    };
}

// `s`, `s3` and `s5` are one, three and five rows on.
up_to!([]
    (0 "{a}" "ymm4" "ymm5")
    (1 "{a} + {s}" "ymm6" "ymm7")
    (2 "{a} + {s}*2" "ymm8" "ymm9")
    (3 "{a} + {s3}" "ymm10" "ymm11")
    (4 "{a} + {s}*4" "ymm12" "ymm13")
    (5 "{a} + {s5}" "ymm14" "ymm15")
);
