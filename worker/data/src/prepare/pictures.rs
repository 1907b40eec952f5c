//! `resize` and `crop`: pictures as numbers of one shape.

use image::imageops::{FilterType, crop_imm, resize};
use image::{GrayImage, RgbImage};
use serde::Deserialize;
use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind};

use super::flow::Flow;
use super::step::{Described, Step, numbers};
use crate::chunk::{Picture, Values};
use crate::error::DataError;

/// Longest side.
const SIDE_MAX: u32 = 4_096;

/// Settings of `resize`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResizeSettings {
    /// Columns of pictures; all when absent.
    #[serde(default)]
    columns: Vec<String>,
    /// Height and width.
    size: [u32; 2],
    /// 1 for grey, 3 for red, green and blue.
    #[serde(default = "rgb")]
    channels: u8,
    /// What becomes of pictures of another aspect.
    #[serde(default)]
    fit: Fit,
}

const fn rgb() -> u8 {
    3
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fit {
    /// They are stretched.
    #[default]
    Stretch,
    /// What is beyond the middle is cut off.
    Cover,
}

/// The step `resize`: `[channels, height, width]`, 0 to 1, by linear interpolation that averages
/// where pictures shrink.
pub(super) struct Resize {
    settings: ResizeSettings,
    columns: Vec<String>,
}

impl Resize {
    pub(super) const fn new(settings: ResizeSettings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
        }
    }

    /// Writes one picture's numbers, channel by channel.
    fn write(&self, picture: &Picture, into: &mut Vec<f64>) -> Result<(), DataError> {
        let [height, width] = self.settings.size;
        let picture = with_channels(picture, self.settings.channels);
        let picture = match self.settings.fit {
            Fit::Stretch => picture,
            Fit::Cover => {
                let (w, h) = (u64::from(picture.width), u64::from(picture.height));
                let (wide, high) = (w * u64::from(height), h * u64::from(width));
                let w = if wide > high {
                    high / u64::from(height)
                } else {
                    w
                };
                let h = if wide > high {
                    h
                } else {
                    wide / u64::from(width)
                };
                let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
                centre(&picture, [side(h), side(w)])?
            }
        };
        let Picture {
            width: from_width,
            height: from_height,
            channels,
            pixels,
        } = picture;
        let pixels = match (from_width, from_height) {
            same if same == (width, height) => pixels,
            _ if channels == 1 => {
                let image = GrayImage::from_raw(from_width, from_height, pixels);
                let image = image.ok_or_else(not_whole)?;
                resize(&image, width, height, FilterType::Triangle).into_raw()
            }
            _ => {
                let image = RgbImage::from_raw(from_width, from_height, pixels);
                let image = image.ok_or_else(not_whole)?;
                resize(&image, width, height, FilterType::Triangle).into_raw()
            }
        };
        let channels = usize::from(self.settings.channels);
        for channel in 0..channels {
            let all = pixels.iter().skip(channel).step_by(channels);
            into.extend(all.map(|&value| f64::from(value) / 255.0));
        }
        Ok(())
    }
}

fn not_whole() -> DataError {
    DataError::Malformed("a picture isn't whole".to_owned())
}

/// The picture in grey (ITU-R BT.601), or in three channels.
fn with_channels(picture: &Picture, channels: u8) -> Picture {
    let pixels = match (picture.channels, channels) {
        (3, 1) => {
            let (all, _) = picture.pixels.as_chunks::<3>();
            let grey = |&[r, g, b]: &[u8; 3]| {
                let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
                u8::try_from((sum + 500) / 1000).unwrap_or(u8::MAX)
            };
            all.iter().map(grey).collect()
        }
        (1, 3) => picture.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        _ => picture.pixels.clone(),
    };
    Picture {
        channels,
        pixels,
        ..*picture
    }
}

/// The middle of a picture.
fn centre(picture: &Picture, [height, width]: [u32; 2]) -> Result<Picture, DataError> {
    if height > picture.height || width > picture.width {
        return Err(DataError::Malformed(format!(
            "crop: a picture of {} x {} has no middle of {height} x {width}; `resize` with `fit = \"cover\"` takes any size",
            picture.height, picture.width
        )));
    }
    let x = (picture.width - width) / 2;
    let y = (picture.height - height) / 2;
    let pixels = picture.pixels.clone();
    let (from_width, from_height) = (picture.width, picture.height);
    let pixels = if picture.channels == 1 {
        let image = GrayImage::from_raw(from_width, from_height, pixels).ok_or_else(not_whole)?;
        crop_imm(&image, x, y, width, height).to_image().into_raw()
    } else {
        let image = RgbImage::from_raw(from_width, from_height, pixels).ok_or_else(not_whole)?;
        crop_imm(&image, x, y, width, height).to_image().into_raw()
    };
    Ok(Picture {
        width,
        height,
        channels: picture.channels,
        pixels,
    })
}

fn is_pictures(column: &Column) -> Result<(), String> {
    match column.kind {
        ColumnKind::Image => Ok(()),
        _ => Err("holds no pictures".to_owned()),
    }
}

fn check_size(size: [u32; 2]) -> Result<(), FieldError> {
    if size.iter().all(|side| (1..=SIDE_MAX).contains(side)) {
        return Ok(());
    }
    let message = format!("{size:?} is not a height and a width of 1 to {SIDE_MAX}");
    Err(FieldError::new("config.size", message))
}

impl Step for Resize {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let ResizeSettings {
            columns,
            size,
            channels,
            ..
        } = &self.settings;
        check_size(*size)?;
        if ![1, 3].contains(channels) {
            let message = format!("{channels} is not 1 (grey) or 3 (red, green and blue)");
            return Err(FieldError::new("config.channels", message));
        }
        self.columns = described.choose("resize", columns, is_pictures, |_| true)?;
        let shape = [u32::from(*channels), size[0], size[1]];
        for name in &self.columns {
            described.change(name, |column| {
                *column = numbers(name, ColumnKind::Float, &shape, [0.0, 1.0]);
            });
        }
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        let [height, width] = self.settings.size;
        let shape = [u32::from(self.settings.channels), height, width];
        for name in &self.columns {
            let mut numbers = Vec::new();
            if let Values::Pictures(pictures) = &flow.column(name)?.values {
                for picture in pictures {
                    self.write(picture, &mut numbers)?;
                }
            }
            flow.replace(name, &shape, numbers)?;
        }
        Ok(flow)
    }
}

/// Settings of `crop` as a step of its own: the middle of each picture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CropSettings {
    /// Columns of pictures; all when absent.
    #[serde(default)]
    columns: Vec<String>,
    /// Height and width.
    size: [u32; 2],
}

/// The step `crop` with a size.
pub(super) struct Crop {
    settings: CropSettings,
    columns: Vec<String>,
}

impl Crop {
    pub(super) const fn new(settings: CropSettings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
        }
    }
}

impl Step for Crop {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let CropSettings { columns, size } = &self.settings;
        check_size(*size)?;
        self.columns = described.choose("crop", columns, is_pictures, |_| true)?;
        for name in &self.columns {
            described.change(name, |column| {
                if let [height, width, _] = column.shape.as_mut_slice() {
                    [*height, *width] = *size;
                }
            });
        }
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        for name in &self.columns {
            if let Values::Pictures(pictures) = flow.values_mut(name)? {
                for picture in pictures {
                    *picture = centre(picture, self.settings.size)?;
                }
            }
        }
        Ok(flow)
    }
}
