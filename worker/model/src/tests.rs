//! Tests of the compiler: what it refuses and how it says so, and what it makes.

mod columns;
mod images;
mod lengths;
mod norms;
mod pictures;
mod sequences;

use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind, Schema, Statistics};
use stoker_domain::spec::{Format, JobSpec};

use crate::{Op, Plan, Quote, Target, compile_job};

fn column(name: &str, kind: ColumnKind, shape: &[u32], max: f64) -> Column {
    Column {
        missing: 0,
        categories: None,
        name: name.to_owned(),
        kind,
        shape: shape.to_vec(),
        statistics: Some(Statistics {
            min: 0.0,
            max,
            mean: max / 2.0,
            deviation: 1.0,
            distinct: None,
        }),
    }
}

fn schema() -> Schema {
    Schema {
        rows: 100,
        columns: vec![
            column("pixels", ColumnKind::Float, &[1, 8, 8], 16.0),
            column("age", ColumnKind::Integer, &[], 99.0),
            column("city", ColumnKind::Text, &[], 0.0),
            column("label", ColumnKind::Integer, &[], 9.0),
        ],
    }
}

const JOB: &str = r#"
name = "digits"
[data]
dataset = "digits@1"
features = ["pixels"]
target = "label"
[model]
family = "cnn"
input = [1, 8, 8]
channels = [4, 6]
dense = [5]
dropout = 0.5
[train]
epochs = 2
batch_size = 32
virtual_shards = 4
loss = "cross_entropy"
"#;

/// Replaces the `[model]` part.
fn with_model(model: &str) -> String {
    let (before, rest) = JOB.split_once("[model]").unwrap();
    let (_, after) = rest.split_once("[train]").unwrap();
    format!("{before}[model]\n{model}\n[train]{after}")
}

fn build(text: &str) -> Result<Plan, Vec<FieldError>> {
    compile_job(&JobSpec::parse(text, Format::Toml).unwrap(), &schema())
}

#[track_caller]
fn refuse(text: &str, field: &str, message: &str) {
    let errors = build(text).unwrap_err();
    let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
    assert!(found, "{field}: {message} is not in {errors:?}");
}

