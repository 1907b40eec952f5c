//! The families over sequences: transformers, recurrent and temporal convolutional networks.

use stoker_domain::FieldError;
use stoker_domain::spec::{Activation, Block, Cell, Family, ModelSpec, Positions};

use super::{Builder, Layers, row_shape};
use crate::input::{InputDescription, Target};
use crate::plan::Masking;
use crate::shape::Shape;

/// Deviation of a transformer's initial embeddings (Radford et al. 2019).
const DEVIATION: f32 = 0.02;
const LAYER_NORM: Block = Block::LayerNorm { epsilon: 1e-5 };

/// Which of the features' tokens are to be predicted, where the model does that.
pub(crate) fn masking(model: &ModelSpec, input: &InputDescription) -> Option<Masking> {
    let ModelSpec::Family(Family::Encoder {
        masked, vocabulary, ..
    }) = model
    else {
        return None;
    };
    let token = vocabulary.map(|vocabulary| vocabulary as usize);
    Some(Masking {
        share: (*masked)?,
        token: token.or(input.vocabulary)?,
    })
}

/// Expands a family to its layers.
pub(super) fn expand(family: &Family, input: &InputDescription) -> Result<Layers, FieldError> {
    let mut builder = Builder::default();
    let shape = match family {
        Family::Gpt { .. } => {
            let Target::Sequence { classes, .. } = input.target else {
                let message = "`gpt` predicts a token at each position: data.target must hold as many token ids per row as the features";
                return Err(FieldError::new("family", message));
            };
            if let Some(transformer) = Transformer::of(family) {
                builder.embed_tokens(transformer.width, transformer.vocabulary, Some(DEVIATION));
                builder.transformer(&transformer);
            }
            builder.head(classes, false)?;
            Shape::flat(input.width)
        }
        Family::Encoder { .. } => builder.encoder(family, input)?,
        Family::Lstm {
            input: shape,
            embedding,
            vocabulary,
            layers,
            units,
            cell,
            dropout,
        } => {
            let (units, layers, dropout) = (*units, *layers, *dropout);
            let shape = sequence_shape(shape.as_deref(), *embedding, input)?;
            if let Some(units) = *embedding {
                builder.embed_tokens(units, *vocabulary, None);
            }
            let (name, block) = match cell {
                Cell::Lstm => (
                    "lstm",
                    Block::Lstm {
                        units,
                        layers,
                        dropout,
                    },
                ),
                Cell::Gru => (
                    "gru",
                    Block::Gru {
                        units,
                        layers,
                        dropout,
                    },
                ),
            };
            builder.named(name.to_owned(), &[], "units", block);
            builder.last_head(input.target)?;
            shape
        }
        Family::Tcn {
            input: shape,
            embedding,
            vocabulary,
            ..
        } => {
            let shape = sequence_shape(shape.as_deref(), *embedding, input)?;
            if let Some(units) = *embedding {
                builder.embed_tokens(units, *vocabulary, None);
            }
            builder.tcn(family, shape);
            builder.last_head(input.target)?;
            shape
        }
        _ => Shape::flat(input.width),
    };
    Ok(builder.finish(shape))
}

/// What a family over token ids or numbers sees: token ids where there is an embedding, else
/// `[length, n]`, where a row without such a shape has one number per position.
fn sequence_shape(
    given: Option<&[u32]>,
    embedding: Option<u32>,
    input: &InputDescription,
) -> Result<Shape, FieldError> {
    let given = given.map(|shape| shape.iter().map(|&n| n as usize).collect::<Vec<_>>());
    match (given, embedding, input.shape.as_slice()) {
        (Some(_), Some(_), _) => {
            let message = "given, but with `embedding` the features are token ids, `[length]`";
            Err(FieldError::new("input", message))
        }
        (None, Some(_), _) => Ok(Shape::flat(input.width)),
        (Some(shape), None, _) if shape.len() == 2 => row_shape(&shape, input.width),
        (Some(shape), None, _) => {
            let message = format!("{shape:?} given, [length, n] needed");
            Err(FieldError::new("input", message))
        }
        (None, None, &[length, features]) => Ok(Shape::Sequence { length, features }),
        (None, None, _) => Ok(Shape::Sequence {
            length: input.width,
            features: 1,
        }),
    }
}

