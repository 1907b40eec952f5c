//! `stoker job download`: artifacts as checked files.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use stoker_domain::JobId;
use stoker_domain::job::Artifact;
use stoker_sdk::Error;

use super::exit::{Exit, Failure};
use super::table::{Table, size};
use super::{Session, show, transfer};

/// A file that was written.
#[derive(Debug, Serialize)]
struct Downloaded {
    #[serde(flatten)]
    artifact: Artifact,
    path: PathBuf,
}

/// Fetches the named artifacts, or all.
pub(super) async fn run(
    id: JobId,
    names: &[String],
    out: &Path,
    force: bool,
    session: &Session,
) -> Result<(), Failure> {
    let artifacts = choose(session.client.list_artifacts(id).await?, names, id)?;
    // All is checked before the first byte comes.
    let files: Vec<Downloaded> = artifacts
        .into_iter()
        .map(|artifact| place(artifact, out, force))
        .collect::<Result<_, _>>()?;
    tokio::fs::create_dir_all(out)
        .await
        .map_err(|error| Failure::file(out, &error))?;
    for file in &files {
        let bar = transfer::bar(&session.output, &file.artifact.name);
        let told = |progress| transfer::show(&bar, progress);
        let download = session
            .client
            .download_artifact(id, &file.artifact, &file.path, told);
        let outcome = download.await;
        bar.finish_and_clear();
        outcome.map_err(|error| match error {
            Error::HashMismatch { .. } => Failure::new(
                Exit::Unavailable,
                format!("what arrived is not what {id} produced: {error}"),
            ),
            error => error.into(),
        })?;
    }
    if session.output.json() {
        return session
            .output
            .document(&serde_json::json!({ "files": files }));
    }
    let mut table = Table::new(["FILE", "SIZE", "BLAKE3"]);
    for file in &files {
        let hash = show::short(&file.artifact.blake3);
        table.row([
            file.path.display().to_string(),
            size(file.artifact.size_bytes),
            hash,
        ]);
    }
    session.output.line(&table.render());
    Ok(())
}

fn choose(all: Vec<Artifact>, names: &[String], id: JobId) -> Result<Vec<Artifact>, Failure> {
    if all.is_empty() {
        let told = format!("{id} has no artifacts: it produces them when it succeeds");
        return Err(Failure::new(Exit::NotFound, told));
    }
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter()
            .find(|artifact| artifact.name == *name)
            .cloned()
            .ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|artifact| artifact.name.as_str()).collect();
                let told = format!(
                    "{id} has no artifact {name:?}; it has: {}",
                    known.join(", ")
                );
                Failure::new(Exit::NotFound, told)
            })
    };
    names.iter().map(find).collect()
}

/// Where an artifact goes. Its name came from a server: it mustn't lead out of the directory.
fn place(artifact: Artifact, out: &Path, force: bool) -> Result<Downloaded, Failure> {
    let mut components = Path::new(&artifact.name).components();
    let plain = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == artifact.name.as_str()
    );
    if !plain {
        let told = format!("the artifact's name {:?} is not a file name", artifact.name);
        return Err(Failure::new(Exit::Internal, told));
    }
    let path = out.join(&artifact.name);
    if path.exists() && !force {
        let told = format!("{} is there already; --force replaces it", path.display());
        return Err(Failure::input(told));
    }
    Ok(Downloaded { artifact, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str) -> Artifact {
        Artifact {
            name: name.to_owned(),
            size_bytes: 1,
            blake3: String::new(),
        }
    }

    #[test]
    fn a_name_never_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/passwd", "a/b", "..", ".", "", "x/"] {
            let failure = place(artifact(name), dir.path(), true).unwrap_err();
            assert!(
                failure.message.contains("not a file name"),
                "{}",
                failure.message
            );
        }
        let placed = place(artifact("weights.safetensors"), dir.path(), false).unwrap();
        assert_eq!(placed.path, dir.path().join("weights.safetensors"));
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "mine").unwrap();
        let failure = place(artifact("x"), dir.path(), false).unwrap_err();
        assert_eq!(failure.exit, Exit::Input);
        place(artifact("x"), dir.path(), true).unwrap();
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let id = JobId::generate();
        let all = vec![artifact("a"), artifact("b")];
        assert_eq!(choose(all.clone(), &[], id).unwrap(), all);
        let named = choose(all.clone(), &["b".to_owned()], id).unwrap();
        assert_eq!(named, [artifact("b")]);
        let failure = choose(all, &["c".to_owned()], id).unwrap_err();
        assert!(
            failure.message.ends_with("it has: a, b"),
            "{}",
            failure.message
        );
    }
}
