//! One server process, its directory, and the watchdog that ends both.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::ServerError;

/// Time between looks whether a server answers.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Bytes of a server's output that an error shows.
const LOG_SHOWN: usize = 2_000;

/// Reads which process groups there are. When nobody is left to write to it (this process ended,
/// however) it ends them and removes the directory.
const WATCHDOG: &str = r#"
groups=
while read -r what group; do
  left=
  for other in $groups; do [ "$other" = "$group" ] || left="$left $other"; done
  groups=$left
  [ "$what" = began ] && groups="$groups $group"
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$1"
"#;

/// A directory with processes, all of which go when this does.
#[derive(Debug)]
pub(super) struct Den {
    path: PathBuf,
    watchdog: Child,
    pipe: Option<ChildStdin>,
}

impl Den {
    pub(super) fn new(name: &str) -> Result<Self, ServerError> {
        let failed = |error: io::Error| ServerError::system("making a server's directory", &error);
        let path = tempfile::Builder::new()
            .prefix(&format!("stoker-{name}-"))
            .tempdir()
            .map_err(failed)?
            .keep();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipe = watchdog.stdin.take();
        Ok(Self {
            path,
            watchdog,
            pipe,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn tell(&mut self, what: &str, process: &Child) -> Result<(), ServerError> {
        let failed = |error| ServerError::system("telling the watchdog", &error);
        let pipe = self.pipe.as_mut();
        pipe.map_or(Ok(()), |pipe| writeln!(pipe, "{what} {}", process.id()))
            .map_err(failed)
    }
}

impl Drop for Den {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends by itself now.
        let _ = self.watchdog.wait();
    }
}

/// A server process and its children.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    process: Option<Child>,
}

impl Server {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            process: None,
        }
    }

    /// Starts the server and waits until it answers; at most `patience`.
    pub(super) fn start(
        &mut self,
        den: &mut Den,
        command: &mut Command,
        patience: Duration,
        answers: impl Fn() -> bool,
    ) -> Result<(), ServerError> {
        self.kill(den);
        let failed = |error: io::Error| ServerError::system("starting a server", &error);
        let log_path = den.path().join(format!("{}.log", self.name));
        let log = File::create(&log_path).map_err(failed)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let told = den.tell("began", &process);
        let process = self.process.insert(process);
        told?;
        let looks = patience.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if let Some(status) = process.try_wait().map_err(failed)? {
                let why = format!("it ended with {status}");
                self.kill(den);
                return Err(self.not_ready(why, &log_path));
            }
            if answers() {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        self.kill(den);
        Err(self.not_ready(format!("it didn't answer within {patience:?}"), &log_path))
    }

    /// Ends the server as a crash would.
    pub(super) fn kill(&mut self, den: &mut Den) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        signal(&process, Signal::KILL);
        // Ours to bury: until then its id can't be given to another.
        let told = den.tell("ended", &process);
        let buried = process.wait();
        if let Err(error) = told.and(buried.map_err(|error| ServerError::system("wait", &error))) {
            tracing::warn!(%error, "a server may be left");
        }
    }

    /// Sends a signal to the server and its children.
    pub(super) fn signal(&self, what: Signal) {
        if let Some(process) = &self.process {
            signal(process, what);
        }
    }

    fn not_ready(&self, why: String, log: &Path) -> ServerError {
        let log = fs::read(log).unwrap_or_default();
        let shown = &log[log.len().saturating_sub(LOG_SHOWN)..];
        ServerError::NotReady {
            name: self.name,
            why,
            log: String::from_utf8_lossy(shown).into_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, Signal::KILL);
            // Killed: there is nothing to wait long for, and nothing to do about an error.
            let _ = process.wait();
        }
    }
}

fn signal(process: &Child, what: Signal) {
    let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // The group may have ended by itself.
        let _ = kill_process_group(group, what);
    }
}
