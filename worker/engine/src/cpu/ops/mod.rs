//! The plan's operations on the CPU, one module per kind.
//!
//! Each cuts its rows into the groups of the plan and hands them to the thread pool that it is
//! called in. Within a group all is sequential, and what is summed over groups is added in their
//! order.

mod attention;
mod conv;
mod depthwise;
mod elementwise;
mod embedding;
mod linear;
mod mask;
mod norm;
mod pool;

use rayon::prelude::*;
use stoker_domain::spec::Activation;
use stoker_model::{Ends, GROUPS_MAX, Kernel, Op, ParameterId, Plan, ValueId};

use super::lanes;
use super::simd::Level;
use super::views::Arena;
use crate::philox::{Purpose, Stream};

/// What a kernel works on.
pub(crate) struct Context<'a> {
    pub(crate) level: Level,
    pub(crate) arena: Arena<'a>,
    pub(crate) weights: &'a [f32],
    /// Gradients of the parameters, written by the way back.
    pub(crate) gradients: &'a mut [f32],
    /// Whether dropout drops.
    pub(crate) train: bool,
    /// Steps made before this one.
    pub(crate) step: u64,
    /// Index of the shard's first row in the global batch.
    pub(crate) first_row: u32,
    /// Rows that are there; those after them are padding.
    pub(crate) rows: usize,
    /// Positions of each of them that are there; empty where all are.
    pub(crate) lengths: &'a [u32],
}

/// Where the rows of a value end.
#[derive(Debug, Clone, Copy)]
struct RowEnds<'a> {
    ends: Ends,
    lengths: &'a [u32],
}

impl RowEnds<'_> {
    /// Positions of a row that are there. Rows that aren't have 1.
    fn of(self, row: usize) -> usize {
        self.ends.of(self.lengths.get(row).copied().unwrap_or(1))
    }
}

impl<'a> Context<'a> {
    fn plan(&self) -> &'a Plan {
        self.arena.plan
    }

    fn parameter(&self, id: ParameterId) -> &'a [f32] {
        let parameter = &self.plan().parameters[id.0];
        &self.weights[parameter.offset..][..parameter.floats]
    }

    /// Where the rows of a value end, if some may end early.
    fn ends(&self, id: ValueId) -> Option<RowEnds<'a>> {
        let lengths = self.lengths;
        let ends = self.plan().values[id.0]
            .ends
            .filter(|_| !lengths.is_empty())?;
        Some(RowEnds { ends, lengths })
    }

    /// The stream of a dropout layer's masks at this step.
    fn masks(&self, site: u16) -> Stream {
        Stream::new(self.plan().train.seed, Purpose::Dropout, site, self.step)
    }
}

/// The gradient of one parameter.
fn gradient<'a>(gradients: &'a mut [f32], plan: &Plan, id: ParameterId) -> &'a mut [f32] {
    let parameter = &plan.parameters[id.0];
    &mut gradients[parameter.offset..][..parameter.floats]
}

