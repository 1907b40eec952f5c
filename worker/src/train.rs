//! Hands an attempt to the engine, and what comes back to the spool and the committer.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use stoker_data::is_by_batch;
use stoker_domain::diff::TRACE;
use stoker_domain::job::{Artifact, EngineIdentity, Failure, FailureKind, JobRecord, Outcome};
use stoker_domain::model::{CARD_FILE, MODEL_FILE, ModelRecord, RECORD_VERSION, WEIGHTS_FILE};
use stoker_domain::port::Point;
use stoker_domain::spec::{Loss, MetricSpec, PreprocessSpec};
use stoker_domain::worker::Progress;
use stoker_domain::{Clock, FieldError, Ref, Timestamp, object};
use stoker_engine::{
    Control as EngineControl, Device, EngineError, MetricSource, Observer, Preprocess, Run,
    RunInput, StepReport,
};
use stoker_model::InputDescription;
use stoker_plugins::Plugin;
use tokio::sync::watch;

use crate::attempt::Shared;
use crate::card;
use crate::commit::Checkpoints;
use crate::control::{Control, Request};
use crate::inputs::Prepared;
use crate::onnx;
use crate::plugin_steps::{PluginMetric, PluginTransform};
use crate::spool::{Spool, json_lines};

/// Most points of one training metric: longer runs report every n-th step.
const POINTS_MAX: u64 = 100_000;
/// Milliseconds between two reports of progress.
const PROGRESS_EVERY_MS: u64 = 50;

/// An attempt, ready to train.
pub(crate) struct Training {
    pub(crate) record: JobRecord,
    pub(crate) prepared: Prepared,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) control: Arc<Control>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How training ended.
pub(crate) enum Trained {
    /// The lease is gone.
    Stopped,
    /// It was asked to let go.
    Paused {
        /// Steps made, and the state after them; none where it hadn't begun.
        checkpoint: Option<(u64, Vec<u8>)>,
    },
    /// All steps were made.
    Finished(Box<Finished>),
}

/// What a whole run made, and how fast.
pub(crate) struct Finished {
    pub(crate) weights: Vec<u8>,
    /// What is needed beside the weights to use the model.
    pub(crate) model: ModelRecord,
    pub(crate) metrics: BTreeMap<String, f64>,
    /// What metrics tell besides, by file name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) steps: u64,
    pub(crate) samples_per_s: f64,
    pub(crate) first_step_at: Option<Timestamp>,
}

impl Finished {
    pub(crate) fn outcome(
        &self,
        job: &JobRecord,
        artifacts: Vec<Artifact>,
        manifest: String,
    ) -> Outcome {
        // A later attempt's first step says nothing about the wait for the job's first.
        let first_attempt = job
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.number == 1);
        let waited = self.first_step_at.filter(|_| first_attempt);
        Outcome {
            token: job.token,
            manifest_blake3: manifest,
            artifacts,
            metrics: self.metrics.clone(),
            steps: self.steps,
            samples_per_s: self.samples_per_s,
            first_step_at: self.first_step_at,
            submit_to_first_step_ms: waited.map(|at| at.millis_since(job.created_at) as f64),
        }
    }
}

/// Trains to the end, or to what `control` asks for. Blocks its thread.
pub(crate) fn run(training: Training) -> Result<Trained, Failure> {
    let spec = &training.record.spec;
    let schema = &training.prepared.fed.schema;
    let plan = stoker_model::compile_job(spec, schema).map_err(|errors| refused(&errors))?;
    let description = stoker_model::describe_input(schema, &spec.data, &spec.train)
        .map_err(|errors| refused(&errors))?;
    let plugins = &training.prepared.plugins;
    let by_batch = spec.preprocess.iter().filter(|step| is_by_batch(step));
    let preprocess = by_batch.map(|step| preprocess(step, &plan.input, plugins));
    let preprocess = preprocess.collect::<Result<_, _>>()?;
    let input = RunInput {
        plan: Arc::new(plan),
        table: training.prepared.fed.table.clone(),
        split: &spec.data.split,
        preprocess,
        metrics: spec
            .metrics
            .iter()
            .map(|metric| match metric.plugin {
                Some(_) => plugin_metric(metric, plugins),
                None => builtin_metric(metric, &description, &spec.train.loss),
            })
            .collect::<Result<_, _>>()?,
        resume: training.prepared.checkpoint.as_deref(),
    };
    let mut run = Run::new(&*training.device, input)?;
    let mut watching = Watching::new(&training);
    match run.run(&mut watching)? {
        stoker_engine::Outcome::Stopped { .. } => Ok(Trained::Stopped),
        stoker_engine::Outcome::Paused { step } => {
            let checkpoint = watching.paused_with.ok_or_else(|| {
                Failure::new(
                    FailureKind::Platform,
                    "the engine paused without a checkpoint: our bug",
                )
            })?;
            Ok(Trained::Paused {
                checkpoint: Some((step, checkpoint)),
            })
        }
        stoker_engine::Outcome::Finished(finished) => Ok(Trained::Finished(Box::new(Finished {
            files: with_onnx(&training, &description, &finished),
            weights: finished.weights,
            model: model(&training.record, &training.prepared),
            metrics: finished.metrics,
            steps: finished.steps,
            samples_per_s: watching.samples_per_s(),
            first_step_at: watching.first_step_at,
        }))),
    }
}

