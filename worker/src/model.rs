//! A trained model, loaded to predict.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde_json::{Map, Value};
use stoker_data::{Chunk, DataError, Pipeline, is_by_batch};
use stoker_domain::ErrorCode;
use stoker_domain::dataset::{Column, Schema};
use stoker_domain::error::nearest;
use stoker_domain::model::{ModelRecord, Output, Prediction};
use stoker_domain::port::PredictError;
use stoker_domain::spec::{Loss, PreprocessSpec};
use stoker_engine::{Cpu, Device, EngineError, Predictor, Preprocess};
use stoker_model::{InputDescription, Target};

/// A trained model, loaded to predict.
pub struct Model {
    record: ModelRecord,
    pipeline: Pipeline,
    predictor: Predictor,
}

/// Makes the plugins that a model was trained with.
pub(crate) type MakePlugin<'a> =
    dyn Fn(&PreprocessSpec, &InputDescription) -> Result<Preprocess, EngineError> + 'a;

/// That a row has a column of the model's at least, and has none misspelled: it would be taken for
/// a missing value.
///
/// # Errors
/// What is wrong with it, as in "has no column `size`, but `sise`: is it that?".
pub fn check_names<'a>(
    columns: impl IntoIterator<Item = &'a Column> + Clone,
    row: &Map<String, Value>,
) -> Result<(), String> {
    let names = || {
        columns
            .clone()
            .into_iter()
            .map(|column| column.name.as_str())
    };
    if !names().any(|name| row.contains_key(name)) {
        let list: Vec<&str> = names().take(16).collect();
        return Err(format!(
            "has none of the model's columns: {}",
            list.join(", ")
        ));
    }
    for given in row
        .keys()
        .filter(|given| names().all(|name| name != *given))
    {
        // Short names are near to each other without meaning the same.
        let absent = names().filter(|name| name.len() > 2 && !row.contains_key(*name));
        if let Some(near) = nearest(given, absent) {
            return Err(format!(
                "has no column `{near}`, but `{given}`: is it that?"
            ));
        }
    }
    Ok(())
}

impl Model {
    /// Loads a model on this machine's CPU, from what its job left.
    ///
    /// # Errors
    /// `invalid_input` when record and weights aren't those of one model, or rows go through a
    /// plugin, which only a platform has.
    pub fn load(
        record: ModelRecord,
        weights: &[u8],
        threads: NonZeroUsize,
    ) -> Result<Self, PredictError> {
        let device = Cpu::new(threads).map_err(|error| failed(&error))?;
        let refuse = |step: &PreprocessSpec, _: &InputDescription| {
            let name = step.plugin.as_ref().map(ToString::to_string);
            let message = format!(
                "rows of this model go through the plugin {}, which is run by the platform: predict there, by `POST /v1/jobs/{}/predict`",
                name.unwrap_or_default(),
                record.job
            );
            Err(EngineError::new(
                stoker_domain::job::FailureKind::User,
                message,
            ))
        };
        Self::open(record.clone(), weights, &device, &refuse)
    }

    pub(crate) fn open(
        record: ModelRecord,
        weights: &[u8],
        device: &dyn Device,
        plugin: &MakePlugin<'_>,
    ) -> Result<Self, PredictError> {
        let schema = Schema {
            rows: record.rows,
            columns: record.columns.clone(),
        };
        let spec = &record.spec;
        let mut pipeline = Pipeline::new(spec, &schema, &record.inputs).map_err(|e| unfit(&e))?;
        pipeline
            .restore(&record.fitted)
            .map_err(|error| data(&error))?;
        let plan = stoker_model::compile_job(spec, pipeline.schema());
        let plan = Arc::new(plan.map_err(|errors| unfit(&errors))?);
        let by_batch = spec.preprocess.iter().filter(|step| is_by_batch(step));
        let steps = by_batch.map(|step| {
            let builtin = Preprocess::builtin(step, &plan.input);
            match builtin.map_err(|error| unfit(&[error]))? {
                Some(step) => Ok(step),
                None => plugin(step, &plan.input).map_err(|error| failed(&error)),
            }
        });
        let steps = steps.collect::<Result<_, PredictError>>()?;
        let predictor = Predictor::new(device, plan, weights, steps);
        Ok(Self {
            predictor: predictor.map_err(|error| failed(&error))?,
            pipeline,
            record,
        })
    }

