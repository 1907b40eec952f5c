//! A run's memory on the CPU, and the steps over it.

mod timing;

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;
use stoker_domain::job::FailureKind;
use stoker_domain::spec::Loss;
use stoker_model::{Kernel, ParameterId, Plan, Target, ValueId};

use super::loss::Written;
use super::ops::{self, Context};
use super::simd::Level;
use super::views::Arena;
use super::{lanes, loss, optimizer};
use crate::device::{Bad, LossSum, Session, Shard};
use crate::error::{EngineError, SAMPLES_MAX};

/// Floats that one thread adds or checks at a time.
const CHUNK: usize = 1 << 14;

/// Weights, optimiser state, gradient tree and arena.
pub(crate) struct CpuSession {
    pool: Arc<ThreadPool>,
    memory: Memory,
}

struct Memory {
    level: Level,
    plan: Arc<Plan>,
    weights: Vec<f32>,
    optimizer: Vec<Vec<f32>>,
    /// The tree over shards as a stack: each entry sums a power of two of neighbouring shards,
    /// larger ones below.
    gradients: Vec<Vec<f32>>,
    /// Shards added in this step.
    added: usize,
    arena: Vec<f32>,
    /// Sums of squared gradients, for their norm.
    squares: Vec<f64>,
    /// The loss of each prediction of a shard, and what it counts.
    losses: Vec<f64>,
    loss_weights: Vec<f64>,
    /// What Dice needs per row.
    shares: Vec<f32>,
}

impl CpuSession {
    pub(crate) fn new(
        pool: Arc<ThreadPool>,
        level: Level,
        plan: Arc<Plan>,
    ) -> Result<Self, EngineError> {
        let weights = plan.parameter_floats;
        let buffers = |count: usize| (0..count).map(|_| allocate(weights)).collect();
        let optimizer: Result<Vec<_>, _> = buffers(plan.optimizer_slots());
        let gradients: Result<Vec<_>, _> = buffers(plan.gradient_slots());
        let memory = Memory {
            level,
            weights: allocate(weights)?,
            optimizer: optimizer?,
            gradients: gradients?,
            added: 0,
            squares: vec![0.0; optimizer::chunks(weights)],
            arena: allocate(plan.arena_floats)?,
            losses: vec![0.0; plan.rows * plan.input.target.positions()],
            loss_weights: vec![0.0; plan.rows * plan.input.target.positions()],
            shares: match plan.train.loss {
                Loss::Dice { .. } => {
                    allocate(2 * plan.rows * plan.outputs / plan.input.target.positions())?
                }
                _ => Vec::new(),
            },
            plan,
        };
        Ok(Self { pool, memory })
    }

    /// The gradients summed so far in this step.
    #[cfg(test)]
    pub(crate) fn gradients(&self) -> &[f32] {
        &self.memory.gradients[0]
    }

    /// Bytes of the buffers whose sizes the quote foretells.
    #[cfg(test)]
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let memory = &self.memory;
        let buffers = memory.optimizer.iter().chain(&memory.gradients);
        let floats: usize = buffers.map(Vec::capacity).sum();
        4 * (floats + memory.weights.capacity() + memory.arena.capacity()) as u64
    }
}

/// Zeros, or a failure that says how much was asked for.
fn allocate(floats: usize) -> Result<Vec<f32>, EngineError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(floats).map_err(|_| {
        let message = format!("can't allocate {} bytes", floats * 4);
        EngineError::new(FailureKind::Capacity, message)
    })?;
    buffer.resize(floats, 0.0);
    Ok(buffer)
}

/// left += right.
fn add(level: Level, left: &mut [f32], right: &[f32]) {
    left.par_chunks_mut(CHUNK)
        .zip(right.par_chunks(CHUNK))
        .for_each(|(left, right)| lanes::add(level, left, right));
}

impl Memory {
    /// Copies a shard's rows in, and zeros after them and after the end of each.
    fn load(&mut self, plan: &Plan, shard: &Shard<'_>) {
        let features = &plan.values[plan.features.0];
        let buffer = &mut self.arena[features.offset..][..features.floats];
        let (rows, padding) = buffer.split_at_mut(shard.features.len());
        rows.copy_from_slice(shard.features);
        padding.fill(0.0);
        let columns = plan.padding.map_or(0, |padding| padding.columns);
        let each = rows.chunks_exact_mut(features.row_floats);
        for (row, &length) in each.zip(shard.lengths) {
            let end = row.len().min(length as usize * columns);
            row[end..].fill(0.0);
        }
    }

