//! The two configurations of the engine: one for runs, which stops calls by the clock, and one for
//! the probe, which stops them by counting, so that its verdict is the same on every machine.

use crate::config::RunLimits;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use wasmtime::{Config, Engine};

/// The engine that artifacts are compiled for and run on.
pub(crate) fn run_engine(limits: &RunLimits) -> wasmtime::Result<Engine> {
    let mut config = base(limits)?;
    config.epoch_interruption(true);
    Engine::new(&config)
}

/// The engine of the probe. It reserves little address space, as the compile child has little, and
/// keeps no images of memories, as the child may write no files.
pub(crate) fn probe_engine(limits: &RunLimits) -> wasmtime::Result<Engine> {
    let mut config = base(limits)?;
    config.consume_fuel(true);
    config
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(64 << 10)
        .memory_init_cow(false);
    Engine::new(&config)
}

fn base(limits: &RunLimits) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(limits.canonical_nans)
        .max_wasm_stack(usize::try_from(limits.stack_bytes)?)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8))
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false);
    // Several memories stay allowed here: the engine's own adapters between the parts of a component
    // need them. Screening refuses them in what is uploaded.
    Ok(config)
}

/// Equal hashes mean that code compiled by one engine runs on the other.
pub(crate) fn engine_hash(engine: &Engine) -> blake3::Hash {
    let mut hasher = ByteHasher(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize()
}

struct ByteHasher(blake3::Hasher);

impl Hasher for ByteHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}
