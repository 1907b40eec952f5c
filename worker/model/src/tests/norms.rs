//! Normalisation of channels, and the networks that use it.

use super::{build, refuse, with_model};
use stoker_domain::spec::{Format, JobSpec};

#[test]
fn norms_that_do_not_fit_name_the_layer() {
    let layers = |layers: &str| with_model(&format!("layers = [{layers}]"));
    refuse(
        &layers(
            r#"{ type = "conv2d", channels = 6, kernel = 1 }, { type = "group_norm", groups = 4 }"#,
        ),
        "model.layers[1].groups",
        "4 doesn't divide the 6 channels",
    );
    refuse(
        &layers(
            r#"{ type = "conv2d", channels = 6, kernel = 1 }, { type = "flatten" }, { type = "group_norm", groups = 2 }"#,
        ),
        "model.layers[2]",
        "gives [384]; `group_norm` takes channels: put it before the `flatten`",
    );
    for (block, field) in [
        (r#"type = "batch_norm", momentum = 0.0"#, "momentum"),
        (r#"type = "batch_norm", epsilon = 0.0"#, "epsilon"),
        (r#"type = "group_norm", groups = 0"#, "groups"),
    ] {
        let text = layers(&format!("{{ {block} }}"));
        let errors = JobSpec::parse(&text, Format::Toml).unwrap_err();
        assert_eq!(errors[0].field, format!("model.layers[0].{field}"));
    }
}

#[test]
fn residual_networks_take_images_and_a_width_per_stage() {
    let model = |rest: &str| with_model(&format!("family = \"resnet\"\n{rest}"));
    refuse(
        &model("input = [64]"),
        "model.input",
        "[channels, height, width]",
    );
    let text = model("input = [1, 8, 8]\ndepths = [1, 1]");
    let errors = JobSpec::parse(&text, Format::Toml).unwrap_err();
    assert_eq!(errors[0].field, "model.channels");
    assert!(errors[0].message.contains("4 given for 2 `depths`"));
    let text = model("input = [1, 8, 8]\ndepths = [1024, 1, 1, 1]");
    let errors = JobSpec::parse(&text, Format::Toml).unwrap_err();
    assert_eq!(errors[0].field, "model.depths");
}

#[test]
fn running_statistics_lie_behind_what_is_trained() {
    let text = with_model("family = \"resnet\"\ninput = [1, 8, 8]\ndepths = [1]\nchannels = [5]");
    let plan = build(&text).unwrap();
    for parameter in &plan.parameters {
        let end = parameter.offset + parameter.floats;
        assert_eq!(parameter.trained, end <= plan.trained_floats());
        assert_eq!(!parameter.trained, parameter.name.contains("running"));
    }
    let quote = plan.quote();
    assert_eq!(quote.parameters, 45 + 10 + 2 * (225 + 10) + 60);
    // Plans without them have the form that they had.
    let json = serde_json::to_string(&build(super::JOB).unwrap()).unwrap();
    assert!(!json.contains("trained") && !json.contains("statistic"));
}
