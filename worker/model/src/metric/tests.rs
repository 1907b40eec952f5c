//! Which metrics fit which targets.

use super::*;
use crate::input::InputColumn;

const CROSS_ENTROPY: &str = r#""cross_entropy""#;

fn input(target: Target) -> InputDescription {
    let column = |name: &str, first, width| InputColumn {
        name: name.to_owned(),
        first,
        width,
        vocabulary: None,
    };
    InputDescription {
        width: 4,
        shape: vec![4],
        vocabulary: None,
        columns: vec![
            column("user", 0, 1),
            column("pixels", 1, 2),
            column("item", 3, 1),
        ],
        target,
    }
}

fn fit(metric: &str, target: Target, loss: &str) -> Result<BuiltinMetric, FieldError> {
    let metric: MetricSpec = serde_json::from_str(&format!("{{\"builtin\": {metric}}}")).unwrap();
    let train = format!(r#"{{"steps": 1, "batch_size": 1, "loss": {loss}}}"#);
    let train: stoker_domain::spec::TrainSpec = serde_json::from_str(&train).unwrap();
    fit_metric(&metric, &input(target), &train.loss)
}

#[test]
fn settings_have_defaults_by_the_target() {
    let counts = |metric: &str, target, loss: &str| match fit(metric, target, loss).unwrap().kind {
        MetricKind::Counts {
            labels, average, ..
        } => (labels, average),
        kind => panic!("{kind:?}"),
    };
    let pooled = Labels::Logits { columns: 1 };
    for (metric, target, loss, expected) in [
        (
            r#""f1""#,
            Target::Classes(3),
            CROSS_ENTROPY,
            (Labels::Classes(3), Average::Macro),
        ),
        (
            r#""f1""#,
            Target::Classes(2),
            CROSS_ENTROPY,
            (Labels::Classes(2), Average::Class(1)),
        ),
        (
            r#""f1""#,
            Target::Values(9),
            r#""bce""#,
            (pooled, Average::Class(1)),
        ),
        (
            r#""iou", "config": {"average": "micro"}"#,
            Target::Values(9),
            r#""bce""#,
            (pooled, Average::Class(1)),
        ),
        (
            r#""dice", "config": {"average": "macro"}"#,
            Target::Values(9),
            r#""bce""#,
            (Labels::Logits { columns: 9 }, Average::Macro),
        ),
        (
            r#""recall", "config": {"positive": 2}"#,
            Target::Sequence {
                classes: 4,
                positions: 7,
            },
            r#""dice""#,
            (Labels::Classes(4), Average::Class(2)),
        ),
    ] {
        assert_eq!(counts(metric, target, loss), expected, "{metric}");
    }
}

#[test]
fn pinball_takes_the_levels_of_the_loss() {
    let loss = r#"{"name": "quantile", "levels": [0.1, 0.9]}"#;
    let target = Target::Quantiles {
        values: 3,
        levels: 2,
    };
    let levels = |metric: &str| match fit(metric, target, loss).unwrap().kind {
        MetricKind::Pinball {
            levels,
            predictions: 2,
        } => levels,
        kind => panic!("{kind:?}"),
    };
    assert_eq!(levels(r#""pinball""#), [(0, 0.1), (1, 0.9)]);
    assert_eq!(levels(r#""pinball", "config": {"level": 0.9}"#), [(1, 0.9)]);
    let error = fit(r#""pinball", "config": {"level": 0.5}"#, target, loss).unwrap_err();
    assert_eq!(error.field, "config.level");
    assert_eq!(
        error.message,
        "0.5 given, one of train.loss.levels, [0.1, 0.9], needed"
    );
}

#[test]
fn groups_are_columns() {
    let metric = r#""ndcg", "config": {"group": "item"}"#;
    let fitted = fit(metric, Target::Values(1), r#""mse""#).unwrap();
    assert_eq!(fitted.name.as_deref(), Some("ndcg_by_item"));
    assert!(matches!(
        fitted.kind,
        MetricKind::Ranking {
            group: Some(3),
            k: None,
            ..
        }
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_does_not_fit_names_its_field() {
    let classes = Target::Classes(3);
    let one = Target::Values(1);
    let quantiles = Target::Quantiles {
        values: 1,
        levels: 3,
    };
    for (metric, target, loss, field, message) in [
        (
            r#""accuracy""#,
            one,
            r#""mse""#,
            "builtin",
            "needs a target that is a class",
        ),
        (
            r#""accuracy", "config": {"k": 1}"#,
            classes,
            CROSS_ENTROPY,
            "config.k",
            "takes no settings",
        ),
        (
            r#""f1", "config": {"avrage": "macro"}"#,
            classes,
            CROSS_ENTROPY,
            "config.avrage",
            "unknown setting, `f1` takes `average`, `positive`; did you mean `average`?",
        ),
        (
            r#""f1", "config": {"average": "weighted"}"#,
            classes,
            CROSS_ENTROPY,
            "config.average",
            "\"weighted\" given, \"macro\" or \"micro\" needed",
        ),
        (
            r#""f1", "config": {"average": 1}"#,
            classes,
            CROSS_ENTROPY,
            "config.average",
            "1 given, a name needed",
        ),
        (
            r#""f1", "config": {"average": "macro", "positive": 1}"#,
            classes,
            CROSS_ENTROPY,
            "config.positive",
            "excludes `average`",
        ),
        (
            r#""f1", "config": {"positive": 3}"#,
            classes,
            CROSS_ENTROPY,
            "config.positive",
            "3 given, a class from 0 to 2 needed",
        ),
        (
            r#""f1", "config": {"positive": 0}"#,
            one,
            r#""bce""#,
            "config.positive",
            "1 (loss",
        ),
        (
            r#""top_k""#,
            classes,
            CROSS_ENTROPY,
            "config.k",
            "5, but there are 3 classes",
        ),
        (
            r#""top_k", "config": {"k": 0}"#,
            classes,
            CROSS_ENTROPY,
            "config.k",
            "0 given, a whole number from 1 to 1048576 needed",
        ),
        (
            r#""roc_auc""#,
            Target::Classes(65),
            CROSS_ENTROPY,
            "builtin",
            "at most 64 classes",
        ),
        (
            r#""roc_auc", "config": {"average": "micro"}"#,
            classes,
            CROSS_ENTROPY,
            "config.average",
            "goes with loss",
        ),
        (
            r#""pr_auc", "config": {"average": "macro"}"#,
            Target::Values(65),
            r#""bce""#,
            "config.average",
            "a mean over 65 columns, at most 64 allowed",
        ),
        (
            r#""mape""#,
            one,
            r#""bce""#,
            "builtin",
            "a prediction for each",
        ),
        (
            r#""rmse""#,
            classes,
            CROSS_ENTROPY,
            "builtin",
            "loss = \"mse\"",
        ),
        (
            r#""pinball""#,
            classes,
            CROSS_ENTROPY,
            "builtin",
            "values (loss = \"quantile\"",
        ),
        (
            r#""pinball", "config": {"level": 1}"#,
            one,
            r#""mse""#,
            "config.level",
            "below 1",
        ),
        (r#""perplexity""#, one, r#""mse""#, "builtin", "a class"),
        (
            r#""calibration_error", "config": {"bins": 1001}"#,
            classes,
            CROSS_ENTROPY,
            "config.bins",
            "1 to 1000",
        ),
        (
            r#""ndcg""#,
            one,
            r#""mse""#,
            "builtin",
            "or one with `config.group`",
        ),
        (
            r#""ndcg""#,
            quantiles,
            r#""quantile""#,
            "builtin",
            "a prediction for each",
        ),
        (
            r#""recall_at", "config": {"group": "usr"}"#,
            one,
            r#""mse""#,
            "config.group",
            "did you mean `user`?",
        ),
        (
            r#""recall_at", "config": {"group": "pixels"}"#,
            one,
            r#""mse""#,
            "config.group",
            "2 numbers per row",
        ),
        (
            r#""recall_at", "config": {"group": "user"}"#,
            classes,
            CROSS_ENTROPY,
            "config.group",
            "one value per row",
        ),
        (
            r#""recall_at", "config": {"threshold": 2}"#,
            classes,
            CROSS_ENTROPY,
            "config.threshold",
            "targets of values",
        ),
    ] {
        let error = fit(metric, target, loss).unwrap_err();
        assert_eq!(error.field, field, "{metric}: {error}");
        assert!(error.message.contains(message), "{metric}: {error}");
    }
}
