//! Losses, optimisers and schedules, on a small network.

use serde_json::json;
use stoker_model::Target;

use super::sequence;
use crate::task::Task;

/// All of them.
pub(super) fn training() -> Vec<Task> {
    [losses(), optimizers(), schedules(), limits()].concat()
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
