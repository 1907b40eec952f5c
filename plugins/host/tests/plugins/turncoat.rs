//! A plugin that passed, and misbehaves in a run.

use crate::support::{compile, hostile, key};
use std::time::Duration;
use stoker_plugins::{Batch, Config, Host, PluginErrorKind as Kind};

#[test]
fn every_misdeed_has_its_kind_and_ends_the_instance() {
    let mut config = Config::default();
    config.run.call_deadline = Duration::from_millis(100);
    config.run.memory_bytes = 16 << 20;
    config.run.output_bytes = 1 << 20;
    let host = Host::new(config.clone()).unwrap();
    let compiled = compile(&hostile("turncoat"), &config).unwrap();
    let plugin = host.load(&compiled.artifact, &key()).unwrap();
    let batch = || Batch {
        rows: 4,
        tensors: Vec::new(),
    };
    let cases = [
        (100, Kind::Deadline, "longer than the 0.1 s"),
        (101, Kind::Memory, "16777216 bytes are allowed"),
        (102, Kind::Trap, "call stack exhausted"),
        (103, Kind::Trap, "unreachable"),
        (104, Kind::Output, "broke the contract"),
        (105, Kind::Output, "more than the 1048576 bytes"),
        (107, Kind::Output, "broke the contract"),
    ];
    for (seed, kind, words) in cases {
        let mut instance = plugin.preprocess("{}").unwrap();
        instance.run(batch(), 1).unwrap();
        let told = instance.run(batch(), seed).unwrap_err();
        assert_eq!((told.kind, told.call), (kind, "run"), "seed {seed}: {told}");
        assert!(told.message.contains(words), "seed {seed}: {told}");
        let told = instance.run(batch(), 1).unwrap_err();
        assert!(
            told.message.contains("stopped by an earlier failure"),
            "seed {seed}: {told}"
        );
        assert!(instance.usage().busy < Duration::from_secs(5));
    }

    let mut instance = plugin.preprocess("{}").unwrap();
    for (seed, kind, words) in [
        (106, Kind::Output, "5 rows for 4"),
        (108, Kind::Failed, "no luck"),
    ] {
        let told = instance.run(batch(), seed).unwrap_err();
        assert!(
            told.kind == kind && told.message.contains(words),
            "seed {seed}: {told}"
        );
        instance.run(batch(), 1).unwrap();
    }
}