/// What is needed beside the weights to use the model.
fn model(job: &JobRecord, prepared: &Prepared) -> ModelRecord {
    ModelRecord {
        record_version: RECORD_VERSION,
        job: job.id,
        spec: job.spec.clone(),
        inputs: job.inputs.clone(),
        rows: prepared.dataset.schema.rows,
        columns: prepared.fed.read.clone(),
        fitted: prepared.fed.fitted.clone(),
        labels: prepared.fed.labels.clone(),
        engine: EngineIdentity {
            build: stoker_engine::build(),
            device_class: stoker_engine::device_class(),
        },
    }
}

fn plugin<'a>(
    plugins: &'a BTreeMap<Ref, Arc<Plugin>>,
    name: &Ref,
) -> Result<&'a Arc<Plugin>, EngineError> {
    let missing = || {
        EngineError::new(
            FailureKind::Platform,
            format!("plugin {name} wasn't fetched"),
        )
    };
    plugins.get(name).ok_or_else(missing)
}

fn preprocess(
    step: &PreprocessSpec,
    input: &InputDescription,
    plugins: &BTreeMap<Ref, Arc<Plugin>>,
) -> Result<Preprocess, EngineError> {
    if let Some(name) = &step.plugin {
        let config = config(&step.config);
        let transform = PluginTransform::new(name, plugin(plugins, name)?, &config)?;
        return Ok(Preprocess::custom(step.apply, Box::new(transform)));
    }
    let unknown = || EngineError::new(FailureKind::User, "a step is neither plugin nor built in");
    Preprocess::builtin(step, input)
        .map_err(|error| EngineError::new(FailureKind::User, error.to_string()))?
        .ok_or_else(unknown)
}

fn plugin_metric(
    metric: &MetricSpec,
    plugins: &BTreeMap<Ref, Arc<Plugin>>,
) -> Result<MetricSource, EngineError> {
    let missing = || EngineError::new(FailureKind::User, "a metric is neither plugin nor built in");
    let name = metric.plugin.as_ref().ok_or_else(missing)?;
    let (reference, plugin) = (name.clone(), plugin(plugins, name)?.clone());
    let config = config(&metric.config);
    let make = move || {
        let metric = PluginMetric::new(&reference, &plugin, &config)?;
        Ok(Box::new(metric) as Box<dyn stoker_engine::Metric>)
    };
    Ok(MetricSource::new(&name.name, Box::new(make)))
}

fn builtin_metric(
    metric: &MetricSpec,
    input: &InputDescription,
    loss: &Loss,
) -> Result<MetricSource, EngineError> {
    let metric = stoker_model::fit_metric(metric, input, loss);
    let metric = metric.map_err(|error| EngineError::new(FailureKind::User, error.to_string()))?;
    Ok(MetricSource::builtin(metric))
}

/// The metrics' files, and the model as ONNX where it has a translation.
fn with_onnx(
    training: &Training,
    input: &InputDescription,
    finished: &stoker_engine::Finished,
) -> BTreeMap<String, Vec<u8>> {
    let mut files = finished.files.clone();
    match onnx::write(&training.record.spec, input, &finished.weights) {
        Ok(model) => {
            files.insert(onnx::FILE.to_owned(), model);
        }
        Err(why) => training
            .spool
            .log("info", format!("no {}: {why}", onnx::FILE)),
    }
    files
}

fn refused(errors: &[FieldError]) -> Failure {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::new(FailureKind::User, lines.join("; "))
}

fn config(fields: &serde_json::Map<String, serde_json::Value>) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}

/// Hears the engine, between two steps.
struct Watching<'a> {
    training: &'a Training,
    every: u64,
    began_ms: u64,
    told_ms: u64,
    rows: u64,
    first_step: Option<u64>,
    first_step_at: Option<Timestamp>,
    paused_with: Option<Vec<u8>>,
}

