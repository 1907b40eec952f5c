//! What is compared: every family and block, and each setting of the training once where it isn't
//! the default. Sizes are small and odd, a batch is prime, and an epoch's last batch isn't full.

use serde_json::{Value, json};
use stoker_model::Target;

use super::task::{Features, Task};

const BATCH: usize = 7;
/// 6 rows of these are held out, and an epoch's last batch has 3.
const ROWS: usize = 30;

impl Task {
    fn new(
        name: &'static str,
        model: &'static str,
        input: &'static [usize],
        target: Target,
    ) -> Self {
        Self {
            name,
            model,
            input,
            features: Features::Numbers,
            target,
            rows: ROWS,
            test: 0.2,
            train: json!({
                "steps": 20, "batch_size": BATCH, "loss": "cross_entropy", "seed": 5,
                "optimizer": {"name": "adamw", "learning_rate": 0.01},
            }),
        }
    }

    fn tokens(self, count: usize) -> Self {
        Self {
            features: Features::Tokens(count),
            ..self
        }
    }

    fn loss(mut self, loss: Value) -> Self {
        self.train["loss"] = loss;
        self
    }

    /// Sets or adds a field of `train`.
    fn with(mut self, field: &str, value: Value) -> Self {
        self.train[field] = value;
        self
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Task> {
    [
        images(),
        sequences(),
        losses(),
        optimizers(),
        schedules(),
        limits(),
    ]
    .concat()
}

/// A class at each of a row's positions.
const fn sequence(classes: usize, positions: usize) -> Target {
    Target::Sequence { classes, positions }
}

fn images() -> Vec<Task> {
    vec![
        Task::new(
            "mlp",
            r#"{"family": "mlp", "hidden": [13, 11], "activation": "gelu"}"#,
            &[17],
            Target::Classes(5),
        ),
        Task::new(
            "cnn",
            r#"{"family": "cnn", "input": [3, 9, 7], "channels": [5, 7], "dense": [11],
                "activation": "silu"}"#,
            &[3, 9, 7],
            Target::Classes(5),
        ),
        Task::new(
            "conv_blocks",
            r#"{"input": [3, 13, 11], "layers": [
                {"type": "conv2d", "channels": 8, "kernel": 3, "stride": 2, "padding": 1},
                {"type": "activation", "function": "tanh"},
                {"type": "conv2d", "channels": 8, "kernel": 3, "padding": 2, "dilation": 2, "groups": 8},
                {"type": "conv2d", "channels": 12, "kernel": 1, "groups": 4, "bias": false},
                {"type": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1},
                {"type": "max_pool2d", "kernel": 2, "stride": 1, "padding": 1},
                {"type": "activation", "function": "sigmoid"}, {"type": "global_avg_pool"},
                {"type": "linear", "units": 3}]}"#,
            &[3, 13, 11],
            Target::Classes(3),
        ),
    ]
}

fn sequences() -> Vec<Task> {
    vec![
        Task::new(
            "gpt",
            r#"{"family": "gpt", "depth": 2, "width": 12, "heads": 3}"#,
            &[11],
            sequence(13, 11),
        )
        .tokens(13),
        Task::new(
            "gpt_grouped",
            r#"{"family": "gpt", "depth": 1, "width": 16, "heads": 4, "kv_heads": 2,
                "feed_forward": 19}"#,
            &[7],
            sequence(13, 7),
        )
        .tokens(13),
        Task::new(
            "sequence_blocks",
            r#"{"layers": [{"type": "embedding", "units": 12}, {"type": "rms_norm"},
                {"type": "attention", "heads": 2, "bias": false},
                {"name": "residual", "type": "add", "inputs": ["attention2", "embedding0"]},
                {"type": "conv1d", "channels": 10, "kernel": 3, "dilation": 2, "causal": true},
                {"type": "conv1d", "channels": 6, "kernel": 4, "stride": 2, "padding": 1, "groups": 2},
                {"type": "layer_norm"}, {"type": "flatten"}, {"type": "linear", "units": 5}]}"#,
            &[9],
            Target::Classes(5),
        )
        .tokens(11),
    ]
}

