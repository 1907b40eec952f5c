//! Products with the windows of an image, read where they lie and not unfolded: with AVX2 or AVX-512.
//! By the definition of a product it gives the bits of the product with unfolded windows.

use super::Matrix;
#[cfg(target_arch = "x86_64")]
use super::{Part, tiles};
use crate::cpu::simd::Level;

/// Windows of an image: lines of them, each window some runs of neighbouring numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows<'a> {
    /// The numbers from the first window on.
    pub(crate) values: &'a [f32],
    /// Lines, and floats from one to the next.
    pub(crate) lines: usize,
    pub(crate) line_stride: usize,
    /// Windows of a line, and floats from one to the next.
    pub(crate) count: usize,
    pub(crate) step: usize,
    /// Runs of a window, floats from one to the next, and numbers of each.
    pub(crate) runs: usize,
    pub(crate) run_stride: usize,
    pub(crate) run: usize,
}

impl Windows<'_> {
    /// Numbers of one window.
    pub(crate) const fn size(&self) -> usize {
        self.runs * self.run
    }

    /// Windows in all.
    pub(crate) const fn positions(&self) -> usize {
        self.lines * self.count
    }

    /// The same windows in one line, where the lines follow one another.
    pub(crate) const fn in_line(self) -> Self {
        if self.line_stride == self.count * self.step {
            Self {
                lines: 1,
                count: self.positions(),
                ..self
            }
        } else {
            self
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn check(&self) {
        let end = (self.lines - 1) * self.line_stride
            + (self.count - 1) * self.step
            + (self.runs - 1) * self.run_stride
            + self.run;
        assert!(
            end <= self.values.len(),
            "the windows are inside the numbers"
        );
    }
}

/// Whether products with windows can be had.
pub(crate) const fn has_windows(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        matches!(level, Level::Avx2 | Level::Avx512)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        false
    }
}

/// out = windows b, or out + windows b: `[positions, columns of b]`. Needs [`has_windows`].
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "never called")
)]
pub(crate) fn multiply_windows(
    level: Level,
    k_block: usize,
    out: &mut [f32],
    accumulate: bool,
    windows: Windows<'_>,
    b: Matrix<'_>,
) {
    assert!(has_windows(level), "the instructions are there");
    #[cfg(target_arch = "x86_64")]
    {
        windows.check();
        assert_eq!(windows.size(), b.rows, "inner sizes agree");
        assert_eq!(
            out.len(),
            windows.positions() * b.columns,
            "the output holds the product"
        );
        let part = Part {
            values: b.values,
            strides: (b.row_stride, b.column_stride),
        };
        let kind = (k_block, accumulate);
        match level {
            // SAFETY: a level exists only where its instructions were detected.
            Level::Avx512 => unsafe {
                tiles::multiply_windows::<tiles::Avx512>(out, kind, windows, part, b.columns)
            },
            // SAFETY: as above.
            _ => unsafe {
                tiles::multiply_windows::<tiles::Avx2>(out, kind, windows, part, b.columns)
            },
        }
    }
}

/// out = a windows, or out + a windows: `[rows of a, numbers of a window]`. Needs [`has_windows`].
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "never called")
)]
pub(crate) fn multiply_by_windows(
    level: Level,
    k_block: usize,
    out: &mut [f32],
    accumulate: bool,
    a: Matrix<'_>,
    windows: Windows<'_>,
) {
    assert!(has_windows(level), "the instructions are there");
    #[cfg(target_arch = "x86_64")]
    {
        windows.check();
        assert_eq!(a.columns, windows.positions(), "inner sizes agree");
        assert_eq!(
            out.len(),
            a.rows * windows.size(),
            "the output holds the product"
        );
        let part = Part {
            values: a.values,
            strides: (a.row_stride, a.column_stride),
        };
        let kind = (k_block, accumulate);
        match level {
            // SAFETY: a level exists only where its instructions were detected.
            Level::Avx512 => unsafe {
                tiles::multiply_by_windows::<tiles::Avx512>(out, kind, part, a.rows, windows)
            },
            // SAFETY: as above.
            _ => unsafe {
                tiles::multiply_by_windows::<tiles::Avx2>(out, kind, part, a.rows, windows)
            },
        }
    }
}
