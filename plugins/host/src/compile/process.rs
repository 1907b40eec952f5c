//! The parent's side of the child: start, feed, read, and say what its end means.

use crate::config::CompileLimits;
use crate::error::CompileError;
use crate::rejection::{Reason, Rejection};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// What the child may say about its own death.
const STDERR_MAX_BYTES: u64 = 16 << 10;
/// The head of a reply, beside the machine code.
const REPLY_HEAD_MAX_BYTES: u64 = 8 << 20;

/// Runs one child to its end and gives its reply.
pub(super) async fn run_child(
    program: &Path,
    limits: &CompileLimits,
    request: Vec<u8>,
) -> Result<Vec<u8>, CompileError> {
    let mut command = Command::new(program);
    command
        .arg(&limits.argument)
        .env_clear()
        .current_dir("/")
        .kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| internal("can't start the child", &e))?;
    let ended = tokio::time::timeout(limits.wall, converse(&mut child, limits, request)).await;
    let Ok(ended) = ended else {
        child
            .kill()
            .await
            .map_err(|e| internal("can't stop the child", &e))?;
        let wall_s = limits.wall.as_secs_f64();
        let why = format!("no verdict within {wall_s} s; the machine is overloaded");
        return Err(CompileError::Internal(why));
    };
    let (status, reply, complaint) = ended.map_err(|e| internal("the child's pipes", &e))?;
    if reply.len() as u64 > limits.artifact_bytes.saturating_add(REPLY_HEAD_MAX_BYTES) {
        let allowed = limits.artifact_bytes;
        let message = format!("its machine code has more than the {allowed} bytes allowed");
        return Err(Rejection::new(Reason::Limit, message).into());
    }
    if status.success() {
        Ok(reply)
    } else {
        Err(judge_death(status, &complaint, limits))
    }
}

/// Feeds the request and reads all there is, both at once: neither pipe may fill up.
async fn converse(
    child: &mut Child,
    limits: &CompileLimits,
    request: Vec<u8>,
) -> std::io::Result<(ExitStatus, Vec<u8>, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that dies early stops reading; its exit status tells more than this error.
            let _ = stdin.write_all(&request).await;
        }
    };
    // One byte more than allowed tells a reply that is too long.
    let reply_max = limits
        .artifact_bytes
        .saturating_add(REPLY_HEAD_MAX_BYTES + 1);
    let reads = async {
        tokio::join!(
            read_up_to(stdout, reply_max),
            read_up_to(stderr, STDERR_MAX_BYTES)
        )
    };
    let ((), (reply, complaint)) = tokio::join!(feed, reads);
    let status = child.wait().await?;
    Ok((
        status,
        reply?,
        String::from_utf8_lossy(&complaint?).into_owned(),
    ))
}

/// Closes the pipe at the limit, which ends a child that writes on.
async fn read_up_to(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A child that dies was killed by its input, unless someone else killed it.
fn judge_death(status: ExitStatus, complaint: &str, limits: &CompileLimits) -> CompileError {
    let reject = |reason, message| CompileError::Rejected(Rejection::new(reason, message));
    let signal = status.signal();
    if complaint.contains("memory allocation of") {
        let allowed = limits.memory_bytes;
        let message = format!("compiling it takes more than the {allowed} bytes of memory allowed");
        return reject(Reason::CompileMemory, message);
    }
    match signal {
        Some(SIGXCPU) => {
            let cpu_s = limits.cpu.as_secs();
            let message = format!("compiling it takes more than the {cpu_s} s of CPU time allowed");
            reject(Reason::CompileTime, message)
        }
        Some(SIGABRT | SIGSEGV | SIGBUS | SIGILL | SIGTRAP | SIGFPE) => reject(
            Reason::Compile,
            format!("the compiler crashed on it ({status})"),
        ),
        None if status.code() == Some(PANIC_CODE) => {
            reject(Reason::Compile, "the compiler failed on it".to_owned())
        }
        _ => {
            let complaint = complaint.trim();
            CompileError::Internal(format!("the child ended with {status}: {complaint}"))
        }
    }
}

fn internal(what: &str, error: &std::io::Error) -> CompileError {
    CompileError::Internal(format!("{what}: {error}"))
}

/// What a Rust program exits with after a panic.
const PANIC_CODE: i32 = 101;
const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_death_has_a_meaning() {
        let limits = CompileLimits::default();
        let cases = [
            (SIGXCPU, "", Some(Reason::CompileTime)),
            (
                SIGABRT,
                "memory allocation of 8 bytes failed",
                Some(Reason::CompileMemory),
            ),
            (SIGABRT, "", Some(Reason::Compile)),
            (SIGSEGV, "", Some(Reason::Compile)),
            (
                PANIC_CODE << 8,
                "thread 'main' panicked",
                Some(Reason::Compile),
            ),
            (9, "", None),
            (1 << 8, "", None),
        ];
        for (raw, complaint, wanted) in cases {
            let reason = match judge_death(ExitStatus::from_raw(raw), complaint, &limits) {
                CompileError::Rejected(rejection) => Some(rejection.reason),
                CompileError::Internal(_) => None,
            };
            assert_eq!(reason, wanted, "status {raw}");
        }
    }
}
