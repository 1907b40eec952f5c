//! A model, how it is trained, and rows made for it: a few lines from which the engine and PyTorch
//! start alike.

use std::sync::{Arc, Mutex};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use stoker_domain::spec::{Apply, ModelSpec, SplitSpec, TrainSpec};
use stoker_engine::{
    Control, Cpu, EngineError, Observer, Preprocess, Run, RunInput, StepReport, Table, Targets,
    Transform,
};
use stoker_model::{InputDescription, Plan, Target, compile};

/// Whatever went wrong, as text.
pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// What a row's features are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Features {
    /// Numbers from -0.5 to 0.5.
    Numbers,
    /// Token ids below this.
    Tokens(usize),
}

/// A model with its data and training.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) name: &'static str,
    /// The model's spec in JSON.
    pub(crate) model: &'static str,
    /// Shape of one row.
    pub(crate) input: &'static [usize],
    pub(crate) features: Features,
    pub(crate) target: Target,
    pub(crate) rows: usize,
    /// Share of the rows that is held out.
    pub(crate) test: f64,
    /// The spec's `train`.
    pub(crate) train: Value,
}

impl Task {
    /// Numbers of one row.
    pub(crate) fn width(&self) -> usize {
        self.input.iter().product()
    }

    pub(crate) fn plan(&self) -> Fallible<Plan> {
        let model: ModelSpec = serde_json::from_str(self.model)?;
        let train: TrainSpec = serde_json::from_value(self.train.clone())?;
        let input = InputDescription {
            width: self.width(),
            shape: self.input.to_vec(),
            vocabulary: match self.features {
                Features::Tokens(count) => Some(count),
                Features::Numbers => None,
            },
            target: self.target,
        };
        let plan = compile(&model, &train, &input);
        plan.map_err(|errors| format!("{}: {errors:?}", self.name).into())
    }

    /// The features and targets of all rows, the same ones on every machine.
    pub(crate) fn data(&self) -> (Vec<f32>, Targets) {
        let mut state = 1_u64;
        let mut word = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u32
        };
        let (width, rows) = (self.width(), self.rows);
        let mut feature = || match self.features {
            Features::Numbers => word() as f32 / 16_777_216.0 - 0.5,
            Features::Tokens(count) => (word() % count as u32) as f32,
        };
        let features = (0..rows * width).map(|_| feature()).collect();
        let mut classes = |number: usize, count: usize| -> Vec<u32> {
            let classes = (0..rows * number).map(|_| word() % count as u32);
            classes.collect()
        };
        let targets = match self.target {
            Target::Classes(count) => Targets::Classes(classes(1, count)),
            Target::Sequence {
                classes: count,
                positions,
            } => Targets::Classes(classes(positions, count)),
            Target::Values(width) | Target::Quantiles { values: width, .. } => Targets::Values {
                values: self.values(width, &classes(width, 1 << 16)),
                width,
            },
        };
        (features, targets)
    }

    pub(crate) fn table(&self) -> Fallible<Table> {
        let (features, targets) = self.data();
        Ok(Table::new(features, self.width(), targets)?)
    }

    /// Targets that are numbers: 0 and 1 for `bce`, probabilities for `kl`, else -1 to 1.
    fn values(&self, width: usize, words: &[u32]) -> Vec<f32> {
        let shares = words.iter().map(|&word| word as f32 / 65_536.0);
        match self.loss_name() {
            "bce" => shares.map(f32::round).collect(),
            "kl" => {
                let shares: Vec<f32> = shares.map(|share| share + 0.1).collect();
                let sums = shares
                    .chunks_exact(width)
                    .map(|row| row.iter().sum::<f32>());
                let sums: Vec<f32> = sums.collect();
                let each = shares.iter().enumerate();
                each.map(|(index, share)| share / sums[index / width])
                    .collect()
            }
            _ => shares.map(|share| 2.0 * share - 1.0).collect(),
        }
    }

    fn loss_name(&self) -> &str {
        let loss = &self.train["loss"];
        loss.as_str().or(loss["name"].as_str()).unwrap_or_default()
    }

    fn split(&self) -> SplitSpec {
        SplitSpec {
            test: self.test,
            shuffle: true,
            seed: 0,
            stratify: false,
        }
    }

    /// A run before its first step.
    pub(crate) fn start(
        &self,
        cpu: &Cpu,
        table: Arc<Table>,
        preprocess: Vec<Preprocess>,
    ) -> Fallible<Run> {
        let input = RunInput {
            plan: Arc::new(self.plan()?),
            table,
            split: &self.split(),
            preprocess,
            metrics: Vec::new(),
            resume: None,
        };
        Ok(Run::new(cpu, input)?)
    }

    /// A hash of all that a run starts from: the spec, the rows, and the weights in `checkpoint`.
    pub(crate) fn hash(&self, checkpoint: &[u8]) -> Fallible<String> {
        let (plan, (features, targets)) = (self.plan()?, self.data());
        let model: ModelSpec = serde_json::from_str(self.model)?;
        let mut hash = blake3::Hasher::new();
        hash.update(&serde_json::to_vec(&(
            &model,
            &plan.train,
            self.test.to_bits(),
        ))?);
        hash.update(&bytes_of(&features));
        hash.update(&target_bytes(&targets));
        let tensors = SafeTensors::deserialize(checkpoint)?;
        for parameter in &plan.parameters {
            hash.update(parameter.name.as_bytes());
            hash.update(tensors.tensor(&parameter.name)?.data());
        }
        Ok(hash.finalize().to_hex()[..16].to_owned())
    }

    /// What the peer has to know besides the rows and the weights.
    pub(crate) fn describe(&self) -> Fallible<Value> {
        let model: Value = serde_json::from_str(self.model)?;
        let plan = self.plan()?;
        let target = match self.target {
            Target::Classes(classes) => json!({"classes": classes, "positions": 1}),
            Target::Sequence { classes, positions } => {
                json!({"classes": classes, "positions": positions})
            }
            Target::Values(width) | Target::Quantiles { values: width, .. } => {
                json!({"values": width})
            }
        };
        Ok(json!({
            "name": self.name, "model": model, "train": plan.train, "input": self.input,
            "tokens": matches!(self.features, Features::Tokens(_)),
            "vocabulary": plan.input.vocabulary, "outputs": plan.outputs, "target": target,
            "rows": self.rows, "shard_rows": plan.rows, "shards": plan.shards,
        }))
    }
}