/// Runs one kernel over all rows of the shard's shape.
pub(crate) fn execute(kernel: &Kernel, context: &mut Context<'_>) {
    let groups = kernel.groups;
    match &kernel.op {
        Op::Linear { .. } => linear::forward(&kernel.op, groups, context),
        Op::LinearGradWeight { .. } => linear::grad_weight(&kernel.op, groups, context),
        Op::LinearGradInput { .. } => linear::grad_input(&kernel.op, groups, context),
        Op::Conv2d { .. } => conv::forward(&kernel.op, groups, context),
        Op::Conv2dGradWeight { .. } => conv::grad_weight(&kernel.op, groups, context),
        Op::Conv2dGradInput { .. } => conv::grad_input(&kernel.op, groups, context),
        Op::MaxPool { x, y, pool } => pool::forward((*x, *y), pool, groups, context),
        Op::MaxPoolGrad { dy, x, y, dx, pool } => {
            pool::grad([*dy, *x, *y, *dx], pool, groups, context);
        }
        Op::AveragePool { x, y, pool } => pool::average((*x, *y), pool, groups, context),
        Op::AveragePoolGrad { dy, dx, pool } => {
            pool::average_grad((*dy, *dx), pool, groups, context);
        }
        Op::Mean { x, y, columns, .. } => pool::mean((*x, *y), *columns, groups, context),
        Op::MeanGrad {
            dy, dx, columns, ..
        } => pool::mean_grad((*dy, *dx), *columns, groups, context),
        Op::ToChannelsLast {
            x,
            y,
            channels,
            positions,
        } => {
            elementwise::transpose((*x, *y), (*channels, *positions), groups, context);
        }
        Op::ToChannelsFirst {
            x,
            y,
            channels,
            positions,
        } => {
            elementwise::transpose((*x, *y), (*positions, *channels), groups, context);
        }
        Op::AddBias {
            x,
            y,
            bias,
            columns,
        } => elementwise::add_bias((*x, *y), (*bias, *columns), groups, context),
        Op::Activate { x, y, function } => {
            elementwise::activate((*x, *y), *function, groups, context);
        }
        Op::ActivationBiasGrad { .. } => {
            elementwise::activation_bias_grad(&kernel.op, groups, context);
        }
        Op::Dropout { x, y, rate, site } => {
            elementwise::dropout((*x, *y), *rate, *site, groups, context);
        }
        Op::DropoutGrad { d, rate, site } => {
            elementwise::dropout_grad(*d, *rate, *site, groups, context);
        }
        Op::Embedding { .. } => embedding::forward(&kernel.op, groups, context),
        Op::EmbeddingGrad { .. } => embedding::grad(&kernel.op, groups, context),
        Op::Norm { .. } => norm::forward(&kernel.op, groups, context),
        Op::NormGrad { .. } => norm::grad(&kernel.op, groups, context),
        Op::Attention { .. } => attention::forward(&kernel.op, groups, context),
        Op::AttentionGrad { .. } => attention::grad(&kernel.op, groups, context),
        Op::Mask { d } => mask::zero(*d, groups, context),
        Op::Add { a, b, y } => elementwise::add([*a, *b, *y], groups, context),
        Op::AddTo { d, x } => elementwise::add_to((*d, *x), groups, context),
        Op::Copy { x, y } => elementwise::copy((*x, *y), groups, context),
    }
}

/// Finishes the rows of a product while they are in the cache: bias, a copy for the derivative,
/// activation.
struct Epilogue<'a> {
    level: Level,
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
}

impl Epilogue<'_> {
    /// `pre` is empty when no copy is kept.
    fn apply(&self, y: &mut [f32], pre: &mut [f32]) {
        if let Some(bias) = self.bias {
            lanes::add_bias(self.level, y, bias);
        }
        if !pre.is_empty() {
            pre.copy_from_slice(y);
        }
        if let Some(function) = self.activation {
            lanes::activate(self.level, y, function);
        }
    }
}

/// Writes the transpose of a weight, `[rows, columns]`, for the products that read it so.
fn transpose(level: Level, groups: usize, out: &mut [f32], weight: &[f32], rows: usize) {
    let columns = weight.len() / rows;
    let part = columns.div_ceil(groups);
    each_group(groups, [(out, part * rows)], |group, [out]| {
        lanes::transpose(level, out, weight, columns, group * part);
    });
}

/// Cuts each buffer into one piece per group, of the size given with it (the last may be shorter,
/// an empty buffer gives empty ones), and runs `f` on every group's pieces.
fn each_group<const N: usize>(
    groups: usize,
    buffers: [(&mut [f32], usize); N],
    f: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let mut pieces: [[&mut [f32]; N]; GROUPS_MAX] =
        std::array::from_fn(|_| std::array::from_fn(|_| Default::default()));
    for (index, (mut rest, size)) in buffers.into_iter().enumerate() {
        for group in pieces.iter_mut().take(groups) {
            let (head, tail) = rest.split_at_mut(size.min(rest.len()));
            (group[index], rest) = (head, tail);
        }
    }
    if groups == 1 {
        let [first, ..] = pieces;
        return f(0, first);
    }
    pieces
        .into_par_iter()
        .take(groups)
        .enumerate()
        .with_max_len(1)
        .for_each(|(group, pieces)| f(group, pieces));
}
