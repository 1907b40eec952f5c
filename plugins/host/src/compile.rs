//! From uploaded bytes to a sealed artifact, in a child process.

mod child;
mod failure;
mod frame;
mod process;

use crate::artifact::{ArtifactKey, seal};
use crate::config::Config;
use crate::description::{Description, Role};
use crate::error::CompileError;
use crate::probe::ProbeReport;
use crate::screen::check_size;
pub use child::compile_main;
pub(crate) use failure::Failure;
use frame::Verdict;
use std::path::PathBuf;
use tokio::sync::Semaphore;

/// A plugin that passed, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// What it does.
    pub role: Role,
    /// What it says about itself.
    pub description: Description,
    /// The sealed machine code, for [`Host::load`](crate::Host::load).
    pub artifact: Vec<u8>,
    /// The engine that can run it, as [`Host::engine_hash`](crate::Host::engine_hash) gives it.
    pub engine_hash: String,
    /// What the probe measured.
    pub probe: ProbeReport,
}

/// Compiles uploads, each in a child process of its own.
#[derive(Debug)]
pub struct Compiler {
    config: Config,
    key: ArtifactKey,
    program: PathBuf,
    slots: Semaphore,
}

impl Compiler {
    /// A compiler that runs this program again, with `config.compile.argument`; `main` must then
    /// call [`compile_main`] and nothing else. The key never enters the child.
    ///
    /// # Errors
    /// If this program's file can't be found.
    pub fn new(config: Config, key: ArtifactKey) -> std::io::Result<Self> {
        // This link leads to the running program even after an upgrade replaced its file.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() {
            program
        } else {
            std::env::current_exe()?
        };
        Ok(Self::with_program(config, key, program))
    }

    /// As [`Compiler::new`], with another program that calls [`compile_main`].
    #[must_use]
    pub fn with_program(config: Config, key: ArtifactKey, program: PathBuf) -> Self {
        let slots = Semaphore::new(config.compile.concurrency.max(1) as usize);
        Self {
            config,
            key,
            program,
            slots,
        }
    }

    /// Screens, compiles and probes an upload.
    ///
    /// # Errors
    /// [`CompileError::Rejected`] if the upload is at fault, whatever it did to the child;
    /// [`CompileError::Internal`] if the platform is.
    pub async fn compile(&self, module: &[u8]) -> Result<Compiled, CompileError> {
        check_size(module.len() as u64, &self.config)?;
        let internal = |why: String| CompileError::Internal(why);
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|e| internal(e.to_string()))?;
        let request = frame::encode(&self.config, module).map_err(internal)?;
        let reply = process::run_child(&self.program, &self.config.compile, request).await?;
        match frame::decode::<Verdict>(&reply).map_err(internal)? {
            (Verdict::Rejected(rejection), _) => Err(rejection.into()),
            (Verdict::Internal(why), _) => Err(internal(why)),
            (
                Verdict::Accepted {
                    description,
                    engine,
                    probe,
                },
                code,
            ) => {
                let role = description.role();
                let engine =
                    blake3::Hash::from_hex(&engine).map_err(|e| internal(e.to_string()))?;
                let artifact = seal(engine, role, code, &self.key);
                let engine_hash = engine.to_hex().to_string();
                Ok(Compiled {
                    role,
                    description,
                    artifact,
                    engine_hash,
                    probe,
                })
            }
        }
    }
}
