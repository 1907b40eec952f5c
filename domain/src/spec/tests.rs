use super::*;

const DIGITS: &str = r#"
name = "digits"
[data]
dataset = "digits@1"
target = "label"
[model]
family = "mlp"
[train]
epochs = 2
batch_size = 32
loss = "cross_entropy"
"#;

fn parse(text: &str) -> Result<JobSpec, Vec<FieldError>> {
    JobSpec::parse(text, Format::Toml)
}

#[test]
fn a_spec_survives_the_round_trip_through_json() {
    let spec = parse(DIGITS).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(JobSpec::parse(&json, Format::Json).unwrap(), spec);
    assert_eq!(spec.blake3().len(), 64);
}

#[test]
fn layers_survive_the_round_trip_through_json() {
    let text = DIGITS.replace(
        "family = \"mlp\"",
        "layers = [{ type = \"linear\", units = 8, name = \"a\" }, { type = \"activation\", function = \"gelu\" }]",
    );
    let spec = parse(&text).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(JobSpec::parse(&json, Format::Json).unwrap(), spec);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn errors_name_the_field_and_what_is_allowed() {
    let cases = [
        (
            "epochs = 2",
            "epoch = 2",
            "train.epoch",
            "did you mean `epochs`?",
        ),
        (
            "family = \"mlp\"",
            "family = \"mpl\"",
            "model.family",
            "did you mean `mlp`?",
        ),
        (
            "family = \"mlp\"",
            "family = \"mlp\"\nhiden = [3]",
            "model.hiden",
            "did you mean `hidden`?",
        ),
        ("family = \"mlp\"", "", "model", "needs `family"),
        (
            "family = \"mlp\"",
            "layers = [{ type = \"liner\" }]",
            "model.layers[0].type",
            "did you mean `linear`?",
        ),
        (
            "family = \"mlp\"",
            "family = \"mlp\"\nhidden = [0]",
            "model.hidden[0]",
            "1 to",
        ),
        (
            "batch_size = 32",
            "batch_size = \"x\"",
            "train.batch_size",
            "invalid type: string \"x\"",
        ),
        ("batch_size = 32", "", "train.batch_size", "missing field"),
        ("epochs = 2", "", "train.epochs", "exactly one"),
        (
            "batch_size = 32",
            "batch_size = 30\nvirtual_shards = 4",
            "train.virtual_shards",
            "power of two",
        ),
        (
            "name = \"digits\"",
            "name = \"-\"",
            "name",
            "starting with a letter",
        ),
        (
            "name = \"digits\"",
            "name = \"digits\"\nx = 1",
            "x",
            "expected one of",
        ),
        (
            "dataset = \"digits@1\"",
            "dataset = \"a/b\"",
            "data.dataset",
            "not a reference",
        ),
        (
            "[train]",
            "[train]\noptimizer = { name = \"adamw\", learning_rate = -1.0 }",
            "train.optimizer.learning_rate",
            "above 0",
        ),
    ];
    for (from, to, field, message) in cases {
        let errors = parse(&DIGITS.replace(from, to)).unwrap_err();
        assert!(
            errors
                .iter()
                .any(|e| e.field == field && e.message.contains(message)),
            "{to:?} should name {field}: {message}; got {errors:?}"
        );
    }
}

/// What a spec with this in place of its loss, and more under `[train]`, is refused for.
#[track_caller]
fn refuse(loss: &str, more: &str, field: &str, message: &str) {
    let text = DIGITS.replace(
        "loss = \"cross_entropy\"",
        &format!("loss = {loss}\n{more}"),
    );
    let errors = parse(&text).unwrap_err();
    let found = |e: &FieldError| e.field == field && e.message.contains(message);
    assert!(
        errors.iter().any(found),
        "{field}: {message}; got {errors:?}"
    );
}

#[test]
fn a_loss_is_a_name_or_has_settings() {
    let of = |loss: &str| {
        let text = DIGITS.replace("\"cross_entropy\"", loss);
        let spec = parse(&text).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(JobSpec::parse(&json, Format::Json).unwrap(), spec);
        serde_json::to_value(&spec).unwrap()["train"]["loss"].clone()
    };
    assert_eq!(of(r#""cross_entropy""#), "cross_entropy");
    assert_eq!(
        of(r#"{ name = "mse" }"#),
        "mse",
        "without settings a name says it all"
    );
    let huber = of(r#""huber""#);
    assert_eq!(huber, serde_json::json!({"name": "huber", "delta": 1.0}));
    let wrong = [
        (r#""mes""#, "train.loss.name", "did you mean `mse`?"),
        (
            r#"{ name = "huber", delta = 0 }"#,
            "train.loss.delta",
            "above 0",
        ),
        (
            r#"{ name = "huber", dleta = 1 }"#,
            "train.loss.dleta",
            "did you mean `delta`?",
        ),
        (
            r#"{ name = "quantile", levels = [] }"#,
            "train.loss.levels",
            "1 to 64",
        ),
        (
            r#"{ name = "quantile", levels = [0.5, 1] }"#,
            "train.loss.levels[1]",
            "below 1",
        ),
        (
            r#"{ name = "cross_entropy", label_smoothing = 1 }"#,
            "train.loss.label_smoothing",
            "1 is not in 0",
        ),
        (
            r#"{ name = "cross_entropy", class_weights = [1, 0] }"#,
            "train.loss.class_weights[1]",
            "above 0",
        ),
    ];
    for (loss, field, message) in wrong {
        refuse(loss, "", field, message);
    }
}

#[test]
fn a_monitored_metric_must_be_measured() {
    let refused = [
        (
            "keep_best = true\nmonitor = { metric = \"test.acuracy\" }",
            "train.monitor.metric",
            "did you mean `test.accuracy`?",
        ),
        (
            "keep_best = true\nmonitor = { metric = \"test.f1\" }",
            "train.monitor.goal",
            "\"min\" or \"max\"",
        ),
        (
            "keep_best = true\nmonitor = { min_change = -1 }",
            "train.monitor.min_change",
            "-1 is not",
        ),
        (
            "monitor = { metric = \"test.accuracy\" }",
            "train.monitor",
            "nothing goes by it",
        ),
        (
            "early_stop = { patience = 0 }",
            "train.early_stop.patience",
            "0 given",
        ),
        (
            "schedule = { name = \"plateau\", patience = 0 }",
            "train.schedule.patience",
            "0 given",
        ),
        ("ema = { decay = 1 }", "train.ema.decay", "1 is not in 0"),
        (
            "accumulate = 3",
            "train.accumulate",
            "3 is not a power of two up to 1024",
        ),
    ];
    let metrics = "[[metrics]]\nbuiltin = \"accuracy\"\n[[metrics]]\nplugin = \"f1@1\"";
    for (train, field, message) in refused {
        refuse(
            "\"cross_entropy\"",
            &format!("{train}\n{metrics}"),
            field,
            message,
        );
    }
    let none = "early_stop = { patience = 1 }\n[data.split]\ntest = 0.0";
    refuse(
        "\"cross_entropy\"",
        none,
        "data.split.test",
        "needs held-out rows",
    );
}

#[test]
fn lengths_ascend_and_need_padding() {
    let with =
        |more: &str| DIGITS.replace("target = \"label\"", &format!("target = \"label\"\n{more}"));
    let spec = parse(&with("padding = 0\nlengths = [32, 64]")).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(JobSpec::parse(&json, Format::Json).unwrap(), spec);
    let plain = serde_json::to_string(&parse(DIGITS).unwrap()).unwrap();
    assert!(!plain.contains("padding") && !plain.contains("lengths"));
    let many: Vec<u32> = (1..18).collect();
    for (more, field, message) in [
        ("lengths = [3]", "data.lengths", "needs `data.padding`"),
        ("padding = 1e39", "data.padding", "finite"),
        (
            "padding = 0\nlengths = [0]",
            "data.lengths[0]",
            "0 is not in 1 to",
        ),
        ("padding = 0\nlengths = [4, 4]", "data.lengths[1]", "ascend"),
        (
            "padding = 0\nlengths = [8, 4]",
            "data.lengths[1]",
            "4 comes after 8",
        ),
        (
            &format!("padding = 0\nlengths = {many:?}"),
            "data.lengths",
            "17 given",
        ),
    ] {
        let errors = parse(&with(more)).unwrap_err();
        let found = |e: &FieldError| e.field == field && e.message.contains(message);
        assert!(errors.iter().any(found), "{more}: {errors:?}");
    }
}

#[test]
fn a_target_is_needed_where_the_model_does_not_predict_its_features() {
    let text = DIGITS.replace("target = \"label\"\n", "");
    assert_ne!(text, DIGITS);
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors[0].field, "data.target", "{errors:?}");
}

#[test]
fn every_wrong_field_is_reported_at_once() {
    let text = DIGITS
        .replace("epochs = 2", "epochs = 0")
        .replace("batch_size = 32", "batch_size = 0");
    assert_eq!(parse(&text).unwrap_err().len(), 2);
}

#[test]
fn metrics_have_names_of_their_own() {
    let with = |metrics: &str| {
        let train = "keep_best = true\nmonitor = { metric = \"test.f1_macro\" }";
        DIGITS.replace("[train]", &format!("[train]\n{train}")) + metrics
    };
    let metric = |name: &str, average: &str| {
        format!("\n[[metrics]]\nbuiltin = \"{name}\"\nconfig = {{ average = \"{average}\" }}\n")
    };
    let (macro_f1, micro_f1) = (metric("f1", "macro"), metric("f1", "micro"));
    let spec = parse(&with(&format!("{macro_f1}{micro_f1}"))).unwrap();
    assert_eq!(spec.train.monitored().unwrap().goal(), Some(Goal::Max));
    let errors = parse(&with(&format!("{macro_f1}{micro_f1}{macro_f1}"))).unwrap_err();
    assert_eq!(errors[0].field, "metrics[2]");
    assert_eq!(
        errors[0].message,
        "`test.f1_macro` is reported by metrics[0] already"
    );
    let plugin = "\n[[metrics]]\nplugin = \"loss@1\"\n";
    let errors = parse(&with(&format!("{macro_f1}{plugin}"))).unwrap_err();
    assert_eq!(errors[0].field, "metrics[1]");
}
