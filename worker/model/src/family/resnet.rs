//! Residual networks, with torchvision's names.

use stoker_domain::spec::{Activation, Block, Family, ResidualBlock, Stem};

use super::Builder;

/// Channels that a bottleneck gives, over those of its middle.
const EXPANSION: u32 = 4;
/// Sizes of a convolution.
#[derive(Clone, Copy)]
struct Sizes {
    channels: u32,
    kernel: u32,
    stride: u32,
}

impl Builder {
    pub(super) fn resnet(&mut self, family: &Family, outputs: usize) {
        let Family::Resnet {
            depths,
            channels,
            stem,
            block,
            ..
        } = family
        else {
            return;
        };
        self.stem(*stem, channels.first().copied().unwrap_or(1));
        // The stem's channels are the first stage's, whatever the block gives.
        let mut before = channels.first().copied().unwrap_or(1);
        for (stage, (&depth, &channels)) in depths.iter().zip(channels).enumerate() {
            let field = format!("channels[{stage}]");
            for index in 0..depth {
                let path = format!("layer{}.{index}", stage + 1);
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                before = self.residual_block(*block, &path, &field, [before, channels, stride]);
            }
        }
        self.named("avgpool".to_owned(), &[], "input", Block::GlobalAvgPool {});
        let units = u32::try_from(outputs).unwrap_or(u32::MAX);
        self.named(
            "fc".to_owned(),
            &[],
            "",
            Block::Linear { units, bias: true },
        );
    }

    fn stem(&mut self, stem: Stem, channels: u32) {
        let (kernel, stride) = match stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 2),
        };
        let sizes = Sizes {
            channels,
            kernel,
            stride,
        };
        self.normed("", ["conv1", "bn1"], "stem", &[], sizes);
        self.relu("relu".to_owned());
        if stem == Stem::Large {
            let pool = Block::MaxPool2d {
                kernel: 3,
                stride: Some(2),
                padding: 1,
            };
            self.named("maxpool".to_owned(), &[], "stem", pool);
        }
    }

    /// A convolution without bias, and the normalisation of its channels.
    fn normed(
        &mut self,
        path: &str,
        [conv, norm]: [&str; 2],
        field: &str,
        from: &[&str],
        sizes: Sizes,
    ) {
        let Sizes {
            channels,
            kernel,
            stride,
        } = sizes;
        let block = Block::Conv2d {
            channels,
            kernel,
            stride,
            padding: kernel / 2,
            dilation: 1,
            groups: 1,
            bias: false,
        };
        self.named(format!("{path}{conv}"), from, field, block);
        let norm = format!("{path}{norm}");
        self.named(
            norm,
            &[],
            field,
            Block::BatchNorm {
                epsilon: 1e-5,
                momentum: 0.1,
            },
        );
    }

    fn relu(&mut self, name: String) {
        let function = Activation::Relu;
        self.named(name, &[], "", Block::Activation { function });
    }

    /// A block behind the last layer, for `[channels before, channels, stride]`. Returns the
    /// channels that it gives.
    fn residual_block(
        &mut self,
        block: ResidualBlock,
        path: &str,
        field: &str,
        [before, channels, stride]: [u32; 3],
    ) -> u32 {
        let from = self.layers.last().map(|layer| layer.name.clone());
        let from = from.unwrap_or_default();
        let sizes = |channels, kernel, stride| Sizes {
            channels,
            kernel,
            stride,
        };
        let (convs, given) = match block {
            ResidualBlock::Basic => {
                let convs = vec![sizes(channels, 3, stride), sizes(channels, 3, 1)];
                (convs, channels)
            }
            ResidualBlock::Bottleneck => {
                let given = channels.saturating_mul(EXPANSION);
                let first = sizes(channels, 1, 1);
                let convs = vec![first, sizes(channels, 3, stride), sizes(given, 1, 1)];
                (convs, given)
            }
        };
        // Before the block itself, so that the sum follows the last normalisation.
        let mut around = from.clone();
        if stride != 1 || before != given {
            let at = format!("{path}.downsample.");
            self.normed(&at, ["0", "1"], field, &[&from], sizes(given, 1, stride));
            around = format!("{path}.downsample.1");
        }
        let (at, last) = (format!("{path}."), convs.len());
        for (index, sizes) in (1..).zip(convs) {
            let names = [format!("conv{index}"), format!("bn{index}")];
            let inputs = [from.as_str()];
            let inputs = if index == 1 { &inputs[..] } else { &[] };
            self.normed(&at, [&names[0], &names[1]], field, inputs, sizes);
            if index < last {
                self.relu(format!("{path}.relu{index}"));
            }
        }
        let (norm, sum) = (format!("{path}.bn{last}"), format!("{path}.add"));
        self.named(sum, &[&around, &norm], "", Block::Add {});
        self.relu(format!("{path}.relu{last}"));
        given
    }
}