pub(crate) fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Classes as u32, or numbers as f32; little-endian.
pub(crate) fn target_bytes(targets: &Targets) -> Vec<u8> {
    match targets {
        Targets::Classes(classes) => classes.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Targets::Values { values, .. } => bytes_of(values),
        Targets::Features => Vec::new(),
    }
}

/// What a run went through.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The mean loss of each step.
    pub(crate) losses: Vec<f64>,
    /// Steps after which the held-out rows were measured, and their loss.
    pub(crate) tests: Vec<(u64, f64)>,
    /// The rows of each step, by shard.
    pub(crate) batches: Vec<Vec<Vec<u64>>>,
    shards: Arc<Mutex<Vec<Vec<u64>>>>,
}

/// Sees which rows a shard has, and changes nothing.
struct Rows(Arc<Mutex<Vec<Vec<u64>>>>);

impl Transform for Rows {
    fn apply(&mut self, _: &mut Vec<f32>, rows: &[u64], _: u64) -> Result<(), EngineError> {
        if let Ok(mut shards) = self.0.lock() {
            shards.push(rows.to_vec());
        }
        Ok(())
    }
}

impl Observer for Trace {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss);
        if let Ok(mut shards) = self.shards.lock() {
            self.batches.push(std::mem::take(&mut *shards));
        }
    }
    fn evaluated(&mut self, step: u64, _: u64, metrics: &[(String, f64)]) {
        self.tests
            .extend(metrics.iter().map(|(_, loss)| (step, *loss)));
    }
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}

impl Trace {
    /// Runs all of a task's steps. Gives the checkpoint before the first one, too.
    pub(crate) fn of(task: &Task, cpu: &Cpu) -> Fallible<(Vec<u8>, Self)> {
        let mut trace = Self::default();
        let rows = Box::new(Rows(Arc::clone(&trace.shards)));
        let preprocess = vec![Preprocess::custom(Apply::Train, rows)];
        let mut run = task.start(cpu, Arc::new(task.table()?), preprocess)?;
        let before = run.checkpoint();
        run.run(&mut trace)?;
        Ok((before, trace))
    }
}
