//! Trains a small convolutional network on the digits data set, as a user's job would.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;

use stoker_domain::spec::{Format, JobSpec};
use stoker_engine::{
    Control, Cpu, EngineError, Finished, MetricSource, Observer, Outcome, Preprocess, Run,
    RunInput, StepReport, Table, Targets,
};
use stoker_model::{InputDescription, Target, compile};

const JOB: &str = r#"
name = "digits"
[data]
dataset = "digits@1"
target = "label"
[data.split]
test = 0.25
stratify = true
[[preprocess]]
builtin = "normalise"
config = { mode = "minmax", per = "all" }
[model]
family = "cnn"
input = [1, 8, 8]
channels = [16, 32]
dense = [64]
[train]
epochs = 20
batch_size = 32
loss = "cross_entropy"
optimizer = { name = "adamw", learning_rate = 2e-3 }
schedule = { name = "cosine", warmup_steps = 40 }
[[metrics]]
builtin = "accuracy"
"#;

fn digits() -> Table {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/digits/digits.csv.gz"
    );
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let (mut features, mut classes) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let numbers: Vec<f32> = line.split(',').map(|n| n.parse().unwrap()).collect();
        features.extend_from_slice(&numbers[..64]);
        classes.push(numbers[64] as u32);
    }
    Table::new(features, 64, Targets::Classes(classes)).unwrap()
}

struct Watch {
    losses: Vec<f64>,
    accuracies: Vec<f64>,
}

impl Observer for Watch {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss);
    }
    fn evaluated(&mut self, _step: u64, _epoch: u64, metrics: &[(String, f64)]) {
        assert_eq!(metrics[0].0, "test.loss");
        assert_eq!(metrics[1].0, "test.accuracy");
        self.accuracies.push(metrics[1].1);
    }
    fn checkpoint(&mut self, _step: u64, _bytes: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}

fn train(spec: &JobSpec, shift: bool) -> (Finished, Watch) {
    let table = Arc::new(digits());
    let input = InputDescription {
        width: 64,
        shape: vec![64],
        target: Target::Classes(10),
    };
    let plan = Arc::new(compile(&spec.model, &spec.train, &input).unwrap());
    let cpu = Cpu::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let preprocess = spec
        .preprocess
        .iter()
        .map(|step| Preprocess::builtin(step).unwrap().unwrap());
    let mut preprocess: Vec<Preprocess> = preprocess.collect();
    if shift {
        preprocess.push(Preprocess::custom(
            stoker_domain::spec::Apply::Train,
            Box::new(Shift),
        ));
    }
    let input = RunInput {
        plan,
        table,
        split: &spec.data.split,
        preprocess,
        metrics: vec![MetricSource::builtin(
            stoker_domain::spec::Measure::Accuracy,
        )],
        resume: None,
    };
    let mut watch = Watch {
        losses: Vec::new(),
        accuracies: Vec::new(),
    };
    let outcome = Run::new(&cpu, input).unwrap().run(&mut watch).unwrap();
    let Outcome::Finished(finished) = outcome else {
        panic!("not finished: {outcome:?}")
    };
    (finished, watch)
}

struct Shift;
impl stoker_engine::Transform for Shift {
    fn apply(&mut self, f: &mut Vec<f32>, rows: &[u64], seed: u64) -> Result<(), EngineError> {
        let mut z = seed;
        for r in 0..rows.len() {
            z = z.wrapping_add(0x9E3779B97F4A7C15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D049BB133111EB);
            x ^= x >> 31;
            let (dx, dy) = ((x % 3) as i32 - 1, ((x >> 20) % 3) as i32 - 1);
            let old: Vec<f32> = f[r * 64..r * 64 + 64].to_vec();
            for y in 0..8 {
                for xx in 0..8 {
                    let (sy, sx) = (y + dy, xx + dx);
                    f[r * 64 + (y * 8 + xx) as usize] =
                        if (0..8).contains(&sy) && (0..8).contains(&sx) {
                            old[(sy * 8 + sx) as usize]
                        } else {
                            0.0
                        };
                }
            }
        }
        Ok(())
    }
}
#[test]
fn sweep() {
    let base = JobSpec::parse(JOB, Format::Toml).unwrap();
    for (ch, dense, pool, epochs, batch, lr, drop) in [
        ("[32, 64]", "[64]", 2, 20, 32, 3e-3, 0.5),
        ("[32, 64]", "[128]", 2, 30, 32, 3e-3, 0.5),
        ("[32, 64]", "[128]", 2, 30, 64, 4e-3, 0.5),
        ("[32, 64]", "[256]", 2, 30, 64, 3e-3, 0.6),
        ("[32, 32]", "[128]", 2, 40, 64, 4e-3, 0.5),
        ("[16, 32]", "[128]", 2, 40, 32, 4e-3, 0.5),
    ] {
        for shift in [false, true] {
            let mut acc = vec![];
            let t = std::time::Instant::now();
            for seed in 0..6u64 {
                let text = JOB
                    .replace(
                        "channels = [16, 32]",
                        &format!("channels = {ch}\npool = {pool}\ndropout = {drop}"),
                    )
                    .replace("dense = [64]", &format!("dense = {dense}"))
                    .replace("epochs = 20", &format!("epochs = {epochs}\nseed = {seed}"))
                    .replace("batch_size = 32", &format!("batch_size = {batch}"))
                    .replace("2e-3", &format!("{lr:?}"));
                let spec = JobSpec::parse(&text, Format::Toml).unwrap();
                let (f, _) = train(&spec, shift);
                acc.push((f.metrics["test.accuracy"] * 450.0).round() as i32);
            }
            println!(
                "{ch} {dense} pool {pool} ep {epochs} b {batch} lr {lr} drop {drop} shift {shift}: {acc:?}/450 {:.2} s",
                t.elapsed().as_secs_f64() / 6.0
            );
        }
    }
    let _ = base;
}
