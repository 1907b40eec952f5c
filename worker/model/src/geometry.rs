//! Sizes that operations work with: where windows lie, how heads are laid out.

use serde::{Deserialize, Serialize};

/// Geometry of a convolution. Images are `[height, width, channels]`; a sequence is one of width 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv {
    /// Input channels.
    pub in_channels: usize,
    /// Input height.
    pub in_height: usize,
    /// Input width.
    pub in_width: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Output height.
    pub out_height: usize,
    /// Output width.
    pub out_width: usize,
    /// Height of the kernel, and its width unless `line`.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Zeros above, and on the left unless `line`. Those below and on the right follow from the
    /// size of the output.
    pub padding: usize,
    /// What is unfolded at a time.
    pub tile: Tile,
    /// Whether the kernel is 1 wide, with no padding beside it: over sequences.
    #[serde(default, skip_serializing_if = "is_default")]
    pub line: bool,
    /// Rows and columns from one number of a window to the next, less 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gap: usize,
    /// Parts of the channels that see nothing of each other, less 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cuts: usize,
}

/// Whether a field may be left out of a plan's form, and so of its hash.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The part of a batch whose windows are unfolded at a time: whole images, or rows of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Images.
    pub images: usize,
    /// Output rows of each image; all of them when `images` is above 1.
    pub rows: usize,
}

impl Conv {
    /// Width of the kernel.
    #[must_use]
    #[inline]
    pub const fn kernel_width(&self) -> usize {
        if self.line { 1 } else { self.kernel }
    }

    /// Zeros on the left.
    #[must_use]
    #[inline]
    pub const fn padding_left(&self) -> usize {
        if self.line { 0 } else { self.padding }
    }

    /// Rows and columns from one number of a window to the next.
    #[must_use]
    #[inline]
    pub const fn dilation(&self) -> usize {
        self.gap + 1
    }

    /// Parts of the channels that see nothing of each other.
    #[must_use]
    #[inline]
    pub const fn groups(&self) -> usize {
        self.cuts + 1
    }

    /// Input channels of one part.
    #[must_use]
    #[inline]
    pub const fn group_inputs(&self) -> usize {
        self.in_channels / self.groups()
    }

    /// Output channels of one part.
    #[must_use]
    #[inline]
    pub const fn group_outputs(&self) -> usize {
        self.out_channels / self.groups()
    }

    /// Whether each channel is by itself.
    #[must_use]
    #[inline]
    pub const fn is_depthwise(&self) -> bool {
        self.cuts > 0 && self.groups() == self.in_channels && self.groups() == self.out_channels
    }

    /// Numbers in one window of one part.
    #[must_use]
    #[inline]
    pub const fn window(&self) -> usize {
        self.kernel * self.kernel_width() * self.group_inputs()
    }

    /// Numbers in one output image.
    #[must_use]
    #[inline]
    pub const fn out_floats(&self) -> usize {
        self.positions() * self.out_channels
    }

    /// Numbers in one input image.
    #[must_use]
    #[inline]
    pub const fn in_floats(&self) -> usize {
        self.in_height * self.in_width * self.in_channels
    }

    /// Output positions of one image.
    #[must_use]
    #[inline]
    pub const fn positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Numbers in the unfolded windows of one tile, with the outputs of one part where there is
    /// more than one. A depthwise convolution unfolds nothing, but has its weight transposed.
    #[must_use]
    #[inline]
    pub const fn tile_floats(&self) -> usize {
        if self.is_depthwise() {
            return self.window() * self.out_channels;
        }
        let outputs = if self.cuts > 0 {
            self.group_outputs()
        } else {
            0
        };
        self.tile.images * self.tile.rows * self.out_width * (self.window() + outputs)
    }
}

/// Geometry of a pooling. Images are `[height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Channels.
    pub channels: usize,
    /// Input height.
    pub in_height: usize,
    /// Input width.
    pub in_width: usize,
    /// Output height.
    pub out_height: usize,
    /// Output width.
    pub out_width: usize,
    /// Height of the window, and its width unless `line`.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Rows and columns on each side that aren't there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: usize,
    /// Whether the window is 1 wide: over sequences, as images of width 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub line: bool,
}

impl Pool {
    /// Numbers in one window of a channel, padding included.
    #[must_use]
    #[inline]
    pub const fn window(&self) -> usize {
        self.kernel * if self.line { 1 } else { self.kernel }
    }
}

/// Geometry of an enlargement. Images are `[height, width, channels]`; a sequence is one of width
/// 1, which stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upsample {
    /// Channels.
    pub channels: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Output rows per input row, and columns per column unless `line`.
    pub factor: usize,
    /// Whether the width stays.
    #[serde(default, skip_serializing_if = "is_default")]
    pub line: bool,
    /// Whether it is linear between the numbers, and not the nearest one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub linear: bool,
}

impl Upsample {
    /// Output columns per input column.
    #[must_use]
    #[inline]
    pub const fn factor_x(&self) -> usize {
        if self.line { 1 } else { self.factor }
    }

    /// Numbers in one input image.
    #[must_use]
    #[inline]
    pub const fn in_floats(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Numbers in one output image.
    #[must_use]
    #[inline]
    pub const fn out_floats(&self) -> usize {
        self.in_floats() * self.factor * self.factor_x()
    }
}

/// Some of the numbers of each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Numbers of a position in all.
    pub of: usize,
    /// The first one of the part.
    pub first: usize,
    /// Numbers in the part.
    pub count: usize,
}

/// Geometry of self-attention over `[length, (heads + 2 kv_heads) head_floats]`: the queries of
/// all heads, then the keys, then the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// Positions.
    pub length: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Numbers per head and position.
    pub head_floats: usize,
    /// Whether a position sees itself and those before it only.
    pub causal: bool,
}

impl Attention {
    /// Numbers per position that go in.
    #[must_use]
    #[inline]
    pub const fn in_features(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_floats
    }

    /// Numbers per position that come out.
    #[must_use]
    #[inline]
    pub const fn out_features(&self) -> usize {
        self.heads * self.head_floats
    }

    /// Floats of one head at all positions.
    #[must_use]
    #[inline]
    pub const fn head(&self) -> usize {
        self.length * self.head_floats
    }

    /// Scratch of one group: a head's queries, keys, values and output with their gradients, and
    /// the gradient of its probabilities.
    #[must_use]
    #[inline]
    pub const fn scratch_floats(&self) -> usize {
        7 * self.head() + self.length * self.length
    }
}