    fn execute(
        &mut self,
        plan: &Plan,
        kernel: &Kernel,
        shard: &Shard<'_>,
        train: bool,
        slot: usize,
    ) {
        let mut context = Context {
            level: self.level,
            arena: Arena {
                plan,
                floats: &mut self.arena,
            },
            weights: &self.weights,
            gradients: &mut self.gradients[slot],
            train,
            step: shard.step,
            first_row: shard.first_row,
            rows: shard.features.len() / plan.input.width,
            lengths: shard.lengths,
        };
        ops::execute(kernel, &mut context);
    }

    fn forward(&mut self, plan: &Plan, shard: &Shard<'_>, train: bool) {
        self.load(plan, shard);
        for kernel in &plan.forward {
            self.execute(plan, kernel, shard, train, 0);
        }
    }

    /// The sum of the predictions' losses; their gradients go to the plan's `score_gradient`.
    fn loss(&mut self, plan: &Plan, shard: &Shard<'_>) -> LossSum {
        let mut arena = Arena {
            plan,
            floats: &mut self.arena,
        };
        let [scores, d] = arena.views([plan.scores, plan.score_gradient]);
        let positions = plan.input.target.positions();
        let shape = [plan.outputs / positions, positions];
        let (losses, weights) = (
            &mut self.losses[..plan.rows * positions],
            &mut self.loss_weights[..plan.rows * positions],
        );
        let written = Written {
            d,
            losses,
            weights,
            shares: &mut self.shares,
        };
        let targets = loss::There {
            targets: shard.targets,
            lengths: match plan.input.target {
                Target::Sequence { .. } => shard.lengths,
                _ => &[],
            },
        };
        loss::grad(
            self.level,
            &plan.train.loss,
            shape,
            scores,
            targets,
            written,
        );
        LossSum {
            loss: losses.iter().sum(),
            weight: weights.iter().sum(),
        }
    }

    fn train(&mut self, shard: &Shard<'_>) -> LossSum {
        // The slot after the entries of the shards so far: one per set bit of their number.
        let mut top = self.added.count_ones() as usize;
        let loss = if shard.features.is_empty() {
            self.gradients[top].fill(0.0);
            LossSum::default()
        } else {
            let plan = Arc::clone(&self.plan);
            let plan = plan.of_width(width(&plan, shard));
            self.forward(plan, shard, true);
            let loss = self.loss(plan, shard);
            for kernel in &plan.backward {
                self.execute(plan, kernel, shard, true, top);
            }
            loss
        };
        for _ in 0..self.added.trailing_ones() {
            let (left, right) = self.gradients.split_at_mut(top);
            if let (Some(left), Some(right)) = (left.last_mut(), right.first()) {
                add(self.level, left, right);
            }
            top -= 1;
        }
        self.added += 1;
        loss
    }

    /// The rows of `id` with a number that isn't finite. Scratch has no rows.
    fn bad_rows(&self, plan: &Plan, id: ValueId, rows: usize) -> Vec<usize> {
        let value = &plan.values[id.0];
        if value.row_floats == 0 {
            return Vec::new();
        }
        let numbers = &self.arena[value.offset..][..value.floats];
        let each = numbers
            .chunks_exact(value.row_floats)
            .take(rows)
            .enumerate();
        each.filter(|(_, row)| !lanes::all_finite(self.level, row))
            .map(|(index, _)| index)
            .take(SAMPLES_MAX)
            .collect()
    }

    fn diagnose(&mut self, shard: &Shard<'_>) -> Option<Bad> {
        let plan = Arc::clone(&self.plan);
        let plan = plan.of_width(width(&plan, shard));
        let rows = shard.features.len() / plan.input.width;
        for parameter in &plan.parameters {
            let weights = &self.weights[parameter.offset..][..parameter.floats];
            if !lanes::all_finite(self.level, weights) {
                return Some(bad(&parameter.name, false, Vec::new()));
            }
        }
        self.load(plan, shard);
        let found = self.bad_rows(plan, plan.features, rows);
        if !found.is_empty() {
            return Some(bad(&plan.values[plan.features.0].name, false, found));
        }
        for kernel in &plan.forward {
            self.execute(plan, kernel, shard, true, 0);
            if let Some(found) = self.bad_output(plan, kernel, rows) {
                return Some(bad(&kernel.layer, false, found));
            }
        }
        self.loss(plan, shard);
        let positions = plan.input.target.positions();
        let losses = self.losses.chunks_exact(positions).take(rows).enumerate();
        let found: Vec<usize> = losses
            .filter(|(_, losses)| losses.iter().any(|l| !l.is_finite()))
            .map(|(i, _)| i)
            .collect();
        if !found.is_empty() {
            return Some(bad("loss", false, found));
        }
        for kernel in &plan.backward {
            self.execute(plan, kernel, shard, true, 0);
            if let Some(found) = self.bad_output(plan, kernel, rows) {
                return Some(bad(&kernel.layer, true, found));
            }
        }
        None
    }