impl<'a> Watching<'a> {
    fn new(training: &'a Training) -> Self {
        let began_ms = training.clock.monotonic_ms();
        Self {
            training,
            every: 1,
            began_ms,
            told_ms: 0,
            rows: 0,
            first_step: None,
            first_step_at: None,
            paused_with: None,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.training
            .clock
            .monotonic_ms()
            .saturating_sub(self.began_ms)
    }

    fn samples_per_s(&self) -> f64 {
        self.rows as f64 * 1e3 / self.elapsed_ms().max(1) as f64
    }

    fn tell(&mut self, report: &StepReport) {
        let elapsed_ms = self.elapsed_ms();
        let made = report
            .step
            .saturating_sub(self.first_step.unwrap_or(report.step))
            + 1;
        let left = report.steps.saturating_sub(report.step);
        self.told_ms = elapsed_ms;
        self.training.progress.send_replace(Progress {
            step: report.step,
            steps: report.steps,
            epoch: report.epoch,
            loss: Some(report.loss),
            samples_per_s: self.samples_per_s(),
            eta_ms: Some(elapsed_ms * left / made),
        });
    }
}

impl Observer for Watching<'_> {
    fn step(&mut self, report: &StepReport) {
        if self.first_step.is_none() {
            self.first_step = Some(report.step);
            self.first_step_at = Some(self.training.clock.now());
            self.every = report.steps.div_ceil(POINTS_MAX).max(1);
        }
        self.rows += report.rows;
        let last = report.step == report.steps;
        if report.step.is_multiple_of(self.every) || last {
            self.training
                .spool
                .point("train.loss", report.step, report.loss);
            self.training
                .spool
                .point("train.learning_rate", report.step, report.learning_rate);
        }
        if last || self.elapsed_ms() >= self.told_ms + PROGRESS_EVERY_MS {
            self.tell(report);
        }
    }

    fn evaluated(&mut self, step: u64, epoch: u64, metrics: &[(String, f64)]) {
        let mut line = format!("epoch {epoch}, step {step}");
        for (name, value) in metrics {
            self.training.spool.point(name, step, *value);
            line.push_str(&format!(", {name} {value:.4}"));
        }
        self.training.spool.log("info", line);
    }

    fn undefined(&mut self, step: u64, epoch: u64, names: &[String]) {
        let names = names.join(", ");
        let line = format!("epoch {epoch}, step {step}: undefined, so not reported: {names}");
        self.training.spool.log("warn", line);
    }

    fn checkpoint(&mut self, step: u64, bytes: Vec<u8>) -> Result<(), EngineError> {
        match self.training.control.request() {
            Request::Pause => self.paused_with = Some(bytes),
            _ => self.training.checkpoints.offer(step, bytes),
        }
        Ok(())
    }

    fn trace(&mut self, step: u64, weights: blake3::Hash) {
        let first = weights
            .as_bytes()
            .first_chunk::<8>()
            .copied()
            .unwrap_or_default();
        // 52 bits, which a point's value holds exactly.
        let number = (u64::from_le_bytes(first) >> 12) as f64;
        self.training.spool.point(TRACE, step, number);
    }

    fn control(&mut self) -> EngineControl {
        match self.training.control.request() {
            Request::Continue => EngineControl::Continue,
            Request::Pause => EngineControl::Pause,
            Request::Stop => EngineControl::Stop,
        }
    }
}

/// The files that a finished job leaves.
pub(crate) async fn files<'a>(
    shared: &Shared,
    job: &JobRecord,
    points: &[Point],
    finished: &'a Finished,
) -> Vec<(&'a str, Vec<u8>)> {
    let environment = serde_json::json!({
        "engine_build": stoker_engine::build(),
        "device_class": stoker_engine::device_class(),
        "threads": shared.threads,
        "worker": shared.worker,
        "attempt": job.attempt,
        "inputs": job.inputs,
        "spec_blake3": job.spec.blake3(),
    });
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    let mut files = vec![
        (WEIGHTS_FILE, finished.weights.clone()),
        (
            MODEL_FILE,
            serde_json::to_vec(&finished.model).unwrap_or_default(),
        ),
        (CARD_FILE, card::write(finished).into_bytes()),
        ("metrics.jsonl", json_lines(points)),
        ("log.jsonl", log(shared, job).await),
        ("spec.json", json(serde_json::to_vec_pretty(&job.spec))),
        (
            "environment.json",
            json(serde_json::to_vec_pretty(&environment)),
        ),
    ];
    let told = finished.files.iter();
    files.extend(told.map(|(name, bytes)| (name.as_str(), bytes.clone())));
    files
}

/// The log of all attempts, in order. What can't be read is left out: it stays where it is.
async fn log(shared: &Shared, job: &JobRecord) -> Vec<u8> {
    let mut text = Vec::new();
    for token in 1..=job.token {
        let prefix = Path::from(format!("{}/logs", object::attempt(job.id, token)));
        let listed = shared.ports.objects.list(Some(&prefix));
        let mut chunks: Vec<_> = listed
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .unwrap_or_default();
        chunks.sort();
        for chunk in chunks {
            let read = async { shared.ports.objects.get(&chunk).await?.bytes().await };
            match read.await {
                Ok(bytes) => text.extend_from_slice(&bytes),
                Err(error) => {
                    tracing::warn!(job.id = %job.id, %error, "a part of the log can't be read")
                }
            }
        }
    }
    text
}
