//! Shapes of one row between layers.

use std::fmt;

use crate::limits::product;
use crate::plan::Order;

/// What one row looks like. Images are stored with their channels last, whatever order the user's
/// data and PyTorch have, so that a window of a convolution is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[features]`. `image` tells that the features are a flattened image, still with its
    /// channels last: (channels, positions).
    Flat {
        features: usize,
        image: Option<(usize, usize)>,
    },
    /// `[length, features]`, stored so.
    Sequence { length: usize, features: usize },
    /// `[channels, height, width]`.
    Image {
        channels: usize,
        height: usize,
        width: usize,
    },
}

impl Shape {
    pub(crate) const fn flat(features: usize) -> Self {
        Self::Flat {
            features,
            image: None,
        }
    }

    /// Numbers per row, or nothing beyond the limit.
    pub(crate) fn floats(self) -> Option<usize> {
        match self {
            Self::Flat { features, .. } => product(&[features]),
            Self::Sequence { length, features } => product(&[length, features]),
            Self::Image {
                channels,
                height,
                width,
            } => product(&[channels, height, width]),
        }
    }

    /// How a parameter with an entry for each feature of a flat row is stored.
    pub(crate) const fn order(self) -> Order {
        match self {
            Self::Flat {
                image: Some((channels, positions)),
                ..
            } => Order::ChannelsLast {
                channels,
                positions,
            },
            _ => Order::RowMajor,
        }
    }

    /// The same numbers in one dimension.
    pub(crate) const fn flatten(self) -> Self {
        match self {
            Self::Flat { .. } => self,
            Self::Sequence { length, features } => Self::flat(length * features),
            Self::Image {
                channels,
                height,
                width,
            } => {
                let positions = height * width;
                let permuted = channels > 1 && positions > 1;
                Self::Flat {
                    features: channels * positions,
                    image: if permuted {
                        Some((channels, positions))
                    } else {
                        None
                    },
                }
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat { features, .. } => write!(f, "[{features}]"),
            Self::Sequence { length, features } => write!(f, "[{length}, {features}]"),
            Self::Image {
                channels,
                height,
                width,
            } => write!(f, "[{channels}, {height}, {width}]"),
        }
    }
}
