//! The plan: all that a device needs to run a job's steps, and nothing of the host.

use serde::{Deserialize, Serialize};
use stoker_domain::spec::TrainSpec;

use crate::ends::Ends;
use crate::input::InputDescription;
use crate::lengths::Padding;
use crate::op::{Kernel, ValueId};

/// Version tag of a plan, part of its hash: raised when the same plan would give other bits.
pub(crate) const VERSION: u16 = 1;
/// Products are summed over at most this many terms at a time, in order. gemm never cuts a product
/// of up to 512 terms itself, so no result depends on the host's caches.
pub(crate) const K_BLOCK: usize = 512;

/// Ordered kernels over one arena, for virtual shards of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the plan's form and of the kernels' arithmetic.
    pub version: u16,
    /// How it is trained.
    pub train: TrainSpec,
    /// What it is fed.
    pub input: InputDescription,
    /// Rows of one virtual shard; a shard with fewer is padded.
    pub rows: usize,
    /// Virtual shards of an optimiser step.
    pub shards: usize,
    /// Numbers per row that the model gives.
    pub outputs: usize,
    /// Terms of a product that are summed at a time.
    pub k_block: usize,
    /// The parameters, in the order of the model.
    pub parameters: Vec<Parameter>,
    /// Floats of all parameters in one buffer, padding between them included.
    pub parameter_floats: usize,
    /// The values in the arena.
    pub values: Vec<Value>,
    /// Floats of the arena: of a plan with shorter ones what the largest of them takes.
    pub arena_floats: usize,
    /// Where the rows go in: `[rows, width]`.
    pub features: ValueId,
    /// Where the model's outputs come out: `[rows, outputs]`.
    pub scores: ValueId,
    /// The gradient of the loss's sum by `scores`, which the loss writes.
    pub score_gradient: ValueId,
    /// From `features` to `scores`.
    pub forward: Vec<Kernel>,
    /// From `score_gradient` to the parameters' gradients.
    pub backward: Vec<Kernel>,
    /// How rows end; without it all have the full length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
    /// The same on shorter rows, ascending, over the same parameters. A batch runs by the first
    /// that holds its longest row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shorter: Vec<Self>,
}

impl Plan {
    /// BLAKE3 of the plan, as lower-case hex. Equal plans on one engine build and device class
    /// give equal weights.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&json).to_hex().to_string()
    }

    /// The plan for rows of `width` numbers: this one, or a shorter one.
    #[must_use]
    pub fn of_width(&self, width: usize) -> &Self {
        let mut shorter = self.shorter.iter();
        shorter
            .find(|plan| plan.input.width == width)
            .unwrap_or(self)
    }
}

/// A buffer in the arena. Two values share memory when they never live at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// The layer that makes it, or whose gradient it is.
    pub name: String,
    /// Floats per row of the shard; 0 for scratch.
    pub row_floats: usize,
    /// Its size in floats.
    pub floats: usize,
    /// Where it starts in the arena, in floats.
    pub offset: usize,
    /// Where its rows end, where it holds positions of rows that do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
}

/// A parameter of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name in a PyTorch state dict, as in `layers.0.weight`.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub order: Order,
    /// Where it starts in the parameter buffer, in floats.
    pub offset: usize,
    /// Its size in floats.
    pub floats: usize,
    /// How it starts.
    pub init: Init,
}

/// How a parameter is stored, seen from PyTorch's row-major form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As there.
    RowMajor,
    /// `[outputs, channels, positions]` stored as `[outputs, positions, channels]`.
    ChannelsLast {
        /// Size of the dimension that goes last.
        channels: usize,
        /// Size of the dimension before it.
        positions: usize,
    },
}

impl Order {
    /// Where the number at `index` of PyTorch's form is stored.
    #[must_use]
    pub const fn stored_index(self, index: usize) -> usize {
        match self {
            Self::RowMajor => index,
            Self::ChannelsLast {
                channels,
                positions,
            } => {
                let (row, rest) = (
                    index / (channels * positions),
                    index % (channels * positions),
                );
                let (channel, position) = (rest / positions, rest % positions);
                (row * positions + position) * channels + channel
            }
        }
    }
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Uniform in -bound up to, not including, bound. PyTorch's default for linear and convolution
    /// layers (Kaiming uniform with a = √5) has the bound 1 / √fan_in, for weights and biases.
    Uniform {
        /// The bound.
        bound: f32,
    },
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        deviation: f32,
    },
    /// The same number everywhere.
    Constant {
        /// The number.
        value: f32,
    },
}