/// What the blocks of a transformer have in common.
struct Transformer {
    depth: u32,
    width: u32,
    heads: u32,
    kv_heads: Option<u32>,
    feed_forward: u32,
    vocabulary: Option<u32>,
    dropout: f32,
    positions: Positions,
    causal: bool,
}

impl Transformer {
    fn of(family: &Family) -> Option<Self> {
        let (Family::Gpt {
            depth,
            width,
            heads,
            kv_heads,
            feed_forward,
            vocabulary,
            dropout,
            positions,
        }
        | Family::Encoder {
            depth,
            width,
            heads,
            kv_heads,
            feed_forward,
            vocabulary,
            dropout,
            positions,
            ..
        }) = *family
        else {
            return None;
        };
        Some(Self {
            depth,
            width,
            heads,
            kv_heads,
            feed_forward: feed_forward.unwrap_or(width.saturating_mul(4)),
            vocabulary,
            dropout,
            positions,
            causal: matches!(family, Family::Gpt { .. }),
        })
    }
}

impl Builder {
    fn embed_tokens(&mut self, units: u32, vocabulary: Option<u32>, deviation: Option<f32>) {
        let block = Block::Embedding {
            units,
            vocabulary,
            // PyTorch's.
            deviation: deviation.unwrap_or(1.0),
        };
        self.named("embedding".to_owned(), &[], "", block);
    }

    /// A linear layer, at each position of a sequence.
    fn head(&mut self, outputs: usize, bias: bool) -> Result<(), FieldError> {
        let units = u32::try_from(outputs)
            .map_err(|_| FieldError::new("", format!("{outputs} outputs are too many")))?;
        self.named("head".to_owned(), &[], "", Block::Linear { units, bias });
        Ok(())
    }

    /// `head` at each position where the target has a class there, else after `pooled`.
    fn head_after(&mut self, pooled: (&str, Block), target: Target) -> Result<(), FieldError> {
        match target {
            Target::Sequence { classes, .. } | Target::Masked { classes, .. } => {
                self.head(classes, true)
            }
            Target::Classes(_) | Target::Values(_) | Target::Quantiles { .. } => {
                self.named(pooled.0.to_owned(), &[], "", pooled.1);
                self.head(target.outputs(), true)
            }
        }
    }

    fn last_head(&mut self, target: Target) -> Result<(), FieldError> {
        self.head_after(("last", Block::LastPosition {}), target)
    }

    /// Token ids have an embedding, the numbers of a position a linear layer. A mask is one more
    /// token.
    fn encoder(&mut self, family: &Family, input: &InputDescription) -> Result<Shape, FieldError> {
        let (
            Some(transformer),
            Family::Encoder {
                input: shape,
                masked,
                ..
            },
        ) = (Transformer::of(family), family)
        else {
            return Ok(Shape::flat(input.width));
        };
        let numbers = shape.is_some() || input.shape.len() == 2;
        let is_masked = matches!(input.target, Target::Masked { .. });
        if masked.is_some() && (numbers || !is_masked) {
            let message = "needs token ids as features, and cross_entropy as loss";
            return Err(FieldError::new("masked", message));
        }
        let (units, mut vocabulary) = (transformer.width, transformer.vocabulary);
        let shape = if numbers {
            let block = Block::Linear { units, bias: true };
            self.named("embedding".to_owned(), &[], "width", block);
            sequence_shape(shape.as_deref(), None, input)?
        } else {
            let known = input.vocabulary.and_then(|n| u32::try_from(n).ok());
            if let (Some(given), Some(known)) = (vocabulary, known)
                && given < known
            {
                let message = format!(
                    "{given} given, but the features hold token ids up to {}",
                    known - 1
                );
                return Err(FieldError::new("vocabulary", message));
            }
            if is_masked {
                vocabulary = vocabulary.or(known).map(|known| known.saturating_add(1));
            }
            self.embed_tokens(units, vocabulary, Some(DEVIATION));
            Shape::flat(input.width)
        };
        self.transformer(&transformer);
        self.head_after(("mean", Block::GlobalAvgPool {}), input.target)?;
        Ok(shape)
    }

