//! A process that makes steps when it is told to: the engine, or a peer.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::task::Fallible;

/// Steps whose losses are compared.
const COMPARED: usize = 20;

/// The process, and what was measured of it.
pub(crate) struct Side {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    complaints: PathBuf,
    /// What it said of itself.
    pub(crate) hello: Value,
    pub(crate) losses: Vec<f64>,
    /// Seconds of each block, and CPU seconds.
    pub(crate) wall_s: Vec<f64>,
    pub(crate) cpu_s: Vec<f64>,
    /// Peak memory above what it had before the model was there.
    pub(crate) bytes: i64,
}

impl Side {
    /// Starts the process, and has it make the steps whose losses are compared. Its stderr goes to
    /// a file.
    ///
    /// # Errors
    /// With the last line of its stderr, when it ends early.
    pub(crate) fn start(mut command: Command, complaints: &Path) -> Fallible<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(complaints)?)
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let mut side = Self {
            child,
            stdin,
            answers,
            complaints: complaints.to_owned(),
            hello: Value::Null,
            losses: Vec::new(),
            wall_s: Vec::new(),
            cpu_s: Vec::new(),
            bytes: 0,
        };
        side.hello = side.answer()?;
        let answer = side.ask(&format!("losses {COMPARED}"))?;
        side.losses = serde_json::from_value(answer["losses"].clone())?;
        Ok(side)
    }

    fn answer(&mut self) -> Fallible<Value> {
        let Some(line) = self.answers.next() else {
            let text = std::fs::read_to_string(&self.complaints).unwrap_or_default();
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            return Err(last.unwrap_or("it ended early").to_owned().into());
        };
        Ok(serde_json::from_str(&line?)?)
    }

    pub(crate) fn ask(&mut self, question: &str) -> Fallible<Value> {
        // Where the process is gone the answer's error says why.
        let _ = writeln!(self.stdin, "{question}");
        self.answer()
    }

    pub(crate) fn block(&mut self, steps: usize) -> Fallible<()> {
        let answer = self.ask(&format!("block {steps}"))?;
        let seconds = |key: &str| answer[key].as_f64().ok_or("no time");
        self.wall_s.push(seconds("wall_s")?);
        self.cpu_s.push(seconds("cpu_s")?);
        Ok(())
    }

    pub(crate) fn measure_memory(&mut self) -> Fallible<()> {
        self.bytes = self.ask("memory")?["bytes"].as_i64().ok_or("no memory")?;
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
