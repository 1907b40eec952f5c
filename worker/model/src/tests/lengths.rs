//! Buckets of length: what they are made of, and what is refused.

use stoker_domain::spec::{Format, JobSpec};

use super::{build_sequence, column, sequence_schema, with_model};
use crate::{Op, Plan, compile_job};

const GPT: &str = "family = \"gpt\"\nwidth = 8\nheads = 2\ndepth = 1";

fn compile(model: &str, data: &str) -> Result<Plan, Vec<stoker_domain::FieldError>> {
    let text = with_model(model)
        .replace(r#"["pixels"]"#, "[\"x\"]")
        .replace("target = \"label\"", &format!("target = \"y\"\n{data}"));
    compile_job(
        &JobSpec::parse(&text, Format::Toml).unwrap(),
        &sequence_schema(),
    )
}

#[test]
fn buckets_share_the_parameters_of_the_longest() {
    let plain = build_sequence(GPT, "x").unwrap();
    let json = serde_json::to_string(&plain).unwrap();
    for new in ["padding", "shorter", "ends"] {
        assert!(!json.contains(new), "{new} would change the hash");
    }
    let plan = compile(GPT, "padding = 0\nlengths = [2, 5, 64]").unwrap();
    let positions: Vec<usize> = (plan.shorter.iter())
        .map(|body| body.padding.unwrap().positions)
        .collect();
    assert_eq!(positions, [2, 5], "the last has the data's length, 8");
    for body in &plan.shorter {
        assert_eq!(body.parameters, plan.parameters);
        assert_eq!(body.parameter_floats, plan.parameter_floats);
        assert!(body.arena_floats < plan.arena_floats);
        assert_eq!(plan.of_width(body.input.width), body);
    }
    assert_eq!(plan.of_width(8), &plan);
    assert_eq!(plan.parameters, plain.parameters);
    assert_eq!(plan.quote().flops_per_step, plain.quote().flops_per_step);
    let one = compile(GPT, "padding = 0").unwrap();
    assert!(one.shorter.is_empty() && one.hash() != plain.hash() && one.hash() != plan.hash());
}

#[test]
fn a_bucket_of_one_position_uses_the_first_vector() {
    let plan = compile(GPT, "padding = 0\nlengths = [1, 8]").unwrap();
    let added = plan.shorter[0]
        .forward
        .iter()
        .any(|kernel| match kernel.op {
            Op::AddBias { bias, columns, .. } => {
                columns == 8 && plan.parameters[bias.0].shape == [8, 8]
            }
            _ => false,
        });
    assert!(added, "it is no bias of the layer before it");
}

#[track_caller]
fn refuse(model: &str, data: &str, field: &str, message: &str) {
    let errors = compile(model, data).unwrap_err();
    let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
    assert!(found, "{field}: {message} is not in {errors:?}");
}

#[test]
fn models_that_cannot_be_cut_are_refused() {
    let buckets = "padding = 0\nlengths = [4, 8]";
    refuse(
        GPT,
        "padding = 0\nlengths = [4, 7]",
        "data.lengths[1]",
        "the rows have 8 positions",
    );
    let flat = r#"layers = [{ type = "embedding", units = 3 }, { type = "flatten" },
        { type = "linear", units = 18 }, { type = "linear", units = 18 }]"#;
    // What is predicted has no positions any more.
    let one = |data: &str| {
        let text = with_model(flat)
            .replace(r#"["pixels"]"#, "[\"x\"]")
            .replace("target = \"label\"", &format!("target = \"z\"\n{data}"));
        let mut schema = sequence_schema();
        let class = column("z", stoker_domain::dataset::ColumnKind::Integer, &[], 17.0);
        schema.columns.push(class);
        compile_job(&JobSpec::parse(&text, Format::Toml).unwrap(), &schema)
    };
    one("padding = 0").unwrap();
    let errors = one(buckets).unwrap_err();
    assert_eq!(errors[0].field, "data.lengths[0]");
    assert_eq!(
        errors[0].message,
        "the model can't be cut to 4 positions: `layers.2.weight` would have the shape [18, 12] and not [18, 24], since it mixes positions"
    );
    let narrow = r#"layers = [{ type = "embedding", units = 3 },
        { type = "conv1d", channels = 18, kernel = 6, padding = 0 },
        { type = "conv1d", channels = 18, kernel = 6, padding = 5 }]"#;
    refuse(
        narrow,
        buckets,
        "data.lengths[0]",
        "can't be cut to 4 positions: model.layers[1]",
    );
    let other = r#"layers = [{ type = "embedding", units = 3 },
        { type = "conv1d", channels = 18, kernel = 3, stride = 2, padding = 5 }]"#;
    refuse(
        other,
        "padding = 0",
        "data.padding",
        "doesn't end where the rows do",
    );
}
