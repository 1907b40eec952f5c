//! Metrics of whole runs: what they are given, and what is reported.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use stoker_domain::spec::{MetricSpec, PreprocessSpec, SplitSpec};
use stoker_model::{InputColumn, InputDescription, Target, compile, fit_metric};

use super::{Watch, cpu, finished, measure, numbers, plan, run};
use crate::cpu::simd::Level;
use crate::{
    EngineError, Metric, MetricSource, Preprocess, Run, RunInput, Table, TargetRows, Targets,
};

const LAST: SplitSpec = SplitSpec {
    test: 0.5,
    shuffle: false,
    seed: 0,
    stratify: false,
};

/// Keeps all scores, in the order of the shards.
struct Scores(Arc<Mutex<Vec<f32>>>);

impl Metric for Scores {
    fn update(&mut self, scores: &[f32], _: usize, _: TargetRows<'_>) -> Result<(), EngineError> {
        self.0.lock().unwrap().extend_from_slice(scores);
        Ok(())
    }
    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok(Vec::new())
    }
    fn merge(&mut self, _state: &[u8]) -> Result<(), EngineError> {
        Ok(())
    }
    fn finish(&mut self) -> Result<f64, EngineError> {
        Ok(f64::INFINITY)
    }
}

#[test]
fn an_undefined_metric_is_not_reported() {
    let train = r#"{"epochs": 2, "batch_size": 4, "loss": "cross_entropy", "keep_best": true,
        "early_stop": {"patience": 9}, "monitor": {"metric": "test.roc_auc"}}"#;
    let plan = plan(r#"{"family": "mlp"}"#, train, 3, Target::Classes(2));
    let classes = Targets::Classes(vec![0; 20]);
    let table = Arc::new(Table::new(numbers(60, 1), 3, classes).unwrap());
    let input = RunInput {
        metrics: ["roc_auc", "accuracy", "confusion"]
            .map(|name| measure(name, &plan))
            .into(),
        split: &LAST,
        ..super::input(&plan, &table, None)
    };
    let (finished, watch) = run(&cpu(1, Level::detect()), input);
    for (_, metrics) in &watch.evaluations {
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["test.loss", "test.accuracy"]);
    }
    assert_eq!(watch.evaluations.len(), 2);
    assert!(
        !finished.metrics.contains_key("best.step"),
        "it was never measured"
    );
    let names: Vec<&String> = finished.files.keys().collect();
    assert_eq!(names, ["confusion.json", "roc.json"]);
}

/// The mean over users of the nDCG of two rows.
fn ndcg(rows: &[(f32, f32, f32)]) -> f64 {
    let mut users: BTreeMap<u32, Vec<(f32, f32)>> = BTreeMap::new();
    for &(user, score, value) in rows {
        users.entry(user as u32).or_default().push((score, value));
    }
    let gain = |list: &[(f32, f32)]| -> f64 {
        let discount = |place: usize| (place as f64 + 2.0).log2();
        let gains = list.iter().enumerate();
        gains
            .map(|(place, &(_, value))| f64::from(value) / discount(place))
            .sum()
    };
    let each = users.values_mut().map(|list| {
        list.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = gain(list);
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        found / gain(list)
    });
    let each: Vec<f64> = each.collect();
    each.iter().sum::<f64>() / each.len() as f64
}

#[test]
fn groups_are_those_of_the_table() {
    const ROWS: usize = 60;
    let mut features = numbers(ROWS * 3, 1);
    for (row, features) in features.chunks_exact_mut(3).enumerate() {
        features[1] = (row % 7) as f32;
    }
    let values: Vec<f32> = (0..ROWS).map(|row| 1.0 + (row * 5 % 4) as f32).collect();
    let column = |name: &str, first| InputColumn {
        name: name.to_owned(),
        first,
        width: 1,
        vocabulary: None,
    };
    let description = InputDescription {
        width: 3,
        shape: vec![3],
        vocabulary: None,
        columns: vec![column("a", 0), column("user", 1), column("b", 2)],
        target: Target::Values(1),
    };
    let model = serde_json::from_str(r#"{"family": "mlp", "hidden": [5]}"#).unwrap();
    let metric: MetricSpec =
        serde_json::from_str(r#"{"builtin": "ndcg", "config": {"group": "user"}}"#).unwrap();
    let step: PreprocessSpec = serde_json::from_str(r#"{"builtin": "normalise"}"#).unwrap();
    let table = Table::new(
        features.clone(),
        3,
        Targets::Values {
            values: values.clone(),
            width: 1,
        },
    );
    let table = Arc::new(table.unwrap());
    let mut found = Vec::new();
    for (shards, workers) in [(1, 1), (4, 1), (4, 2)] {
        let train = format!(
            r#"{{"epochs": 1, "batch_size": 8, "loss": "mse", "virtual_shards": {shards}}}"#
        );
        let train = serde_json::from_str(&train).unwrap();
        let plan = Arc::new(compile(&model, &train, &description).unwrap());
        let scores = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&scores);
        let make = move || Ok(Box::new(Scores(Arc::clone(&kept))) as Box<dyn Metric>);
        let fitted = fit_metric(&metric, &description, &plan.train.loss).unwrap();
        let input = RunInput {
            preprocess: vec![Preprocess::builtin(&step, &plan.input).unwrap().unwrap()],
            metrics: vec![
                MetricSource::builtin(fitted),
                MetricSource::new("scores", Box::new(make)),
            ],
            split: &LAST,
            ..super::input(&plan, &table, None)
        };
        let cpu = cpu(1, Level::detect());
        let mut run = Run::with_workers(&cpu, input, workers).unwrap();
        let finished = finished(run.run(&mut Watch::default()).unwrap());
        let value = finished.metrics["test.ndcg_by_user"];
        if shards == 1 {
            let rows = ROWS / 2..ROWS;
            let scores = scores.lock().unwrap();
            let rows: Vec<(f32, f32, f32)> = (rows.zip(scores.iter()))
                .map(|(row, &score)| (features[3 * row + 1], score, values[row]))
                .collect();
            assert!((value - ndcg(&rows)).abs() < 1e-12);
        } else {
            found.push(finished);
        }
    }
    assert_eq!(found[0], found[1]);
}
