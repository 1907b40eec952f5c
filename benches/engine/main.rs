//! The engine beside PyTorch and JAX: the same shapes, weights, data and threads. `make
//! bench-engine`; one JSON line per shape and number of threads, and one over all at the end.
//!
//! Each side is a process that stays alive and waits on stdin while the other works; blocks of
//! steps alternate. First both make the same 20 steps from the same weights, and their losses are
//! compared. A ratio is our samples per second over the peer's; the roofline's share is of what
//! the machine could do, by the products' speed and the memory's that are measured beside it. The
//! profile is the one that everything else is built with (`dev`, where the engine has opt-level 3).
//!
//! `bench-engine PYTHON [--shapes mlp,cnn] [--peers eager,fused,compile,jax] [--threads 1,2]
//! [--blocks 7]`; 3 blocks are enough for a look.
//!
//! `bench-engine weights FOLDER` writes what `check_weights.py` runs in PyTorch and onnxruntime.
//!
//! `bench-engine trajectories FOLDER` writes what PyTorch records its loss trajectories from.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints lines"
)]

#[path = "../../worker/engine/tests/trajectories/cases/mod.rs"]
mod cases;
mod compare;
mod export;
mod ours;
mod report;
mod roofline;
mod shapes;
mod side;
#[path = "../../worker/engine/tests/trajectories/task.rs"]
mod task;
mod weights;

use std::path::Path;

use task::Fallible;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [role, shape, threads] if role == "ours" => {
            ours::serve(&shapes::find(shape)?, threads.parse()?)
        }
        [role, folder] if role == "trajectories" => export::export_cases(Path::new(folder)),
        [role, folder] if role == "weights" => weights::export_weights(Path::new(folder)),
        [python, options @ ..] => compare::compare(python, options),
        [] => Err(
            "usage: bench-engine PYTHON [--shapes …] [--peers …] [--threads …] [--blocks …]".into(),
        ),
    }
}
