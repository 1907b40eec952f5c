//! What the compiler refuses of joined and enlarged images, and of predictions at each position.

use stoker_domain::spec::{Format, JobSpec};

use super::{JOB, build, column, compile_job, refuse, schema, with_model};
use crate::{Plan, Target};
use stoker_domain::FieldError;
use stoker_domain::dataset::{ColumnKind, Schema};

#[test]
fn inputs_of_other_sizes_are_not_joined() {
    let layers = |last: &str| {
        with_model(&format!(
            r#"layers = [
                {{ type = "conv2d", channels = 3, kernel = 3, name = "a" }},
                {{ type = "flatten", name = "b" }},
                {last}, {{ type = "flatten" }}, {{ type = "linear", units = 10 }}]"#
        ))
    };
    refuse(
        &layers(r#"{ type = "concat", inputs = ["a", "input", "b"] }"#),
        "model.layers[2]",
        "`a` gives [3, 6, 6]; `concat` needs inputs that differ in channels or features alone, another gives [1, 8, 8]",
    );
    refuse(
        &layers(r#"{ type = "concat", inputs = ["a", "b"] }"#),
        "model.layers[2]",
        "another gives [108]",
    );
    refuse(
        &layers(r#"{ type = "concat", inputs = ["b"] }"#),
        "model.layers[2].inputs",
        "1 inputs given, `concat` takes 2 to 16",
    );
}

#[test]
fn enlargements_that_do_not_fit_name_the_layer() {
    refuse(
        &with_model(r#"layers = [{ type = "flatten" }, { type = "upsample", factor = 2 }]"#),
        "model.layers[1]",
        "gives [64]; `upsample` takes [channels, height, width] or [length, features]",
    );
    refuse(
        &with_model(
            r#"layers = [{ type = "flatten" }, { type = "conv_transpose2d", channels = 2, kernel = 2 }]"#,
        ),
        "model.layers[1]",
        "gives [64]; `conv_transpose2d` takes [channels, height, width]",
    );
    refuse(
        &with_model(r#"layers = [{ type = "conv_transpose1d", channels = 2, kernel = 2 }]"#),
        "model.layers[0]",
        "gives [1, 8, 8]; `conv_transpose1d` takes [length, features]",
    );
    refuse(
        &with_model(
            r#"layers = [{ type = "conv_transpose2d", channels = 2, kernel = 1, padding = 4 }]"#,
        ),
        "model.layers[0]",
        "a kernel of 1 with stride 1 and padding 4 leaves nothing of it",
    );
    refuse(
        &with_model(r#"layers = [{ type = "max_pool1d", kernel = 2 }]"#),
        "model.layers[0]",
        "`max_pool1d` takes [length, features]",
    );
    refuse(
        &with_model(r#"layers = [{ type = "flatten" }, { type = "global_max_pool" }]"#),
        "model.layers[1]",
        "`global_max_pool` takes",
    );
}

#[test]
fn enlargements_out_of_range_are_refused_at_once() {
    for (layer, field, message) in [
        (
            r#"{ type = "conv_transpose2d", channels = 2, kernel = 2, output_padding = 1 }"#,
            "model.layers[0].output_padding",
            "1 is not less than `stride`, 1",
        ),
        (
            r#"{ type = "upsample", factor = 65 }"#,
            "model.layers[0].factor",
            "65 is not in 1 to 64",
        ),
        (
            r#"{ type = "upsample", factor = 2, mode = "cubic" }"#,
            "model.layers[0]",
            "unknown variant `cubic`, expected `nearest` or `bilinear`",
        ),
        (
            r#"{ type = "avg_pool1d", kernel = 3, padding = 2 }"#,
            "model.layers[0].padding",
            "2 is more than half of the kernel, 3",
        ),
    ] {
        let text = with_model(&format!("layers = [{layer}]"));
        let errors = JobSpec::parse(&text, Format::Toml).unwrap_err();
        let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
        assert!(found, "{field}: {message} is not in {errors:?}");
    }
}

/// A data set whose label is a class, or a number, at each of 8 x 8 positions.
fn compile_pixels(model: &str, kind: ColumnKind) -> Result<Plan, Vec<FieldError>> {
    let text = with_model(model);
    let text = match kind {
        ColumnKind::Float => text.replace("cross_entropy", "mse"),
        _ => text,
    };
    let mut schema: Schema = schema();
    schema.columns[3] = column("label", kind, &[8, 8], 3.0);
    compile_job(&JobSpec::parse(&text, Format::Toml).unwrap(), &schema)
}

#[track_caller]
fn refuse_pixels(model: &str, kind: ColumnKind, field: &str, message: &str) {
    let errors = compile_pixels(model, kind).unwrap_err();
    let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
    assert!(found, "{field}: {message} is not in {errors:?}");
}

#[test]
fn a_prediction_at_each_position_has_the_targets_shape() {
    let conv = |channels: usize, kernel: usize| {
        format!(r#"layers = [{{ type = "conv2d", channels = {channels}, kernel = {kernel} }}]"#)
    };
    let plan = compile_pixels(&conv(4, 1), ColumnKind::Integer).unwrap();
    let expected = Target::Sequence {
        classes: 4,
        positions: 64,
    };
    assert_eq!((plan.input.target, plan.outputs), (expected, 256));
    refuse_pixels(
        &conv(5, 1),
        ColumnKind::Integer,
        "model.layers[0]",
        "gives [5, 8, 8], the target needs 4 scores at each of 64 positions",
    );
    refuse_pixels(
        &conv(4, 3),
        ColumnKind::Integer,
        "model.layers[0]",
        "gives [4, 6, 6], the target needs 4 scores at each of 64 positions",
    );
    compile_pixels(&conv(1, 1), ColumnKind::Float).unwrap();
    refuse_pixels(
        &conv(2, 1),
        ColumnKind::Float,
        "model.layers[0]",
        "gives [2, 8, 8], the target needs [64]",
    );
}

#[test]
fn a_unet_halves_its_input_and_follows_the_target() {
    let unet = |rest: &str| format!("family = \"unet\"\ninput = [1, 8, 8]\n{rest}");
    let kinds = [(ColumnKind::Integer, 4), (ColumnKind::Float, 1)];
    for (kind, outputs) in kinds {
        let plan = compile_pixels(&unet("depth = 2\nchannels = 3"), kind).unwrap();
        let shape = |name: &str| {
            let found = plan.parameters.iter().find(|p| p.name == name);
            found.map(|p| p.shape.clone()).unwrap_or_default()
        };
        assert_eq!(shape("down.0.conv1.weight"), [3, 1, 3, 3]);
        assert_eq!(shape("down.1.conv2.weight"), [6, 6, 3, 3]);
        assert_eq!(shape("middle.conv1.weight"), [12, 6, 3, 3]);
        assert_eq!(shape("up.0.upconv.weight"), [12, 6, 2, 2]);
        assert_eq!(shape("up.0.conv1.weight"), [6, 12, 3, 3]);
        assert_eq!(shape("up.1.conv2.weight"), [3, 3, 3, 3]);
        assert_eq!(shape("head.weight"), [outputs, 3, 1, 1]);
    }
    refuse_pixels(
        &unet("depth = 4"),
        ColumnKind::Integer,
        "model.input",
        "8 x 8 can't be halved 4 times, as often as `depth` says: each side must be a multiple of 16",
    );
    refuse_pixels(
        "family = \"unet\"\ninput = [64]",
        ColumnKind::Integer,
        "model.input",
        "[channels, height, width] needed",
    );
    refuse(
        &with_model(&unet("depth = 2")),
        "model.family",
        "`unet` predicts at each position of an image: data.target must hold [8, 8] classes or [n, 8, 8] numbers per row, not one class per row",
    );
    for (rest, field, message) in [
        ("depth = 0", "model.depth", "0 is not in 1 to 10"),
        ("depth = 11", "model.depth", "11 is not in 1 to 10"),
        (
            "depth = 10\nchannels = 1025",
            "model.depth",
            "10 levels below 1025 channels have 1049600, at most 1048576 allowed",
        ),
        ("channels = 0", "model.channels", "0 is not in 1 to"),
        ("norm = \"layer\"", "model", "unknown variant `layer`"),
    ] {
        let errors = JobSpec::parse(&with_model(&unet(rest)), Format::Toml).unwrap_err();
        let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
        assert!(found, "{field}: {message} is not in {errors:?}");
    }
    assert!(build(JOB).is_ok());
}

#[test]
fn transposed_convolutions_are_quoted() {
    let model = |layer: &str| {
        with_model(&format!(
            r#"layers = [{{ type = "conv2d", channels = 4, kernel = 1 }}, {layer}, {{ type = "flatten" }}, {{ type = "linear", units = 10 }}]"#
        ))
    };
    // 32 rows of 8 x 8 positions with 4 numbers, each of which makes 2 x 2 of 3; three products.
    let with = build(&model(
        r#"{ type = "conv_transpose2d", channels = 3, kernel = 2, stride = 2 }"#,
    ));
    let without = build(&model(r#"{ type = "upsample", factor = 2 }"#));
    let (with, without) = (with.unwrap().quote(), without.unwrap().quote());
    let products = 3 * 2 * 32 * 64 * 4 * 12;
    // The linear layer has a quarter fewer inputs.
    let linear = 3 * 2 * 32 * 256 * 10;
    assert_eq!(
        with.flops_per_step + linear,
        without.flops_per_step + products
    );
}
