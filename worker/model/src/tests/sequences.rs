//! The families over sequences: their parameters, what they take, and what they refuse.

use stoker_domain::dataset::{ColumnKind, Schema};
use stoker_domain::spec::{Format, JobSpec};

use super::column;
use crate::{Plan, Target, compile_job};

fn schema() -> Schema {
    Schema {
        rows: 100,
        columns: vec![
            column("tokens", ColumnKind::Integer, &[9], 12.0),
            column("series", ColumnKind::Float, &[20, 3], 1.0),
            column("numbers", ColumnKind::Float, &[20], 1.0),
            column("label", ColumnKind::Integer, &[], 4.0),
            column("each", ColumnKind::Integer, &[9], 6.0),
        ],
    }
}

fn build(features: &str, target: &str, model: &str, loss: &str) -> Result<Plan, String> {
    let target = match target {
        "" => String::new(),
        name => format!("target = \"{name}\""),
    };
    let text = format!(
        "name = \"a\"\n[data]\ndataset = \"d@1\"\nfeatures = [\"{features}\"]\n{target}\n
         [model]\n{model}\n[train]\nepochs = 1\nbatch_size = 4\nloss = \"{loss}\"\n"
    );
    let job = JobSpec::parse(&text, Format::Toml).map_err(|errors| format!("{errors:?}"))?;
    compile_job(&job, &schema()).map_err(|errors| format!("{errors:?}"))
}

fn names(plan: &Plan) -> Vec<String> {
    let each = plan.parameters.iter();
    each.map(|p| format!("{} {:?}", p.name, p.shape)).collect()
}

#[test]
fn recurrent_families_have_the_names_and_shapes_of_pytorch() {
    let plan = build(
        "tokens",
        "label",
        "family = \"lstm\"\nembedding = 6\nunits = 5",
        "cross_entropy",
    );
    assert_eq!(
        names(&plan.unwrap()),
        [
            "embedding.weight [13, 6]",
            "lstm.weight_ih_l0 [20, 6]",
            "lstm.weight_hh_l0 [20, 5]",
            "lstm.bias_ih_l0 [20]",
            "lstm.bias_hh_l0 [20]",
            "lstm.weight_ih_l1 [20, 5]",
            "lstm.weight_hh_l1 [20, 5]",
            "lstm.bias_ih_l1 [20]",
            "lstm.bias_hh_l1 [20]",
            "head.weight [5, 5]",
            "head.bias [5]",
        ]
    );
    let model = "family = \"lstm\"\ncell = \"gru\"\nlayers = 1\nunits = 5";
    for (features, inputs) in [("series", 3), ("numbers", 1), ("tokens", 1)] {
        let plan = build(features, "label", model, "cross_entropy").unwrap();
        assert_eq!(names(&plan)[0], format!("gru.weight_ih_l0 [15, {inputs}]"));
    }
    let shaped = format!("{model}\ninput = [5, 4]");
    let plan = build("numbers", "label", &shaped, "mse").unwrap();
    assert_eq!(names(&plan)[0], "gru.weight_ih_l0 [15, 4]");
    let plan = build(
        "tokens",
        "each",
        &format!("{model}\nembedding = 3"),
        "cross_entropy",
    );
    assert_eq!(plan.unwrap().outputs, 9 * 7, "a class at each position");
    let both = format!("{shaped}\nembedding = 3");
    let error = build("numbers", "label", &both, "cross_entropy").unwrap_err();
    assert!(
        error.contains("model.input") && error.contains("token ids"),
        "{error}"
    );
    let error = build("series", "each", model, "cross_entropy").unwrap_err();
    assert!(
        error.contains("[20, 7], the target needs [9, 7]"),
        "{error}"
    );
}

#[test]
fn convolutional_ones_downsample_where_widths_differ() {
    let model = "family = \"tcn\"\nchannels = [4, 4, 6]\nkernel = 2";
    let plan = build("series", "label", model, "cross_entropy").unwrap();
    let weights = names(&plan);
    let weights: Vec<&str> = (weights.iter().map(String::as_str))
        .filter(|name| name.contains("weight"))
        .collect();
    assert_eq!(
        weights,
        [
            "layers.0.conv1.weight [4, 3, 2]",
            "layers.0.conv2.weight [4, 4, 2]",
            "layers.0.downsample.weight [4, 3, 1]",
            "layers.1.conv1.weight [4, 4, 2]",
            "layers.1.conv2.weight [4, 4, 2]",
            "layers.2.conv1.weight [6, 4, 2]",
            "layers.2.conv2.weight [6, 6, 2]",
            "layers.2.downsample.weight [6, 4, 1]",
            "head.weight [5, 6]",
        ]
    );
    let plan = build(
        "tokens",
        "each",
        &format!("{model}\nembedding = 4"),
        "cross_entropy",
    );
    assert_eq!(plan.unwrap().outputs, 9 * 7);
}

