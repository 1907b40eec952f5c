//! Predicts with the models that finished jobs left, which stay loaded for a while.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};
use stoker_data::chunk_of_json;
use stoker_domain::dataset::Column;
use stoker_domain::job::{Failure, FailureKind, JobRecord};
use stoker_domain::model::{MODEL_FILE, ModelRecord, Prediction, WEIGHTS_FILE};
use stoker_domain::port::{PredictError, Predictor};
use stoker_domain::{ErrorCode, JobId, object};
use stoker_engine::{Cpu, EngineError, Preprocess};
use stoker_plugins::ArtifactKey;

use crate::config::Config;
use crate::inputs::{Cache, Inputs};
use crate::model::{Model, check_names};
use crate::plugin_steps::PluginTransform;
use crate::ports::Ports;
use crate::worker::StartError;

/// Bytes of weights that stay loaded.
const LOADED_MAX_BYTES: u64 = 1 << 30;

/// Predicts with the models that finished jobs left.
pub struct Predictions {
    inputs: Inputs,
    device: Arc<Cpu>,
    models: Mutex<Cache<JobId, Mutex<Model>>>,
}

impl Predictions {
    /// `key` authenticates the plugins' native code. Rows are predicted by one thread at a time for
    /// each model.
    ///
    /// # Errors
    /// [`StartError`] when engine or plugin host can't start.
    pub fn new(config: &Config, ports: Ports, key: ArtifactKey) -> Result<Self, StartError> {
        Ok(Self {
            inputs: Inputs::new(config, ports, key)?,
            device: Arc::new(Cpu::new(NonZeroUsize::MIN)?),
            models: Mutex::new(Cache::new(LOADED_MAX_BYTES)),
        })
    }

    async fn model(&self, job: &JobRecord) -> Result<Arc<Mutex<Model>>, PredictError> {
        if let Some(model) = lock(&self.models).get(&job.id) {
            return Ok(model);
        }
        let record = self.artifact(job, MODEL_FILE).await?;
        let record: ModelRecord = serde_json::from_slice(&record).map_err(|error| {
            refused(ErrorCode::Internal, format!("the model's record: {error}"))
        })?;
        let weights = self.artifact(job, WEIGHTS_FILE).await?;
        let size = weights.len() as u64;
        let references = (record.spec.preprocess.iter()).filter_map(|step| step.plugin.clone());
        let mut plugins = std::collections::BTreeMap::new();
        for reference in references {
            let plugin = self
                .inputs
                .plugin(job, &reference)
                .await
                .map_err(platform)?;
            plugins.insert(reference, plugin);
        }
        let device = Arc::clone(&self.device);
        let loading = tokio::task::spawn_blocking(move || {
            let plugin = |step: &stoker_domain::spec::PreprocessSpec, _: &_| {
                let found = step
                    .plugin
                    .as_ref()
                    .and_then(|name| plugins.get_key_value(name));
                let (name, plugin) = found.ok_or_else(|| {
                    EngineError::new(FailureKind::Platform, "a plugin wasn't fetched")
                })?;
                let config = serde_json::to_string(&step.config).unwrap_or_default();
                let transform = PluginTransform::new(name, plugin, &config)?;
                Ok(Preprocess::custom(step.apply, Box::new(transform)))
            };
            Model::open(record, &weights, &*device, &plugin)
        });
        let model = loading.await.map_err(|_| bug())??;
        let model = Arc::new(Mutex::new(model));
        lock(&self.models).put(job.id, model.clone(), size);
        Ok(model)
    }

    async fn artifact(&self, job: &JobRecord, name: &str) -> Result<Vec<u8>, PredictError> {
        let outcome = job.result.as_ref().ok_or_else(|| {
            let message = format!("{} has no model: it is {}", job.id, job.state.as_str());
            refused(ErrorCode::Conflict, message)
        })?;
        let artifact = outcome
            .artifacts
            .iter()
            .find(|artifact| artifact.name == name);
        let artifact = artifact.ok_or_else(|| {
            let message = format!("{} left no {name}: train it again to predict", job.id);
            refused(ErrorCode::Conflict, message)
        })?;
        let key = object::artifact(job.id, outcome.token, name);
        let fetched = self.inputs.fetch(&key, &artifact.blake3, name).await;
        fetched.map_err(platform)
    }
}

#[async_trait]
impl Predictor for Predictions {
    async fn predict(
        &self,
        job: &JobRecord,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Prediction>, PredictError> {
        let model = self.model(job).await?;
        let predicting = tokio::task::spawn_blocking(move || {
            let mut model = lock(&model);
            let columns = model.columns();
            for (number, row) in (1..).zip(&rows) {
                check_names(&columns, row).map_err(|wrong| {
                    refused(ErrorCode::InvalidInput, format!("row {number} {wrong}"))
                })?;
            }
            let columns: Vec<&Column> = columns.iter().collect();
            let chunk = chunk_of_json(&columns, &rows)
                .map_err(|error| refused(error.code(), error.to_string()))?;
            model.start();
            model.predict(chunk)
        });
        predicting.await.map_err(|_| bug())?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn refused(code: ErrorCode, message: String) -> PredictError {
    PredictError { code, message }
}

fn bug() -> PredictError {
    let message = "predicting failed in a way that is our bug";
    refused(ErrorCode::Internal, message.to_owned())
}

fn platform(failure: Failure) -> PredictError {
    refused(ErrorCode::Unavailable, failure.message)
}
