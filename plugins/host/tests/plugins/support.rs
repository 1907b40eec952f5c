//! Where the samples are, and the shortest way from bytes to a plugin.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use stoker_plugins::{
    ArtifactKey, Batch, CompileError, Compiled, Compiler, Config, Host, Plugin, Rejection, Tensor,
    Values,
};

pub(crate) fn key() -> ArtifactKey {
    ArtifactKey::new([42; 32])
}

/// A sample that `plugins/build.sh` made: from $STOKER_PLUGINS_DIR, or from `plugins/` in a directory
/// above this test program, which is the target directory.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let file = format!("{name}.wasm");
    let program = std::env::current_exe().unwrap();
    let given = std::env::var_os("STOKER_PLUGINS_DIR").map(PathBuf::from);
    let above = program.ancestors().map(|dir| dir.join("plugins"));
    let found = given
        .into_iter()
        .chain(above)
        .map(|dir| dir.join(&file))
        .find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("there is no {file}; run `make plugins`"));
    std::fs::read(path).unwrap()
}

/// A plugin that means harm, from its text.
pub(crate) fn hostile(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/hostile");
    wat::parse_file(dir.join(format!("{name}.wat"))).unwrap()
}

pub(crate) fn compile(module: &[u8], config: &Config) -> Result<Compiled, CompileError> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_stoker-plugin-compile"));
    let compiler = Compiler::with_program(config.clone(), key(), program);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compiler.compile(module))
}

#[track_caller]
pub(crate) fn rejection(module: &[u8], config: &Config) -> Rejection {
    match compile(module, config) {
        Err(CompileError::Rejected(rejection)) => rejection,
        other => panic!("wanted a rejection, got {other:?}"),
    }
}

/// The host of all tests with the default limits.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(Config::default()).unwrap())
}

pub(crate) fn load(module: &[u8]) -> Plugin {
    let compiled = compile(module, &Config::default()).unwrap();
    host().load(&compiled.artifact, &key()).unwrap()
}

pub(crate) fn tensor(name: &str, shape: &[u32], values: Values) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values,
    }
}

pub(crate) fn batch(tensors: Vec<Tensor>) -> Batch {
    Batch {
        rows: tensors[0].shape[0],
        tensors,
    }
}

/// Numbers without a pattern, the same on every run.
pub(crate) fn noise(count: usize, salt: u64) -> impl Iterator<Item = u64> {
    (0..count as u64).map(move |index| {
        let bytes = blake3::hash(&[salt.to_le_bytes(), index.to_le_bytes()].concat());
        u64::from_le_bytes(bytes.as_bytes()[..8].try_into().unwrap())
    })
}
