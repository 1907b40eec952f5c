//! `hash`: ids, or a bag of words, of text that has any number of different values (Weinberger et
//! al. 2009).

use std::hash::Hasher as _;

use fnv::FnvHasher;
use serde::Deserialize;
use serde_json::Value;
use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind};

use super::flow::Flow;
use super::step::{Described, Step, is_number, is_text, numbers};
use crate::chunk::{Texts, Values};
use crate::error::DataError;

/// Settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns to hash; all text when absent.
    columns: Vec<String>,
    /// Different ids, or words told apart: 2 to 2^24, and up to 2^16 words.
    buckets: u32,
    /// What a value becomes.
    mode: Mode,
    /// Words that follow one another and count as one more, 1 to 3.
    ngrams: usize,
    /// Whether words that few rows have count for more.
    idf: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            buckets: 1_024,
            mode: Mode::Id,
            ngrams: 1,
            idf: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// One id, for an embedding.
    Id,
    /// How often each word occurs: 1 + ln(count), times its inverse document frequency, each row of
    /// length 1.
    Words,
}

/// The step.
pub(super) struct Hash {
    settings: Settings,
    columns: Vec<String>,
    rows: u64,
    /// For each column the training rows that have each word.
    frequencies: Vec<Vec<u64>>,
    /// For each column what each word counts.
    weights: Vec<Vec<f64>>,
}

impl Hash {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
            rows: 0,
            frequencies: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn bucket(&self, bytes: &[u8]) -> usize {
        let mut hasher = FnvHasher::default();
        hasher.write(bytes);
        // The low bits of FNV-1a depend on the low bits of the text alone: fold the high ones in.
        let hash = hasher.finish();
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from((hash >> 32) % u64::from(self.settings.buckets)).unwrap_or(0)
    }

    /// The buckets of a text's words, and how often each occurs.
    fn count(&self, text: &str) -> Vec<(usize, u32)> {
        let text = text.to_lowercase();
        let is_inside = |c: char| c.is_alphanumeric() || c == '\'';
        let words: Vec<&str> = text
            .split(|c| !is_inside(c))
            .filter(|w| !w.is_empty())
            .collect();
        let mut found = Vec::new();
        for length in 1..=self.settings.ngrams {
            let grams = words.windows(length);
            found.extend(grams.map(|gram| self.bucket(gram.join(" ").as_bytes())));
        }
        found.sort_unstable();
        let runs = found.chunk_by(|a, b| a == b);
        runs.map(|run| (run[0], u32::try_from(run.len()).unwrap_or(u32::MAX)))
            .collect()
    }

    fn words(&self, texts: &Texts, weights: Option<&Vec<f64>>) -> Vec<f64> {
        let width = self.settings.buckets as usize;
        let mut numbers = vec![0.0; texts.len() * width];
        for (row, text) in numbers.chunks_exact_mut(width).zip(texts.iter()) {
            for (bucket, count) in self.count(text) {
                let weight = weights.and_then(|all| all.get(bucket)).unwrap_or(&1.0);
                row[bucket] = (1.0 + f64::from(count).ln()) * weight;
            }
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        numbers
    }
}

impl Step for Hash {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let Settings {
            buckets,
            mode,
            ngrams,
            ..
        } = self.settings;
        let most = match mode {
            Mode::Id => 1 << 24,
            Mode::Words => 1 << 16,
        };
        if !(2..=most).contains(&buckets) {
            let message = format!("{buckets} is not in 2 to {most}");
            return Err(FieldError::new("config.buckets", message));
        }
        if !(1..=3).contains(&ngrams) {
            let message = format!("{ngrams} is not in 1 to 3");
            return Err(FieldError::new("config.ngrams", message));
        }
        let fits = |column: &Column| match mode {
            Mode::Id if column.kind == ColumnKind::Integer => is_number(column),
            _ => is_text(column),
        };
        let by_default = |column: &Column| column.kind == ColumnKind::Text;
        self.columns = described.choose("hash", &self.settings.columns, fits, by_default)?;
        for name in &self.columns {
            described.change(name, |column| {
                *column = match mode {
                    Mode::Id => {
                        let range = [0.0, f64::from(buckets - 1)];
                        numbers(name, ColumnKind::Integer, &[], range)
                    }
                    Mode::Words => numbers(name, ColumnKind::Float, &[buckets], [0.0, 1.0]),
                };
            });
        }
        self.frequencies = vec![vec![0; buckets as usize]; self.columns.len()];
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn is_fitted(&self) -> bool {
        self.settings.mode == Mode::Words && self.settings.idf
    }

    fn observe(&mut self, flow: &Flow) -> Result<(), DataError> {
        self.rows += flow.held_out.iter().filter(|held_out| !**held_out).count() as u64;
        let mut frequencies = std::mem::take(&mut self.frequencies);
        for (name, frequencies) in self.columns.iter().zip(&mut frequencies) {
            if let Values::Texts(texts) = &flow.column(name)?.values {
                let rows = texts.iter().zip(&flow.held_out);
                for (text, _) in rows.filter(|(_, held_out)| !**held_out) {
                    for (bucket, _) in self.count(text) {
                        frequencies[bucket] += 1;
                    }
                }
            }
        }
        self.frequencies = frequencies;
        Ok(())
    }

    fn fit(&mut self) -> Result<(), DataError> {
        let rows = 1.0 + self.rows as f64;
        let weight = |&count: &u64| (rows / (1.0 + count as f64)).ln() + 1.0;
        let all = self.frequencies.iter();
        self.weights = all
            .map(|counts| counts.iter().map(weight).collect())
            .collect();
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        for (index, name) in self.columns.iter().enumerate() {
            match (&flow.column(name)?.values, self.settings.mode) {
                (Values::Texts(texts), Mode::Words) => {
                    let numbers = self.words(texts, self.weights.get(index));
                    flow.replace(name, &[self.settings.buckets], numbers)?;
                }
                (Values::Texts(texts), Mode::Id) => {
                    let ids = texts.iter().map(|text| self.bucket(text.as_bytes()) as f64);
                    let ids = ids.collect();
                    flow.replace(name, &[], ids)?;
                }
                (Values::Numbers(numbers), Mode::Id) => {
                    let ids = numbers
                        .iter()
                        .map(|x| self.bucket(x.to_string().as_bytes()) as f64);
                    let ids = ids.collect();
                    flow.replace(name, &[], ids)?;
                }
                _ => {}
            }
        }
        Ok(flow)
    }

    fn save(&self) -> Value {
        serde_json::to_value(&self.weights).unwrap_or_default()
    }

    fn restore(&mut self, saved: &Value) -> Result<(), serde_json::Error> {
        self.weights = Vec::deserialize(saved)?;
        Ok(())
    }
}