#[test]
fn encoders_do_what_the_target_asks_for() {
    let model = "family = \"encoder\"\ndepth = 1\nwidth = 8\nheads = 2";
    let plan = build("tokens", "label", model, "cross_entropy").unwrap();
    assert_eq!(plan.input.target, Target::Classes(5));
    let of = names(&plan);
    for name in [
        "embedding.weight [13, 8]",
        "position.weight [9, 8]",
        "layers.0.self_attn.in_proj_weight [24, 8]",
        "norm.weight [8]",
        "head.weight [5, 8]",
    ] {
        assert!(of.iter().any(|known| known == name), "{name} in {of:?}");
    }
    let rotary = format!("{model}\npositions = \"rotary\"");
    let plan = build("tokens", "each", &rotary, "cross_entropy").unwrap();
    assert_eq!(plan.outputs, 9 * 7);
    assert!(
        names(&plan)
            .iter()
            .all(|name| !name.starts_with("position"))
    );
    let plan = build("series", "label", model, "cross_entropy").unwrap();
    assert_eq!(names(&plan)[0], "embedding.weight [8, 3]");
    let odd = "family = \"gpt\"\ndepth = 1\nwidth = 6\nheads = 2\npositions = \"rotary\"";
    let error = build("tokens", "each", odd, "cross_entropy").unwrap_err();
    assert!(error.contains("3 to a head"), "{error}");
}

#[test]
fn masked_tokens_are_their_own_target() {
    let model = "family = \"encoder\"\ndepth = 1\nwidth = 8\nheads = 2\nmasked = 0.15";
    let plan = build("tokens", "", model, "cross_entropy").unwrap();
    let (classes, positions) = (13, 9);
    assert_eq!(plan.input.target, Target::Masked { classes, positions });
    assert_eq!(plan.masking.map(|masking| masking.token), Some(13));
    assert_eq!(names(&plan)[0], "embedding.weight [14, 8]");
    let more = format!("{model}\nvocabulary = 30");
    let plan = build("tokens", "", &more, "cross_entropy").unwrap();
    assert_eq!(names(&plan)[0], "embedding.weight [31, 8]");
    let refused = [
        ("tokens", "label", model, "cross_entropy", "leave it out"),
        ("tokens", "", "family = \"mlp\"", "mse", "data.target"),
        ("series", "", model, "cross_entropy", "token ids"),
        ("tokens", "", model, "mse", "model.masked"),
        ("tokens", "", model, "dice", "train.loss"),
    ];
    for (features, target, model, loss, message) in refused {
        let error = build(features, target, model, loss).unwrap_err();
        assert!(error.contains(message), "{message} is not in {error}");
    }
    let few = format!("{model}\nvocabulary = 12");
    let error = build("tokens", "", &few, "cross_entropy").unwrap_err();
    assert!(error.contains("token ids up to 12"), "{error}");
    for share in ["0", "1"] {
        let wrong = model.replace("0.15", share);
        let error = build("tokens", "", &wrong, "cross_entropy").unwrap_err();
        assert!(error.contains("model.masked"), "{error}");
    }
}

#[test]
fn recurrent_blocks_are_checked() {
    let model = |block: &str| {
        format!(
            "layers = [{block}, {{type = \"last_position\"}}, {{type = \"linear\", units = 5}}]"
        )
    };
    let block = "{type = \"lstm\", units = 4, layers = 65}";
    let error = build("series", "label", &model(block), "cross_entropy").unwrap_err();
    assert!(
        error.contains("model.layers[0].layers") && error.contains("1 to 64"),
        "{error}"
    );
    let block = "{type = \"gru\", units = 4}";
    let error = build("numbers", "label", &model(block), "cross_entropy").unwrap_err();
    assert!(error.contains("`gru` takes [length, features]"), "{error}");
    let quoted = |block: &str| {
        let model = format!("input = [20, 3]\n{}", model(block));
        build("series", "label", &model, "cross_entropy")
            .unwrap()
            .quote()
    };
    let (one, two) = (
        quoted("{type = \"lstm\", units = 4}"),
        quoted("{type = \"lstm\", units = 4, layers = 2}"),
    );
    // A product for the inputs and one for the states, each three times, all over 4 rows.
    let first = 2 * 4 * 20 * 16 * (2 * 3 + 3 * 4);
    let head = 2 * 4 * 4 * 5 * 3;
    assert_eq!(one.flops_per_step, first + head);
    assert_eq!(
        two.flops_per_step - one.flops_per_step,
        2 * 4 * 20 * 16 * (3 * 4 + 3 * 4)
    );
}
