//! The built-in metrics against scikit-learn's, which `benches/metrics.sh` records, and against
//! themselves: how rows are cut into shards changes no bit.

use proptest::prelude::*;
use serde::Deserialize;
use stoker_domain::spec::{Loss, Measure, MetricSpec, TrainSpec};
use stoker_model::{InputColumn, InputDescription, Labels, Target, fit_metric};

use super::curve::Curves;
use super::ranking::Grouped;
use super::{Metric, MetricSource};
use crate::table::{NOT_COUNTED, TargetRows};

/// A table of scores and targets, and what scikit-learn measures.
#[derive(Debug, Clone, Deserialize)]
struct Case {
    name: String,
    target: Target,
    loss: serde_json::Value,
    outputs: usize,
    scores: Vec<f32>,
    #[serde(default)]
    classes: Vec<u32>,
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    groups: Vec<f32>,
    metrics: Vec<Recorded>,
}

#[derive(Debug, Clone, Deserialize)]
struct Recorded {
    metric: MetricSpec,
    /// Nothing where it is undefined.
    value: Option<f64>,
}

impl Case {
    fn rows(&self) -> usize {
        self.scores.len() / self.outputs
    }

    fn source(&self, metric: &MetricSpec) -> MetricSource {
        let input = InputDescription {
            width: 1,
            shape: vec![1],
            vocabulary: None,
            columns: vec![InputColumn {
                name: "user".to_owned(),
                first: 0,
                width: 1,
                vocabulary: None,
            }],
            target: self.target,
        };
        let fitted = fit_metric(metric, &input, &self.loss());
        MetricSource::builtin(fitted.unwrap_or_else(|error| panic!("{metric:?}: {error}")))
    }

    fn loss(&self) -> Loss {
        let train = serde_json::json!({"steps": 1, "batch_size": 1, "loss": self.loss});
        serde_json::from_value::<TrainSpec>(train).unwrap().loss
    }

    /// Takes in some of the rows.
    fn update(&self, metric: &mut dyn Metric, rows: &[usize]) {
        let width = self.values.len() / self.rows();
        let pick = |numbers: &[f32], width: usize| -> Vec<f32> {
            let rows = rows.iter().map(|&row| &numbers[row * width..][..width]);
            rows.flatten().copied().collect()
        };
        let scores = pick(&self.scores, self.outputs);
        let values = pick(&self.values, width);
        let groups = pick(&self.groups, usize::from(!self.groups.is_empty()));
        let classes: Vec<u32> = match self.classes.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|&row| self.classes[row]).collect(),
        };
        let targets = match self.classes.is_empty() {
            true => TargetRows::Values(&values),
            false => TargetRows::Classes(&classes),
        };
        metric
            .update_groups(&scores, self.outputs, targets, &groups)
            .unwrap();
    }

    fn measure(&self, metric: &MetricSpec) -> Box<dyn Metric> {
        let mut whole = (self.source(metric).make)().unwrap();
        self.update(whole.as_mut(), &(0..self.rows()).collect::<Vec<_>>());
        whole
    }

    /// The same by shards, each of so many batches, whose rows are dealt out by `deal`.
    fn measure_in(
        &self,
        metric: &MetricSpec,
        shards: usize,
        deal: impl Fn(usize) -> usize,
    ) -> Box<dyn Metric> {
        let mut source = self.source(metric);
        let mut parts: Vec<Box<dyn Metric>> = Vec::new();
        for shard in 0..shards {
            let mut part = (source.make)().unwrap();
            let own = (0..self.rows()).filter(|&row| deal(row) % shards == shard);
            let own: Vec<usize> = own.collect();
            for batch in own.chunks(3) {
                self.update(part.as_mut(), batch);
            }
            parts.push(part);
        }
        while parts.len() > 1 {
            let mut merged = Vec::new();
            let mut rest = parts.into_iter();
            while let (Some(mut left), Some(mut right)) = (rest.next(), rest.next()) {
                left.merge(&right.save().unwrap()).unwrap();
                merged.push(left);
            }
            parts = merged;
        }
        parts.remove(0)
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/metrics.json")).unwrap()
}

#[test]
fn values_are_scikit_learns() {
    for case in cases() {
        for Recorded { metric, value } in &case.metrics {
            let found = case.measure(metric).finish().unwrap();
            let what = || format!("{}, {metric:?}: {found}, expected {value:?}", case.name);
            match value {
                Some(value) => {
                    let near = (found - value).abs() <= 1e-9 * value.abs().max(1.0);
                    assert!(near, "{}", what());
                }
                None => assert!(!found.is_finite(), "{}", what()),
            }
        }
    }
}

