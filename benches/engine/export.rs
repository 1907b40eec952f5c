//! Writes what a peer starts from: the task, its rows, and our initial weights.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stoker_engine::Cpu;
use stoker_model::Target;

use crate::cases::cases;
use crate::task::{Fallible, Features, Task, Trace, bytes_of, target_bytes};

/// Writes a task to `folder`.
pub(crate) fn export(task: &Task, folder: &Path) -> Fallible<()> {
    let cpu = Cpu::new(NonZeroUsize::MIN)?;
    let run = task.start(&cpu, Arc::new(task.table()?), Vec::new())?;
    write(task, folder, &run.checkpoint())
}

fn write(task: &Task, folder: &Path, checkpoint: &[u8]) -> Fallible<()> {
    let (features, targets) = task.data();
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("task.json"), describe(task)?.to_string())?;
    std::fs::write(folder.join("features.f32"), bytes_of(&features))?;
    std::fs::write(folder.join("targets"), target_bytes(&targets))?;
    Ok(std::fs::write(
        folder.join("weights.safetensors"),
        checkpoint,
    )?)
}

/// What the peer has to know besides the rows and the weights.
fn describe(task: &Task) -> Fallible<Value> {
    let (model, plan) = (task.spec()?, task.plan()?);
    Ok(json!({
        "name": task.name, "model": model, "train": plan.train, "input": task.input,
        "tokens": matches!(task.features, Features::Tokens(_)),
        "vocabulary": plan.input.vocabulary, "outputs": plan.outputs, "sites": [],
        "own_features": model.predicts_features(),
        "target": describe_target(task.target),
        "rows": task.rows, "shard_rows": plan.rows, "shards": plan.shards,
    }))
}

fn describe_target(target: Target) -> Value {
    match target {
        Target::Classes(classes) => json!({"classes": classes, "positions": 1}),
        Target::Sequence { classes, positions } | Target::Masked { classes, positions } => {
            json!({"classes": classes, "positions": positions})
        }
        Target::Values(width) | Target::Quantiles { values: width, .. } => {
            json!({"values": width})
        }
    }
}

/// Writes every case of the trajectories to a folder of its own, with the batches that our run of
/// it had, and its losses.
pub(crate) fn export_cases(folder: &Path) -> Fallible<()> {
    let cpu = Cpu::new(NonZeroUsize::MIN)?;
    for task in cases() {
        let folder = folder.join(task.name);
        let (before, trace) = Trace::of(&task, &cpu)?;
        write(&task, &folder, &before)?;
        let run = json!({
            "start": task.hash(&before)?, "batches": trace.batches, "losses": trace.losses,
            "tests": trace.tests,
        });
        std::fs::write(folder.join("run.json"), run.to_string())?;
    }
    Ok(())
}
