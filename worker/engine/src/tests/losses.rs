//! The losses: definitions in double precision, written after PyTorch's, and the gradients of ours
//! against them.

use stoker_domain::spec::Loss;
use stoker_model::Target;

use super::gradients::{check_plan, check_targets};
use super::{cpu, numbers, plan, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::{Session, Shard, TargetRows, Targets};

/// The losses of a row's predictions, summed.
pub(super) fn of_row(
    loss: &Loss,
    scores: &[f64],
    positions: usize,
    targets: TargetRows<'_>,
    row: usize,
) -> f64 {
    let each = scores.chunks_exact(scores.len() / positions);
    match targets {
        TargetRows::Classes(classes) => {
            let classes = &classes[row * positions..][..positions];
            if let Loss::Dice { smooth } = loss {
                return dice(each, classes, f64::from(*smooth));
            }
            let both = each.zip(classes);
            both.map(|(scores, &class)| cross_entropy(loss, scores, class as usize))
                .sum()
        }
        TargetRows::Values(values) => {
            let levels = match loss {
                Loss::Quantile { levels } => levels.len(),
                _ => 1,
            };
            let width = scores.len() / levels;
            of_values(loss, scores, &values[row * width..][..width])
        }
    }
}

fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let total: f64 = scores.iter().map(|score| score.exp()).sum();
    scores.iter().map(|score| score - total.ln()).collect()
}

fn cross_entropy(loss: &Loss, scores: &[f64], class: usize) -> f64 {
    let Loss::CrossEntropy {
        label_smoothing,
        class_weights,
    } = loss
    else {
        panic!("{loss:?}")
    };
    let weight = |class: usize| class_weights.get(class).map_or(1.0, |&w| f64::from(w));
    let smoothing = f64::from(*label_smoothing);
    let logs = log_softmax(scores);
    let all = logs
        .iter()
        .enumerate()
        .map(|(class, log)| -weight(class) * log);
    let smooth = all.sum::<f64>() / scores.len() as f64;
    (1.0 - smoothing) * -weight(class) * logs[class] + smoothing * smooth
}

fn dice<'a>(rows: impl Iterator<Item = &'a [f64]>, classes: &[u32], smooth: f64) -> f64 {
    let shares: Vec<Vec<f64>> = rows
        .map(|scores| log_softmax(scores).iter().map(|log| log.exp()).collect())
        .collect();
    let count = shares[0].len();
    let of_class = |c: usize| {
        let both = || {
            shares
                .iter()
                .zip(classes)
                .map(|(p, &t)| (p[c], f64::from(u8::from(t as usize == c))))
        };
        let hits: f64 = both().map(|(p, t)| p * t).sum();
        let all: f64 = both().map(|(p, t)| p + t).sum();
        (2.0 * hits + smooth) / (all + smooth)
    };
    1.0 - (0..count).map(of_class).sum::<f64>() / count as f64
}

fn of_values(loss: &Loss, scores: &[f64], values: &[f32]) -> f64 {
    let values = values.iter().map(|&value| f64::from(value));
    let mean = |f: &dyn Fn(f64, f64) -> f64| {
        let sum: f64 = scores
            .iter()
            .zip(values.clone())
            .map(|(&s, v)| f(s, v))
            .sum();
        sum / scores.len() as f64
    };
    match loss {
        Loss::Mse => mean(&|score, value| (score - value).powi(2)),
        Loss::Mae => mean(&|score, value| (score - value).abs()),
        Loss::Huber { delta } => mean(&|score, value| {
            let (size, delta) = ((score - value).abs(), f64::from(*delta));
            if size <= delta {
                0.5 * size * size
            } else {
                delta * (size - 0.5 * delta)
            }
        }),
        Loss::Bce => mean(&|score, value| {
            let p = 1.0 / (1.0 + (-score).exp());
            -value * p.ln() - (1.0 - value) * (1.0 - p).ln()
        }),
        Loss::Quantile { levels } => {
            let each = scores.chunks_exact(levels.len()).zip(values);
            let pinball = each.flat_map(|(scores, value)| {
                scores.iter().zip(levels).map(move |(score, &level)| {
                    let (error, level) = (value - score, f64::from(level));
                    (level * error).max((level - 1.0) * error)
                })
            });
            pinball.sum::<f64>() / scores.len() as f64
        }
        Loss::Kl => {
            let both = values.zip(log_softmax(scores));
            both.map(|(t, log)| if t > 0.0 { t * (t.ln() - log) } else { 0.0 })
                .sum()
        }
        other => panic!("{other:?}"),
    }
}

