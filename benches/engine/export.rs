//! Writes what a peer starts from: the task, its rows, and our initial weights.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use stoker_engine::Cpu;

use crate::cases::cases;
use crate::task::{Fallible, Task, Trace, bytes_of, target_bytes};

/// Writes a task to `folder`.
pub(crate) fn export(task: &Task, folder: &Path) -> Fallible<()> {
    let cpu = Cpu::new(NonZeroUsize::MIN)?;
    let run = task.start(&cpu, Arc::new(task.table()?), Vec::new())?;
    write(task, folder, &run.checkpoint())
}

fn write(task: &Task, folder: &Path, checkpoint: &[u8]) -> Fallible<()> {
    let (features, targets) = task.data();
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("task.json"), task.describe()?.to_string())?;
    std::fs::write(folder.join("features.f32"), bytes_of(&features))?;
    std::fs::write(folder.join("targets"), target_bytes(&targets))?;
    Ok(std::fs::write(
        folder.join("weights.safetensors"),
        checkpoint,
    )?)
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
