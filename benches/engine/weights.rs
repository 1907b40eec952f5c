//! Writes what finished jobs leave for other programs: weights, models as ONNX, and the scores that
//! they must give.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use stoker_domain::spec::SplitSpec;
use stoker_engine::{
    Cpu, EngineError, Finished, Metric, MetricSource, Outcome, Run, RunInput, TargetRows, Weights,
};
use stoker_model::{Target, write_onnx};

use crate::task::{Fallible, Features, Task, Trace, bytes_of};

/// Rows in all, and the share of them that is held out: the last ones.
const ROWS: usize = 32;
const TEST: f64 = 0.25;

/// Keeps all scores.
struct Scores(Arc<Mutex<Vec<f32>>>);

impl Metric for Scores {
    fn update(&mut self, scores: &[f32], _: usize, _: TargetRows<'_>) -> Result<(), EngineError> {
        if let Ok(mut all) = self.0.lock() {
            all.extend_from_slice(scores);
        }
        Ok(())
    }
    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok(Vec::new())
    }
    fn merge(&mut self, _: &[u8]) -> Result<(), EngineError> {
        Ok(())
    }
    fn finish(&mut self) -> Result<f64, EngineError> {
        Ok(0.0)
    }
}

/// Writes a folder per family: `task.json`, the held-out rows' `features.f32` and `scores.f32`,
/// `weights.safetensors`, and `model.onnx` where there is one.
pub(crate) fn export_weights(folder: &Path) -> Fallible<()> {
    for task in tasks() {
        let folder = folder.join(task.name);
        std::fs::create_dir_all(&folder)?;
        let (finished, scores) = train(&task)?;
        let (features, _) = task.data();
        let held_out = (ROWS as f64 * TEST) as usize;
        let features = &features[(ROWS - held_out) * task.width()..];
        let plan = task.plan()?;
        let told = json!({
            "model": task.spec()?, "input": task.input, "rows": held_out, "outputs": plan.outputs,
            "classes": plan.outputs / plan.input.target.positions(),
            "tokens": matches!(task.features, Features::Tokens(_)),
            "vocabulary": plan.input.vocabulary,
        });
        std::fs::write(folder.join("task.json"), told.to_string())?;
        std::fs::write(folder.join("features.f32"), bytes_of(features))?;
        std::fs::write(folder.join("scores.f32"), bytes_of(&scores))?;
        let weights = Weights::read(&finished.weights)?;
        match write_onnx(&task.spec()?, &plan.input, |name| weights.get(name)) {
            Ok(bytes) => std::fs::write(folder.join("model.onnx"), bytes)?,
            Err(error) => println!("{}: {error}", task.name),
        }
        std::fs::write(folder.join("weights.safetensors"), &finished.weights)?;
    }
    Ok(())
}

/// The weights after a few steps, and the scores of the held-out rows.
fn train(task: &Task) -> Fallible<(Finished, Vec<f32>)> {
    let scores = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&scores);
    let make = move || Ok(Box::new(Scores(Arc::clone(&kept))) as Box<dyn Metric>);
    let input = RunInput {
        plan: Arc::new(task.plan()?),
        table: Arc::new(task.table()?),
        split: &SplitSpec {
            test: TEST,
            shuffle: false,
            seed: 0,
            stratify: false,
        },
        preprocess: Vec::new(),
        metrics: vec![MetricSource::new("scores", Box::new(make))],
        resume: None,
    };
    let cpu = Cpu::new(NonZeroUsize::MIN)?;
    let outcome = Run::new(&cpu, input)?.run(&mut Trace::default())?;
    let Outcome::Finished(finished) = outcome else {
        return Err("not finished".into());
    };
    let all = scores.lock().map(|all| all.clone()).unwrap_or_default();
    Ok((finished, all))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn tasks() -> Vec<Task> {
    let task = |name, model, input, features, target| Task {
        name,
        model,
        input,
        features,
        target,
        rows: ROWS,
        test: TEST,
        train: json!({"epochs": 2, "batch_size": 8, "loss": "cross_entropy", "eval_every_epochs": 2,
            "optimizer": {"name": "adamw", "learning_rate": 0.01}}),
    };
    let (classes, each) = (
        Target::Classes(4),
        Target::Sequence {
            classes: 11,
            positions: 12,
        },
    );
    let tokens = Features::Tokens(11);
    vec![
        task(
            "mlp",
            r#"{"family": "mlp", "hidden": [16, 8], "activation": "gelu", "dropout": 0.1}"#,
            &[10],
            Features::Numbers,
            classes,
        ),
        task(
            "cnn",
            r#"{"family": "cnn", "input": [3, 12, 12], "channels": [6, 5], "dense": [16]}"#,
            &[3, 12, 12],
            Features::Numbers,
            classes,
        ),
        task(
            "resnet",
            r#"{"family": "resnet", "input": [3, 16, 16], "depths": [1, 1], "channels": [8, 16]}"#,
            &[3, 16, 16],
            Features::Numbers,
            classes,
        ),
        task(
            "resnet-large-stem",
            r#"{"family": "resnet", "input": [3, 33, 33], "depths": [1, 1], "channels": [4, 6],
                "stem": "large", "block": "bottleneck"}"#,
            &[3, 33, 33],
            Features::Numbers,
            classes,
        ),
        task(
            "gpt",
            r#"{"family": "gpt", "depth": 2, "width": 16, "heads": 4}"#,
            &[12],
            tokens,
            each,
        ),
        task(
            "gpt-rotary",
            r#"{"family": "gpt", "depth": 2, "width": 16, "heads": 4, "kv_heads": 2,
                "positions": "rotary"}"#,
            &[12],
            tokens,
            each,
        ),
        task(
            "encoder",
            r#"{"family": "encoder", "depth": 2, "width": 16, "heads": 2, "dropout": 0.1}"#,
            &[12],
            tokens,
            classes,
        ),
        task(
            "tcn",
            r#"{"family": "tcn", "embedding": 6, "channels": [8, 5], "kernel": 3}"#,
            &[12],
            tokens,
            classes,
        ),
        task(
            "lstm",
            r#"{"family": "lstm", "embedding": 6, "layers": 2, "units": 8}"#,
            &[12],
            tokens,
            classes,
        ),
        task(
            "gru",
            r#"{"family": "lstm", "cell": "gru", "embedding": 6, "layers": 1, "units": 8}"#,
            &[12],
            tokens,
            classes,
        ),
    ]
}
