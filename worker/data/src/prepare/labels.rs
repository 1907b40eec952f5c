//! The last step of a target of text: class indices.

use stoker_domain::FieldError;
use stoker_domain::dataset::ColumnKind;

use super::flow::Flow;
use super::step::{Described, Step, numbers};
use crate::chunk::Values;
use crate::error::DataError;

/// Class indices: a label's place among all labels of the data set, sorted.
pub(super) struct Labels {
    target: [String; 1],
    labels: Vec<String>,
    predicting: bool,
}

impl Labels {
    pub(super) const fn new(target: String, labels: Vec<String>) -> Self {
        Self {
            target: [target],
            labels,
            predicting: false,
        }
    }

    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The class of a label.
    pub(super) fn class(&self, row: u64, label: &str) -> Result<f64, DataError> {
        let found = self
            .labels
            .binary_search_by(|known| known.as_str().cmp(label));
        found.map(|class| class as f64).map_err(|_| {
            let message = match label {
                "" => "there is no label".to_owned(),
                label => format!("{label:?} is not one of the {} labels", self.labels.len()),
            };
            DataError::record(row + 1, &self.target[0], message)
        })
    }
}

impl Step for Labels {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let [target] = &self.target;
        let last = self.labels.len().saturating_sub(1) as f64;
        described.change(target, |column| {
            let missing = column.missing;
            *column = numbers(target, ColumnKind::Integer, &[], [0.0, last]);
            column.missing = missing;
        });
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &[]
    }

    fn reads_to_train(&self) -> Option<&str> {
        Some(&self.target[0])
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        if self.predicting {
            return Ok(flow);
        }
        let classes = match &flow.column(&self.target[0])?.values {
            Values::Texts(texts) => (texts.iter().zip(&flow.ids))
                .map(|(label, &row)| self.class(row, label))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let [target] = &self.target;
        flow.replace(target, &[], classes)?;
        Ok(flow)
    }

    fn start(&mut self, predicting: bool) {
        self.predicting = predicting;
    }
}
