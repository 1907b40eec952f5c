//! What a model is fed: the compiler's only knowledge of the data.

use serde::{Deserialize, Serialize};

/// One row of features and of the target, as shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDescription {
    /// Numbers per row, over all feature columns in order.
    pub width: usize,
    /// Shape of one row: `[width]`, or a single column's own shape as in `[3, 32, 32]`.
    pub shape: Vec<usize>,
    /// One more than the largest value of the features, where all are whole numbers from 0: the
    /// vocabulary of token ids.
    pub vocabulary: Option<usize>,
    /// What is predicted.
    pub target: Target,
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A class, 0 up to, not including, this count.
    Classes(usize),
    /// A class at each position of a sequence.
    Sequence {
        /// Classes are 0 up to, not including, this count.
        classes: usize,
        /// Positions per row.
        positions: usize,
    },
    /// The token at some positions of the features, which are masked there; the others count for
    /// nothing.
    Masked {
        /// Token ids are 0 up to, not including, this count.
        classes: usize,
        /// Positions per row.
        positions: usize,
    },
    /// This many numbers.
    Values(usize),
    /// So many numbers, each predicted by its quantiles.
    Quantiles {
        /// Numbers per row.
        values: usize,
        /// Quantiles of each.
        levels: usize,
    },
}

impl Target {
    /// Outputs of the model: a score per class, or a prediction per number.
    #[must_use]
    pub const fn outputs(self) -> usize {
        match self {
            Self::Classes(count) | Self::Values(count) => count,
            Self::Sequence { classes, positions } | Self::Masked { classes, positions } => {
                classes * positions
            }
            Self::Quantiles { values, levels } => values * levels,
        }
    }

    /// Whether there is a class at each position of a row.
    #[must_use]
    pub const fn per_position(self) -> bool {
        matches!(self, Self::Sequence { .. } | Self::Masked { .. })
    }

    /// Predictions per row, each of `outputs() / positions()` numbers: 1 but for sequences.
    #[must_use]
    pub const fn positions(self) -> usize {
        match self {
            Self::Classes(_) | Self::Values(_) | Self::Quantiles { .. } => 1,
            Self::Sequence { positions, .. } | Self::Masked { positions, .. } => positions,
        }
    }
}