/// A small network, for what doesn't depend on the model.
fn small(name: &'static str, target: Target) -> Task {
    let model = r#"{"family": "mlp", "hidden": [9], "activation": "tanh"}"#;
    Task::new(name, model, &[5], target)
}

fn losses() -> Vec<Task> {
    let dice = Task::new(
        "loss_dice",
        r#"{"layers": [{"type": "embedding", "units": 6}, {"type": "attention", "heads": 2},
            {"type": "linear", "units": 4}]}"#,
        &[5],
        sequence(4, 5),
    );
    let smooth = json!({"name": "cross_entropy", "label_smoothing": 0.1,
        "class_weights": [0.5, 1.0, 2.0, 3.0, 1.5]});
    let quantiles = Target::Quantiles {
        values: 2,
        levels: 3,
    };
    vec![
        small("loss_cross_entropy", Target::Classes(5)).loss(smooth),
        small("loss_mse", Target::Values(3)).loss(json!("mse")),
        small("loss_mae", Target::Values(3)).loss(json!("mae")),
        small("loss_huber", Target::Values(3)).loss(json!({"name": "huber", "delta": 0.3})),
        small("loss_bce", Target::Values(3)).loss(json!("bce")),
        small("loss_kl", Target::Values(3)).loss(json!("kl")),
        small("loss_quantile", quantiles).loss(json!({"name": "quantile"})),
        dice.tokens(7).loss(json!({"name": "dice", "smooth": 0.5})),
    ]
}

fn optimizers() -> Vec<Task> {
    let by = |name, optimizer| small(name, Target::Classes(5)).with("optimizer", optimizer);
    vec![
        by("sgd", json!({"name": "sgd", "learning_rate": 0.1})),
        by(
            "sgd_momentum",
            json!({"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ),
        by(
            "sgd_nesterov",
            json!({"name": "sgd", "learning_rate": 0.1, "momentum": 0.8, "nesterov": true}),
        ),
        by(
            "adamw",
            json!({"name": "adamw", "learning_rate": 0.02, "betas": [0.8, 0.95],
                "epsilon": 1e-4, "weight_decay": 0.2}),
        ),
    ]
}

fn schedules() -> Vec<Task> {
    let by = |name, schedule| small(name, Target::Classes(5)).with("schedule", schedule);
    vec![
        by(
            "schedule_warmup",
            json!({"name": "constant", "warmup_steps": 6}),
        ),
        by(
            "schedule_cosine",
            json!({"name": "cosine", "warmup_steps": 3, "min_share": 0.1}),
        ),
        by(
            "schedule_linear",
            json!({"name": "linear", "warmup_steps": 2, "min_share": 0.2}),
        ),
        by("schedule_one_cycle", json!({"name": "one_cycle"})),
        by(
            "schedule_step",
            json!({"name": "step", "every_steps": 4, "factor": 0.5}),
        ),
        // The rate is so high that the loss of the held-out rows rises.
        by(
            "schedule_plateau",
            json!({"name": "plateau", "factor": 0.3, "patience": 1}),
        )
        .with("optimizer", json!({"name": "adamw", "learning_rate": 0.1})),
    ]
}

fn limits() -> Vec<Task> {
    let task = |name| small(name, Target::Classes(5));
    vec![
        task("clip_norm").with("clip", json!({"norm": 0.3})),
        task("clip_value")
            .with("clip", json!({"norm": 0.9, "value": 0.05}))
            .with("optimizer", json!({"name": "sgd", "learning_rate": 0.5})),
        task("accumulate").with("accumulate", json!(2)),
        task("shards")
            .with("batch_size", json!(14))
            .with("virtual_shards", json!(2)),
        task("ema").with("ema", json!({"decay": 0.7})),
        task("drop_last").with("drop_last", json!(true)),
        task("everything")
            .with("accumulate", json!(2))
            .with("ema", json!({"decay": 0.5}))
            .with("clip", json!({"norm": 0.5}))
            .with("schedule", json!({"name": "cosine", "warmup_steps": 4}))
            .with(
                "optimizer",
                json!({"name": "sgd", "learning_rate": 0.3, "momentum": 0.9}),
            ),
    ]
}
