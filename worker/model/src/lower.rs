//! From the fused graph to the plan: rows, groups, scratch, liveness, offsets.

use stoker_domain::FieldError;
use stoker_domain::spec::TrainSpec;

use crate::arena::{ALIGNMENT, Life, place};
use crate::graph::{Graph, Node};
use crate::input::InputDescription;
use crate::limits::{ARENA_MAX_BYTES, product};
use crate::op::{Kernel, Op, ValueId};
use crate::plan::{K_BLOCK, Plan, VERSION, Value};
use crate::split;

/// Makes the plan for shards of `train.batch_size / train.virtual_shards` rows; the shards of all
/// batches of an optimiser step make one tree.
///
/// # Errors
/// When the arena would be larger than [`ARENA_MAX_BYTES`].
pub(crate) fn lower(
    graph: Graph,
    train: &TrainSpec,
    input: &InputDescription,
) -> Result<Plan, FieldError> {
    let shards = train.virtual_shards as usize * train.accumulate as usize;
    let rows = train.batch_size as usize / train.virtual_shards as usize;
    let mut values = Vec::with_capacity(graph.values.len());
    for value in &graph.values {
        values.push(Value {
            name: value.name.clone(),
            row_floats: value.row_floats,
            floats: product(&[rows, value.row_floats]).ok_or_else(arena_too_large)?,
            offset: 0,
            ends: value.ends,
        });
    }
    let mut lower = |nodes: Vec<Node>| -> Option<Vec<Kernel>> {
        nodes
            .into_iter()
            .map(|node| lower_node(node, rows, &mut values))
            .collect()
    };
    let forward = lower(graph.forward).ok_or_else(arena_too_large)?;
    let backward = lower(graph.backward).ok_or_else(arena_too_large)?;
    let mut plan = Plan {
        version: VERSION,
        train: train.clone(),
        input: input.clone(),
        rows,
        shards,
        outputs: input.target.outputs(),
        k_block: K_BLOCK,
        parameters: graph.parameters,
        parameter_floats: 0,
        values,
        arena_floats: 0,
        features: ValueId(graph.features),
        scores: ValueId(graph.scores),
        score_gradient: ValueId(graph.score_gradient),
        forward,
        backward,
        padding: None,
        shorter: Vec::new(),
    };
    place_parameters(&mut plan);
    place_values(&mut plan);
    if plan.arena_floats as u64 * 4 > ARENA_MAX_BYTES {
        return Err(arena_too_large());
    }
    Ok(plan)
}

fn arena_too_large() -> FieldError {
    let limit = ARENA_MAX_BYTES >> 30;
    FieldError::new(
        "train.batch_size",
        format!(
            "one virtual shard would need more than {limit} GiB: lower it, or raise virtual_shards"
        ),
    )
}

/// Sets a kernel's groups, and adds the scratch that they need.
#[expect(clippy::too_many_lines, reason = "a table with a line per operation")]
fn lower_node(node: Node, rows: usize, values: &mut Vec<Value>) -> Option<Kernel> {
    let Node { layer, mut op } = node;
    let (reads, writes) = op.values();
    let row_floats = (reads.iter().chain(&writes))
        .map(|id| values[id.0].row_floats)
        .max()
        .unwrap_or(0);
    let groups = split::groups(&op, rows, row_floats);
    let group_rows = rows.div_ceil(groups);
    let mut scratch = |sizes: &[usize]| {
        values.push(Value {
            name: layer.clone(),
            row_floats: 0,
            floats: product(sizes)?,
            offset: 0,
            ends: None,
        });
        Some(ValueId(values.len() - 1))
    };
    match &mut op {
        Op::Linear {
            inputs,
            outputs,
            transposed,
            ..
        } => {
            *transposed = Some(scratch(&[*inputs, *outputs])?);
        }
        Op::Conv2d {
            conv,
            columns,
            transposed,
            ..
        } => {
            conv.tile = split::tile(conv, group_rows);
            *columns = Some(scratch(&[groups, conv.tile_floats()])?);
            *transposed = Some(scratch(&[conv.out_channels, conv.window()])?);
        }
        Op::Conv2dGradInput { conv, columns, .. } => {
            conv.tile = split::tile(conv, group_rows);
            *columns = Some(scratch(&[groups, conv.tile_floats()])?);
        }
        Op::Conv2dGradWeight {
            conv,
            columns,
            partials,
            ..
        } => {
            conv.tile = split::tile(conv, group_rows);
            *columns = Some(scratch(&[groups, conv.tile_floats()])?);
            if groups > 1 {
                let sizes = [groups, conv.out_channels, conv.window()];
                *partials = Some(scratch(&sizes)?);
            }
        }
        Op::Attention {
            attention,
            scratch: s,
            ..
        }
        | Op::AttentionGrad {
            attention,
            scratch: s,
            ..
        } => {
            *s = Some(scratch(&[groups, attention.scratch_floats()])?);
        }
        Op::NormGrad {
            columns, partials, ..
        } if groups > 1 => {
            *partials = Some(scratch(&[groups, 2 * *columns])?);
        }
        Op::ActivationBiasGrad {
            bias: Some(_),
            columns,
            partials,
            ..
        } if groups > 1 => {
            *partials = Some(scratch(&[groups, *columns])?);
        }
        _ => {}
    }
    Some(Kernel { layer, op, groups })
}

fn place_parameters(plan: &mut Plan) {
    let mut offset = 0;
    for parameter in &mut plan.parameters {
        parameter.offset = offset;
        offset = (offset + parameter.floats).next_multiple_of(ALIGNMENT);
    }
    plan.parameter_floats = offset;
}

/// A value lives from the first kernel that touches it to the last. The loss sits between forward
/// and backward: it reads the scores and writes their gradient.
fn place_values(plan: &mut Plan) {
    let loss = plan.forward.len();
    let mut lives: Vec<Option<Life>> = vec![None; plan.values.len()];
    let mut touch = |id: ValueId, at: usize| {
        let floats = plan.values[id.0].floats;
        let life = lives[id.0].get_or_insert(Life {
            floats,
            first: at,
            last: at,
        });
        life.first = life.first.min(at);
        life.last = life.last.max(at);
    };
    touch(plan.features, 0);
    touch(plan.scores, loss);
    touch(plan.score_gradient, loss);
    let kernels = (plan.forward.iter().enumerate()).chain(
        (plan.backward.iter().enumerate()).map(|(index, kernel)| (loss + 1 + index, kernel)),
    );
    for (at, kernel) in kernels {
        let (reads, writes) = kernel.op.values();
        reads.into_iter().chain(writes).for_each(|id| touch(id, at));
    }
    // What fusing left without a kernel needs no memory.
    let unused = Life {
        floats: 0,
        first: 0,
        last: 0,
    };
    let lives: Vec<Life> = lives
        .into_iter()
        .map(|life| life.unwrap_or(unused))
        .collect();
    let (offsets, total) = place(&lives);
    for ((value, offset), life) in plan.values.iter_mut().zip(offsets).zip(&lives) {
        value.offset = offset;
        value.floats = life.floats;
    }
    plan.arena_floats = total;
}
