//! Only what this platform compiled for this engine is loaded.

use crate::support::{compile, host, key, sample};
use std::sync::OnceLock;
use stoker_plugins::{ArtifactKey, Config, Host, LoadError};

fn artifact() -> &'static [u8] {
    static ARTIFACT: OnceLock<Vec<u8>> = OnceLock::new();
    ARTIFACT.get_or_init(|| {
        compile(&sample("augment"), &Config::default())
            .unwrap()
            .artifact
    })
}

#[test]
fn a_changed_artifact_is_refused() {
    host().load(artifact(), &key()).unwrap();
    for at in [40, 72, 73, artifact().len() / 2, artifact().len() - 1] {
        let mut changed = artifact().to_vec();
        changed[at] ^= 1;
        let told = host().load(&changed, &key()).unwrap_err();
        assert!(
            matches!(told, LoadError::Unauthenticated),
            "byte {at}: {told}"
        );
    }
    let told = host()
        .load(&artifact()[..artifact().len() - 1], &key())
        .unwrap_err();
    assert!(matches!(told, LoadError::Unauthenticated), "{told}");
    let told = host().load(&sample("augment"), &key()).unwrap_err();
    assert!(matches!(told, LoadError::Format), "{told}");
}

#[test]
fn another_key_is_refused() {
    let told = host()
        .load(artifact(), &ArtifactKey::new([43; 32]))
        .unwrap_err();
    assert!(matches!(told, LoadError::Unauthenticated), "{told}");
}

#[test]
fn an_artifact_of_another_engine_is_refused() {
    let mut config = Config::default();
    config.run.canonical_nans = false;
    let other = Host::new(config).unwrap();
    assert_ne!(other.engine_hash(), host().engine_hash());
    let told = other.load(artifact(), &key()).unwrap_err();
    assert!(matches!(told, LoadError::OtherEngine { .. }), "{told}");
}

#[test]
fn compiling_twice_gives_the_same_artifact() {
    let again = compile(&sample("augment"), &Config::default()).unwrap();
    assert!(again.artifact == artifact());
}
