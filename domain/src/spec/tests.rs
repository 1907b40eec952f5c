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

#[test]
fn every_wrong_field_is_reported_at_once() {
    let text = DIGITS
        .replace("epochs = 2", "epochs = 0")
        .replace("batch_size = 32", "batch_size = 0");
    assert_eq!(parse(&text).unwrap_err().len(), 2);
}
