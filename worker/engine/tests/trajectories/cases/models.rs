//! Every family, and the blocks that they leave out.

use stoker_model::Target;

use super::sequence;
use crate::task::Task;

/// All of them.
pub(super) fn models() -> Vec<Task> {
    [images(), pictures(), sequences(), recurrent(), encoders()].concat()
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
        Task::new(
            "resnet",
            r#"{"family": "resnet", "input": [3, 11, 9], "depths": [1, 2], "channels": [5, 7]}"#,
            &[3, 11, 9],
            Target::Classes(5),
        ),
        Task::new(
            "resnet_large",
            r#"{"family": "resnet", "input": [1, 21, 19], "depths": [1, 1], "channels": [3, 4],
                "stem": "large", "block": "bottleneck"}"#,
            &[1, 21, 19],
            Target::Classes(3),
        ),
        Task::new(
            "norms",
            r#"{"layers": [{"type": "linear", "units": 12}, {"type": "batch_norm", "momentum": 0.3},
                {"type": "activation", "function": "tanh"}, {"type": "linear", "units": 12},
                {"type": "group_norm", "groups": 3}, {"type": "linear", "units": 3}]}"#,
            &[7],
            Target::Classes(3),
        ),
    ]
}

fn pictures() -> Vec<Task> {
    let unet = |name, model| Task::new(name, model, &[2, 12, 8], sequence(3, 96));
    vec![
        unet(
            "unet",
            r#"{"family": "unet", "input": [2, 12, 8], "depth": 2, "channels": 4, "norm": "batch"}"#,
        ),
        unet(
            "unet_group",
            r#"{"family": "unet", "input": [2, 12, 8], "depth": 1, "channels": 8, "norm": "group"}"#,
        ),
        unet(
            "unet_plain",
            r#"{"family": "unet", "input": [2, 12, 8], "depth": 2, "channels": 4, "norm": "none"}"#,
        ),
        Task::new(
            "picture_blocks",
            r#"{"input": [3, 5, 7], "layers": [
                {"type": "conv_transpose2d", "channels": 5, "kernel": 3, "stride": 2, "padding": 1,
                    "output_padding": 1},
                {"name": "larger", "type": "upsample", "factor": 2, "mode": "bilinear"},
                {"name": "near", "type": "upsample", "factor": 2, "inputs": ["conv_transpose2d0"]},
                {"type": "concat", "inputs": ["larger", "near"]},
                {"type": "conv2d", "channels": 4, "kernel": 3}, {"type": "global_max_pool"},
                {"type": "linear", "units": 3}]}"#,
            &[3, 5, 7],
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
        Task::new(
            "sequence_windows",
            r#"{"layers": [{"type": "embedding", "units": 6}, {"type": "max_pool1d", "kernel": 2},
                {"type": "conv_transpose1d", "channels": 4, "kernel": 3, "stride": 2},
                {"type": "avg_pool1d", "kernel": 3, "stride": 1, "padding": 1},
                {"type": "upsample", "factor": 2}, {"type": "global_max_pool"},
                {"type": "linear", "units": 5}]}"#,
            &[9],
            Target::Classes(5),
        )
        .tokens(11),
    ]
}

fn recurrent() -> Vec<Task> {
    let task = |name, model, target| Task::new(name, model, &[11], target).tokens(13);
    let numbers =
        |name, model| Task::new(name, model, &[9, 3], Target::Values(2)).loss("mse".into());
    vec![
        task(
            "lstm",
            r#"{"family": "lstm", "embedding": 5, "layers": 2, "units": 7}"#,
            Target::Classes(5),
        ),
        task(
            "gru",
            r#"{"family": "lstm", "embedding": 5, "layers": 2, "units": 7, "cell": "gru"}"#,
            sequence(5, 11),
        ),
        numbers(
            "lstm_numbers",
            r#"{"family": "lstm", "layers": 1, "units": 7}"#,
        ),
        task(
            "tcn",
            r#"{"family": "tcn", "embedding": 5, "channels": [5, 7, 7], "kernel": 2}"#,
            sequence(5, 11),
        ),
        numbers("tcn_numbers", r#"{"family": "tcn", "channels": [6, 4]}"#),
    ]
}

fn encoders() -> Vec<Task> {
    let masked = Target::Masked {
        classes: 13,
        positions: 11,
    };
    let task = |name, model, target| Task::new(name, model, &[11], target).tokens(13);
    vec![
        task(
            "gpt_rotary",
            r#"{"family": "gpt", "depth": 1, "width": 12, "heads": 2, "positions": "rotary"}"#,
            sequence(13, 11),
        ),
        task(
            "encoder",
            r#"{"family": "encoder", "depth": 2, "width": 12, "heads": 3}"#,
            Target::Classes(5),
        ),
        task(
            "encoder_masked",
            r#"{"family": "encoder", "depth": 1, "width": 12, "heads": 3, "masked": 0.3}"#,
            masked,
        ),
        Task::new(
            "encoder_numbers",
            r#"{"family": "encoder", "depth": 1, "width": 8, "heads": 2, "positions": "rotary"}"#,
            &[9, 3],
            sequence(4, 9),
        ),
    ]
}
