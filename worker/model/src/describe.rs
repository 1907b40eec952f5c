//! From a data set's schema and a job's columns to an [`InputDescription`].

use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind, Schema};
use stoker_domain::error::nearest;
use stoker_domain::spec::{DataSpec, JobSpec, Loss, TrainSpec};

use crate::input::{InputColumn, InputDescription, Target};
use crate::limits::CLASSES_MAX;

/// Largest feature width: what one row may hold.
const WIDTH_MAX: u64 = 1 << 28;

/// Token ids are below this: what single precision holds exactly.
const VOCABULARY_MAX: f64 = 16_777_216.0;

/// Finds the columns that a job names, and checks that they can be trained on.
///
/// # Errors
/// One error per column that is missing or of the wrong kind, at `data.target` or
/// `data.features[i]`.
pub fn describe_input(
    schema: &Schema,
    data: &DataSpec,
    train: &TrainSpec,
) -> Result<InputDescription, Vec<FieldError>> {
    let mut errors = Vec::new();
    let features = feature_columns(schema, data, &mut errors);
    let width: u64 = features.iter().map(|column| column.width()).sum();
    if errors.is_empty() && !(1..=WIDTH_MAX).contains(&width) {
        let message = format!("{width} numbers per row, 1 to {WIDTH_MAX} allowed");
        errors.push(FieldError::new("data.features", message));
    }
    let vocabulary = vocabulary(&features, data.padding);
    let target = match &data.target {
        Some(name) => find(schema, name)
            .and_then(|column| describe_target(column, &train.loss))
            .map_err(|message| errors.push(FieldError::new("data.target", message))),
        None => describe_features(vocabulary, usize_of(width), &train.loss)
            .map_err(|message| errors.push(FieldError::new("train.loss", message))),
    };
    match target {
        Ok(target) if errors.is_empty() => Ok(InputDescription {
            width: usize_of(width),
            shape: match features.as_slice() {
                [column] if !column.shape.is_empty() => {
                    column.shape.iter().map(|&n| n as usize).collect()
                }
                _ => vec![usize_of(width)],
            },
            vocabulary,
            columns: columns(&features),
            target,
        }),
        _ => Err(errors),
    }
}

/// One more than the largest value, where all columns hold whole numbers from 0 that single
/// precision holds exactly. Padding may be below.
fn vocabulary(features: &[&Column], padding: Option<f32>) -> Option<usize> {
    let mut largest = 0.0_f64;
    for column in features {
        let statistics = column.statistics.as_ref()?;
        let is_padding = padding.map(f64::from) == Some(statistics.min);
        if column.kind != ColumnKind::Integer || (statistics.min < 0.0 && !is_padding) {
            return None;
        }
        largest = largest.max(statistics.max);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range"
    )]
    (largest < VOCABULARY_MAX).then_some(largest as usize + 1)
}

/// Where each column is in a row, and its own vocabulary.
fn columns(features: &[&Column]) -> Vec<InputColumn> {
    let mut first = 0;
    let place = |column: &&Column| {
        let width = usize_of(column.width());
        first += width;
        InputColumn {
            name: column.name.clone(),
            first: first - width,
            width,
            vocabulary: vocabulary(&[column], None),
        }
    };
    features.iter().map(place).collect()
}

fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn feature_columns<'a>(
    schema: &'a Schema,
    data: &DataSpec,
    errors: &mut Vec<FieldError>,
) -> Vec<&'a Column> {
    let Some(names) = &data.features else {
        let is_target = |column: &&Column| data.target.as_ref() == Some(&column.name);
        let others = (schema.columns.iter()).filter(|column| !is_target(column));
        let (text, numbers): (Vec<&Column>, Vec<&Column>) =
            others.partition(|column| matches!(column.kind, ColumnKind::Text | ColumnKind::Image));
        if let Some(column) = text.first() {
            let message = format!(
                "absent, so all columns but the target are taken, and `{}` is {}: name those of numbers, or make numbers of it by a step such as {}",
                column.name,
                if column.kind == ColumnKind::Text {
                    "text"
                } else {
                    "pictures"
                },
                if column.kind == ColumnKind::Text {
                    "`one_hot`, `hash` or `tokenise`"
                } else {
                    "`resize`"
                },
            );
            errors.push(FieldError::new("data.features", message));
        }
        for column in &numbers {
            if let Err(message) = numeric(column) {
                errors.push(FieldError::new("data.features", message));
            }
        }
        return numbers;
    };
    let mut columns = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let column = find(schema, name).and_then(|column| {
            if data.target.as_ref() == Some(name) {
                return Err(format!("`{name}` is the target"));
            }
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(format!("`{name}` is given twice"));
            }
            numeric(column)
        });
        match column {
            Ok(column) => columns.push(column),
            Err(message) => {
                errors.push(FieldError::new(format!("data.features[{index}]"), message));
            }
        }
    }
    columns
}

fn find<'a>(schema: &'a Schema, name: &str) -> Result<&'a Column, String> {
    schema.column(name).ok_or_else(|| {
        let names = schema.columns.iter().map(|column| column.name.as_str());
        match nearest(name, names) {
            Some(near) => format!("the data set has no column `{name}`; did you mean `{near}`?"),
            None => format!(
                "the data set has no column `{name}` among its {}",
                schema.columns.len()
            ),
        }
    })
}

