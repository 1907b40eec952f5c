//! From the columns of a data set to what a model is trained on.
//!
//! A job's steps make columns of columns, in order: first what they will make is described, from
//! the schema alone, so that the job can be compiled; then each is fitted to the training rows;
//! then rows go through all of them. What was fitted is saved with the model, and does the same to
//! the rows that it predicts. Steps that change a batch at a time (`normalise`, `flip`, `crop` with
//! padding, plugins) come after them and are the engine's.
//!
//! A new step: a file here with its settings and its [`Step`], and a line in [`make`].

mod clip;
mod flow;
mod hash;
mod impute;
mod labels;
mod lag;
mod one_hot;
mod pictures;
mod rows;
mod step;
#[cfg(test)]
mod tests;
mod tokenise;
mod vocabulary;
mod window;

use serde_json::{Map, Value};
use stoker_domain::FieldError;
use stoker_domain::dataset::{ColumnKind, Schema};
use stoker_domain::job::Inputs;
use stoker_domain::spec::{JobSpec, Loss, PreprocessSpec, Preprocessing, read_settings};

pub use rows::{Prepared, Sides};

use crate::chunk::Chunk;
use crate::error::DataError;
use flow::{Flow, width};
use labels::Labels;
use step::{Described, Step};

/// Most bytes of numbers that a step makes at a time, unless one row has more.
const FLOW_BYTES: usize = 16 << 20;

/// The steps of a job that make columns, in order.
pub struct Pipeline {
    steps: Vec<(String, Box<dyn Step>)>,
    labels: Option<Labels>,
    schema: Schema,
    counts: Option<[u64; 2]>,
    features: Option<Vec<String>>,
    target: Option<String>,
    /// Columns of the data set that are read, in its order.
    columns: Vec<String>,
    /// Most rows at a time.
    rows_max: usize,
}

impl Pipeline {
    /// Describes what a job's steps make of a data set. Of `inputs` it looks at the tokenizers, whose
    /// files [`Pipeline::give_tokenizer`] takes before any row.
    ///
    /// # Errors
    /// One error per step that is wrong, as in `preprocess[1].config.columns[0]`.
    pub fn new(spec: &JobSpec, schema: &Schema, inputs: &Inputs) -> Result<Self, Vec<FieldError>> {
        let data = &spec.data;
        let held_out = data.split.count_held_out(schema.rows);
        let mut described = Described {
            schema: schema.clone(),
            rows: Some([schema.rows.saturating_sub(held_out), held_out]),
            split: &data.split,
            target: data.target.as_deref(),
            tokenizers: &inputs.tokenizers,
        };
        let mut widest = row_floats(schema);
        let mut steps = Vec::new();
        let mut by_batch = None;
        let mut errors = Vec::new();
        for (index, step) in spec.preprocess.iter().enumerate() {
            let field = format!("preprocess[{index}]");
            if is_by_batch(step) {
                by_batch = by_batch.or(Some(index));
                continue;
            }
            let made = match by_batch {
                Some(earlier) => Err(FieldError::new(
                    "builtin",
                    format!("makes columns, and must come before preprocess[{earlier}]"),
                )),
                None => make(step),
            };
            let made = made.and_then(|mut made| {
                made.describe(&mut described)?;
                Ok(made)
            });
            match made {
                Ok(made) => steps.push((field, made)),
                Err(error) => errors.push(error.under(&field)),
            }
            widest = widest.max(row_floats(&described.schema));
            if !errors.is_empty() {
                // What later steps would find isn't known.
                return Err(errors);
            }
        }
        let mut labels = labels(spec, &described);
        if let Some(labels) = &mut labels {
            labels
                .describe(&mut described)
                .map_err(|error| vec![error.under("data.target")])?;
        }
        let read: Vec<&str> = (steps.iter().flat_map(|(_, step)| step.reads()))
            .map(String::as_str)
            .chain(steps.iter().filter_map(|(_, step)| step.reads_to_train()))
            .chain(data.features.iter().flatten().map(String::as_str))
            .chain(data.target.as_deref())
            .collect();
        let all = data.features.is_none();
        let columns = schema.columns.iter().map(|column| column.name.clone());
        let columns = columns.filter(|name| all || read.contains(&name.as_str()));
        Ok(Self {
            columns: columns.collect(),
            rows_max: (FLOW_BYTES / size_of::<f64>() / widest.max(1)).max(1),
            labels,
            schema: described.schema,
            counts: described.rows,
            features: data.features.clone(),
            target: data.target.clone(),
            steps,
        })
    }

    /// What the model sees: the columns after all steps.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows to train on and rows held out, where the data need not be read to know.
    #[must_use]
    pub const fn counts(&self) -> Option<[u64; 2]> {
        self.counts
    }

    /// The names of the classes, where the target is text.
    #[must_use]
    pub fn labels(&self) -> Option<&[String]> {
        self.labels.as_ref().map(Labels::labels)
    }

    /// Whether the rows that come out are those that go in.
    #[must_use]
    pub fn keeps_rows(&self) -> bool {
        self.steps.iter().all(|(_, step)| step.keeps_rows())
    }

