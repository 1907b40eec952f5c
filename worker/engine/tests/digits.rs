//! Trains a small convolutional network on the digits data set, as a user's job would.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;

use stoker_domain::spec::{Format, JobSpec};
use stoker_engine::{
    Control, Cpu, EngineError, Finished, MetricSource, Observer, Outcome, Preprocess, Run,
    RunInput, StepReport, Table, Targets,
};
use stoker_model::{InputDescription, Target, compile, fit_metric};

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
channels = [32, 64]
dense = [128]
dropout = 0.5
[train]
epochs = 30
batch_size = 32
loss = "cross_entropy"
optimizer = { name = "adamw", learning_rate = 3e-3 }
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

fn train(spec: &JobSpec) -> (Finished, Watch) {
    let table = Arc::new(digits());
    let input = InputDescription {
        width: 64,
        shape: vec![64],
        vocabulary: None,
        columns: Vec::new(),
        target: Target::Classes(10),
    };
    let plan = Arc::new(compile(&spec.model, &spec.train, &input).unwrap());
    let cpu = Cpu::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let preprocess = spec
        .preprocess
        .iter()
        .map(|step| Preprocess::builtin(step, &input).unwrap().unwrap());
    let accuracy = fit_metric(&spec.metrics[0], &plan.input, &plan.train.loss).unwrap();
    let input = RunInput {
        plan,
        table,
        split: &spec.data.split,
        preprocess: preprocess.collect(),
        metrics: vec![MetricSource::builtin(accuracy)],
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

#[test]
fn a_small_network_reads_digits() {
    let spec = JobSpec::parse(JOB, Format::Toml).unwrap();
    let (finished, watch) = train(&spec);
    assert_eq!(finished.steps, 30 * 43, "43 batches of 1,347 rows");
    assert_eq!(watch.losses.len() as u64, finished.steps);
    assert_eq!(watch.accuracies.len(), 30);
    assert!(watch.losses[0] > 2.0, "ten classes start near ln 10");
    assert!(finished.metrics["train.loss"] < 0.2);
    let accuracy = finished.metrics["test.accuracy"];
    assert!(accuracy >= 0.98, "{accuracy} on the held-out rows");
}
