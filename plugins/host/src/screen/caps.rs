//! Counts what makes compiling or running expensive.

use crate::config::Config;
use crate::rejection::{Reason, Rejection};
use wasmparser::{
    FuncToValidate, FuncValidatorAllocations, FunctionBody, MemoryType, ValidatorResources,
};

/// What has been counted so far, all modules of an upload together.
#[derive(Default)]
pub(super) struct Caps {
    functions: u64,
    nested: u64,
    memory_bytes: u64,
    scratch: FuncValidatorAllocations,
}

impl Caps {
    pub(super) fn count_nested(&mut self, config: &Config) -> Result<(), Rejection> {
        self.nested += 1;
        let allowed = u64::from(config.screen.nested_modules);
        within(
            self.nested,
            allowed,
            Reason::Limit,
            "modules and components inside",
        )
    }

    pub(super) fn count_memory(
        &mut self,
        memory: MemoryType,
        config: &Config,
    ) -> Result<(), Rejection> {
        let bytes = memory.initial.saturating_mul(64 << 10);
        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        let allowed = config.run.memory_bytes;
        within(
            self.memory_bytes,
            allowed,
            Reason::Memory,
            "bytes of memory from the start",
        )
    }

    /// Validates a function's body, watching how deep its blocks nest. The depth times the number of
    /// locals bounds what the compiler must track at once; 50 kB of it can cost a minute.
    pub(super) fn count_function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        config: &Config,
    ) -> Result<(), Rejection> {
        let limits = &config.screen;
        self.functions += 1;
        within(
            self.functions,
            u64::from(limits.functions),
            Reason::Limit,
            "functions",
        )?;
        let range = body.range();
        let in_function = format!("in function {}", function.index);
        let size = range.end.saturating_sub(range.start);
        let what = format!("bytes {in_function}");
        within(size, limits.function_bytes, Reason::Limit, &what)?;

        let mut validator = function.into_validator(std::mem::take(&mut self.scratch));
        let mut reader = body.get_binary_reader();
        let malformed = super::walk::malformed;
        validator.read_locals(&mut reader).map_err(malformed)?;
        let locals = u64::from(validator.len_locals());
        within(
            locals,
            u64::from(limits.locals),
            Reason::Limit,
            &format!("locals {in_function}"),
        )?;

        let mut deepest = 0;
        let mut operators = wasmparser::OperatorsReader::new(reader);
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset().map_err(malformed)?;
            validator.op(offset, &operator).map_err(malformed)?;
            deepest = deepest.max(u64::from(validator.control_stack_height()));
        }
        operators.finish().map_err(malformed)?;
        self.scratch = validator.into_allocations();
        let what = format!("locals times nested blocks {in_function}");
        within(
            deepest * locals.max(1),
            limits.nested_locals,
            Reason::Limit,
            &what,
        )
    }
}

fn within(given: u64, allowed: u64, reason: Reason, what: &str) -> Result<(), Rejection> {
    if given <= allowed {
        return Ok(());
    }
    let message = format!("it has {given} {what}; at most {allowed} are allowed");
    Err(Rejection::new(reason, message))
}
