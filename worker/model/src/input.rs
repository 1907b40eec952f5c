//! What a model is fed: the compiler's only knowledge of the data.

use serde::{Deserialize, Serialize};
use stoker_domain::error::nearest;

use crate::geometry::Span;

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
    /// The feature columns in order, for models that tell them apart. Not part of a plan: it holds
    /// what became of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<InputColumn>,
    /// What is predicted.
    pub target: Target,
}

/// A feature column: where its numbers are in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputColumn {
    /// Its name in the data set.
    pub name: String,
    /// Its first number.
    pub first: usize,
    /// Its numbers.
    pub width: usize,
    /// One more than the largest value, where all are whole numbers from 0.
    pub vocabulary: Option<usize>,
}

impl InputDescription {
    /// The vocabulary of some of the numbers of a row: the largest one of the columns that they
    /// are in, where each of those has one. Where no columns are known, that of all features.
    pub(crate) fn vocabulary_of(&self, spans: &[Span]) -> Option<usize> {
        if self.columns.is_empty() {
            return self.vocabulary;
        }
        let touched = self.columns.iter().filter(|column| {
            let overlap = |span: &Span| {
                span.first < column.first + column.width && column.first < span.first + span.count
            };
            spans.iter().any(overlap)
        });
        let vocabularies: Option<Vec<usize>> = touched.map(|column| column.vocabulary).collect();
        vocabularies?.into_iter().max()
    }

    /// The feature column of that name.
    ///
    /// # Errors
    /// When there is none, with the nearest name.
    pub(crate) fn column(&self, name: &str) -> Result<&InputColumn, String> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let found = self.columns.iter().find(|column| column.name == name);
        found.ok_or_else(|| match nearest(name, names()) {
            Some(near) => format!("no feature column `{name}`; did you mean `{near}`?"),
            None => format!(
                "no feature column `{name}` among the {} of data.features",
                self.columns.len()
            ),
        })
    }
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

    /// Numbers per row of the data: classes or values.
    #[must_use]
    pub const fn numbers(self) -> usize {
        match self {
            Self::Classes(_) => 1,
            Self::Sequence { positions, .. } | Self::Masked { positions, .. } => positions,
            Self::Values(values) | Self::Quantiles { values, .. } => values,
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