    /// The columns that rows to predict must have.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let names = self.pipeline.columns_to_predict();
        let known = self.record.columns.iter();
        known
            .filter(|column| names.contains(&column.name))
            .cloned()
            .collect()
    }

    /// Rows begin anew: [`Model::predict`] takes them from here on, in order.
    pub fn start(&mut self) {
        self.pipeline.start_predicting();
    }

    /// Predicts the rows of the next chunk, which has [`Model::columns`].
    ///
    /// # Errors
    /// `invalid_input`: what is wrong with a row.
    pub fn predict(&mut self, chunk: Chunk) -> Result<Vec<Prediction>, PredictError> {
        let prepared = self
            .pipeline
            .predict_chunk(chunk)
            .map_err(|error| data(&error))?;
        if prepared.ids.is_empty() {
            return Ok(Vec::new());
        }
        let scores = self.predictor.predict(prepared.features);
        let scores = scores.map_err(|error| failed(&error))?;
        let rows = prepared.ids.into_iter().zip(scores);
        Ok(rows
            .map(|(row, scores)| Prediction {
                row,
                output: self.output(scores),
            })
            .collect())
    }

    fn output(&self, scores: Vec<f32>) -> Output {
        match (self.predictor.target(), &self.record.spec.train.loss) {
            (Target::Classes(_), _) => {
                let class = first_maximum(&scores);
                let labels = self.record.labels.as_ref();
                Output::Class {
                    class,
                    label: labels.and_then(|labels| labels.get(class as usize).cloned()),
                    probabilities: softmax(&scores),
                }
            }
            (Target::Sequence { classes, .. } | Target::Masked { classes, .. }, _) => {
                Output::Classes {
                    classes: scores.chunks_exact(classes).map(first_maximum).collect(),
                }
            }
            (Target::Values(_), Loss::Bce | Loss::Dice { .. }) => Output::Values {
                values: scores
                    .into_iter()
                    .map(|x| 1.0 / (1.0 + (-x).exp()))
                    .collect(),
            },
            (Target::Values(_), _) => Output::Values { values: scores },
            (Target::Quantiles { levels, .. }, _) => Output::Quantiles {
                quantiles: scores.chunks_exact(levels).map(<[f32]>::to_vec).collect(),
            },
        }
    }
}

fn first_maximum(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "rounded once")]
fn softmax(scores: &[f32]) -> Vec<f32> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = scores.iter().map(|&x| f64::from(x - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

/// The same error for whoever asked for a prediction.
pub(crate) fn failed(error: &EngineError) -> PredictError {
    use stoker_domain::job::FailureKind;
    let code = match error.kind {
        FailureKind::User | FailureKind::Data => ErrorCode::InvalidInput,
        FailureKind::Capacity => ErrorCode::TooLarge,
        _ => ErrorCode::Internal,
    };
    PredictError {
        code,
        message: error.to_string(),
    }
}

fn data(error: &DataError) -> PredictError {
    PredictError {
        code: error.code(),
        message: error.to_string(),
    }
}

fn unfit(errors: &[stoker_domain::FieldError]) -> PredictError {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    PredictError {
        code: ErrorCode::InvalidInput,
        message: format!("this build can't use the model: {}", lines.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stoker_domain::dataset::ColumnKind;

    use super::*;

    #[test]
    fn names_that_are_misspelled_are_no_missing_values() {
        let columns = ["size", "region", "x"].map(|name| Column {
            name: name.to_owned(),
            kind: ColumnKind::Float,
            shape: Vec::new(),
            statistics: None,
            missing: 0,
            categories: None,
        });
        let check = |row: Value| {
            let row = row.as_object().cloned().unwrap_or_default();
            check_names(&columns, &row).err().unwrap_or_default()
        };
        assert_eq!(check(json!({"size": 1, "x": 2, "kind": 3, "y": 4})), "");
        assert_eq!(check(json!({"x": 1, "y": 2, "sizes": 3, "size": 4})), "");
        let told = check(json!({"sise": 1, "region": 2}));
        assert_eq!(told, "has no column `size`, but `sise`: is it that?");
        let told = check(json!({"y": 1}));
        assert_eq!(told, "has none of the model's columns: size, region, x");
    }
}
