//! What the compiler refuses of images, and what they cost.

use stoker_domain::spec::{Format, JobSpec};

use super::{build, refuse, with_model};

#[test]
fn images_that_do_not_fit_name_the_layer() {
    refuse(
        &with_model(r#"layers = [{ type = "conv2d", channels = 3, kernel = 3, dilation = 4 }]"#),
        "model.layers[0]",
        "a kernel of 3 x 3 doesn't fit with padding 0 and dilation 4",
    );
    refuse(
        &with_model(r#"layers = [{ type = "conv2d", channels = 4, kernel = 3, groups = 2 }]"#),
        "model.layers[0].groups",
        "2 doesn't divide the 1 channels that come in",
    );
    refuse(
        &with_model(r#"layers = [{ type = "conv1d", channels = 4, kernel = 3 }]"#),
        "model.layers[0]",
        "`input` gives [1, 8, 8]; `conv1d` takes [length, features]",
    );
    refuse(
        &with_model("input = [8, 8]\nlayers = [{ type = \"conv1d\", channels = 4, kernel = 9 }]"),
        "model.layers[0]",
        "`input` gives [8, 8]; a kernel of 9 doesn't fit with padding 0",
    );
    refuse(
        &with_model(r#"layers = [{ type = "flatten" }, { type = "avg_pool2d", kernel = 2 }]"#),
        "model.layers[1]",
        "gives [64]; `avg_pool2d` takes [channels, height, width]",
    );
    refuse(
        &with_model(r#"layers = [{ type = "flatten" }, { type = "global_avg_pool" }]"#),
        "model.layers[1]",
        "gives [64]; `global_avg_pool` takes",
    );
}

#[test]
fn windows_out_of_range_are_refused_at_once() {
    let refuse = |layer: &str, field: &str, message: &str| {
        let text = with_model(&format!("layers = [{layer}]"));
        let errors = JobSpec::parse(&text, Format::Toml).unwrap_err();
        let found = errors
            .iter()
            .any(|e| e.field == field && e.message.contains(message));
        assert!(found, "{field}: {message} is not in {errors:?}");
    };
    refuse(
        r#"{ type = "conv2d", channels = 6, kernel = 3, groups = 4 }"#,
        "model.layers[0].groups",
        "4 doesn't divide `channels`, which is 6",
    );
    refuse(
        r#"{ type = "conv2d", channels = 6, kernel = 3, dilation = 0 }"#,
        "model.layers[0].dilation",
        "0 is not in 1 to",
    );
    refuse(
        r#"{ type = "conv1d", channels = 6, kernel = 3, padding = 1, causal = true }"#,
        "model.layers[0].padding",
        "has a padding of its own",
    );
    refuse(
        r#"{ type = "max_pool2d", kernel = 3, padding = 2 }"#,
        "model.layers[0].padding",
        "2 is more than half of the kernel, 3",
    );
}

#[test]
fn grouped_convolutions_cost_less() {
    let quote = |groups: u32| {
        let model = format!(
            r#"layers = [{{ type = "conv2d", channels = 8, kernel = 1 }}, {{ type = "conv2d", channels = 8, kernel = 3, groups = {groups} }}, {{ type = "flatten" }}, {{ type = "linear", units = 10 }}]"#
        );
        build(&with_model(&model)).unwrap().quote()
    };
    let rest = (2 * 64 * 8, 3 * 36 * 8 * 10);
    for groups in [1, 2, 8] {
        let (window, quote) = (9 * 8 / u64::from(groups), quote(groups));
        assert_eq!(quote.parameters, 16 + 8 * window + 8 + 36 * 80 + 10);
        let conv = 3 * 36 * 8 * window;
        assert_eq!(quote.flops_per_step, 2 * 32 * (rest.0 + rest.1 + conv));
    }
}
