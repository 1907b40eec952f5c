//! Rows through all steps, into the table that a run is fed with.

use super::Pipeline;
use super::flow::{Flow, width};
use crate::Chunks;
use crate::chunk::{Chunk, Values};
use crate::error::DataError;
use crate::number;

/// Which rows of a data set are held out: none, where it says nothing of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sides(Vec<bool>);

impl Sides {
    /// Whether each row is.
    #[must_use]
    pub const fn new(is_held_out: Vec<bool>) -> Self {
        Self(is_held_out)
    }

    pub(super) fn is_held_out(&self, row: u64) -> bool {
        let row = usize::try_from(row).ok();
        row.and_then(|row| self.0.get(row))
            .copied()
            .unwrap_or_default()
    }
}

/// Rows after all steps, ready for training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prepared {
    /// Feature numbers per row.
    pub width: usize,
    /// `[rows, width]` row-major.
    pub features: Vec<f32>,
    /// Target numbers per row; 0 where there is no target.
    pub target_width: usize,
    /// `[rows, target_width]` row-major.
    pub targets: Vec<f32>,
    /// For each row the row of the data set that it stands for.
    pub ids: Vec<u64>,
    /// Whether each is held out.
    pub held_out: Vec<bool>,
}

impl Pipeline {
    /// Fits the steps to the training rows: each that has to see them reads all rows once, which
    /// `open` gives from the begin.
    ///
    /// # Errors
    /// What is wrong with a row, or with a column as a whole.
    pub fn fit<'a>(
        &mut self,
        open: &mut dyn FnMut() -> Result<Chunks<'a>, DataError>,
        sides: &Sides,
    ) -> Result<(), DataError> {
        for index in 0..self.steps.len() {
            if !self.steps[index].1.is_fitted() {
                continue;
            }
            self.start(false);
            for chunk in open()? {
                for flow in self.cut(chunk?, sides) {
                    let flow = self.apply(index, flow)?;
                    let (field, step) = &mut self.steps[index];
                    step.observe(&flow).map_err(|error| error.at(field))?;
                }
            }
            let (field, step) = &mut self.steps[index];
            step.fit().map_err(|error| error.at(field))?;
        }
        Ok(())
    }

    /// Puts all rows through the fitted steps, and gives them on part by part.
    ///
    /// # Errors
    /// What is wrong with a row, and what `take` gives.
    pub fn prepare<E: From<DataError>>(
        &mut self,
        chunks: Chunks<'_>,
        sides: &Sides,
        take: &mut dyn FnMut(Prepared) -> Result<(), E>,
    ) -> Result<(), E> {
        self.start(false);
        for chunk in chunks {
            for flow in self.cut(chunk?, sides) {
                let mut prepared = Prepared::default();
                self.finish(flow, &mut prepared, true)?;
                take(prepared)?;
            }
        }
        Ok(())
    }

    /// Puts rows to predict through the fitted steps, chunk by chunk: [`Pipeline::predict_chunk`]
    /// takes them from here on.
    pub fn start_predicting(&mut self) {
        self.start(true);
    }

    /// The rows to predict of the next chunk.
    ///
    /// # Errors
    /// What is wrong with a row.
    pub fn predict_chunk(&mut self, chunk: Chunk) -> Result<Prepared, DataError> {
        let mut prepared = Prepared::default();
        for flow in self.cut(chunk, &Sides::default()) {
            self.finish(flow, &mut prepared, false)?;
        }
        Ok(prepared)
    }

    /// The class of each row of a chunk, by the target as it is in the data set.
    ///
    /// # Errors
    /// A row without one, or a target that a step makes.
    pub fn classes(&self, chunk: &Chunk) -> Result<Vec<u32>, DataError> {
        let target = self.target.as_deref().unwrap_or_default();
        let column = chunk.columns.iter().find(|column| column.name == target);
        let values = column.map(|column| &column.values);
        let rows = chunk.first_row..;
        let class = |row: u64, class: f64| -> Result<u32, DataError> {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "rounded, and in range"
            )]
            match (0.0..=65_535.0).contains(&class) {
                true => Ok(class as u32),
                false => Err(DataError::record(row + 1, target, "is no class index")),
            }
        };
        match (values, &self.labels) {
            (Some(Values::Texts(texts)), Some(labels)) => (rows.zip(texts.iter()))
                .map(|(row, label)| class(row, labels.class(row, label)?))
                .collect(),
            (Some(Values::Numbers(numbers)), _) if numbers.len() == chunk.rows => rows
                .zip(numbers)
                .map(|(row, &number)| class(row, number))
                .collect(),
            _ => Err(DataError::Malformed(format!(
                "data.split.stratify: `{target}` isn't a column of classes of the data set"
            ))),
        }
    }

    /// Puts rows through all steps and appends them.
    fn finish(
        &mut self,
        flow: Flow,
        prepared: &mut Prepared,
        with_target: bool,
    ) -> Result<(), DataError> {
        let mut flow = self.apply(self.steps.len(), flow)?;
        if let Some(labels) = self.labels.as_mut().filter(|_| with_target) {
            flow = super::Step::apply(labels, flow)?;
        }
        self.append(&flow, prepared, with_target)
    }

    /// Feature columns in order.
    fn feature_names(&self) -> Vec<String> {
        match &self.features {
            Some(names) => names.clone(),
            None => {
                let names = self.schema.columns.iter().map(|column| column.name.clone());
                names
                    .filter(|name| self.target.as_ref() != Some(name))
                    .collect()
            }
        }
    }

    fn append(
        &self,
        flow: &Flow,
        prepared: &mut Prepared,
        with_target: bool,
    ) -> Result<(), DataError> {
        let features = self.feature_names();
        let columns = columns(flow, &features)?;
        prepared.width = columns.iter().map(|(_, width, _)| width).sum();
        push(flow, &columns, &mut prepared.features)?;
        if let Some(target) = self.target.as_ref().filter(|_| with_target) {
            let columns = self::columns(flow, std::slice::from_ref(target))?;
            prepared.target_width = columns.iter().map(|(_, width, _)| width).sum();
            push(flow, &columns, &mut prepared.targets)?;
        }
        prepared.ids.extend(&flow.ids);
        prepared.held_out.extend(&flow.held_out);
        Ok(())
    }
}

type Column<'a> = (&'a str, usize, &'a [f64]);

fn columns<'a>(flow: &'a Flow, names: &'a [String]) -> Result<Vec<Column<'a>>, DataError> {
    let columns = names.iter().map(|name| {
        let column = flow.column(name)?;
        match &column.values {
            Values::Numbers(numbers) => {
                Ok((name.as_str(), width(&column.shape), numbers.as_slice()))
            }
            _ => Err(DataError::Malformed(format!(
                "column `{name}` holds no numbers"
            ))),
        }
    });
    columns.collect()
}

/// Appends rows, the columns side by side.
fn push(flow: &Flow, columns: &[Column<'_>], into: &mut Vec<f32>) -> Result<(), DataError> {
    for (row, &id) in flow.ids.iter().enumerate() {
        for (name, width, numbers) in columns {
            for &number in &numbers[row * width..][..*width] {
                if !number::in_range(number) {
                    let message = match number.is_nan() {
                        true => "there is no value; the step `impute` fills in some".to_owned(),
                        false => number::too_large(number),
                    };
                    return Err(DataError::record(id + 1, name, message));
                }
                into.push(number as f32);
            }
        }
    }
    Ok(())
}
