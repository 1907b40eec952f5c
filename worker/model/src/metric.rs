//! The built-in metrics: which settings they take, and which targets they fit.

use serde_json::{Map, Value};
use stoker_domain::FieldError;
use stoker_domain::error::nearest;
use stoker_domain::spec::{Loss, Measure, MetricSpec, RECALL_K_DEFAULT, TOP_K_DEFAULT};

use crate::input::{InputDescription, Target};

/// Most classes, or columns of a `bce` target, whose curves are made one by one.
pub const CURVES_MAX: usize = 64;
/// Most columns of a `bce` target that are counted one by one.
const COLUMNS_MAX: usize = 1024;
/// Largest `k`, and most bins.
const K_MAX: u32 = 1 << 20;
const BINS_MAX: u32 = 1000;
const BINS_DEFAULT: u32 = 15;

/// A built-in metric, fitted to what a job predicts.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltinMetric {
    /// What its points are reported as, after `test.`; nothing where it has no value.
    pub name: Option<String>,
    /// What is measured.
    pub kind: MetricKind,
}

/// What a built-in metric measures.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// A measure of how many rows of each class are predicted to be of it: `accuracy`,
    /// `precision`, `recall`, `f1`, `iou`, `dice`, `confusion`.
    Counts {
        /// Which.
        measure: Measure,
        /// What has a class.
        labels: Labels,
        /// Of which classes.
        average: Average,
    },
    /// Share of rows whose class is among the `k` highest scores.
    TopK {
        /// How many.
        k: usize,
    },
    /// `roc_auc` or `pr_auc`.
    Curve {
        /// Which.
        measure: Measure,
        /// What has a class.
        labels: Labels,
    },
    /// `calibration_error`.
    Calibration {
        /// Ranges of probability of equal width.
        bins: usize,
        /// What has a class.
        labels: Labels,
    },
    /// `perplexity` or `bits_per_char`.
    Likelihood {
        /// Which.
        measure: Measure,
    },
    /// `mae`, `rmse` or `mape`.
    Deviation {
        /// Which.
        measure: Measure,
    },
    /// The mean pinball loss over values and levels.
    Pinball {
        /// Predictions of each value.
        predictions: usize,
        /// Which of them count, each with its level.
        levels: Vec<(usize, f64)>,
    },
    /// `ndcg` or `recall_at`.
    Ranking {
        /// Which.
        measure: Measure,
        /// How many places count; all where absent.
        k: Option<usize>,
        /// A target of at least this is relevant (`recall_at`).
        threshold: f32,
        /// The feature whose value tells which rows are ranked among each other; where absent, the
        /// scores of a row are.
        group: Option<usize>,
    },
}

/// What has a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// A row, or a position of it: there is a score for each of so many classes.
    Classes(usize),
    /// Each number of a row, 0 or 1: its score is a logit.
    Logits {
        /// Sets of numbers that are measured apart: 1, or the numbers of a row.
        columns: usize,
    },
}

/// Of which classes a measure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// Of this one.
    Class(usize),
    /// The mean of those of all classes, or columns.
    Macro,
    /// Of the counts over all classes.
    Micro,
}

/// Checks the settings of built-in metrics, and that they fit what is predicted.
#[must_use]
pub fn check_metrics(
    metrics: &[MetricSpec],
    input: &InputDescription,
    loss: &Loss,
) -> Vec<FieldError> {
    let fit = |(index, metric): (usize, &MetricSpec)| {
        let error = fit_metric(metric, input, loss).err();
        error.map(|error| error.under(&format!("metrics[{index}]")))
    };
    let metrics = metrics.iter().enumerate();
    metrics
        .filter(|(_, metric)| metric.builtin.is_some())
        .filter_map(fit)
        .collect()
}

