//! Blocks over sequences: embedding, positions, normalisation, attention, the last position.

use stoker_domain::FieldError;
use stoker_domain::spec::{Block, Cell};

use crate::geometry::Attention;
use crate::graph::{Added, Graph, Refusal, add_bias, push_linear, too_large};
use crate::limits::product;
use crate::op::{Op, ValueId};
use crate::plan::{Init, Order};
use crate::recurrent::add_recurrent;
use crate::shape::Shape;

/// The vocabulary that an embedding has: the one given, which must hold all tokens of the data, or
/// that of the data. `held` is the data's, or nothing where the input isn't of the features.
///
/// # Errors
/// At `vocabulary`, when the data's is unknown or larger; at the layer, when it doesn't take the
/// features.
pub(crate) fn vocabulary(
    given: Option<u32>,
    held: Option<Option<usize>>,
) -> Result<usize, Refusal> {
    let Some(held) = held else {
        let message = "`embedding` takes token ids: the features, or some that `select` took";
        return Err(message.to_owned().into());
    };
    let field = |message| Refusal::Field(FieldError::new("vocabulary", message));
    let Some(needed) = held else {
        let message = "the features aren't all whole numbers from 0, so they are no token ids";
        return Err(field(message.to_owned()));
    };
    match given.map(|given| given as usize) {
        Some(given) if given < needed => Err(field(format!(
            "{given} given, but the features hold token ids up to {}",
            needed - 1
        ))),
        Some(given) => Ok(given),
        None => Ok(needed),
    }
}

fn sequence(shape: Shape, block: &str) -> Result<(usize, usize), Refusal> {
    match shape {
        Shape::Sequence { length, features } => Ok((length, features)),
        _ => Err(format!("`{block}` takes [length, features]").into()),
    }
}

/// `[length]` to `[length, units]`.
pub(crate) fn add_embedding(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    [vocabulary, units]: [usize; 2],
    deviation: f32,
) -> Added {
    let Shape::Flat {
        features: length, ..
    } = shape
    else {
        return Err("`embedding` takes [length]".to_owned().into());
    };
    let weight = graph
        .parameter(
            format!("{path}.weight"),
            vec![vocabulary, units],
            Order::RowMajor,
            Init::Normal { deviation },
        )
        .ok_or_else(too_large)?;
    let out = Shape::Sequence {
        length,
        features: units,
    };
    let y = graph.value(path, out.floats().ok_or_else(too_large)?);
    let op = Op::Embedding {
        x,
        y,
        weight,
        vocabulary,
        units,
    };
    graph.push(path, op);
    Ok((y, out))
}

/// Adds a learned vector per position.
pub(crate) fn add_position(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    deviation: f32,
) -> Added {
    let (length, features) = sequence(shape, "position")?;
    let columns = product(&[length, features]).ok_or_else(too_large)?;
    let name = format!("{path}.weight");
    let y = add_bias(graph, path, name, x, columns, Init::Normal { deviation });
    let y = y.ok_or_else(too_large)?;
    if let Some(weight) = graph.parameters.last_mut() {
        weight.shape = vec![length, features];
    }
    Ok((y, shape))
}

/// Normalises over the last dimension; with a bias by mean and variance, else by mean square.
pub(crate) fn add_norm(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    epsilon: f32,
    with_bias: bool,
) -> Added {
    let (positions, columns) = match shape {
        Shape::Flat { features, .. } => (1, features),
        Shape::Sequence { length, features } => (length, features),
        Shape::Image { .. } => {
            return Err("it takes [n] or [length, n]: add a `flatten` before it"
                .to_owned()
                .into());
        }
    };
    let mut parameter = |name: &str, value: f32| {
        let name = format!("{path}.{name}");
        let init = Init::Constant { value };
        graph.parameter(name, vec![columns], shape.order(), init)
    };
    let gain = parameter("weight", 1.0).ok_or_else(too_large)?;
    let bias = match with_bias {
        true => Some(parameter("bias", 0.0).ok_or_else(too_large)?),
        false => None,
    };
    let y = graph.value(path, positions * columns);
    let statistics = graph.value(path, 2 * positions);
    let op = Op::Norm {
        x,
        y,
        gain,
        bias,
        statistics,
        columns,
        epsilon,
    };
    graph.push(path, op);
    Ok((y, shape))
}

