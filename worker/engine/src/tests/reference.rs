//! Forward passes in double precision, written after PyTorch's definitions and images
//! (`[channels, height, width]`), with no regard to speed.

use std::cell::Cell;
use std::collections::HashMap;

use stoker_domain::spec::{Activation, Block, LayerSpec, ModelSpec};
use stoker_model::{Op, Plan, Span, Target};

use super::{autoencoder, columns, images, losses, norms, pictures, recurrent, sequence};
use crate::TargetRows;
use crate::cpu::lanes;
use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};

/// A model of `layers = […]`.
pub(super) struct Reference<'a> {
    pub(super) plan: &'a Plan,
    pub(super) layers: Vec<LayerSpec>,
    pub(super) shape: Vec<usize>,
    /// What the rows' samples diverge by, weighted: a part of the loss.
    divergence: Cell<f64>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(plan: &'a Plan, model: &str) -> Self {
        let ModelSpec::Layers { input, layers } = serde_json::from_str(model).unwrap() else {
            panic!("the reference takes layers")
        };
        let shape = input.unwrap_or_else(|| vec![plan.input.width as u32]);
        Self {
            plan,
            layers,
            shape: shape.into_iter().map(|n| n as usize).collect(),
            divergence: Cell::new(0.0),
        }
    }

    /// Parameters in PyTorch's form, from the plan's layout.
    pub(super) fn parameters(&self, stored: &[f32]) -> Vec<Vec<f64>> {
        let one = |p: &stoker_model::Parameter| {
            let number = |index| f64::from(stored[p.offset + p.order.stored_index(index)]);
            (0..p.floats).map(number).collect()
        };
        self.plan.parameters.iter().map(one).collect()
    }

    /// The sum of the losses of all rows.
    pub(super) fn loss(
        &self,
        parameters: &[Vec<f64>],
        features: &[f32],
        targets: TargetRows<'_>,
        step: u64,
    ) -> f64 {
        let moments = self.moments(parameters, features, step);
        self.divergence.set(0.0);
        let rows = features.chunks_exact(self.plan.input.width);
        let losses = rows.enumerate().map(|(row, x)| {
            let x = x.iter().map(|&x| f64::from(x)).collect();
            let given = self.outputs(parameters, x, row as u32, step, &moments);
            self.row_loss(&self.in_order(given), targets, row)
        });
        losses.sum::<f64>() + self.divergence.get()
    }

    /// Mean and variance of each channel, over all rows and positions, that each batch
    /// normalisation sees; one after the other, since they depend on those before them.
    pub(super) fn moments(
        &self,
        parameters: &[Vec<f64>],
        features: &[f32],
        step: u64,
    ) -> Vec<norms::Moments> {
        let norms = (self.layers.iter()).filter(|l| matches!(l.block, Block::BatchNorm { .. }));
        let mut moments = Vec::new();
        for _ in norms {
            let rows = features.chunks_exact(self.plan.input.width).enumerate();
            let seen = rows.map(|(row, x)| {
                let x = x.iter().map(|&x| f64::from(x)).collect();
                self.outputs(parameters, x, row as u32, step, &moments)
            });
            let seen: Vec<_> = seen.collect();
            moments.push(norms::moments(&seen));
        }
        moments
    }

    /// The scores of all rows in evaluation, without dropout.
    pub(super) fn by_running(&self, parameters: &[Vec<f64>], features: &[f32]) -> Vec<f64> {
        let names = self.plan.parameters.iter().zip(parameters);
        let of = |end: &'static str| names.clone().filter(move |(p, _)| p.name.ends_with(end));
        let pairs = of("running_mean").zip(of("running_var"));
        let moments: Vec<_> = pairs
            .map(|((_, mean), (_, variance))| norms::Moments::new(mean, variance))
            .collect();
        let rows = features.chunks_exact(self.plan.input.width);
        let scores = rows.flat_map(|x| {
            let x = x.iter().map(|&x| f64::from(x)).collect();
            self.in_order(self.outputs(parameters, x, 0, 0, &moments))
        });
        scores.collect()
    }

    /// An image of scores by positions, where the target holds a class at each; else as it is.
    fn in_order(&self, (x, shape): (Vec<f64>, Vec<usize>)) -> Vec<f64> {
        match (self.plan.input.target, &*shape) {
            (Target::Sequence { .. }, [_, height, width]) => images::transpose(&x, height * width),
            _ => x,
        }
    }

    /// What the model gives for a row, with its shape: up to the first batch normalisation that
    /// there are no `moments` for.
    #[expect(clippy::too_many_lines, reason = "a definition per block")]
    fn outputs(
        &self,
        parameters: &[Vec<f64>],
        x: Vec<f64>,
        row: u32,
        step: u64,
        moments: &[norms::Moments],
    ) -> (Vec<f64>, Vec<usize>) {
        let mut moments = moments.iter();
        let mut parameters = parameters.iter();
        let mut next = || parameters.next().unwrap().as_slice();
        let mut sites = self
            .plan
            .forward
            .iter()
            .filter_map(|kernel| match kernel.op {
                Op::Dropout { site, .. } => Some(site),
                _ => None,
            });
        let mut selected = (self.plan.forward.iter()).filter_map(|kernel| match &kernel.op {
            Op::Select { spans, .. } => Some(spans),
            _ => None,
        });
        let mut samples = (self.plan.forward.iter()).filter_map(|kernel| match kernel.op {
            Op::Sample { site, .. } => Some(site),
            _ => None,
        });
        let (mut x, mut shape) = (x, self.shape.clone());
        let mut named = HashMap::from([("input".to_owned(), (x.clone(), shape.clone()))]);
        for layer in &self.layers {
            let inputs = layer.inputs.iter().flatten();
            let inputs: Vec<_> = inputs.map(|name| named[name].clone()).collect();
            if let Some(first) = inputs.first() {
                (x, shape) = first.clone();
            }
            match layer.block {
                Block::Linear { units, bias } => {
                    let weight = next();
                    let bias = bias.then(&mut next);
                    let inputs = *shape.last().unwrap();
                    let each = x.chunks_exact(inputs);
                    x = each
                        .flat_map(|x| linear(x, weight, bias, units as usize))
                        .collect();
                    *shape.last_mut().unwrap() = units as usize;
                }
                Block::Embedding { units, .. } => {
                    x = sequence::embedding(&x, next(), units as usize);
                    shape.push(units as usize);
                }
                Block::Select { .. } => {
                    let spans = selected.next().unwrap();
                    let number = |span: &Span| x[span.first..][..span.count].to_vec();
                    x = spans.iter().flat_map(number).collect();
                    shape = vec![x.len()];
                }
                Block::Dot {} => {
                    let products = x.iter().zip(&inputs[1].0).map(|(a, b)| a * b);
                    (x, shape) = (vec![products.sum()], vec![1]);
                }
                Block::Interact {} => {
                    let given = match inputs.is_empty() {
                        true => vec![(x, shape.clone())],
                        false => inputs,
                    };
                    (x, shape) = columns::interact(&given, *shape.last().unwrap());
                }
                Block::Bias { .. } => x.iter_mut().zip(next()).for_each(|(x, b)| *x += b),
                Block::Sample { beta } => {
                    let more = f64::from(beta) * autoencoder::divergence(&x, &inputs[1].0);
                    self.divergence.set(self.divergence.get() + more);
                    let site = samples.next().unwrap();
                    let seed = self.plan.train.seed;
                    let stream = Stream::new(seed, Purpose::Sample, site, step);
                    x = autoencoder::sample(&x, &inputs[1].0, stream, row);
                }
                Block::Position { .. } => {
                    x.iter_mut()
                        .zip(next())
                        .for_each(|(x, weight)| *x += weight);
                }
                Block::LayerNorm { epsilon } => {
                    let (gain, bias) = (next(), next());
                    sequence::norm(&mut x, gain, Some(bias), f64::from(epsilon));
                }
                Block::RmsNorm { epsilon } => {
                    sequence::norm(&mut x, next(), None, f64::from(epsilon));
                }
                Block::BatchNorm { epsilon, .. } => {
                    let (gain, bias, _, _) = (next(), next(), next(), next());
                    let Some(moments) = moments.next() else {
                        return (x, shape);
                    };
                    norms::batch_norm(&mut x, &shape, moments, gain, bias, f64::from(epsilon));
                }
                Block::GroupNorm { groups, epsilon } => {
                    let (gain, bias) = (next(), next());
                    let groups = groups as usize;
                    norms::group_norm(&mut x, &shape, groups, gain, bias, f64::from(epsilon));
                }
                Block::Attention {
                    heads,
                    kv_heads,
                    causal,
                    bias,
                    rotary,
                } => {
                    let heads = [heads, kv_heads.unwrap_or(heads)].map(|n| n as usize);
                    let projections = [(); 2].map(|()| (next(), bias.then(&mut next)));
                    let features = shape[1];
                    let kind = [causal, rotary];
                    x = sequence::attention(&x, features, heads, kind, projections, linear);
                }
                Block::Lstm {
                    units,
                    layers,
                    dropout,
                }
                | Block::Gru {
                    units,
                    layers,
                    dropout,
                } => {
                    let kind = layer.block.type_name();
                    for layer in 0..layers {
                        if layer > 0 && dropout > 0.0 {
                            self.drop(&mut x, dropout, sites.next().unwrap(), row, step);
                        }
                        let gates = [(); 4].map(|()| next());
                        let units = units as usize;
                        x = match kind {
                            "lstm" => recurrent::lstm(&x, gates, units),
                            _ => recurrent::gru(&x, gates, units),
                        };
                    }
                    shape[1] = units as usize;
                }
                Block::LastPosition {} => {
                    x = x.split_off(x.len() - shape[1]);
                    shape.remove(0);
                }
                Block::Add {} => {
                    for (other, _) in &inputs[1..] {
                        x.iter_mut().zip(other).for_each(|(x, other)| *x += other);
                    }
                }
                Block::Conv1d { bias, .. } | Block::Conv2d { bias, .. } => {
                    let weight = next();
                    let bias = bias.then(&mut next);
                    (x, shape) = images::conv(&x, &shape, weight, bias, &layer.block);
                }
                Block::Concat {} => (x, shape) = pictures::concat(&inputs),
                Block::ConvTranspose1d { bias, .. } | Block::ConvTranspose2d { bias, .. } => {
                    let weight = next();
                    let bias = bias.then(&mut next);
                    (x, shape) = pictures::conv_transpose(&x, &shape, weight, bias, &layer.block);
                }
                Block::Upsample { factor, mode } => {
                    (x, shape) = pictures::upsample(&x, &shape, factor as usize, mode);
                }
                Block::GlobalMaxPool {} => (x, shape) = pictures::maximum(&x, &shape),
                Block::MaxPool1d {
                    kernel,
                    stride,
                    padding,
                }
                | Block::AvgPool1d {
                    kernel,
                    stride,
                    padding,
                }
                | Block::MaxPool2d {
                    kernel,
                    stride,
                    padding,
                }
                | Block::AvgPool2d {
                    kernel,
                    stride,
                    padding,
                } => {
                    let sizes = [kernel, stride.unwrap_or(kernel), padding].map(|n| n as usize);
                    let mean = matches!(
                        layer.block,
                        Block::AvgPool1d { .. } | Block::AvgPool2d { .. }
                    );
                    (x, shape) = images::pool(&x, &shape, sizes, mean);
                }
                Block::GlobalAvgPool {} => (x, shape) = images::mean(&x, &shape),
                Block::Flatten {} => shape = vec![x.len()],
                Block::Activation { function } => {
                    x.iter_mut().for_each(|x| *x = activation(*x, function));
                }
                Block::Dropout { rate } => {
                    self.drop(&mut x, rate, sites.next().unwrap(), row, step);
                }
            }
            if let Some(name) = &layer.name {
                named.insert(name.clone(), (x.clone(), shape.clone()));
            }
        }
        (x, shape)
    }

    fn drop(&self, x: &mut [f64], rate: f32, site: u16, row: u32, step: u64) {
        let masks = Stream::new(self.plan.train.seed, Purpose::Dropout, site, step);
        let (ones, mut mask) = (vec![1.0; x.len()], vec![0.0; x.len()]);
        lanes::dropout(Level::Scalar, &mut mask, &ones, masks, row, rate);
        x.iter_mut()
            .zip(mask)
            .for_each(|(x, mask)| *x *= f64::from(mask));
    }

    /// The losses of a row's predictions, summed.
    fn row_loss(&self, scores: &[f64], targets: TargetRows<'_>, row: usize) -> f64 {
        let positions = self.plan.input.target.positions();
        losses::of_row(&self.plan.train.loss, scores, positions, targets, row)
    }
}

pub(super) fn linear(x: &[f64], weight: &[f64], bias: Option<&[f64]>, units: usize) -> Vec<f64> {
    let unit = |unit: usize| {
        let row = &weight[unit * x.len()..][..x.len()];
        let product: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
        product + bias.map_or(0.0, |bias| bias[unit])
    };
    (0..units).map(unit).collect()
}

fn activation(x: f64, function: Activation) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match function {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::Silu => x * sigmoid,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid,
    }
}

/// The error function by its series, which is fast enough and exact for the small numbers here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    2.0 / std::f64::consts::PI.sqrt() * sum
}