/// Fits a built-in metric to what a job predicts. `input` has the feature columns as the data set
/// holds them.
///
/// # Errors
/// At `builtin` when it doesn't fit, at `config.<setting>` for one that is unknown or wrong.
pub fn fit_metric(
    metric: &MetricSpec,
    input: &InputDescription,
    loss: &Loss,
) -> Result<BuiltinMetric, FieldError> {
    let Some(measure) = metric.builtin else {
        return Err(FieldError::new("builtin", "missing: a built-in metric"));
    };
    let settings = Settings::new(measure, &metric.config)?;
    let fitting = Fitting {
        measure,
        settings,
        input,
        loss,
    };
    Ok(BuiltinMetric {
        name: metric.name(),
        kind: fitting.fit()?,
    })
}

/// A measure's settings as they were given.
struct Settings<'a> {
    config: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    fn new(measure: Measure, config: &'a Map<String, Value>) -> Result<Self, FieldError> {
        let known = measure.settings();
        let Some(unknown) = config.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(Self { config });
        };
        let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let takes = match names.as_slice() {
            [] => "no settings".to_owned(),
            names => names.join(", "),
        };
        let hint = nearest(unknown, known.iter().copied());
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let measure = measure.as_str();
        let message = format!("unknown setting, `{measure}` takes {takes}{hint}");
        Err(FieldError::new(format!("config.{unknown}"), message))
    }

    fn wrong(&self, key: &str, allowed: &str) -> FieldError {
        let given = self.config.get(key);
        let given = given.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let message = format!("{given} given, {allowed} needed");
        FieldError::new(format!("config.{key}"), message)
    }

    /// A whole number from 1 to `most`.
    fn whole(&self, key: &str, most: u32) -> Result<Option<u32>, FieldError> {
        let Some(value) = self.config.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let found = number.filter(|number| (1..=most).contains(number));
        let wrong = || self.wrong(key, &format!("a whole number from 1 to {most}"));
        found.map(Some).ok_or_else(wrong)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, FieldError> {
        let Some(value) = self.config.get(key) else {
            return Ok(None);
        };
        let found = value.as_f64().filter(|number| number.is_finite());
        found.map(Some).ok_or_else(|| self.wrong(key, "a number"))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, FieldError> {
        let Some(value) = self.config.get(key) else {
            return Ok(None);
        };
        let found = value.as_str();
        found.map(Some).ok_or_else(|| self.wrong(key, "a name"))
    }

    /// `macro` (true) or `micro`.
    fn is_macro(&self) -> Result<Option<bool>, FieldError> {
        match self.text("average")? {
            None => Ok(None),
            Some("macro") => Ok(Some(true)),
            Some("micro") => Ok(Some(false)),
            Some(_) => Err(self.wrong("average", "\"macro\" or \"micro\"")),
        }
    }
}

/// A measure on its way to what is predicted.
struct Fitting<'a> {
    measure: Measure,
    settings: Settings<'a>,
    input: &'a InputDescription,
    loss: &'a Loss,
}

