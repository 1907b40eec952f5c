//! Blocks over columns of the features, and products of pairs of vectors.

use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::autoencoder;
use crate::geometry::{Part, Span};
use crate::graph::{Added, Graph, Refusal, add_bias, too_large};
use crate::input::InputDescription;
use crate::limits::product;
use crate::op::{Op, ValueId};
use crate::plan::{Init, Plan};
use crate::shape::Shape;

impl Plan {
    /// The numbers of a row that are ids, for embeddings: no step may change them.
    #[must_use]
    pub fn ids(&self) -> Vec<Span> {
        let whole = Span {
            first: 0,
            count: self.input.width,
        };
        let selected = |id: ValueId| {
            self.forward.iter().find_map(|kernel| match &kernel.op {
                Op::Select { x, y, spans } if *y == id && *x == self.features => {
                    Some(spans.clone())
                }
                _ => None,
            })
        };
        let embeddings = self.forward.iter().filter_map(|kernel| match kernel.op {
            Op::Embedding { x, .. } => Some(x),
            _ => None,
        });
        let spans = embeddings.map(|x| selected(x).unwrap_or_else(|| vec![whole]));
        spans.flatten().collect()
    }
}

/// Adds a block over columns or pairs.
///
/// # Errors
/// When its inputs or fields don't fit.
pub(crate) fn add(
    graph: &mut Graph,
    path: &str,
    block: &Block,
    given: &[(ValueId, Shape)],
    input: &InputDescription,
) -> Added {
    match block {
        Block::Select {
            columns,
            first,
            count,
        } => {
            let range = Span {
                first: first.unwrap_or(0) as usize,
                count: count.unwrap_or(0) as usize,
            };
            let spans = spans(graph, given[0], columns, range, input)?;
            add_select(graph, path, given[0].0, spans, input)
        }
        Block::Interact {} => add_interact(graph, path, given),
        Block::Bias { value } => add_vector(graph, path, given[0], *value),
        Block::Sample { beta } => autoencoder::add_sample(graph, path, given, *beta),
        _ => add_dot(graph, path, given),
    }
}

/// The numbers that a `select` takes: those of the columns, in their order, or a range.
///
/// # Errors
/// At `columns[i]`, when there is no such column or the rows aren't what comes in; at `count`, when
/// the range ends beyond them.
fn spans(
    graph: &Graph,
    (x, shape): (ValueId, Shape),
    names: &[String],
    range: Span,
    input: &InputDescription,
) -> Result<Vec<Span>, Refusal> {
    let Shape::Flat {
        features,
        image: None,
    } = shape
    else {
        return Err("`select` takes [n]".to_owned().into());
    };
    if names.is_empty() {
        let end = range.first.saturating_add(range.count);
        if end > features {
            let message = format!("numbers up to {end} asked for, but {features} come in");
            return Err(Refusal::Field(FieldError::new("count", message)));
        }
        return Ok(vec![range]);
    }
    if x.0 != graph.features {
        let message = "`select` by name takes the features: give `first` and `count`";
        return Err(message.to_owned().into());
    }
    let mut spans: Vec<Span> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let column = input.column(name).map_err(|message| {
            Refusal::Field(FieldError::new(format!("columns[{index}]"), message))
        })?;
        match spans.last_mut() {
            Some(last) if last.first + last.count == column.first => last.count += column.width,
            _ => spans.push(Span {
                first: column.first,
                count: column.width,
            }),
        }
    }
    Ok(spans)
}

/// `[n]` to `[m]`. What is taken of the features keeps its vocabulary.
fn add_select(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    spans: Vec<Span>,
    input: &InputDescription,
) -> Added {
    let count = spans.iter().map(|span| span.count).sum();
    let y = graph.value(path, count);
    if x.0 == graph.features {
        let vocabulary = input.vocabulary_of(&spans);
        graph.selected.push((y, vocabulary));
    }
    graph.push(path, Op::Select { x, y, spans });
    Ok((y, Shape::flat(count)))
}

/// Two values of one shape to `[1]`.
fn add_dot(graph: &mut Graph, path: &str, given: &[(ValueId, Shape)]) -> Added {
    let ((a, shape), (b, other)) = (given[0], given[1]);
    if other != shape {
        return Err(format!("`dot` needs inputs of one shape, the other gives {other}").into());
    }
    let columns = graph.values[a.0].row_floats;
    let y = graph.value(path, 1);
    graph.push(path, Op::Dot { a, b, y, columns });
    Ok((y, Shape::flat(1)))
}

/// Vectors, `[n]` or `[length, n]`, to the products of their pairs.
fn add_interact(graph: &mut Graph, path: &str, given: &[(ValueId, Shape)]) -> Added {
    let vectors = |shape: Shape| match shape {
        Shape::Flat {
            features,
            image: None,
        } => Some((1, features)),
        Shape::Sequence { length, features } => Some((length, features)),
        _ => None,
    };
    let takes = || "`interact` takes [n] or [length, n]".to_owned();
    let (_, columns) = vectors(given[0].1).ok_or_else(takes)?;
    let mut count = 0;
    for &(_, shape) in given {
        let (more, width) = vectors(shape).ok_or_else(takes)?;
        if width != columns {
            let message = format!("`interact` needs vectors of one size, another gives {shape}");
            return Err(message.into());
        }
        count += more;
    }
    if count < 2 {
        return Err("`interact` needs 2 vectors or more".to_owned().into());
    }
    let pairs = product(&[count, count - 1]).ok_or_else(too_large)? / 2;
    let x = side_by_side(graph, path, given, [count, columns]).ok_or_else(too_large)?;
    let y = graph.value(path, pairs);
    let op = Op::Interact {
        x,
        y,
        count,
        columns,
        scratch: None,
    };
    graph.push(path, op);
    Ok((y, Shape::flat(pairs)))
}

/// All vectors of a row in one value, `[count, columns]`.
fn side_by_side(
    graph: &mut Graph,
    path: &str,
    given: &[(ValueId, Shape)],
    [count, columns]: [usize; 2],
) -> Option<ValueId> {
    if let [(x, _)] = given {
        return Some(*x);
    }
    let of = product(&[count, columns])?;
    let y = graph.value(path, of);
    let mut first = 0;
    for &(x, _) in given {
        let count = graph.values[x.0].row_floats;
        let part = Part { of, first, count };
        graph.push(path, Op::Join { x, y, part });
        first += count;
    }
    Some(y)
}

/// Adds a learned vector whose parameter has the layer's name.
fn add_vector(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape), value: f32) -> Added {
    let Shape::Flat {
        features,
        image: None,
    } = shape
    else {
        return Err("`bias` takes [n]".to_owned().into());
    };
    let init = Init::Constant { value };
    let y = add_bias(graph, path, path.to_owned(), x, features, init);
    Ok((y.ok_or_else(too_large)?, shape))
}
