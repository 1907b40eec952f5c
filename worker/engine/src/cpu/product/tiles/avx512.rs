#![expect(
    unsafe_code,
    reason = "the loop is written for the machine, whose registers a compiler spills"
)]
//! Tiles in the registers of AVX-512.
//!
//! The loop over terms is in assembly, since compilers load the left matrix's numbers of all rows before the first
//! multiply-add, and then have no registers left for the sums.

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_setzero_ps,
};

use super::{Tile, Tiles, each_run};
use crate::cpu::simd::Level;

/// Floats of a register.
const LANES: usize = 16;

/// Twelve rows of two registers: 24 sums of the 32 registers.
pub(in crate::cpu::product) enum Avx512 {}

impl Tiles for Avx512 {
    const LEVEL: Level = Level::Avx512;
    const ROWS: usize = 12;
    const COLUMNS: usize = 2 * LANES;

    unsafe fn run(rows: usize, at: Tile) {
        // SAFETY: the caller's promise.
        unsafe { run(rows, at) }
    }
}

#[target_feature(enable = "avx512f")]
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
                _ => unreachable!("a tile has 1 to {} rows", Avx512::ROWS),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// `R` rows of `V` registers.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize, const V: usize>(at: Tile)
where
    Sums<R, V>: Terms,
{
    let masks = [mask(at.width), mask(at.width.saturating_sub(LANES))];
    let mut sums = Sums([[_mm512_setzero_ps(); V]; R]);
    // SAFETY: the terms are inside the matrices, and the masks end at the last column.
    each_run(&at, |a, b, count| unsafe {
        sums.add(a, b, count, &at, masks)
    });
    for (row, sums) in sums.0.iter().enumerate() {
        for (index, &sum) in sums.iter().enumerate() {
            let mask = masks[index];
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

/// The lanes of the first `count` numbers.
const fn mask(count: usize) -> __mmask16 {
    if count >= LANES {
        __mmask16::MAX
    } else {
        (1 << count) - 1
    }
}

/// The sums of `R` rows of `V` registers.
struct Sums<const R: usize, const V: usize>([[__m512; V]; R]);

/// What adds terms to sums.
trait Terms {
    /// Adds `count` terms from a and b on, one at a time and in order.
    ///
    /// # Safety
    /// `count` is above 0, AVX-512 is there, and so many terms of the masks' columns are inside the
    /// matrices.
    unsafe fn add(
        &mut self,
        a: *const f32,
        b: *const f32,
        count: usize,
        at: &Tile,
        masks: [__mmask16; 2],
    );
}

/// The loop over as many rows as are given: where each one's number is, and the registers of its
/// sums.
macro_rules! terms {
    ($(($row:literal $place:literal $first:tt $second:tt))*) => {
        terms! {
            $($row)*, 2,
            [
                "vmovups zmm0{{{m0}}}{{z}}, zmmword ptr [{b}]",
                "vmovups zmm1{{{m1}}}{{z}}, zmmword ptr [{b} + 64]",
                $(
                    concat!("vbroadcastss zmm2, dword ptr [", $place, "]"),
                    concat!("vfmadd231ps ", $first, ", zmm2, zmm0"),
                    concat!("vfmadd231ps ", $second, ", zmm2, zmm1"),
                )*
            ]
            [$($row 0 $first)* $($row 1 $second)*]
        }
        terms! {
            $($row)*, 1,
            [
                "vmovups zmm0{{{m0}}}{{z}}, zmmword ptr [{b}]",
                $(concat!("vfmadd231ps ", $first, ", zmm0, dword ptr [", $place, "]{{1to16}}"),)*
            ]
            [$($row 0 $first)*]
        }
    };
    ($($rows:literal)*, $registers:literal, [$($code:tt)*] [$($row:literal $index:literal $sum:tt)*]) => {
        impl Terms for Sums<{ [$($rows),*].len() }, $registers> {
            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn add(&mut self, a: *const f32, b: *const f32, count: usize, at: &Tile, masks: [__mmask16; 2]) {
                let Self(sums) = self;
                // SAFETY: reads what the caller promises, and writes to registers alone.
                unsafe {
                    asm!(
                        "# {a6} {s} {s3} {s5} {m1}",
                        "2:",
                        $($code)*
                        "add {a}, {a_step}",
                        "add {a6}, {a_step}",
                        "add {b}, {b_step}",
                        "dec {count}",
                        "jnz 2b",
                        a = inout(reg) a => _,
                        a6 = inout(reg) a.wrapping_add(6 * at.a_strides.0) => _,
                        s = in(reg) 4 * at.a_strides.0,
                        s3 = in(reg) 12 * at.a_strides.0,
                        s5 = in(reg) 20 * at.a_strides.0,
                        a_step = in(reg) 4 * at.a_strides.1,
                        b = inout(reg) b => _,
                        b_step = in(reg) 4 * at.b_stride,
                        count = inout(reg) count => _,
                        m0 = in(kreg) masks[0],
                        m1 = in(kreg) masks[1],
                        $(inout($sum) sums[$row][$index],)*
                        out("zmm0") _, out("zmm1") _, out("zmm2") _,
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

// `s`, `s3` and `s5` are one, three and five rows on, `a6` is six.
up_to!([]
    (0 "{a}" "zmm8" "zmm9")
    (1 "{a} + {s}" "zmm10" "zmm11")
    (2 "{a} + {s}*2" "zmm12" "zmm13")
    (3 "{a} + {s3}" "zmm14" "zmm15")
    (4 "{a} + {s}*4" "zmm16" "zmm17")
    (5 "{a} + {s5}" "zmm18" "zmm19")
    (6 "{a6}" "zmm20" "zmm21")
    (7 "{a6} + {s}" "zmm22" "zmm23")
    (8 "{a6} + {s}*2" "zmm24" "zmm25")
    (9 "{a6} + {s3}" "zmm26" "zmm27")
    (10 "{a6} + {s}*4" "zmm28" "zmm29")
    (11 "{a6} + {s5}" "zmm30" "zmm31")
);