    /// Positions, blocks and the last normalisation. Names follow PyTorch's
    /// `TransformerEncoderLayer` with `norm_first`.
    fn transformer(&mut self, of: &Transformer) {
        let mut from = "embedding".to_owned();
        if of.positions == Positions::Learned {
            from = "position".to_owned();
            let deviation = DEVIATION;
            self.named(from.clone(), &[], "", Block::Position { deviation });
        }
        let bias = true;
        for index in 0..of.depth {
            let at = |name: &str| format!("layers.{index}.{name}");
            let attention = Block::Attention {
                heads: of.heads,
                kv_heads: of.kv_heads,
                causal: of.causal,
                bias,
                rotary: of.positions == Positions::Rotary,
            };
            self.named(at("norm1"), &[], "", LAYER_NORM);
            self.named(at("self_attn"), &[], "heads", attention);
            from = self.residual(&from, at("dropout1"), at("add1"), of.dropout);
            let units = of.feed_forward;
            self.named(at("norm2"), &[], "", LAYER_NORM);
            let linear = Block::Linear { units, bias };
            self.named(at("linear1"), &[], "feed_forward", linear);
            let function = Activation::Gelu;
            self.named(at("activation"), &[], "", Block::Activation { function });
            let units = of.width;
            self.named(at("linear2"), &[], "width", Block::Linear { units, bias });
            from = self.residual(&from, at("dropout2"), at("add2"), of.dropout);
        }
        self.named("norm".to_owned(), &[], "", LAYER_NORM);
    }

    fn tcn(&mut self, family: &Family, shape: Shape) {
        let Family::Tcn {
            channels,
            kernel,
            dropout,
            embedding,
            ..
        } = family
        else {
            return;
        };
        let given = match (shape, embedding) {
            (_, Some(units)) => *units as usize,
            (Shape::Sequence { features, .. }, None) => features,
            (_, None) => 0,
        };
        let function = Activation::Relu;
        let mut width = given;
        let mut from = match embedding {
            Some(_) => "embedding".to_owned(),
            None => "input".to_owned(),
        };
        for (index, &channels) in channels.iter().enumerate() {
            let field = format!("channels[{index}]");
            let at = |name: &str| format!("layers.{index}.{name}");
            let conv = |kernel: u32, dilation: u32| Block::Conv1d {
                channels,
                kernel,
                stride: 1,
                padding: 0,
                dilation,
                groups: 1,
                causal: true,
                bias: true,
            };
            for half in 1..=2 {
                let name = at(&format!("conv{half}"));
                self.named(name, &[], &field, conv(*kernel, 1 << index));
                let name = at(&format!("activation{half}"));
                self.named(name, &[], "", Block::Activation { function });
                if *dropout > 0.0 {
                    let (name, rate) = (at(&format!("dropout{half}")), *dropout);
                    self.named(name, &[], "dropout", Block::Dropout { rate });
                }
            }
            let last = self.layers.last().map(|layer| layer.name.clone());
            let last = last.unwrap_or_default();
            if width != channels as usize {
                self.named(at("downsample"), &[&from], &field, conv(1, 1));
                from = at("downsample");
            }
            self.named(at("add"), &[&last, &from], "", Block::Add {});
            from = at("activation3");
            self.named(from.clone(), &[], "", Block::Activation { function });
            width = channels as usize;
        }
    }
}
