//! A copy of a data dir while the platform goes on with it. The copy is a data dir itself:
//! `stoker up --data-dir COPY` goes on where it was made.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, ensure};
use stoker_infra::EmbeddedStore;

use crate::cli::Output;

/// Files between two words of progress.
const TELL_EVERY: u64 = 1_000;

/// Copies keys, store and objects of the data dir at `from` to `to`, which must be empty or absent.
///
/// The jobs' file comes first: all that it names was written before it, and is there to be copied.
/// Messages aren't copied, since they are never the truth.
pub(crate) fn run(from: &Path, to: &Path, output: &Output) -> anyhow::Result<()> {
    let store = from.join("stoker.db");
    let found = store.exists();
    ensure!(
        found,
        "{} isn't there: `stoker up` has a store in its data dir; with Redis, copy what Redis saves",
        store.display()
    );
    fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    let mut inside = fs::read_dir(to).with_context(|| format!("can't read {}", to.display()))?;
    ensure!(inside.next().is_none(), "{} isn't empty", to.display());
    EmbeddedStore::back_up(&store, to.join("stoker.db"))?;
    let mut copied = Copied::default();
    for name in ["keys", "objects"] {
        copied.tree(&from.join(name), &to.join(name), output)?;
    }
    let Copied { files, bytes } = copied;
    output.line(&format!(
        "copied the store and {files} files, {} MiB, to {}",
        bytes >> 20,
        to.display()
    ));
    Ok(())
}

#[derive(Default)]
struct Copied {
    files: u64,
    bytes: u64,
}

impl Copied {
    /// Copies a directory with all in it. What goes while it is copied is left out.
    fn tree(&mut self, from: &Path, to: &Path, output: &Output) -> anyhow::Result<()> {
        let told = || format!("can't copy {} to {}", from.display(), to.display());
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(told),
        };
        fs::create_dir_all(to).with_context(told)?;
        if let Ok(like) = fs::metadata(from) {
            fs::set_permissions(to, like.permissions()).with_context(told)?;
        }
        for entry in entries {
            let entry = entry.with_context(told)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type().with_context(told)?.is_dir() {
                self.tree(&from, &to, output)?;
                continue;
            }
            match fs::copy(&from, &to) {
                Ok(bytes) => self.bytes += bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(told),
            }
            self.files += 1;
            if self.files.is_multiple_of(TELL_EVERY) {
                output.note(&format!("{} files copied", self.files));
            }
        }
        Ok(())
    }
}
