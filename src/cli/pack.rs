//! A folder of pictures as one tar, the same bytes whenever the pictures are.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use stoker_sdk::Progress;
use tar::{Builder, Header};
use tempfile::NamedTempFile;

use super::exit::Failure;

/// Endings of the pictures that are packed.
const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 16;

/// A packed folder.
pub(super) struct Packed {
    /// The tar; it goes when this does.
    pub(super) file: NamedTempFile,
    /// Pictures in it.
    pub(super) pictures: usize,
    /// Files that were left out, since they are no pictures.
    pub(super) left_out: usize,
}

/// Packs the pictures below `folder`, sorted by path, without times and owners. Links to folders
/// aren't followed.
pub(super) fn pack(folder: &Path, show: impl Fn(Progress)) -> Result<Packed, Failure> {
    let mut found = Found::default();
    found.walk(folder, "", 0)?;
    found.pictures.sort();
    if found.pictures.is_empty() {
        let endings = ENDINGS.join(", ");
        return Err(Failure::input(format!(
            "{}: there are no pictures below it ({endings})",
            folder.display()
        )));
    }
    let total_bytes = found.pictures.iter().map(|picture| picture.size).sum();
    let mut progress = Progress {
        bytes: 0,
        total_bytes,
    };
    let file = NamedTempFile::new().map_err(|error| Failure::file(folder, &error))?;
    let mut archive = Builder::new(BufWriter::new(file));
    for picture in &found.pictures {
        append(&mut archive, picture).map_err(|error| Failure::file(&picture.file, &error))?;
        progress.bytes += picture.size;
        show(progress);
    }
    let finished = archive.into_inner().and_then(|mut writer| {
        writer.flush()?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    });
    Ok(Packed {
        file: finished.map_err(|error| Failure::file(folder, &error))?,
        pictures: found.pictures.len(),
        left_out: found.left_out,
    })
}

/// Sorts by its path in the tar.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Picture {
    path: String,
    file: PathBuf,
    size: u64,
}

#[derive(Default)]
struct Found {
    pictures: Vec<Picture>,
    left_out: usize,
}

impl Found {
    fn walk(&mut self, folder: &Path, inside: &str, depth: usize) -> Result<(), Failure> {
        let unreadable = |error| Failure::file(folder, &error);
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (file, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            let name = entry.file_name().into_string().map_err(|name| {
                Failure::input(format!(
                    "{}: its name isn't UTF-8",
                    Path::new(&name).display()
                ))
            })?;
            if name.starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                if depth == DEPTH_MAX {
                    let message = format!("{}: folders are too deep", file.display());
                    return Err(Failure::input(message));
                }
                self.walk(&file, &format!("{inside}{name}/"), depth + 1)?;
                continue;
            }
            let metadata = fs::metadata(&file).map_err(|error| Failure::file(&file, &error))?;
            let ending = Path::new(&name)
                .extension()
                .and_then(|ending| ending.to_str());
            let ending = ending.map(str::to_ascii_lowercase).unwrap_or_default();
            if metadata.is_file() && ENDINGS.contains(&ending.as_str()) {
                let path = format!("{inside}{name}");
                let size = metadata.len();
                self.pictures.push(Picture { path, file, size });
            } else {
                self.left_out += 1;
            }
        }
        Ok(())
    }
}

fn append(archive: &mut Builder<impl Write>, picture: &Picture) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(picture.size);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, &picture.path, File::open(&picture.file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_packed_the_same_whenever_its_pictures_are() {
        let make = |order: [&str; 3]| {
            let folder = tempfile::tempdir().unwrap();
            for path in order {
                let file = folder.path().join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, path).unwrap();
            }
            fs::write(folder.path().join("notes.txt"), "x").unwrap();
            fs::write(folder.path().join(".hidden.png"), "x").unwrap();
            let packed = pack(folder.path(), |_| {}).unwrap();
            assert_eq!((packed.pictures, packed.left_out), (3, 1));
            fs::read(packed.file.path()).unwrap()
        };
        let bytes = make(["b/2.png", "a/1.JPG", "a/b/3.jpeg"]);
        assert_eq!(bytes, make(["a/b/3.jpeg", "b/2.png", "a/1.JPG"]));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned());
        assert_eq!(
            paths.collect::<Vec<_>>(),
            ["a/1.JPG", "a/b/3.jpeg", "b/2.png"]
        );
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let failure = pack(folder.path(), |_| {}).err().unwrap();
        assert!(failure.message.contains("no pictures below it"));
    }
}