fn numeric(column: &Column) -> Result<&Column, String> {
    match column.kind {
        ColumnKind::Text => Err(format!(
            "`{}` is text: a step such as `one_hot`, `hash` or `tokenise` makes numbers of it",
            column.name
        )),
        ColumnKind::Image => Err(format!(
            "`{}` holds pictures: the step `resize` makes numbers of them",
            column.name
        )),
        _ if column.missing > 0 => Err(format!(
            "`{}` has no value in {} rows: the step `impute` fills them in",
            column.name, column.missing
        )),
        ColumnKind::Integer | ColumnKind::Float => Ok(column),
    }
}

fn describe_target(column: &Column, loss: &Loss) -> Result<Target, String> {
    let name = &numeric(column)?.name;
    let width = column.width();
    if !(1..=WIDTH_MAX).contains(&width) {
        return Err(format!(
            "`{name}` has {width} numbers per row, 1 to {WIDTH_MAX} allowed"
        ));
    }
    let width = usize_of(width);
    if loss.takes_classes() {
        return describe_classes(column, loss.as_str(), width);
    }
    let (allowed, text) = match loss {
        Loss::Bce => (0.0..=1.0, "0 to 1"),
        Loss::Kl => (0.0..=f64::INFINITY, "0 and above"),
        _ => (f64::NEG_INFINITY..=f64::INFINITY, ""),
    };
    if let Some(found) = &column.statistics
        && !(allowed.contains(&found.min) && allowed.contains(&found.max))
    {
        let (kind, min, max) = (loss.as_str(), found.min, found.max);
        return Err(format!(
            "{kind} needs numbers of {text}; `{name}` holds {min} to {max}"
        ));
    }
    Ok(match loss {
        Loss::Quantile { levels } => Target::Quantiles {
            values: width,
            levels: levels.len(),
        },
        _ => Target::Values(width),
    })
}

/// What is predicted where the target is the features themselves.
fn describe_features(
    vocabulary: Option<usize>,
    width: usize,
    loss: &Loss,
) -> Result<Target, String> {
    match loss {
        Loss::CrossEntropy { .. } => match vocabulary {
            Some(classes) if classes as u64 <= CLASSES_MAX => Ok(Target::Masked {
                classes,
                positions: width,
            }),
            Some(classes) => Err(format!(
                "cross_entropy takes up to {CLASSES_MAX} classes; the features hold {classes} token ids"
            )),
            None => Err("cross_entropy needs token ids: whole numbers from 0".to_owned()),
        },
        Loss::Quantile { levels } => Ok(Target::Quantiles {
            values: width,
            levels: levels.len(),
        }),
        Loss::Dice { .. } => Err("dice doesn't go with a target that is left out".to_owned()),
        _ => Ok(Target::Values(width)),
    }
}

fn describe_classes(column: &Column, loss: &str, width: usize) -> Result<Target, String> {
    let name = &column.name;
    if column.kind != ColumnKind::Integer {
        return Err(format!(
            "{loss} needs a column of class indices 0, 1, …; `{name}` is {:?} of shape {:?}",
            column.kind, column.shape
        ));
    }
    let statistics = column
        .statistics
        .as_ref()
        .ok_or_else(|| format!("`{name}` has no statistics: the data set is empty"))?;
    let (min, max) = (statistics.min, statistics.max);
    if !(min >= 0.0 && max < CLASSES_MAX as f64) {
        return Err(format!(
            "{loss} needs class indices from 0 to {}; `{name}` holds {min} to {max}",
            CLASSES_MAX - 1
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range"
    )]
    let classes = max as usize + 1;
    Ok(match width {
        1 => Target::Classes(classes),
        positions => Target::Sequence { classes, positions },
    })
}

/// Checks that features which are predicted as they are lie where the loss needs them. What
/// preprocessing steps make of them isn't known.
pub(crate) fn check_own_target(spec: &JobSpec, schema: &Schema) -> Option<FieldError> {
    let own = spec.data.target.is_none() && spec.preprocess.is_empty();
    if !own || spec.train.loss != Loss::Bce {
        return None;
    }
    let chosen = |column: &&Column| {
        let names = spec.data.features.as_ref();
        names.is_none_or(|names| names.contains(&column.name))
    };
    let outside = |column: &&Column| {
        let found = column.statistics.as_ref();
        found.is_some_and(|found| found.min < 0.0 || found.max > 1.0)
    };
    let mut columns = schema.columns.iter().filter(chosen);
    columns.find(outside).map(|column| {
        let message = format!(
            "bce needs numbers of 0 to 1, and `{}` holds others: add the step `normalise` with mode = \"minmax\"",
            column.name
        );
        FieldError::new("train.loss", message)
    })
}

/// Checks the settings of a loss against what is predicted.
pub(crate) fn check_loss(loss: &Loss, target: Target) -> Option<FieldError> {
    let (
        Loss::CrossEntropy { class_weights, .. },
        Target::Classes(classes)
        | Target::Sequence { classes, .. }
        | Target::Masked { classes, .. },
    ) = (loss, target)
    else {
        return None;
    };
    let given = class_weights.len();
    (given != 0 && given != classes).then(|| {
        let message = format!("{given} given, but the target has {classes} classes");
        FieldError::new("train.loss.class_weights", message)
    })
}
