//! Archives of pictures.

use ::image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

pub(super) fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(super) fn red(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([200, 10, 30]))
}

pub(super) fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

fn zip_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    npz(files)
}

fn pictures(chunk: &Chunk) -> &[Picture] {
    match &chunk.columns[0].values {
        Values::Pictures(pictures) => pictures,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pictures_come_with_their_folders_names() {
    let files = [
        ("pets/cat/1.png", encode(red(3, 2), ImageFormat::Png)),
        ("pets/cat/.DS_Store", b"x".to_vec()),
        ("pets/dog/2.jpg", encode(red(3, 2), ImageFormat::Jpeg)),
        ("__MACOSX/pets/._1.png", b"x".to_vec()),
        ("3.JPEG", encode(red(3, 2), ImageFormat::Jpeg)),
    ];
    for archive in [tar(&files), gzip(&tar(&files)), zip_of(&files)] {
        let schema = described(&archive, DataFormat::Images).unwrap().schema;
        assert_eq!(schema.rows, 3);
        assert_eq!(schema.columns[0].kind, ColumnKind::Image);
        assert_eq!(schema.columns[0].shape, [2, 3, 3]);
        let labels = &schema.columns[1];
        assert_eq!(labels.categories.clone().unwrap(), ["cat", "dog"]);
        assert_eq!(labels.missing, 1);
        let chunk = all(&archive, DataFormat::Images, &["image", "label", "path"]);
        assert_eq!(texts(&chunk, 1), ["cat", "dog", ""]);
        assert_eq!(
            texts(&chunk, 2),
            ["pets/cat/1.png", "pets/dog/2.jpg", "3.JPEG"]
        );
        let found = pictures(&chunk);
        assert_eq!(found[0].pixels, [200, 10, 30].repeat(6));
        assert_eq!(
            (found[1].width, found[1].height, found[1].channels),
            (3, 2, 3)
        );
        assert!(found[1].pixels[0].abs_diff(200) < 8);
        let labels = all(&archive, DataFormat::Images, &["label"]);
        assert_eq!(texts(&labels, 0), ["cat", "dog", ""]);
    }
}

#[test]
fn grey_stays_grey_and_what_is_clear_becomes_white() {
    let deep = ::image::ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([0x80ff]));
    let files = [
        (
            "a.png",
            encode(GrayImage::from_pixel(2, 2, Luma([7])), ImageFormat::Png),
        ),
        (
            "b.png",
            encode(
                RgbaImage::from_pixel(1, 1, Rgba([0, 100, 255, 51])),
                ImageFormat::Png,
            ),
        ),
        ("c.png", encode(deep, ImageFormat::Png)),
        (
            "d.jpg",
            encode(GrayImage::from_pixel(2, 2, Luma([7])), ImageFormat::Jpeg),
        ),
    ];
    let archive = tar(&files);
    let schema = described(&archive, DataFormat::Images).unwrap().schema;
    assert!(schema.columns[0].shape.is_empty());
    let chunk = all(&archive, DataFormat::Images, &["image"]);
    let found = pictures(&chunk);
    assert_eq!((found[0].channels, found[0].pixels[0]), (1, 7));
    assert_eq!(found[1].pixels, [204, 224, 255]);
    assert_eq!((found[2].channels, found[2].pixels[0]), (1, 0x80));
    assert_eq!((found[3].channels, found[3].pixels.len()), (1, 4));
}

#[test]
fn many_pictures_keep_their_order_and_bound_their_chunks() {
    let files: Vec<(String, Vec<u8>)> = (0..300_u32)
        .map(|i| {
            let picture = RgbImage::from_pixel(200, 100, Rgb([i as u8, (i / 256) as u8, 0]));
            (
                format!("{}/{i}.png", i % 7),
                encode(picture, ImageFormat::Png),
            )
        })
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(p, b)| (p.as_str(), b.clone())).collect();
    let archive = tar(&files);
    let chunk = all(&archive, DataFormat::Images, &["image", "path"]);
    assert_eq!(chunk.rows, 300);
    for (index, picture) in pictures(&chunk).iter().enumerate() {
        assert_eq!(picture.pixels[..2], [index as u8, (index / 256) as u8]);
    }
    let layout = Layout {
        format: DataFormat::Images,
        header: false,
        delimiter: None,
        schema: None,
    };
    let limits = Limits::default();
    for chunk in read(boxed(&archive), &layout, &["image".to_owned()], &limits).unwrap() {
        assert!(chunk.unwrap().columns[0].values.size_bytes() <= 4 << 20);
    }
}

