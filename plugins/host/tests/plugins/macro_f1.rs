//! The sample `macro-f1`: it counts right, and states merge to the same value however they are cut.

use crate::support::{batch, load, noise, sample, tensor};
use std::sync::OnceLock;
use stoker_plugins::{Batch, Plugin, PluginErrorKind, Values};

const CLASSES: usize = 5;

fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| load(&sample("macro_f1")))
}

/// Scores, of which about half are right, and targets.
fn rows(count: usize, salt: u64) -> (Vec<f32>, Vec<i64>) {
    let targets: Vec<i64> = noise(count, salt)
        .map(|bits| (bits % CLASSES as u64) as i64)
        .collect();
    let mut scores: Vec<f32> = noise(count * CLASSES, salt + 1)
        .map(|bits| (bits >> 40) as f32 / 1e7)
        .collect();
    for (row, target) in targets.iter().enumerate().step_by(2) {
        scores[row * CLASSES + *target as usize] = 100.0;
    }
    (scores, targets)
}

fn shard(scores: &[f32], targets: &[i64]) -> (Batch, Batch) {
    let rows = targets.len() as u32;
    let scores = Values::Float32(scores.to_vec());
    let predictions = batch(vec![tensor("predictions", &[rows, CLASSES as u32], scores)]);
    (
        predictions,
        batch(vec![tensor(
            "targets",
            &[rows],
            Values::Int64(targets.to_vec()),
        )]),
    )
}

/// F1 of each class from precision and recall, as the books write it.
fn naive(scores: &[f32], targets: &[i64]) -> f64 {
    let guess = |row: &[f32]| {
        row.iter()
            .position(|score| *score == row.iter().copied().fold(f32::MIN, f32::max))
    };
    let guesses: Vec<usize> = scores
        .chunks(CLASSES)
        .map(|row| guess(row).unwrap())
        .collect();
    let pairs = || {
        guesses
            .iter()
            .zip(targets.iter().map(|target| *target as usize))
    };
    let f1 = (0..CLASSES).map(|class| {
        let hits = pairs()
            .filter(|(guess, target)| **guess == class && *target == class)
            .count();
        let predicted = guesses.iter().filter(|guess| **guess == class).count();
        let wanted = targets
            .iter()
            .filter(|target| **target as usize == class)
            .count();
        let (precision, recall) = (hits as f64 / predicted as f64, hits as f64 / wanted as f64);
        2.0 * precision * recall / (precision + recall)
    });
    f1.sum::<f64>() / CLASSES as f64
}

#[test]
fn it_equals_a_naive_computation() {
    let (scores, targets) = rows(500, 11);
    let mut metric = plugin().metric("{}").unwrap();
    let (predictions, labels) = shard(&scores, &targets);
    metric.update(predictions, labels).unwrap();
    let (value, wanted) = (metric.finish().unwrap(), naive(&scores, &targets));
    assert!((value - wanted).abs() < 1e-12, "{value} is not {wanted}");
    assert!((0.4..0.9).contains(&value), "{value}");
}

#[test]
fn any_split_merges_to_the_whole() {
    let (scores, targets) = rows(120, 23);
    let part = |from: usize, to: usize| {
        let mut metric = plugin().metric("{}").unwrap();
        let (predictions, labels) =
            shard(&scores[from * CLASSES..to * CLASSES], &targets[from..to]);
        metric.update(predictions, labels).unwrap();
        metric
    };
    let mut whole = part(0, 120);
    let (state, value) = (whole.save().unwrap(), whole.finish().unwrap());
    for (case, bits) in noise(40, 5).enumerate() {
        let (a, b) = ((bits % 121) as usize, (bits >> 32) as usize % 121);
        let cuts = [0, a.min(b), a.max(b), 120];
        let mut merged = plugin().metric("{}").unwrap();
        for pair in cuts.windows(2) {
            merged
                .merge(&part(pair[0], pair[1]).save().unwrap())
                .unwrap();
        }
        assert_eq!(
            merged.save().unwrap(),
            state,
            "case {case}: cuts at {cuts:?}"
        );
        assert_eq!(merged.finish().unwrap().to_bits(), value.to_bits());
    }
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let (scores, targets) = rows(10, 3);
    let mut metric = plugin().metric("{}").unwrap();
    let told = metric.finish().unwrap_err();
    assert_eq!((told.kind, told.call), (PluginErrorKind::Failed, "finish"));
    let (predictions, labels) = shard(&scores, &targets);
    metric.update(predictions.clone(), labels).unwrap();
    let state = metric.save().unwrap();

    let (_, unknown) = shard(&scores, &[0, 1, 2, 3, 4, 5, 0, 0, 0, 0]);
    let told = metric.update(predictions.clone(), unknown).unwrap_err();
    assert!(told.message.contains("target 5 is not a class"), "{told}");
    let (_, fewer) = shard(&scores[..9 * CLASSES], &targets[..9]);
    let told = metric.update(predictions, fewer).unwrap_err();
    assert!(
        told.message
            .contains("10 rows of predictions, 9 of targets"),
        "{told}"
    );
    let told = metric.merge(&[0; 25]).unwrap_err();
    assert_eq!((told.kind, told.call), (PluginErrorKind::Failed, "merge"));
    assert_eq!(metric.save().unwrap(), state);

    let told = plugin().metric(r#"{"target":"y"}"#).unwrap_err();
    assert!(told.message.contains("unknown field `target`"), "{told}");
}
