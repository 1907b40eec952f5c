//! Moves each image of a batch by a random number of pixels, and fills the gap with zeros.

use serde::Deserialize;
use stoker_guest::{Batch, Element, Error, Preprocess, PreprocessDescription, Random, TensorSpec};

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["height", "width"],
  "properties": {
    "max_shift": { "type": "integer", "minimum": 0, "default": 1, "description": "most pixels in x and in y" },
    "height": { "type": "integer", "minimum": 1, "description": "rows of an image" },
    "width": { "type": "integer", "minimum": 1, "description": "columns of an image" },
    "tensor": { "type": "string", "default": "features", "description": "the tensor that holds the images" }
  },
  "examples": [{ "max_shift": 1, "height": 8, "width": 8, "tensor": "features" }]
}"#;

/// The configuration; see `SCHEMA`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "one")]
    max_shift: u32,
    height: u32,
    width: u32,
    #[serde(default = "features")]
    tensor: String,
}

fn one() -> u32 {
    1
}

fn features() -> String {
    "features".into()
}

/// The plugin.
pub struct Augment {
    max_shift: usize,
    height: usize,
    width: usize,
    tensor: String,
}

impl Preprocess for Augment {
    type Config = Config;

    fn describe() -> PreprocessDescription {
        let image = || TensorSpec {
            name: features(),
            element: Element::Float32,
            example: vec![8, 8],
        };
        PreprocessDescription {
            name: "random shift".into(),
            inputs: vec![image()],
            outputs: vec![image()],
            config_schema: SCHEMA.into(),
        }
    }

    fn new(config: Config) -> Result<Self, Error> {
        let Config {
            max_shift,
            height,
            width,
            tensor,
        } = config;
        if height == 0 || width == 0 {
            return Err(Error::InvalidConfig(format!(
                "`height` and `width` must be at least 1, not {height} and {width}"
            )));
        }
        if max_shift >= height.min(width) {
            return Err(Error::InvalidConfig(format!(
                "`max_shift` is {max_shift}, but images of {height} x {width} allow less than {}",
                height.min(width)
            )));
        }
        let [max_shift, height, width] = [max_shift, height, width].map(|n| n as usize);
        Ok(Self {
            max_shift,
            height,
            width,
            tensor,
        })
    }

    fn run(&self, mut batch: Batch, seed: u64) -> Result<Batch, Error> {
        let rows = batch.rows as usize;
        let tensor = batch.tensor_mut(&self.tensor)?;
        let pixels = self.height * self.width;
        let values = tensor.float32_mut()?;
        if values.len() != rows * pixels {
            return Err(Error::InvalidBatch(format!(
                "{rows} images of {} x {} have {} values, but tensor `{}` has {}",
                self.height,
                self.width,
                rows * pixels,
                self.tensor,
                values.len()
            )));
        }
        for (row, image) in values.chunks_exact_mut(pixels).enumerate() {
            let random = Random::of_row(seed, row as u64);
            let choices = 2 * self.max_shift as u64 + 1;
            let [down, right] =
                [0, 1].map(|axis| random.below(axis, choices) as isize - self.max_shift as isize);
            shift(image, self.width, down, right);
        }
        Ok(batch)
    }
}

/// Moves an image in place; both distances are less than its extents.
fn shift(image: &mut [f32], width: usize, down: isize, right: isize) {
    let lines = down.unsigned_abs() * width;
    let kept = image.len() - lines;
    if down > 0 {
        image.copy_within(..kept, lines);
        image[..lines].fill(0.0);
    } else if down < 0 {
        image.copy_within(lines.., 0);
        image[kept..].fill(0.0);
    }
    let columns = right.unsigned_abs();
    for line in image.chunks_exact_mut(width) {
        if right > 0 {
            line.copy_within(..width - columns, columns);
            line[..columns].fill(0.0);
        } else if right < 0 {
            line.copy_within(columns.., 0);
            line[width - columns..].fill(0.0);
        }
    }
}

stoker_guest::preprocess!(Augment);

#[cfg(test)]
mod tests {
    use super::shift;

    #[test]
    fn shift_moves_and_fills() {
        let cases: [(isize, isize, [f32; 6]); 5] = [
            (0, 0, [1., 2., 3., 4., 5., 6.]),
            (1, 0, [0., 0., 0., 1., 2., 3.]),
            (-1, 0, [4., 5., 6., 0., 0., 0.]),
            (0, 2, [0., 0., 1., 0., 0., 4.]),
            (1, -1, [0., 0., 0., 2., 3., 0.]),
        ];
        for (down, right, wanted) in cases {
            let mut image = [1., 2., 3., 4., 5., 6.];
            shift(&mut image, 3, down, right);
            assert_eq!(image, wanted, "down {down}, right {right}");
        }
    }
}