#[test]
fn long_names_are_read() {
    let long = format!("{}{}.png", "folder/".repeat(30), "name".repeat(40));
    let archive = tar(&[(long.as_str(), encode(red(1, 1), ImageFormat::Png))]);
    let chunk = all(&archive, DataFormat::Images, &["path", "label"]);
    assert!(texts(&chunk, 0)[0].ends_with("namename.png"));
    assert_eq!(texts(&chunk, 1), ["folder"]);
}

#[test]
fn broken_pictures_are_named() {
    let jpeg = encode(red(64, 64), ImageFormat::Jpeg);
    let png = encode(red(64, 64), ImageFormat::Png);
    let mut flipped = png.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let cases: [(Vec<u8>, &str); 7] = [
        (jpeg[..jpeg.len() / 2].to_vec(), "the picture is broken"),
        (jpeg[..20].to_vec(), "the picture is broken"),
        (jpeg[..jpeg.len() - 2].to_vec(), "the picture is broken"),
        (png[..png.len() / 2].to_vec(), "the picture is broken"),
        (flipped, "the picture is broken"),
        (b"GIF89a".to_vec(), "it is neither JPEG nor PNG; convert it"),
        (Vec::new(), "the file is empty"),
    ];
    for (bytes, message) in cases {
        let archive = tar(&[("a/good.png", png.clone()), ("a/bad.jpg", bytes.clone())]);
        let found = refusal(&archive, DataFormat::Images);
        let begin = format!("row 2, column `image`: \"a/bad.jpg\": {message}");
        assert!(found.starts_with(&begin), "{} bytes: {found}", bytes.len());
    }
}

#[test]
fn a_picture_too_large_is_refused_before_it_is_decoded() {
    // The header of a PNG of 60,000 x 60,000 pixels; 10.8 GB as colours.
    let mut png = encode(red(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let error = described(&tar(&[("big.png", png)]), DataFormat::Images).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge);
    assert!(
        error
            .to_string()
            .contains("\"big.png\" has 60000 x 60000 pixels"),
        "{error}"
    );
}

#[test]
fn paths_and_links_that_lead_elsewhere_are_refused() {
    let file = |path: &str, kind: ::tar::EntryType| {
        let png = encode(red(1, 1), ImageFormat::Png);
        let mut header = ::tar::Header::new_gnu();
        let name = path.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        if kind == ::tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        let size = if kind == ::tar::EntryType::Regular {
            png.len()
        } else {
            0
        };
        header.set_size(size as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        if size > 0 {
            bytes.extend(png);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend([0; 1024]);
        bytes
    };
    let plain = ::tar::EntryType::Regular;
    for (archive, message) in [
        (file("../evil.png", plain), "has `..` in its path"),
        (file("a/../../evil.png", plain), "has `..` in its path"),
        (file("/etc/evil.png", plain), "has an absolute path"),
        (file("C:\\evil.png", plain), "has an absolute path"),
        (file("a.png", ::tar::EntryType::Symlink), "is a link"),
        (file("a.png", ::tar::EntryType::Link), "is a link"),
        (file("a.png", ::tar::EntryType::Fifo), "is no plain file"),
        (tar(&[("notes.txt", b"x".to_vec())]), "neither JPEG nor PNG"),
        (tar(&[]), "no pictures"),
    ] {
        let found = refusal(&archive, DataFormat::Images);
        assert!(found.contains(message), "{message}: {found}");
    }
    let whole = tar(&[("a.png", encode(red(9, 9), ImageFormat::Png))]);
    assert!(refusal(&whole[..600], DataFormat::Images).contains("ends in the middle"));
    assert!(refusal(&whole[..300], DataFormat::Images).contains("isn't a tar archive"));
    assert!(refusal(&[7; 2000], DataFormat::Images).contains("isn't a tar archive"));
}
