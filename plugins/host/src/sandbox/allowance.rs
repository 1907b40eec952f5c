//! What memory and tables one instance may have.

use crate::config::RunLimits;
use wasmtime::ResourceLimiter;

/// Counts what a store has, and remembers what it was refused: a guest that gets no memory traps in
/// its own way, and the user should be told why.
#[derive(Debug)]
pub(crate) struct Allowance {
    memory_bytes: usize,
    table_elements: usize,
    instances: usize,
    tables: usize,
    memories: usize,
    used_bytes: usize,
    denied: Option<String>,
}

impl Allowance {
    pub(super) fn new(limits: &RunLimits) -> Self {
        Self {
            memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            table_elements: limits.table_elements as usize,
            instances: limits.instances as usize,
            tables: limits.tables as usize,
            memories: limits.memories as usize,
            used_bytes: 0,
            denied: None,
        }
    }

    /// Memories never shrink, so this is the most there was.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.used_bytes as u64
    }

    pub(super) fn denial(&self) -> Option<String> {
        self.denied.clone()
    }

    pub(super) fn forget_denial(&mut self) {
        self.denied = None;
    }
}

impl ResourceLimiter for Allowance {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let used_bytes = self
            .used_bytes
            .saturating_add(desired.saturating_sub(current));
        if used_bytes > self.memory_bytes {
            let allowed = self.memory_bytes;
            self.denied = Some(format!(
                "wanted {used_bytes} bytes of memory; {allowed} bytes are allowed"
            ));
            return Ok(false);
        }
        self.used_bytes = used_bytes;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            let allowed = self.table_elements;
            self.denied = Some(format!(
                "wanted a table of {desired} elements; {allowed} are allowed"
            ));
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}
