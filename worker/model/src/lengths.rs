//! Buckets of length: the same model on shorter rows, over the parameters of the longest.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::spec::TrainSpec;

use crate::ends::mark;
use crate::family::Layers;
use crate::graph::{self, Graph};
use crate::input::{InputDescription, Target};
use crate::op::Op;
use crate::plan::{Parameter, Plan};
use crate::shape::Shape;

/// How the rows of a plan end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Padding {
    /// What fills a row after its end.
    pub value: f32,
    /// Positions of a row.
    pub positions: usize,
    /// Numbers per position.
    pub columns: usize,
}

impl Padding {
    /// That of rows which look as a model sees them.
    fn new(value: f32, rows: Shape) -> Result<Self, FieldError> {
        let (positions, columns) = match rows {
            Shape::Flat { features, .. } => (features, 1),
            Shape::Sequence { length, features } => (length, features),
            Shape::Image { .. } => {
                let message = format!("a row is {rows}: only [length] and [length, n] have an end");
                return Err(FieldError::new("data.padding", message));
            }
        };
        Ok(Self {
            value,
            positions,
            columns,
        })
    }

    /// The input, cut to so many positions.
    fn cut(self, input: &InputDescription) -> InputDescription {
        let width = self.positions * self.columns;
        let mut cut = input.clone();
        cut.width = width;
        cut.shape = match input.shape.len() {
            2 => vec![self.positions, self.columns],
            _ => vec![width],
        };
        if let Target::Sequence { positions, .. } = &mut cut.target {
            *positions = self.positions;
        }
        cut
    }

    /// The layers, on rows of so many positions.
    fn cut_layers(self, layers: &Layers) -> Layers {
        Layers {
            input: match layers.input {
                Shape::Sequence { features, .. } => Shape::Sequence {
                    length: self.positions,
                    features,
                },
                _ => Shape::flat(self.positions),
            },
            ..layers.clone()
        }
    }
}

/// Compiles `graph`, that of `layers`, for rows that end early, with a body for each of `lengths`
/// that is shorter than the data's.
///
/// # Errors
/// At `data.padding` or `data.lengths`, when rows have no end or the model can't be cut.
pub(crate) fn compile(
    layers: &Layers,
    mut graph: Graph,
    (train, input): (&TrainSpec, &InputDescription),
    (lengths, value): (&[u32], f32),
) -> Result<Plan, FieldError> {
    let padding = Padding::new(value, layers.input)?;
    let full = padding.positions;
    let per_position = matches!(input.target, Target::Sequence { .. });
    if per_position && input.target.positions() != full {
        let message = format!(
            "{} classes per row for {full} positions: with padding it needs one for each",
            input.target.positions()
        );
        return Err(FieldError::new("data.target", message));
    }
    if let Some(&last) = lengths.last().filter(|&&last| (last as usize) < full) {
        let field = format!("data.lengths[{}]", lengths.len() - 1);
        let message = format!("{last} is too short: the rows have {full} positions");
        return Err(FieldError::new(field, message));
    }
    mark(&mut graph, layers, full, per_position)?;
    let parameters = graph.parameters.clone();
    let mut plan = crate::finish(graph, train, input)?;
    plan.padding = Some(padding);
    for (index, &length) in lengths.iter().enumerate() {
        let positions = length as usize;
        if positions >= full {
            break;
        }
        let padding = Padding {
            positions,
            ..padding
        };
        let (layers, input) = (padding.cut_layers(layers), padding.cut(input));
        let refuse = |message: String| {
            let message = format!("the model can't be cut to {length} positions: {message}");
            FieldError::new(format!("data.lengths[{index}]"), message)
        };
        let mut graph = graph::build(&layers, &input)
            .map_err(|error| refuse(error.under("model").to_string()))?;
        share(&parameters, &mut graph).map_err(refuse)?;
        mark(&mut graph, &layers, positions, per_position)?;
        let mut body = crate::finish(graph, train, &input)?;
        body.padding = Some(padding);
        plan.arena_floats = plan.arena_floats.max(body.arena_floats);
        plan.shorter.push(body);
    }
    Ok(plan)
}

/// Gives the graph of shorter rows the parameters of the longest ones. Of a vector per position it
/// uses the first ones.
fn share(parameters: &[Parameter], graph: &mut Graph) -> Result<(), String> {
    let added = graph.forward.iter().filter_map(|node| match node.op {
        Op::AddBias { bias, .. } => Some(bias.0),
        _ => None,
    });
    let added: HashSet<usize> = added.collect();
    if parameters.len() != graph.parameters.len() {
        return Err("it would have other layers".to_owned());
    }
    for (index, (whole, part)) in parameters.iter().zip(&mut graph.parameters).enumerate() {
        let is_head = added.contains(&index)
            && matches!((&whole.shape[..], &part.shape[..]), ([a, n], [b, m]) if a > b && n == m);
        if part != whole && !is_head {
            return Err(format!(
                "`{}` would have the shape {:?} and not {:?}, since it mixes positions",
                whole.name, part.shape, whole.shape
            ));
        }
        *part = whole.clone();
    }
    Ok(())
}
