//! The family `autoencoder` as layers, and the block `sample`.

use stoker_domain::FieldError;
use stoker_domain::spec::{Autoencoder, AutoencoderKind, Block};

use crate::family::Builder;
use crate::graph::{Added, Graph};
use crate::input::{InputDescription, Target};
use crate::op::{Op, ValueId};
use crate::shape::Shape;

/// Adds the layers of an autoencoder.
///
/// # Errors
/// At `family`, when the target isn't as many numbers as the features.
pub(crate) fn expand(
    builder: &mut Builder,
    spec: &Autoencoder,
    input: &InputDescription,
) -> Result<(), FieldError> {
    if input.target != Target::Values(input.width) {
        let message = "an autoencoder predicts its own features: leave data.target out, and take a loss of numbers such as \"mse\" or \"bce\"";
        return Err(FieldError::new("family", message));
    }
    let width = u32::try_from(input.width)
        .map_err(|_| FieldError::new("family", format!("{} features are too many", input.width)))?;
    let mut last = "input".to_owned();
    for (index, &units) in spec.hidden.iter().enumerate() {
        let field = format!("hidden[{index}]");
        last = layer(builder, &format!("encoder.{index}"), &last, &field, units);
        last = activate(builder, &last, spec);
    }
    let depth = spec.hidden.len();
    match spec.kind {
        AutoencoderKind::Plain => {
            let name = format!("encoder.{depth}");
            last = layer(builder, &name, &last, "latent", spec.latent);
        }
        AutoencoderKind::Vae => {
            let mean = layer(builder, "mean", &last, "latent", spec.latent);
            let spread = layer(builder, "log_variance", &last, "latent", spec.latent);
            let block = Block::Sample { beta: spec.beta };
            builder.named("sample".to_owned(), &[&mean, &spread], "beta", block);
            last = "sample".to_owned();
        }
    }
    for (index, &units) in spec.hidden.iter().rev().enumerate() {
        let field = format!("hidden[{}]", depth - 1 - index);
        last = layer(builder, &format!("decoder.{index}"), &last, &field, units);
        last = activate(builder, &last, spec);
    }
    layer(builder, &format!("decoder.{depth}"), &last, "", width);
    Ok(())
}

fn layer(builder: &mut Builder, name: &str, from: &str, field: &str, units: u32) -> String {
    let block = Block::Linear { units, bias: true };
    builder.named(name.to_owned(), &[from], field, block);
    name.to_owned()
}

fn activate(builder: &mut Builder, from: &str, spec: &Autoencoder) -> String {
    let (name, function) = (format!("{from}.activation"), spec.activation);
    builder.named(
        name.clone(),
        &[from],
        "activation",
        Block::Activation { function },
    );
    name
}

/// Means and logarithms of variances, `[n]` each, to a sample.
pub(crate) fn add_sample(
    graph: &mut Graph,
    path: &str,
    given: &[(ValueId, Shape)],
    beta: f32,
) -> Added {
    let ((mean, shape), (log_variance, other)) = (given[0], given[1]);
    if !matches!(shape, Shape::Flat { image: None, .. }) {
        return Err("`sample` takes [n]".to_owned().into());
    }
    if other != shape {
        return Err(format!("`sample` needs inputs of one shape, the other gives {other}").into());
    }
    if mean == log_variance {
        let message = "`sample` takes means and logarithms of variances, not the same twice";
        return Err(message.to_owned().into());
    }
    let columns = graph.values[mean.0].row_floats;
    let y = graph.value(path, columns);
    let spread = graph.value(path, columns);
    let divergence = graph.value(path, 1);
    let site = u16::try_from(graph.forward.len()).unwrap_or(u16::MAX);
    let op = Op::Sample {
        mean,
        log_variance,
        y,
        spread,
        divergence,
        beta,
        site,
    };
    graph.push(path, op);
    Ok((y, shape))
}