    /// The bad rows of what a kernel wrote. A bad gradient of a parameter has no rows of its own.
    fn bad_output(&self, plan: &Plan, kernel: &Kernel, rows: usize) -> Option<Vec<usize>> {
        for id in kernel.op.values().1 {
            let found = self.bad_rows(plan, id, rows);
            if !found.is_empty() {
                return Some(found);
            }
        }
        let finite = |id: &ParameterId| {
            let parameter = &plan.parameters[id.0];
            let gradient = &self.gradients[0][parameter.offset..][..parameter.floats];
            lanes::all_finite(self.level, gradient)
        };
        let gradients = kernel.op.gradients();
        (!gradients.iter().flatten().all(finite)).then(Vec::new)
    }
}

/// Numbers per row of a shard.
fn width(plan: &Plan, shard: &Shard<'_>) -> usize {
    let width = shard.features.len().checked_div(shard.lengths.len());
    width.unwrap_or(plan.input.width)
}

fn bad(layer: &str, backward: bool, rows: Vec<usize>) -> Bad {
    Bad {
        layer: layer.to_owned(),
        backward,
        rows,
    }
}

impl Session for CpuSession {
    fn write(&mut self, weights: &[f32], optimizer: &[Vec<f32>]) {
        self.memory.weights.copy_from_slice(weights);
        for (buffer, values) in self.memory.optimizer.iter_mut().zip(optimizer) {
            buffer.copy_from_slice(values);
        }
    }

    fn read(&self) -> (Vec<f32>, Vec<Vec<f32>>) {
        (self.memory.weights.clone(), self.memory.optimizer.clone())
    }

    fn start_step(&mut self) {
        self.memory.added = 0;
    }

    fn train_shard(&mut self, shard: &Shard<'_>) -> LossSum {
        let memory = &mut self.memory;
        self.pool.install(|| memory.train(shard))
    }

    fn gradients_are_finite(&self) -> bool {
        let (memory, level) = (&self.memory, self.memory.level);
        self.pool.install(|| {
            let chunks = memory.gradients[0].par_chunks(CHUNK);
            chunks.all(|chunk| lanes::all_finite(level, chunk))
        })
    }

    fn update(&mut self, weight: f64, learning_rate: f64, step: u64) {
        let Memory {
            level,
            plan,
            weights,
            optimizer,
            gradients,
            squares,
            ..
        } = &mut self.memory;
        self.pool.install(|| {
            let clip = plan.train.clip.as_ref();
            let mean = optimizer::mean(*level, clip, weight, &gradients[0], squares);
            let scalars = (mean, learning_rate, step);
            let spec = &plan.train.optimizer;
            let moments = optimizer.len() - usize::from(plan.train.ema.is_some());
            let (moments, average) = optimizer.split_at_mut(moments);
            optimizer::update(*level, spec, scalars, weights, &gradients[0], moments);
            if let (Some(ema), [average]) = (&plan.train.ema, average) {
                optimizer::average(*level, ema, step, average, weights);
            }
        });
    }

    fn swap_average(&mut self) {
        let Memory {
            plan,
            weights,
            optimizer,
            ..
        } = &mut self.memory;
        if let (Some(_), Some(average)) = (&plan.train.ema, optimizer.last_mut()) {
            std::mem::swap(weights, average);
        }
    }

    fn evaluate_shard(&mut self, shard: &Shard<'_>) -> (&[f32], LossSum) {
        let memory = &mut self.memory;
        let plan = Arc::clone(&memory.plan);
        let plan = plan.of_width(width(&plan, shard));
        let loss = self.pool.install(|| {
            memory.forward(plan, shard, false);
            memory.loss(plan, shard)
        });
        let scores = &plan.values[plan.scores.0];
        let rows = shard.features.len() / plan.input.width;
        let floats = rows * plan.outputs;
        (&self.memory.arena[scores.offset..][..floats], loss)
    }

    fn diagnose(&mut self, shard: &Shard<'_>) -> Option<Bad> {
        let memory = &mut self.memory;
        self.pool.install(|| memory.diagnose(shard))
    }
}
