//! What the machine could do: the speed of products and of memory, measured, and what a step of a
//! plan asks of each (Williams et al. 2009).

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use stoker_engine::Cpu;
use stoker_model::{Op, Plan, Target};

use crate::ours::steps;
use crate::task::{Fallible, Features, Task};

/// Rounds of which the best counts.
const ROUNDS: usize = 3;
/// Rows and columns of gemm's product.
const GEMM: usize = 1024;
/// Bytes copied in a round, at least.
const COPIED: usize = 1 << 28;
/// Bytes that are copied from and to, at most: what a large plan holds stays far out of the caches.
const HELD_MAX: u64 = 1 << 28;

/// Bytes that a step moves, about: each kernel's values once; of the weights that are read in full,
/// those on the way forward and back, and their gradients written; and by the update the gradients
/// read, and the weights and the optimiser's state read and written. Scratch counts as large as it
/// is, and not as often as it is filled.
pub(crate) fn bytes_per_step(plan: &Plan) -> u64 {
    let (mut values, mut looked_up) = (0, 0);
    for kernel in plan.forward.iter().chain(&plan.backward) {
        let (reads, writes) = kernel.op.values();
        let ids = reads.into_iter().chain(writes);
        values += ids.map(|id| plan.values[id.0].floats).sum::<usize>();
        if let Op::Embedding { weight, .. } = kernel.op {
            looked_up += plan.parameters[weight.0].floats;
        }
    }
    let all = plan.parameter_floats;
    let update = all * (3 + 2 * plan.optimizer_slots());
    let kernels = 3 * all.saturating_sub(looked_up);
    4 * (values * plan.shards + kernels + update) as u64
}

/// Floating-point operations and bytes per second on so many threads. `held` is what the plan
/// holds: a plan that fits a cache has the cache's speed.
pub(crate) fn measure(cpu: &Cpu, threads: usize, held: u64) -> Fallible<Value> {
    let (ours, gemm) = (layers(cpu)?, gemm(threads));
    let copy = copy(threads, usize::try_from(held.min(HELD_MAX))?);
    Ok(json!({"flops_per_s": ours.max(gemm), "gemm_flops_per_s": gemm, "bytes_per_s": copy}))
}

/// By steps of a network of our own that is little but large products.
fn layers(cpu: &Cpu) -> Fallible<f64> {
    let task = Task {
        name: "peak",
        model: r#"{"family": "mlp", "hidden": [1024, 1024, 1024]}"#,
        input: &[1024],
        features: Features::Numbers,
        target: Target::Values(1),
        rows: 1024,
        test: 0.0,
        train: json!({"steps": 1000, "batch_size": 1024, "loss": "mse",
            "optimizer": {"name": "sgd", "learning_rate": 1e-3},
            "eval_every_epochs": 1_000_000}),
    };
    let flops = task.plan()?.quote().flops_per_step as f64;
    let mut run = task.start(cpu, Arc::new(task.table()?), Vec::new())?;
    steps(&mut run, 1)?;
    let mut best: f64 = 0.0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        steps(&mut run, 2)?;
        best = best.max(2.0 * flops / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Does `work` on so many threads at once. Gives the shortest time over the rounds.
fn fastest<T: Send>(parts: &mut [T], work: impl Fn(&mut T) + Sync) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..=ROUNDS {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in &mut *parts {
                scope.spawn(|| work(part));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// By gemm, a product per thread.
#[expect(unsafe_code, reason = "gemm takes raw pointers")]
fn gemm(threads: usize) -> f64 {
    let matrix = || vec![1.0_f32; GEMM * GEMM];
    let mut parts: Vec<[Vec<f32>; 3]> = (0..threads)
        .map(|_| [matrix(), matrix(), matrix()])
        .collect();
    let stride = GEMM.cast_signed();
    let time = fastest(&mut parts, |[out, a, b]| {
        let [out, a, b] = [out.as_mut_ptr(), a.as_mut_ptr(), b.as_mut_ptr()];
        let (one, none) = (1.0, gemm::Parallelism::None);
        // SAFETY: three buffers of GEMM · GEMM floats each, row-major.
        unsafe {
            gemm::gemm(
                GEMM, GEMM, GEMM, out, 1, stride, false, a, 1, stride, b, 1, stride, one, one,
                false, false, false, none,
            );
        }
    });
    (threads * 2 * GEMM * GEMM * GEMM) as f64 / time
}

/// By copying between halves of `held` bytes, a part per thread: bytes read and bytes written.
fn copy(threads: usize, held: usize) -> f64 {
    let floats = (held / 8 / threads).max(1);
    let mut parts: Vec<[Vec<f32>; 2]> = (0..threads)
        .map(|_| [vec![0.0; floats], vec![1.0; floats]])
        .collect();
    let times = (COPIED / threads / (4 * floats)).max(1);
    let time = fastest(&mut parts, |[to, from]| {
        for _ in 0..times {
            to.copy_from_slice(std::hint::black_box(from));
            std::hint::black_box(&*to);
        }
    });
    (threads * times * 8 * floats) as f64 / time
}
