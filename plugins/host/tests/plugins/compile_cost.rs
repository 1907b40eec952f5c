//! Uploads that are cheap to send and dear to compile.

use crate::support::{compile, rejection, sample};
use std::fmt::Write;
use std::time::Duration;
use stoker_plugins::{CompileError, Compiler, Config, Reason};

/// A module of some 50 kB: loops in each other, each with a local that stays alive to the end.
fn nested_loops(depth: usize) -> Vec<u8> {
    let mut text = String::from(
        "(module (memory (export \"memory\") 1)
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 4096)
         (func (export \"stoker:plugin/preprocess@0.1.0#[static]transform.create\")
           (param i32 i32) (result i32) unreachable)
         (func (export \"stoker:plugin/preprocess@0.1.0#[method]transform.run\")
           (param i32 i32 i32 i32 i64) (result i32) unreachable)
         (func (export \"stoker:plugin/preprocess@0.1.0#describe\") (result i32) (local",
    );
    text.push_str(&" i32".repeat(depth));
    text.push_str(")\n");
    for local in 0..depth {
        writeln!(
            text,
            "loop local.get {local} i32.const 1 i32.add local.set {local}"
        )
        .unwrap();
    }
    for local in 0..depth {
        writeln!(text, "local.get {local} br_if 0 end").unwrap();
    }
    text.push_str("i32.const 0))");
    wat::parse_str(text).unwrap()
}

/// Lets such a module through to the compiler.
fn open_config() -> Config {
    let mut config = Config::default();
    config.screen.nested_locals = u64::MAX;
    config.screen.locals = u32::MAX;
    config
}

#[test]
fn screening_refuses_them() {
    let told = rejection(&nested_loops(2_000), &Config::default());
    assert_eq!(told.reason, Reason::Limit, "{told}");
    assert!(
        told.message.contains("at most 400000 are allowed"),
        "{told}"
    );
}

#[test]
fn the_child_dies_at_its_cpu_limit() {
    let mut config = open_config();
    config.compile.cpu = Duration::from_secs(1);
    let told = rejection(&nested_loops(2_000), &config);
    assert_eq!(told.reason, Reason::CompileTime, "{told}");
}

#[test]
fn the_child_dies_at_its_memory_limit() {
    let mut config = open_config();
    config.compile.memory_bytes = 200 << 20;
    let told = rejection(&nested_loops(2_000), &config);
    assert_eq!(told.reason, Reason::CompileMemory, "{told}");
}

#[test]
fn a_machine_that_is_too_slow_is_not_the_plugins_fault() {
    let mut config = open_config();
    config.compile.wall = Duration::from_millis(300);
    let told = compile(&nested_loops(2_000), &config).unwrap_err();
    assert!(
        matches!(&told, CompileError::Internal(why) if why.contains("overloaded")),
        "{told}"
    );
}

#[test]
fn a_child_that_is_no_compiler_is_the_platforms_fault() {
    let key = crate::support::key();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // The first runs this very program, whose `main` knows nothing of compiling.
    let own = Compiler::new(Config::default(), key.clone()).unwrap();
    let others = ["/bin/false", "/bin/true", "/nowhere/at/all"]
        .map(|program| Compiler::with_program(Config::default(), key.clone(), program.into()));
    for compiler in std::iter::once(own).chain(others) {
        let told = runtime
            .block_on(compiler.compile(&sample("augment")))
            .unwrap_err();
        assert!(
            matches!(told, CompileError::Internal(_)),
            "{compiler:?}: {told}"
        );
    }
}