#[test]
fn shards_and_their_order_change_no_bit() {
    for case in cases() {
        for Recorded { metric, .. } in &case.metrics {
            let mut whole = case.measure(metric);
            let (value, files) = (whole.finish().unwrap().to_bits(), whole.files());
            for shards in [1, 2, 8] {
                for step in [1, 7] {
                    let mut merged = case.measure_in(metric, shards, |row| row * step);
                    assert_eq!(merged.finish().unwrap().to_bits(), value, "{metric:?}");
                    assert_eq!(merged.files(), files, "{metric:?}");
                }
            }
        }
    }
}

/// Each metric with a table that it fits, `seed` its numbers.
fn any_case() -> impl Strategy<Value = (Case, MetricSpec)> {
    let cases: Vec<Case> = cases();
    let chosen = (0..cases.len()).prop_flat_map(move |index| {
        let case = cases[index].clone();
        (0..case.metrics.len()).prop_map(move |metric| (case.clone(), metric))
    });
    let numbers = prop::collection::vec((any::<f32>(), any::<u32>()), 1..40);
    (chosen, numbers).prop_map(|((case, metric), numbers)| {
        let wild = |index: usize| {
            let (number, word) = numbers[index % numbers.len()];
            // Any number at all, infinite and undefined ones too, among those with ties.
            match word % 4 {
                0 if word % 32 == 0 => number,
                0 | 1 => number.clamp(-1e3, 1e3) % 2.0,
                _ => (word % 5) as f32,
            }
        };
        let scores: Vec<f32> = (0..case.scores.len()).map(wild).collect();
        let spec = case.metrics[metric].metric.clone();
        (Case { scores, ..case }, spec)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_scores_in_any_shards_give_the_same_bits(
        (case, metric) in any_case(),
        log in 0_usize..5,
        deal in prop::collection::vec(0_usize..16, 1..20),
    ) {
        let mut whole = case.measure(&metric);
        let mut merged = case.measure_in(&metric, 1 << log, |row| deal[row % deal.len()]);
        let (value, found) = (whole.finish().unwrap(), merged.finish().unwrap());
        // Which of the numbers that are undefined it is doesn't matter: none is reported.
        prop_assert!(value.to_bits() == found.to_bits() || !value.is_finite() && !found.is_finite());
        prop_assert_eq!(whole.files(), merged.files());
    }
}

#[test]
fn a_score_that_is_no_number_leaves_all_undefined() {
    for case in cases() {
        let mut broken = case.clone();
        let last = broken.scores.len() - 1;
        broken.scores[last] = f32::NAN;
        for Recorded { metric, .. } in &case.metrics {
            // Without a relevant row there is nothing to rank, in the other rows neither.
            let level = metric.config.contains_key("level") && case.outputs > 1;
            if level || metric.builtin == Some(Measure::Confusion) {
                continue;
            }
            let found = broken.measure(metric).finish().unwrap();
            assert!(!found.is_finite(), "{}, {metric:?}: {found}", case.name);
        }
    }
}

#[test]
fn positions_that_do_not_count_are_left_out() {
    let case = cases().remove(0);
    let mut longer = case.clone();
    longer.classes.insert(0, NOT_COUNTED);
    longer.scores.splice(0..0, vec![f32::NAN; case.outputs]);
    for Recorded { metric, .. } in &case.metrics {
        let [expected, found] = [&case, &longer].map(|case| case.measure(metric).finish().unwrap());
        assert_eq!(found.to_bits(), expected.to_bits(), "{metric:?}");
    }
    longer.classes.fill(NOT_COUNTED);
    for Recorded { metric, .. } in &case.metrics {
        let found = longer.measure(metric).finish().unwrap();
        assert!(!found.is_finite(), "{metric:?}: {found}");
    }
}

/// Scores of rows that are of a class and of rows that aren't, which overlap.
fn overlapping(count: u32) -> (Vec<f32>, Vec<f32>) {
    let rows = 0..count;
    let spread = |row: u32| (row.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
    let label = |row: u32| f32::from(u8::from(row.is_multiple_of(3)));
    let scores = rows.clone().map(|row| 6.0 * spread(row) - 4.0 + label(row));
    (scores.collect(), rows.map(label).collect())
}

#[test]
fn with_too_many_scores_curves_are_made_of_bins() {
    let (scores, values) = overlapping(20_000);
    let labels = Labels::Logits { columns: 1 };
    for measure in [Measure::RocAuc, Measure::PrAuc] {
        let measured = |limit: usize, shards: usize| {
            let mut parts: Vec<Curves> = (scores.chunks(20_000 / shards))
                .zip(values.chunks(20_000 / shards))
                .map(|(scores, values)| {
                    let mut part = Curves::with_limit(measure, labels, limit);
                    part.update(scores, 1, TargetRows::Values(values)).unwrap();
                    part
                })
                .collect();
            let mut whole = parts.remove(0);
            for mut part in parts {
                whole.merge(&part.save().unwrap()).unwrap();
            }
            (whole.finish().unwrap(), whole.files())
        };
        let (exact, _) = measured(20_000, 1);
        let (binned, files) = measured(19_999, 1);
        let apart = (exact - binned).abs();
        assert!(
            apart > 0.0 && apart < 1e-3,
            "{measure:?}: {exact}, {binned}"
        );
        for shards in [2, 10] {
            assert_eq!(measured(19_999, shards), (binned, files.clone()));
            assert_eq!(measured(20_000, shards).0.to_bits(), exact.to_bits());
        }
    }
}

#[test]
fn with_too_many_rows_groups_are_not_ranked() {
    let mut few = Grouped::with_limit(Measure::Ndcg, None, 1.0, 4);
    let rows = TargetRows::Values(&[1.0, 0.0, 1.0]);
    few.update_groups(&[1.0, 2.0, 3.0], 1, rows, &[0.0, -0.0, 1.0])
        .unwrap();
    let state = few.save().unwrap();
    assert!((few.finish().unwrap() - (1.0 + 1.0 / 3_f64.log2()) / 2.0).abs() < 1e-15);
    few.merge(&state).unwrap();
    assert!(few.finish().unwrap().is_nan());
    assert!(few.save().unwrap().len() == 8, "the rows are gone");
}

#[derive(Debug, Deserialize)]
struct Points {
    curves: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl Points {
    fn column(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.curves[0][name].clone()).unwrap()
    }
}

#[test]
fn long_curves_keep_their_corners() {
    let (scores, values) = overlapping(50_000);
    let labels = Labels::Logits { columns: 1 };
    for (measure, file, [x, y]) in [
        (Measure::RocAuc, "roc.json", ["fpr", "tpr"]),
        (Measure::PrAuc, "pr.json", ["recall", "precision"]),
    ] {
        let mut curves = Curves::new(measure, labels);
        curves
            .update(&scores, 1, TargetRows::Values(&values))
            .unwrap();
        let area = curves.finish().unwrap();
        let (name, bytes) = curves.files().remove(0);
        let points: Points = serde_json::from_slice(&bytes).unwrap();
        let (along, up) = (points.column(x), points.column(y));
        assert_eq!(name, file);
        assert!((500..=1000).contains(&along.len()), "{}", along.len());
        assert_eq!((along[0], *along.last().unwrap()), (0.0, 1.0));
        assert!(along.is_sorted());
        assert_eq!(points.curves[0]["class"], 1);
        assert!(points.curves[0]["threshold"][0].is_null());
        let trapezoids =
            (1..along.len()).map(|at| (along[at] - along[at - 1]) * (up[at] + up[at - 1]) / 2.0);
        assert!((trapezoids.sum::<f64>() - area).abs() < 2e-3);
    }
}

#[test]
fn a_confusion_matrix_has_a_row_per_target() {
    let spec: MetricSpec = serde_json::from_str(r#"{"builtin": "confusion"}"#).unwrap();
    let case = Case {
        name: "confusion".to_owned(),
        target: Target::Classes(3),
        loss: "cross_entropy".into(),
        outputs: 3,
        scores: vec![1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        classes: vec![0, 0, 2, 1],
        values: Vec::new(),
        groups: Vec::new(),
        metrics: Vec::new(),
    };
    assert_eq!(case.source(&spec).name, None);
    let files = case.measure(&spec).files();
    let expected = r#"{"labels":[0,1,2],"matrix":[[1,1,0],[0,0,1],[0,0,1]]}"#;
    assert_eq!(
        files,
        [("confusion.json".to_owned(), expected.as_bytes().to_vec())]
    );
}

#[test]
fn with_many_classes_only_what_is_needed_is_counted() {
    let classes = super::counts::MATRIX_MAX + 1;
    let mut case = cases().remove(0);
    let metrics = ["f1", "precision", "recall", "iou"]
        .map(|name| serde_json::from_str(&format!("{{\"builtin\": \"{name}\"}}")).unwrap());
    let few: Vec<f64> = (metrics.iter())
        .map(|metric| case.measure(metric).finish().unwrap())
        .collect();
    let rows = case.scores.chunks(case.outputs);
    let padded = rows.flat_map(|row| {
        let more = std::iter::repeat_n(-9.0, classes - row.len());
        row.iter().copied().chain(more).collect::<Vec<_>>()
    });
    case.scores = padded.collect();
    case.outputs = classes;
    case.target = Target::Classes(classes);
    for (metric, few) in metrics.iter().zip(few) {
        let mut many = case.measure(metric);
        assert_eq!(many.finish().unwrap().to_bits(), few.to_bits());
        assert!(many.files().is_empty());
    }
}
