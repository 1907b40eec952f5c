//! The compile child. It expects the worst of its input: it limits itself before it reads, holds no
//! secret, and may be killed at any point.

use super::failure::Failure;
use super::frame::{self, Verdict};
use crate::config::{CompileLimits, Config};
use crate::engine::{engine_hash, probe_engine, run_engine};
use crate::plugin::Plugin;
use crate::probe::probe;
use crate::rejection::{Reason, Rejection};
use crate::sandbox::Pacing;
use crate::screen::screen;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read, Write};
use std::process::ExitCode;
use wasmtime::component::Component;

/// The whole life of a compile child: an upload on stdin, the verdict on stdout. `main` must call it
/// when the first argument is `config.compile.argument`, before it starts anything else.
#[must_use]
pub fn compile_main() -> ExitCode {
    let mut request = Vec::new();
    let reply = match std::io::stdin().lock().read_to_end(&mut request) {
        Ok(_) => answer(&request),
        Err(e) => frame::encode(&Verdict::Internal(e.to_string()), &[]),
    };
    // Nobody is left to hear of a failure here but the parent, which sees the exit code.
    match reply.map(|reply| std::io::stdout().lock().write_all(&reply)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn answer(request: &[u8]) -> Result<Vec<u8>, String> {
    let (config, module) = frame::decode::<Config>(request)?;
    let judged = limit_self(&config.compile).map_err(Failure::Internal);
    match judged.and_then(|()| judge(module, &config)) {
        Ok((accepted, code)) => frame::encode(&accepted, &code),
        Err(Failure::Rejected(rejection)) => frame::encode(&Verdict::Rejected(rejection), &[]),
        Err(Failure::Internal(why)) => frame::encode(&Verdict::Internal(why), &[]),
    }
}

fn limit_self(limits: &CompileLimits) -> Result<(), String> {
    let cpu_s = limits.cpu.as_secs().max(1);
    // Beyond the first CPU limit comes a signal that tells why; the second is for good measure.
    let caps = [
        (Resource::As, limits.memory_bytes, limits.memory_bytes),
        (Resource::Cpu, cpu_s, cpu_s + 2),
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, 16, 16),
    ];
    for (resource, current, maximum) in caps {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(resource, limit).map_err(|e| format!("can't limit {resource:?}: {e}"))?;
    }
    Ok(())
}

fn judge(module: &[u8], config: &Config) -> Result<(Verdict, Vec<u8>), Failure> {
    let screened = screen(module, config)?;
    let internal = |e: wasmtime::Error| Failure::Internal(format!("{e:#}"));
    let uncompilable = |e: wasmtime::Error| {
        Rejection::new(Reason::Compile, format!("it can't be compiled: {e:#}"))
    };
    let engine = run_engine(&config.run).map_err(internal)?;
    let code = engine
        .precompile_component(&screened.component)
        .map_err(uncompilable)?;

    let counting = probe_engine(&config.run).map_err(internal)?;
    let component = Component::new(&counting, &screened.component).map_err(uncompilable)?;
    let pacing = Pacing::Fuel(config.compile.probe_fuel);
    let plugin = Plugin::link(&component, screened.role, &config.run, pacing).map_err(|e| {
        let message = format!("its exports don't have the types of the contract: {e:#}");
        Rejection::new(Reason::Role, message)
    })?;
    let description = plugin.describe()?;
    check_length(&description, config)?;
    let probe = probe(&plugin, &description, &config.compile)?;
    let engine = engine_hash(&engine).to_hex().to_string();
    Ok((
        Verdict::Accepted {
            description,
            engine,
            probe,
        },
        code,
    ))
}

fn check_length(description: &crate::Description, config: &Config) -> Result<(), Failure> {
    let length = serde_json::to_vec(description)
        .map_err(|e| Failure::Internal(e.to_string()))?
        .len();
    let allowed = config.screen.description_bytes;
    if length as u64 <= allowed {
        return Ok(());
    }
    let message = format!("its description has {length} bytes; at most {allowed} are allowed");
    Err(Rejection::new(Reason::Limit, message).into())
}