#[test]
fn columns_that_cannot_be_trained_on_are_named() {
    let features = |list: &str| JOB.replace(r#"["pixels"]"#, list);
    refuse(
        &features(r#"["pixel"]"#),
        "data.features[0]",
        "did you mean `pixels`?",
    );
    refuse(&features(r#"["age", "city"]"#), "data.features[1]", "text");
    refuse(
        &features(r#"["age", "label"]"#),
        "data.features[1]",
        "is the target",
    );
    refuse(&features(r#"["age", "age"]"#), "data.features[1]", "twice");
    refuse(&features("[]"), "data.features", "1 to");
    let all = JOB.replace("features = [\"pixels\"]\n", "");
    refuse(&all, "data.features", "`city` is text");
    let target = |name: &str| JOB.replace("\"label\"", name);
    refuse(&target("\"lable\""), "data.target", "did you mean `label`?");
    refuse(&target("\"city\""), "data.target", "text");
    refuse(&target("\"pixels\""), "data.target", "class indices");
}

#[test]
fn class_targets_are_counted_and_limited() {
    let spec = JobSpec::parse(JOB, Format::Toml).unwrap();
    assert_eq!(
        compile_job(&spec, &schema()).unwrap().input.target,
        Target::Classes(10)
    );
    for (min, max, allowed) in [
        (-1.0, 3.0, false),
        (0.0, 65_535.0, true),
        (0.0, 65_536.0, false),
    ] {
        let mut schema = schema();
        let statistics = schema.columns[3].statistics.as_mut().unwrap();
        (statistics.min, statistics.max) = (min, max);
        assert_eq!(
            compile_job(&spec, &schema).is_ok(),
            allowed,
            "{min} to {max}"
        );
    }
}

#[test]
fn losses_take_targets_of_their_kind() {
    let with = |target: &str, loss: &str| {
        JOB.replace("\"label\"", &format!("\"{target}\""))
            .replace("\"cross_entropy\"", loss)
    };
    let weights = r#"{ name = "cross_entropy", class_weights = [1, 2, 3] }"#;
    let message = "3 given, but the target has 10 classes";
    refuse(&with("label", weights), "train.loss.class_weights", message);
    let message = "bce needs numbers of 0 to 1; `age` holds 0 to 99";
    refuse(&with("age", r#""bce""#), "data.target", message);
    let mut schema = schema();
    schema.columns[1].statistics.as_mut().unwrap().min = -1.0;
    let kl = JobSpec::parse(&with("age", r#""kl""#), Format::Toml).unwrap();
    let errors = compile_job(&kl, &schema).unwrap_err();
    assert!(
        errors[0]
            .message
            .contains("kl needs numbers of 0 and above"),
        "{errors:?}"
    );
    let quantiles = r#"{ name = "quantile", levels = [0.1, 0.9] }"#;
    let plan = build(&with("age", quantiles)).unwrap();
    let (values, levels) = (1, 2);
    assert_eq!(plan.input.target, Target::Quantiles { values, levels });
    assert_eq!(plan.outputs, 2);
    let measured = with("age", quantiles) + "[[metrics]]\nbuiltin = \"mae\"\n";
    refuse(&measured, "metrics[0].builtin", "a prediction for each");
}

#[test]
fn what_is_kept_besides_the_weights_is_quoted() {
    let plain = build(JOB).unwrap().quote();
    let more = JOB.to_owned() + "ema = { decay = 0.9 }\nkeep_best = true\naccumulate = 2\n";
    let plan = build(&more).unwrap();
    let quote = plan.quote();
    let weights = plan.parameter_floats as u64 * 4;
    assert_eq!(
        plan.gradient_slots(1),
        4,
        "1 + log2 of 2 batches of 4 shards"
    );
    assert_eq!(quote.optimizer_bytes, plain.optimizer_bytes + weights);
    assert_eq!(quote.peak_bytes, plain.peak_bytes + 3 * weights);
    assert_eq!(quote.flops_per_step, 2 * plain.flops_per_step);
}

#[test]
fn shapes_that_do_not_fit_name_the_layer() {
    refuse(
        &with_model(
            r#"layers = [{ type = "linear", units = 3 }, { type = "linear", units = 10 }]"#,
        ),
        "model.layers[0]",
        "`input` gives [1, 8, 8]; `linear` takes [n] or [length, n]: add a `flatten`",
    );
    refuse(
        &with_model(r#"layers = [{ type = "flatten" }, { type = "linear", units = 9 }]"#),
        "model.layers[1]",
        "gives [9], the target needs [10]",
    );
    refuse(
        &with_model(r#"layers = [{ type = "conv2d", channels = 10, kernel = 8 }]"#),
        "model.layers[0]",
        "gives [10, 1, 1], the target needs [10]: add a `flatten`",
    );
    refuse(
        &with_model(
            r#"layers = [{ type = "flatten", name = "flat" }, { type = "conv2d", channels = 3, kernel = 3 }]"#,
        ),
        "model.layers[1]",
        "`flat` gives [64]; `conv2d` takes",
    );
    refuse(
        &with_model(r#"layers = [{ type = "conv2d", channels = 3, kernel = 9 }]"#),
        "model.layers[0]",
        "`input` gives [1, 8, 8]; a kernel of 9 x 9 doesn't fit",
    );
    refuse(
        &with_model("family = \"cnn\"\ninput = [1, 8, 9]"),
        "model.input",
        "holds 72 numbers, but a row has 64",
    );
    refuse(
        &with_model("family = \"cnn\"\ninput = [64]"),
        "model.input",
        "[channels, height, width]",
    );
    refuse(
        &with_model("family = \"cnn\"\ninput = [1, 8, 8]\nchannels = [2, 2, 2, 2]"),
        "model.pool",
        "gives [2, 1, 1]; a window of 2 x 2 doesn't fit",
    );
}

/// A job over sequences of 8 token ids below 20, with a token id to predict at each.
fn sequence_schema() -> Schema {
    Schema {
        rows: 100,
        columns: vec![
            column("x", ColumnKind::Integer, &[8], 19.0),
            column("y", ColumnKind::Integer, &[8], 17.0),
            column("loudness", ColumnKind::Float, &[8], 1.0),
        ],
    }
}

fn build_sequence(model: &str, features: &str) -> Result<Plan, Vec<FieldError>> {
    let text = with_model(model)
        .replace(r#"["pixels"]"#, &format!("[\"{features}\"]"))
        .replace("\"label\"", "\"y\"");
    compile_job(
        &JobSpec::parse(&text, Format::Toml).unwrap(),
        &sequence_schema(),
    )
}

#[track_caller]
fn refuse_sequence(model: &str, features: &str, field: &str, message: &str) {
    let errors = build_sequence(model, features).unwrap_err();
    let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
    assert!(found, "{field}: {message} is not in {errors:?}");
}

#[test]
fn sequences_are_predicted_at_each_position() {
    let plan = build_sequence("family = \"gpt\"\nwidth = 8\nheads = 2\ndepth = 1", "x").unwrap();
    let target = Target::Sequence {
        classes: 18,
        positions: 8,
    };
    assert_eq!(plan.input.target, target);
    let names: Vec<&str> = plan.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "embedding.weight",
            "position.weight",
            "layers.0.norm1.weight",
            "layers.0.norm1.bias",
            "layers.0.self_attn.in_proj_weight",
            "layers.0.self_attn.in_proj_bias",
            "layers.0.self_attn.out_proj.weight",
            "layers.0.self_attn.out_proj.bias",
            "layers.0.norm2.weight",
            "layers.0.norm2.bias",
            "layers.0.linear1.weight",
            "layers.0.linear1.bias",
            "layers.0.linear2.weight",
            "layers.0.linear2.bias",
            "norm.weight",
            "norm.bias",
            "head.weight",
        ]
    );
    let embedding = &plan.parameters[0];
    assert_eq!(embedding.shape, [20, 8]);
}

#[test]
fn sequences_that_do_not_fit_name_the_layer() {
    let embedding = r#"{ type = "embedding", units = 6, name = "e" }"#;
    let layers = |rest: &str| format!("layers = [{embedding}, {rest}]");
    let refuse = refuse_sequence;
    refuse(
        &layers(r#"{ type = "linear", units = 3 }"#),
        "x",
        "model.layers[1]",
        "gives [8, 3], the target needs [8, 18]",
    );
    refuse(
        &layers(r#"{ type = "attention", heads = 4 }, { type = "linear", units = 18 }"#),
        "x",
        "model.layers[1].heads",
        "4 doesn't divide the 6 numbers",
    );
    refuse(
        &layers(r#"{ type = "flatten" }, { type = "position" }"#),
        "x",
        "model.layers[2]",
        "gives [48]; `position` takes [length, features]",
    );
    refuse(
        &layers(
            r#"{ type = "linear", units = 3, name = "l" }, { type = "add", inputs = ["l", "e"] }"#,
        ),
        "x",
        "model.layers[2]",
        "`l` gives [8, 3]; `add` needs inputs of one shape, another gives [8, 6]",
    );
    refuse(
        &layers(r#"{ type = "add" }"#),
        "x",
        "model.layers[1].inputs",
        "1 inputs given, `add` takes 2 to 16",
    );
    refuse(
        r#"layers = [{ type = "embedding", units = 6, vocabulary = 19 }]"#,
        "x",
        "model.layers[0].vocabulary",
        "19 given, but the features hold token ids up to 19",
    );
    refuse(
        &layers(r#"{ type = "linear", units = 18 }"#),
        "loudness",
        "model.layers[0].vocabulary",
        "aren't all whole numbers",
    );
    let odd = with_model("family = \"gpt\"\nwidth = 10\nheads = 4");
    let errors = JobSpec::parse(&odd, Format::Toml).unwrap_err();
    assert_eq!(errors[0].field, "model.heads");
    assert_eq!(errors[0].message, "4 doesn't divide `width`, which is 10");
    let errors = build(&with_model("family = \"gpt\"")).unwrap_err();
    assert_eq!(errors[0].field, "model.family");
}

#[test]
fn wiring_is_checked() {
    let flat = r#"{ type = "flatten" }, "#;
    let layers = |rest: &str| with_model(&format!("layers = [{flat}{rest}]"));
    refuse(
        &layers(r#"{ type = "linear", units = 10, inputs = ["x"] }"#),
        "model.layers[1].inputs",
        "only input, flatten0",
    );
    refuse(
        &layers(r#"{ type = "linear", units = 10, inputs = ["input", "flatten0"] }"#),
        "model.layers[1].inputs",
        "takes 1",
    );
    refuse(
        &layers(
            r#"{ type = "linear", units = 3 }, { type = "linear", units = 10, inputs = ["flatten0"] }"#,
        ),
        "model.layers[1]",
        "`linear1` is not used",
    );
    refuse(
        &layers(
            r#"{ type = "linear", units = 3, name = "a" }, { type = "linear", units = 10, name = "a" }"#,
        ),
        "model.layers[2].name",
        "taken",
    );
    refuse(
        &with_model(r#"layers = []"#),
        "model.layers",
        "target needs [10]",
    );
    let named = r#"{ type = "linear", units = 3, name = "a" }, { type = "linear", units = 10, inputs = ["a"] }"#;
    let names: Vec<String> = build(&layers(named))
        .unwrap()
        .parameters
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(
        names,
        ["a.weight", "a.bias", "layers.2.weight", "layers.2.bias"]
    );
}

#[test]
fn sizes_are_limited() {
    let wide = format!(
        r#"layers = [{{ type = "flatten" }}, {{ type = "linear", units = {n} }}, {{ type = "linear", units = {n} }}, {{ type = "linear", units = 10 }}]"#,
        n = 1 << 20
    );
    refuse(&with_model(&wide), "model.layers[2]", "too large");
    let many = format!(
        r#"layers = [{{ type = "flatten" }}, {{ type = "linear", units = {n} }}, {{ type = "linear", units = {n} }}, {{ type = "linear", units = 10 }}]"#,
        n = 1 << 16
    );
    refuse(&with_model(&many), "model", "parameters, at most");
    let padded = r#"layers = [{ type = "conv2d", channels = 1, kernel = 1, padding = 4000000000 }, { type = "flatten" }]"#;
    refuse(&with_model(padded), "model.layers[0]", "too large");
    let big = JOB
        .replace("batch_size = 32", "batch_size = 1048576")
        .replace("channels = [4, 6]", "channels = [1024, 4]");
    refuse(&big, "train.batch_size", "GiB");
}

#[test]
fn steps_and_metrics_are_checked_with_the_rest() {
    let text = format!(
        "{JOB}[[preprocess]]\nbuiltin = \"normalise\"\nconfig = {{ mod = \"minmax\" }}\n[[metrics]]\nbuiltin = \"mae\"\n"
    );
    refuse(&text, "preprocess[0].config.mod", "did you mean `mode`?");
    refuse(&text, "metrics[0].builtin", "loss = \"mse\"");
    refuse(
        &text.replace("mod =", "mode = \"x\", per ="),
        "preprocess[0].config.mode",
        "unknown variant `x`",
    );
}

#[test]
fn layers_are_fused_and_named_as_in_pytorch() {
    let plan = build(JOB).unwrap();
    let forward: Vec<(&str, &str)> = (plan.forward.iter())
        .map(|kernel| (kernel.layer.as_str(), name_of(&kernel.op)))
        .collect();
    assert_eq!(
        forward,
        [
            ("layers.0", "Conv2d"),
            ("layers.2", "MaxPool"),
            ("layers.3", "Conv2d"),
            ("layers.5", "MaxPool"),
            ("layers.7", "Linear"),
            ("layers.9", "Dropout"),
            ("layers.10", "Linear"),
        ]
    );
    let shapes: Vec<(&str, &[usize])> = (plan.parameters.iter())
        .map(|p| (p.name.as_str(), p.shape.as_slice()))
        .collect();
    let expected: [(&str, &[usize]); 8] = [
        ("layers.0.weight", &[4, 1, 3, 3]),
        ("layers.0.bias", &[4]),
        ("layers.3.weight", &[6, 4, 3, 3]),
        ("layers.3.bias", &[6]),
        ("layers.7.weight", &[5, 24]),
        ("layers.7.bias", &[5]),
        ("layers.10.weight", &[10, 5]),
        ("layers.10.bias", &[10]),
    ];
    assert_eq!(shapes, expected);
    let written: Vec<usize> = plan
        .backward
        .iter()
        .flat_map(|k| k.op.gradients().into_iter().flatten())
        .map(|p| p.0)
        .collect();
    let mut sorted = written.clone();
    sorted.sort_unstable();
    assert!(
        sorted.into_iter().eq(0..8),
        "each gradient is written once: {written:?}"
    );
}

fn name_of(op: &Op) -> &'static str {
    match op {
        Op::Conv2d {
            bias: Some(_),
            activation: Some(_),
            ..
        } => "Conv2d",
        Op::Linear { bias: Some(_), .. } => "Linear",
        Op::MaxPool { .. } => "MaxPool",
        Op::Dropout { .. } => "Dropout",
        _ => "other",
    }
}

#[test]
fn the_quote_adds_up() {
    let plan = build(JOB).unwrap();
    let parameters = 4 * 9 + 4 + 6 * 36 + 6 + 5 * 24 + 5 + 10 * 5 + 10;
    let Quote {
        parameters: given,
        flops_per_step,
        ..
    } = plan.quote();
    assert_eq!(given, parameters);
    // Multiply-adds per row: forward, gradients of weights, gradients of inputs but the first.
    let (conv1, conv2, dense) = (64 * 9 * 4, 16 * 36 * 6, 24 * 5 + 5 * 10);
    assert_eq!(flops_per_step, 2 * 32 * (2 * conv1 + 3 * conv2 + 3 * dense));
    let quote = plan.quote();
    assert_eq!(plan.gradient_slots(1), 3, "1 + log2 of 4 shards");
    assert_eq!(
        quote.gradient_bytes,
        3 * quote.optimizer_bytes / 2,
        "AdamW keeps two"
    );
    let weights = quote.optimizer_bytes / 2;
    assert_eq!(
        quote.peak_bytes,
        weights + quote.arena_bytes + quote.optimizer_bytes + quote.gradient_bytes
    );
    assert!(quote.arena_bytes > plan.arena_floats as u64 * 4);
}

#[test]
fn the_hash_follows_what_changes_the_result() {
    let hash = |text: &str| build(text).unwrap().hash();
    let one = hash(JOB);
    assert_eq!((one.len(), &one), (64, &hash(JOB)));
    for (from, to) in [
        ("batch_size = 32", "batch_size = 64"),
        ("virtual_shards = 4", "virtual_shards = 2"),
        ("epochs = 2", "epochs = 2\nseed = 1"),
        ("dropout = 0.5", "dropout = 0.25"),
        ("dense = [5]", "dense = [6]"),
    ] {
        assert_ne!(hash(&JOB.replace(from, to)), one, "{to}");
    }
    assert_eq!(
        hash(&JOB.replace("digits\"\n[data]", "other\"\n[data]")),
        one,
        "a name is no part of it"
    );
}

#[test]
fn orders_are_permutations() {
    let order = crate::Order::ChannelsLast {
        channels: 3,
        positions: 4,
    };
    let mut stored: Vec<usize> = (0..24).map(|index| order.stored_index(index)).collect();
    // Channel 1, position 2 of row 1.
    assert_eq!(stored[12 + 4 + 2], 12 + 2 * 3 + 1);
    stored.sort_unstable();
    assert!(stored.into_iter().eq(0..24));
}