impl Fitting<'_> {
    fn fit(&self) -> Result<MetricKind, FieldError> {
        let measure = self.measure;
        match measure {
            Measure::Accuracy
            | Measure::Confusion
            | Measure::Precision
            | Measure::Recall
            | Measure::F1
            | Measure::Iou
            | Measure::Dice => self.fit_counts(),
            Measure::TopK => self.fit_top_k(),
            Measure::RocAuc | Measure::PrAuc => self.fit_curve(),
            Measure::CalibrationError => {
                let bins = self.settings.whole("bins", BINS_MAX)?;
                Ok(MetricKind::Calibration {
                    bins: bins.unwrap_or(BINS_DEFAULT) as usize,
                    labels: self.labels()?,
                })
            }
            Measure::Perplexity | Measure::BitsPerChar => {
                let classes = self.classes();
                classes.ok_or_else(|| self.misfit("a class (loss = \"cross_entropy\")"))?;
                Ok(MetricKind::Likelihood { measure })
            }
            Measure::Mae | Measure::Rmse | Measure::Mape => {
                self.values()?;
                Ok(MetricKind::Deviation { measure })
            }
            Measure::Pinball => self.fit_pinball(),
            Measure::Ndcg | Measure::RecallAt => self.fit_ranking(),
        }
    }

    fn misfit(&self, allowed: &str) -> FieldError {
        let measure = self.measure.as_str();
        let message = format!("`{measure}` needs a target that is {allowed}");
        FieldError::new("builtin", message)
    }

    /// How many classes there are, where the target is one.
    const fn classes(&self) -> Option<usize> {
        match self.input.target {
            Target::Classes(classes)
            | Target::Sequence { classes, .. }
            | Target::Masked { classes, .. } => Some(classes),
            Target::Values(_) | Target::Quantiles { .. } => None,
        }
    }

    /// What has a class: all numbers of a row alike where they are logits.
    fn labels(&self) -> Result<Labels, FieldError> {
        match (self.classes(), self.loss) {
            (Some(classes), _) => Ok(Labels::Classes(classes)),
            (None, Loss::Bce) => Ok(Labels::Logits { columns: 1 }),
            _ => Err(self.misfit("a class (loss = \"cross_entropy\" or \"bce\")")),
        }
    }

    /// Values, predicted as they are.
    fn values(&self) -> Result<usize, FieldError> {
        match (self.input.target, self.loss) {
            (Target::Values(width), loss) if !matches!(loss, Loss::Bce | Loss::Kl) => Ok(width),
            _ => Err(self.misfit("values, with a prediction for each (loss = \"mse\")")),
        }
    }

    /// The numbers of a row one by one, where they are logits and `average` asks for it.
    fn columns(&self, labels: Labels, each: bool, most: usize) -> Result<Labels, FieldError> {
        let width = self.input.target.numbers();
        match labels {
            Labels::Logits { .. } if each && width > most => {
                let message = format!("a mean over {width} columns, at most {most} allowed");
                Err(FieldError::new("config.average", message))
            }
            Labels::Logits { .. } if each => Ok(Labels::Logits { columns: width }),
            labels => Ok(labels),
        }
    }

    fn fit_counts(&self) -> Result<MetricKind, FieldError> {
        let labels = self.labels()?;
        let average = self.settings.is_macro()?;
        let positive = self.positive(labels)?;
        if let (Some(_), Some(_)) = (average, positive) {
            let message = "excludes `average`: it measures one class";
            return Err(FieldError::new("config.positive", message));
        }
        let two = labels == Labels::Classes(2) || !matches!(labels, Labels::Classes(_));
        let average = match (positive, average) {
            (Some(class), _) => Average::Class(class),
            (None, Some(true)) => Average::Macro,
            (None, Some(false)) if matches!(labels, Labels::Classes(_)) => Average::Micro,
            (None, None) if !two => Average::Macro,
            // Of two classes, and of logits, the one that is there is looked for.
            (None, _) => Average::Class(1),
        };
        Ok(MetricKind::Counts {
            measure: self.measure,
            labels: self.columns(labels, average == Average::Macro, COLUMNS_MAX)?,
            average,
        })
    }

    /// The class that `positive` names.
    fn positive(&self, labels: Labels) -> Result<Option<usize>, FieldError> {
        let Some(value) = self.settings.config.get("positive") else {
            return Ok(None);
        };
        let classes = match labels {
            Labels::Classes(classes) => classes,
            Labels::Logits { .. } => 2,
        };
        let class = value.as_u64().and_then(|class| usize::try_from(class).ok());
        match class.filter(|&class| class < classes) {
            // Of logits 1 is what is looked for anyway.
            Some(0) if matches!(labels, Labels::Logits { .. }) => {
                Err(self.settings.wrong("positive", "1 (loss = \"bce\")"))
            }
            Some(class) => Ok(Some(class)),
            None => {
                let allowed = format!("a class from 0 to {}", classes.saturating_sub(1));
                Err(self.settings.wrong("positive", &allowed))
            }
        }
    }

    fn fit_top_k(&self) -> Result<MetricKind, FieldError> {
        let classes = self.classes();
        let classes = classes.ok_or_else(|| self.misfit("a class (loss = \"cross_entropy\")"))?;
        let k = self.settings.whole("k", K_MAX)?.unwrap_or(TOP_K_DEFAULT);
        if k as usize > classes {
            let message = format!("{k}, but there are {classes} classes");
            return Err(FieldError::new("config.k", message));
        }
        Ok(MetricKind::TopK { k: k as usize })
    }

    fn fit_curve(&self) -> Result<MetricKind, FieldError> {
        let labels = self.labels()?;
        let average = self.settings.is_macro()?;
        if let Labels::Classes(classes) = labels {
            if classes > CURVES_MAX {
                let allowed = format!("one of at most {CURVES_MAX} classes; there are {classes}");
                return Err(self.misfit(&allowed));
            }
            if average == Some(false) {
                let allowed = "\"macro\" (\"micro\" goes with loss = \"bce\")";
                return Err(self.settings.wrong("average", allowed));
            }
        }
        Ok(MetricKind::Curve {
            measure: self.measure,
            labels: self.columns(labels, average == Some(true), CURVES_MAX)?,
        })
    }

    fn fit_pinball(&self) -> Result<MetricKind, FieldError> {
        let level = self.settings.number("level")?;
        if level.is_some_and(|level| level <= 0.0 || level >= 1.0) {
            return Err(self.settings.wrong("level", "a number above 0 and below 1"));
        }
        let Loss::Quantile { levels } = self.loss else {
            let needed = "values (loss = \"quantile\", \"mse\", \"mae\" or \"huber\")";
            self.values().map_err(|_| self.misfit(needed))?;
            return Ok(MetricKind::Pinball {
                predictions: 1,
                levels: vec![(0, level.unwrap_or(0.5))],
            });
        };
        // As they were written, not as single precision has them.
        let written = |level: f32| level.to_string().parse().unwrap_or(f64::from(level));
        let all = levels.iter().map(|&level| written(level)).enumerate();
        #[expect(clippy::float_cmp, reason = "the same text gives the same number")]
        let chosen: Vec<(usize, f64)> = all
            .filter(|(_, own)| level.is_none_or(|level| level == *own))
            .collect();
        if chosen.is_empty() {
            let allowed = format!("one of train.loss.levels, {levels:?},");
            return Err(self.settings.wrong("level", &allowed));
        }
        Ok(MetricKind::Pinball {
            predictions: levels.len(),
            levels: chosen,
        })
    }

    fn fit_ranking(&self) -> Result<MetricKind, FieldError> {
        let measure = self.measure;
        let k = self.settings.whole("k", K_MAX)?;
        let k = match measure {
            Measure::RecallAt => k.or(Some(RECALL_K_DEFAULT)),
            _ => k,
        };
        let threshold = self.settings.number("threshold")?;
        if threshold.is_some() && self.classes().is_some() {
            let message = "goes with targets of values: the target class is what is relevant";
            return Err(FieldError::new("config.threshold", message));
        }
        let group = match self.settings.text("group")? {
            None => None,
            Some(name) => Some(self.group(name)?),
        };
        match self.input.target {
            Target::Values(1) if group.is_none() => {
                return Err(self.misfit("several values per row, or one with `config.group`"));
            }
            Target::Quantiles { .. } => {
                return Err(self.misfit("a class, or values with a prediction for each"));
            }
            _ => {}
        }
        #[expect(clippy::cast_possible_truncation, reason = "targets are as narrow")]
        Ok(MetricKind::Ranking {
            measure,
            k: k.map(|k| k as usize),
            threshold: threshold.unwrap_or(1.0) as f32,
            group,
        })
    }

    /// The feature that tells which rows belong together.
    fn group(&self, name: &str) -> Result<usize, FieldError> {
        let wrong = |message: String| FieldError::new("config.group", message);
        if self.input.target != Target::Values(1) {
            let message = "goes with a target of one value per row: the scores of its rows are \
                           ranked among each other";
            return Err(wrong(message.to_owned()));
        }
        let column = self.input.column(name).map_err(wrong)?;
        match column.width {
            1 => Ok(column.first),
            width => {
                let message = format!("`{name}` has {width} numbers per row, 1 needed");
                Err(wrong(message))
            }
        }
    }
}

#[cfg(test)]
mod tests;