/// Blocks in which positions see each other.
pub(crate) fn add_block(
    graph: &mut Graph,
    path: &str,
    x: (ValueId, Shape),
    block: &Block,
) -> Added {
    match *block {
        Block::Attention {
            heads,
            kv_heads,
            causal,
            bias,
            rotary,
        } => {
            let heads = [heads, kv_heads.unwrap_or(heads)].map(|n| n as usize);
            add_attention(graph, path, x, heads, [causal, bias, rotary])
        }
        Block::Lstm {
            units,
            layers,
            dropout,
        } => add_recurrent(graph, path, x, Cell::Lstm, [units, layers], dropout),
        Block::Gru {
            units,
            layers,
            dropout,
        } => add_recurrent(graph, path, x, Cell::Gru, [units, layers], dropout),
        _ => add_last(graph, path, x),
    }
}

/// Projections to queries, keys and values, attention, and the projection of its output.
fn add_attention(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    [heads, kv_heads]: [usize; 2],
    [causal, bias, rotary]: [bool; 3],
) -> Added {
    let (length, features) = sequence(shape, "attention")?;
    if !features.is_multiple_of(heads) {
        return Err(Refusal::Field(FieldError::new(
            "heads",
            format!("{heads} doesn't divide the {features} numbers of a position"),
        )));
    }
    let attention = Attention {
        length,
        heads,
        kv_heads,
        head_floats: features / heads,
        causal,
    };
    let pairs = attention.head_floats / 2;
    if rotary && !attention.head_floats.is_multiple_of(2) {
        let message = format!(
            "{features} numbers of a position in {heads} heads: {} to a head can't be turned in pairs",
            attention.head_floats
        );
        return Err(Refusal::Field(FieldError::new("heads", message)));
    }
    let rotary = rotary.then(|| angles(graph, path, length, pairs));
    let probabilities = product(&[heads, length, length]).ok_or_else(too_large)?;
    let x = add_projection(
        graph,
        (path, "in_proj_", bias),
        x,
        [length, features, attention.in_features()],
    )?;
    let y = graph.value(path, length * features);
    let probabilities = graph.value(path, probabilities);
    let op = Op::Attention {
        x,
        y,
        probabilities,
        attention,
        rotary,
        scratch: None,
    };
    graph.push(path, op);
    let sizes = [length, features, features];
    let y = add_projection(graph, (path, "out_proj.", bias), y, sizes)?;
    Ok((y, shape))
}

/// The cosines and sines of rotary positions, made once for all layers alike.
fn angles(graph: &mut Graph, path: &str, length: usize, pairs: usize) -> ValueId {
    let known = graph.forward.iter().find_map(|node| match node.op {
        Op::Angles {
            y,
            length: l,
            pairs: p,
        } if (l, p) == (length, pairs) => Some(y),
        _ => None,
    });
    known.unwrap_or_else(|| {
        let y = graph.value(path, 0);
        graph.push(path, Op::Angles { y, length, pairs });
        y
    })
}

/// The last position.
fn add_last(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape)) -> Added {
    let (positions, columns) = sequence(shape, "last_position")?;
    let y = graph.value(path, columns);
    let op = Op::Last {
        x,
        y,
        positions,
        columns,
    };
    graph.push(path, op);
    Ok((y, Shape::flat(columns)))
}

/// A linear layer of PyTorch's `MultiheadAttention`: Xavier-uniform weights (Glorot & Bengio 2010)
/// for the first one, those of a linear layer for the second, biases of zero.
fn add_projection(
    graph: &mut Graph,
    (path, prefix, bias): (&str, &str, bool),
    x: ValueId,
    sizes: [usize; 3],
) -> Result<ValueId, Refusal> {
    let [_, inputs, outputs] = sizes;
    let fans = match prefix {
        "in_proj_" => 6.0 / (inputs + outputs) as f64,
        _ => 1.0 / inputs as f64,
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let init = Init::Uniform {
        bound: fans.sqrt() as f32,
    };
    let shape = vec![outputs, inputs];
    let weight = graph
        .parameter(
            format!("{path}.{prefix}weight"),
            shape,
            Order::RowMajor,
            init,
        )
        .ok_or_else(too_large)?;
    let y = push_linear(graph, path, x, weight, sizes).ok_or_else(too_large)?;
    if !bias {
        return Ok(y);
    }
    let (name, init) = (
        format!("{path}.{prefix}bias"),
        Init::Constant { value: 0.0 },
    );
    Ok(add_bias(graph, path, name, y, outputs, init).ok_or_else(too_large)?)
}
