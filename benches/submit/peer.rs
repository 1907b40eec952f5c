//! A peer: a Python program that takes one command a line and answers with one JSON object.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longest that an answer may take; Ray starts anew for each.
const PATIENCE: Duration = Duration::from_secs(240);

pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts `benches/submit/<script>`.
    pub(crate) fn start(python: &Path, script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/submit");
        let mut child = Command::new(python)
            .arg(folder.join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let input = child.stdin.take().context("its input")?;
        let output = child.stdout.take().context("its output")?;
        Ok(Self {
            child,
            input,
            answers: BufReader::new(output).lines(),
        })
    }

    pub(crate) async fn ask(&mut self, command: &str) -> anyhow::Result<Value> {
        let asked = async {
            self.input
                .write_all(format!("{command}\n").as_bytes())
                .await?;
            self.answers.next_line().await
        };
        let line = timeout(PATIENCE, asked).await.context("no answer")??;
        Ok(serde_json::from_str(&line.context("it ended")?)?)
    }

    /// Ends it, with all that it started.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        let status = timeout(PATIENCE, child.wait()).await.context("no end")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

/// A number of an answer.
pub(crate) fn number(answer: &Value, field: &str) -> anyhow::Result<f64> {
    answer[field]
        .as_f64()
        .with_context(|| format!("no {field} in {answer}"))
}

/// Numbers of an answer.
pub(crate) fn numbers(answer: &Value, field: &str) -> anyhow::Result<Vec<f64>> {
    let list = answer[field].as_array().context("a list")?;
    list.iter()
        .map(|value| value.as_f64().context("a number"))
        .collect()
}
