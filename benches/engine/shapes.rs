//! What is measured: a family at a size each.

use serde_json::json;
use stoker_model::Target;

use crate::task::{Fallible, Features, Task};

/// A task whose rows are one batch, so that every step has all of it.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) task: Task,
    /// Steps of one block: about half a second, or one.
    pub(crate) steps: usize,
}

impl Shape {
    fn new(
        name: &'static str,
        model: &'static str,
        (input, features): (&'static [usize], Features),
        target: Target,
        (batch, steps): (usize, usize),
    ) -> Self {
        let loss = match target {
            Target::Classes(_) | Target::Sequence { .. } | Target::Masked { .. } => "cross_entropy",
            Target::Values(_) | Target::Quantiles { .. } => "mse",
        };
        let train = json!({
            "steps": 10_000_000, "batch_size": batch, "loss": loss,
            "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4},
            "eval_every_epochs": 1_000_000_000,
        });
        let task = Task {
            name,
            model,
            input,
            features,
            target,
            rows: batch,
            test: 0.0,
            train,
        };
        Self { task, steps }
    }
}

/// The shape of a name.
pub(crate) fn find(name: &str) -> Fallible<Shape> {
    let shape = shapes().into_iter().find(|shape| shape.task.name == name);
    shape.ok_or_else(|| format!("no shape `{name}`").into())
}

/// All of them.
pub(crate) fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(
            "mlp",
            r#"{"family": "mlp", "hidden": [256, 256]}"#,
            (&[784], Features::Numbers),
            Target::Classes(10),
            (128, 250),
        ),
        Shape::new(
            "cnn",
            r#"{"input": [1, 28, 28], "layers": [
                {"type": "conv2d", "channels": 32, "kernel": 3}, {"type": "activation", "function": "relu"},
                {"type": "conv2d", "channels": 64, "kernel": 3}, {"type": "activation", "function": "relu"},
                {"type": "max_pool2d", "kernel": 2}, {"type": "flatten"},
                {"type": "linear", "units": 128}, {"type": "activation", "function": "relu"},
                {"type": "linear", "units": 10}]}"#,
            (&[1, 28, 28], Features::Numbers),
            Target::Classes(10),
            (64, 15),
        ),
        Shape::new(
            "gpt",
            r#"{"family": "gpt", "depth": 4, "width": 128, "heads": 4}"#,
            (&[128], Features::Tokens(65)),
            Target::Sequence {
                classes: 65,
                positions: 128,
            },
            (16, 5),
        ),
        Shape::new(
            "resnet",
            r#"{"family": "resnet", "input": [3, 32, 32]}"#,
            (&[3, 32, 32], Features::Numbers),
            Target::Classes(10),
            (64, 1),
        ),
        Shape::new(
            "lstm",
            r#"{"family": "lstm", "embedding": 128, "layers": 2, "units": 128}"#,
            (&[100], Features::Tokens(65)),
            Target::Classes(10),
            (32, 6),
        ),
        Shape::new(
            "unet",
            r#"{"family": "unet", "input": [3, 64, 64], "depth": 3, "channels": 16, "norm": "batch"}"#,
            (&[3, 64, 64], Features::Numbers),
            Target::Sequence {
                classes: 4,
                positions: 4096,
            },
            (8, 8),
        ),
    ]
}