    /// Columns of the data set that have to be read to train.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Columns that have to be read to predict: what is to be predicted isn't among them.
    #[must_use]
    pub fn columns_to_predict(&self) -> Vec<String> {
        let read: Vec<&String> = self
            .steps
            .iter()
            .flat_map(|(_, step)| step.reads())
            .collect();
        let to_train = |name: &String| {
            let target = self.target.as_ref() == Some(name);
            let step = self
                .steps
                .iter()
                .any(|(_, step)| step.reads_to_train() == Some(name));
            (target || step) && !read.contains(&name)
        };
        let columns = self.columns.iter();
        columns.filter(|name| !to_train(name)).cloned().collect()
    }

    /// Gives the file of a tokenizer, `name@version`, to the steps that need it.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn give_tokenizer(&mut self, name: &str, file: &[u8]) -> Result<(), DataError> {
        for (field, step) in &mut self.steps {
            if step.tokenizer() == Some(name) {
                step.give_tokenizer(file).map_err(|error| error.at(field))?;
            }
        }
        Ok(())
    }

    /// Whether any step has to see the training rows.
    #[must_use]
    pub fn is_fitted(&self) -> bool {
        self.steps.iter().any(|(_, step)| step.is_fitted())
    }

    /// What the steps took from the training rows, to be kept with the model.
    #[must_use]
    pub fn save(&self) -> Value {
        self.steps.iter().map(|(_, step)| step.save()).collect()
    }

    /// Takes what [`Pipeline::save`] gave.
    ///
    /// # Errors
    /// [`DataError::Malformed`] when it is another pipeline's.
    pub fn restore(&mut self, saved: &Value) -> Result<(), DataError> {
        let wrong = |what: &dyn std::fmt::Display| {
            DataError::Malformed(format!(
                "what the steps were fitted to can't be read: {what}"
            ))
        };
        let saved = saved
            .as_array()
            .filter(|saved| saved.len() == self.steps.len());
        let saved = saved.ok_or_else(|| wrong(&"it is of other steps"))?;
        for ((_, step), saved) in self.steps.iter_mut().zip(saved) {
            step.restore(saved).map_err(|error| wrong(&error))?;
        }
        Ok(())
    }

    fn start(&mut self, predicting: bool) {
        for (_, step) in &mut self.steps {
            step.start(predicting);
        }
        if let Some(labels) = &mut self.labels {
            labels.start(predicting);
        }
    }

    /// Puts rows through the first `steps` steps.
    fn apply(&mut self, steps: usize, mut flow: Flow) -> Result<Flow, DataError> {
        for (field, step) in &mut self.steps[..steps] {
            flow = step.apply(flow).map_err(|error| error.at(field))?;
        }
        Ok(flow)
    }

    /// Cuts a chunk into flows that steps can widen.
    fn cut(&self, chunk: Chunk, sides: &Sides) -> Vec<Flow> {
        let mut rest = Flow::new(chunk, |row| sides.is_held_out(row));
        let mut flows = Vec::new();
        while rest.rows() > self.rows_max {
            let after = rest.split_off(self.rows_max);
            flows.push(rest);
            rest = after;
        }
        flows.push(rest);
        flows
    }
}

/// Whether the engine does it, a batch at a time.
#[must_use]
pub fn is_by_batch(step: &PreprocessSpec) -> bool {
    match step.builtin {
        None | Some(Preprocessing::Normalise | Preprocessing::Flip) => true,
        Some(Preprocessing::Crop) => step.config.contains_key("padding"),
        Some(_) => false,
    }
}

fn make(step: &PreprocessSpec) -> Result<Box<dyn Step>, FieldError> {
    use stoker_domain::spec::Apply;
    let config: &Map<String, Value> = &step.config;
    if step.apply == Apply::Train {
        let message = "`train`: a step that makes columns changes all rows";
        return Err(FieldError::new("apply", message));
    }
    Ok(match step.builtin {
        Some(Preprocessing::Impute) => Box::new(impute::Impute::new(read_settings(config)?)),
        Some(Preprocessing::OneHot) => Box::new(one_hot::OneHot::new(read_settings(config)?)),
        Some(Preprocessing::Hash) => Box::new(hash::Hash::new(read_settings(config)?)),
        Some(Preprocessing::Clip) => Box::new(clip::Clip::new(read_settings(config)?)),
        Some(Preprocessing::Resize) => Box::new(pictures::Resize::new(read_settings(config)?)),
        Some(Preprocessing::Crop) => Box::new(pictures::Crop::new(read_settings(config)?)),
        Some(Preprocessing::Window) => Box::new(window::Window::new(read_settings(config)?)),
        Some(Preprocessing::Lag) => Box::new(lag::Lag::new(read_settings(config)?)),
        Some(Preprocessing::Tokenise) => Box::new(tokenise::Tokenise::new(read_settings(config)?)),
        Some(Preprocessing::Normalise | Preprocessing::Flip) | None => {
            return Err(FieldError::new("builtin", "is no step that makes columns"));
        }
    })
}

/// The labels of a target of text that a loss needs as numbers.
fn labels(spec: &JobSpec, described: &Described<'_>) -> Option<Labels> {
    let target = described.schema.column(spec.data.target.as_ref()?)?;
    let labels = target.categories.as_ref()?;
    let takes = match spec.train.loss {
        Loss::Bce => labels.len() <= 2,
        ref loss => loss.takes_classes(),
    };
    (target.kind == ColumnKind::Text && takes)
        .then(|| Labels::new(target.name.clone(), labels.clone()))
}

fn row_floats(schema: &Schema) -> usize {
    schema
        .columns
        .iter()
        .map(|column| width(&column.shape))
        .sum()
}