fn model(outputs: usize) -> String {
    format!(
        r#"{{"layers": [{{"type": "linear", "units": 9}},
            {{"type": "activation", "function": "tanh"}},
            {{"type": "linear", "units": {outputs}}}]}}"#
    )
}

fn train(loss: &str, room: usize) -> String {
    format!(r#"{{"steps": 1, "batch_size": {room}, "loss": {loss}, "seed": 5}}"#)
}

/// Some rows of a shard that has room for more, and more rows than one thread takes.
fn check(loss: &str, target: Target) {
    for (rows, room) in [(1, 1), (7, 11), (67, 67)] {
        let model = model(target.outputs());
        let plan = plan(&model, &train(loss, room), 13, target);
        check_plan((*plan).clone(), &model, &numbers(rows * 13, 1), rows);
    }
}

#[test]
fn losses_of_numbers() {
    for loss in [
        r#""mae""#,
        r#""huber""#,
        r#"{"name": "huber", "delta": 0.2}"#,
    ] {
        check(loss, Target::Values(3));
    }
    for levels in ["[0.5]", "[0.05, 0.4, 0.95]"] {
        let loss = format!(r#"{{"name": "quantile", "levels": {levels}}}"#);
        let levels = levels.split(',').count();
        check(&loss, Target::Quantiles { values: 2, levels });
    }
}

#[test]
fn losses_of_shares() {
    for loss in [r#""bce""#, r#""kl""#] {
        let (rows, width) = (17, 5);
        let model = model(width);
        let plan = plan(&model, &train(loss, 19), 13, Target::Values(width));
        let mut values: Vec<f32> = numbers(rows * width, 9).iter().map(|x| x.abs()).collect();
        if loss.contains("kl") {
            for row in values.chunks_exact_mut(width) {
                row[2] = 0.0;
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
        let targets = Targets::Values { values, width };
        check_targets((*plan).clone(), &model, &numbers(rows * 13, 1), &targets);
    }
}

#[test]
fn smoothed_and_weighted_classes() {
    for settings in [
        r#""label_smoothing": 0.1"#,
        r#""class_weights": [0.5, 1.0, 2.0, 7.0]"#,
        r#""label_smoothing": 0.3, "class_weights": [0.5, 1.0, 2.0, 7.0]"#,
    ] {
        let loss = format!(r#"{{"name": "cross_entropy", {settings}}}"#);
        check(&loss, Target::Classes(4));
    }
}

#[test]
fn dice_over_the_positions_of_a_row() {
    let (length, classes) = (5, 3);
    let model = format!(
        r#"{{"layers": [{{"type": "embedding", "units": 4}},
            {{"type": "linear", "units": {classes}}}]}}"#
    );
    for (rows, room) in [(1, 1), (7, 11)] {
        for loss in [r#""dice""#, r#"{"name": "dice", "smooth": 0.01}"#] {
            let input = stoker_model::InputDescription {
                width: length,
                shape: vec![length],
                vocabulary: Some(6),
                target: Target::Sequence {
                    classes,
                    positions: length,
                },
            };
            let train = serde_json::from_str(&train(loss, room)).unwrap();
            let layers = serde_json::from_str(&model).unwrap();
            let plan = stoker_model::compile(&layers, &train, &input).unwrap();
            let tokens = numbers(rows * length, 1);
            let tokens: Vec<f32> = tokens.iter().map(|x| (x * 2.9 + 3.0).floor()).collect();
            check_plan(plan, &model, &tokens, rows);
        }
    }
}

/// The mean is over the weights of the rows' classes, and padding weighs nothing.
#[test]
fn weights_of_predictions() {
    let loss = r#"{"name": "cross_entropy", "class_weights": [0.5, 1.0, 4.0]}"#;
    let of = |loss: &str, target: Target, rows: usize| {
        let plan = plan(&model(target.outputs()), &train(loss, 8), 2, target);
        let cpu = cpu(1, Level::detect());
        let mut session =
            CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
        let targets = match targets(rows, target) {
            Targets::Classes(_) => Targets::Classes(vec![2, 0, 1, 2, 0]),
            values => values,
        };
        let sum = session.train_shard(&Shard {
            features: &numbers(rows * 2, 1),
            targets: super::as_rows(&targets),
            lengths: &[],
            first_row: 0,
            step: 0,
        });
        sum.weight
    };
    assert_eq!(of(loss, Target::Classes(3), 5), 4.0 + 0.5 + 1.0 + 4.0 + 0.5);
    assert_eq!(of(r#""cross_entropy""#, Target::Classes(3), 5), 5.0);
    assert_eq!(of(r#""mae""#, Target::Values(3), 5), 5.0);
}
