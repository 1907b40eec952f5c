//! Fetching what a job produced, checked against the hash that the platform committed.

use std::path::{Path, PathBuf};

use stoker_domain::JobId;
use stoker_domain::job::Artifact;
use tokio::fs::{self, File};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::send::Call;
use crate::upload::Progress;

impl Client {
    /// Writes an artifact's bytes to `writer`, as they come, and checks them.
    ///
    /// # Errors
    /// [`Error::HashMismatch`] when the bytes aren't those of the artifact: what was written must
    /// then be thrown away. `not_found` when the job has no artifact of that name.
    pub async fn get_artifact<W>(&self, id: JobId, name: &str, writer: &mut W) -> Result<Artifact>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let artifacts = self.list_artifacts(id).await?;
        let found = artifacts.into_iter().find(|artifact| artifact.name == name);
        let artifact = found.ok_or_else(|| Error::Status {
            status: 404,
            body: format!("{id} has no artifact named {name:?}"),
        })?;
        self.copy_artifact(id, &artifact, writer, &|_| {}).await?;
        Ok(artifact)
    }

    /// Writes an artifact to a file, which appears only when it is complete and checked. A broken
    /// download begins anew, as often as the retries allow.
    ///
    /// # Errors
    /// As [`Client::get_artifact`], and when the file can't be written.
    pub async fn download_artifact(
        &self,
        id: JobId,
        artifact: &Artifact,
        path: &Path,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<()> {
        let part = part_path(path);
        let mut backoff = Backoff::new(self.retries());
        loop {
            let outcome = self.download_once(id, artifact, &part, &progress).await;
            let error = match outcome {
                Ok(()) => return fs::rename(&part, path).await.map_err(unwritable(path)),
                Err(error) => error,
            };
            // Best effort: what counts is the error that made the part useless.
            let _ = fs::remove_file(&part).await;
            backoff.pause(error.into()).await?;
        }
    }

    async fn download_once(
        &self,
        id: JobId,
        artifact: &Artifact,
        part: &Path,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        let mut file = File::create(part).await.map_err(unwritable(part))?;
        self.copy_artifact(id, artifact, &mut file, progress)
            .await?;
        file.sync_all().await.map_err(unwritable(part))
    }

    async fn copy_artifact<W>(
        &self,
        id: JobId,
        artifact: &Artifact,
        writer: &mut W,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let unwritable = |source| Error::Io {
            path: artifact.name.clone(),
            source,
        };
        let url = self.job_url(id, &["artifacts", &artifact.name]);
        let call = Call::get(url).accept("*/*");
        let mut backoff = Backoff::new(self.retries());
        // Only the beginning is tried again: what was written can't be taken back.
        let mut response = loop {
            match self.open(&call).await {
                Ok(response) => break response,
                Err(failed) => backoff.pause(failed).await?,
            }
        };
        let mut hasher = blake3::Hasher::new();
        while let Some(bytes) = self.next_chunk(&mut response).await? {
            hasher.update(&bytes);
            writer.write_all(&bytes).await.map_err(unwritable)?;
            progress(Progress {
                bytes: hasher.count(),
                total_bytes: artifact.size_bytes,
            });
        }
        writer.flush().await.map_err(unwritable)?;
        let actual = hasher.finalize().to_hex().to_string();
        if actual == artifact.blake3 {
            Ok(())
        } else {
            Err(Error::HashMismatch {
                name: artifact.name.clone(),
                expected: artifact.blake3.clone(),
                actual,
            })
        }
    }
}

/// Where a file grows until it is complete: beside it, under a name of its own.
fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", IdempotencyKey::generate()));
    path.with_file_name(name)
}

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}
