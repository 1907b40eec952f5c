//! Pictures out of JPEG and PNG.

use std::io::Cursor;

use png::{ColorType, Transformations};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::chunk::Picture;

/// Most passes over a progressive JPEG; a file can ask for many in few bytes.
const SCANS_MAX: usize = 32;

/// Width and height, without decoding; or what is wrong.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), String> {
    let found = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        number(16).zip(number(20))
    } else if bytes.starts_with(b"\xff\xd8") {
        jpeg_size(bytes)
    } else if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    } else {
        return Err("it is neither JPEG nor PNG; convert it, or leave it out".to_owned());
    };
    let found = found.ok_or_else(|| broken("it has no size"))?;
    if found.0 == 0 || found.1 == 0 {
        return Err(broken("its size is 0"));
    }
    Ok(found)
}

/// What the first frame header says (ITU T.81, B.2.2).
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        while *bytes.get(at)? != 0xff {
            at += 1;
        }
        while *bytes.get(at)? == 0xff {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        let number = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let (height, width) = (number(at + 3)?, number(at + 5)?);
                return Some((u32::from(width), u32::from(height)));
            }
            0xd9 | 0xda => return None,
            _ => at += usize::from(number(at)?),
        }
    }
}

/// Decodes a picture of a size that was found to be allowed.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.starts_with(b"\xff\xd8") {
        jpeg(bytes)
    } else {
        png(bytes)
    }
}

fn broken(why: &str) -> String {
    format!("the picture is broken: {why}; replace it, or leave it out")
}

fn jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let refused = |error: zune_jpeg::errors::DecodeErrors| broken(&format!("{error:?}"));
    let expected = size(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_max_scans(SCANS_MAX)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(refused)?;
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(refused)?;
    let (width, height) = expected;
    if pixels.len() as u64 != u64::from(width) * u64::from(height) * u64::from(channels) {
        return Err(broken("it isn't of the size that it says"));
    }
    // The decoder doesn't ask for the end; what a transfer cut off may lack only that.
    if !bytes
        .windows(2)
        .rev()
        .take(1 << 16)
        .any(|pair| pair == b"\xff\xd9")
    {
        return Err(broken("it ends too early"));
    }
    Ok(Picture {
        width,
        height,
        channels,
        pixels,
    })
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    let refused = |error: png::DecodingError| broken(&error.to_string());
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(refused)?;
    let length = reader
        .output_buffer_size()
        .ok_or_else(|| broken("it is too large"))?;
    let mut pixels = vec![0; length];
    let frame = reader.next_frame(&mut pixels).map_err(refused)?;
    pixels.truncate(frame.buffer_size());
    let (channels, pixels) = match frame.color_type {
        ColorType::Grayscale => (1, pixels),
        ColorType::Rgb => (3, pixels),
        ColorType::GrayscaleAlpha => (1, on_white::<2>(&pixels)),
        ColorType::Rgba => (3, on_white::<4>(&pixels)),
        ColorType::Indexed => return Err(broken("its palette is missing")),
    };
    Ok(Picture {
        width: frame.width,
        height: frame.height,
        channels,
        pixels,
    })
}

/// Lays pixels of `N` numbers, the last of them how opaque they are, on a white ground.
fn on_white<const N: usize>(pixels: &[u8]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<N>();
    let laid = pixels.iter().flat_map(|pixel| {
        let alpha = u32::from(pixel[N - 1]);
        pixel[..N - 1].iter().map(move |&value| {
            let value = u32::from(value) * alpha + 255 * (255 - alpha);
            ((value + 127) / 255) as u8
        })
    });
    laid.collect()
}
