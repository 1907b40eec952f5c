//! Uploads that mean harm, and the rejection that each must get.

use crate::support::{compile, hostile, noise, rejection, sample};
use stoker_plugins::{Config, Reason};

#[test]
fn every_hostile_sample_is_rejected_for_its_reason() {
    let cases = [
        (
            "imports-wasi",
            Reason::Import,
            "wasi_snapshot_preview1#fd_write",
        ),
        (
            "imports-component",
            Reason::Import,
            "stoker:plugin/types@0.1.0",
        ),
        ("no-role", Reason::Role, "`main`"),
        (
            "other-types",
            Reason::Role,
            "can't be made a preprocess component",
        ),
        ("shares-memory", Reason::Feature, "threads"),
        ("two-memories", Reason::Feature, "multiple memories"),
        ("huge-memory", Reason::Memory, "4294967296 bytes of memory"),
        ("huge-table", Reason::Probe, "a table of 10000000 elements"),
        (
            "grows-memory",
            Reason::Probe,
            "bytes of memory; 268435456 bytes are allowed",
        ),
        (
            "loops-forever",
            Reason::Probe,
            "describe: took more instructions than allowed",
        ),
        (
            "loops-at-start",
            Reason::Probe,
            "instantiate: took more instructions than allowed",
        ),
        ("recurses", Reason::Probe, "call stack exhausted"),
        ("reads-beyond", Reason::Probe, "out of bounds memory access"),
        ("points-beyond", Reason::Probe, "broke the contract"),
        ("keeps-state", Reason::NotDeterministic, "different results"),
    ];
    let mut config = Config::default();
    config.compile.probe_fuel = 50_000_000;
    for (name, reason, words) in cases {
        let told = rejection(&hostile(name), &config);
        assert!(
            told.reason == reason && told.message.contains(words),
            "{name}: {told:?}"
        );
    }
}

#[test]
fn what_is_not_webassembly_is_rejected() {
    let whole = sample("augment");
    let mut scrambled = whole.clone();
    scrambled[whole.len() / 2..].reverse();
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("text", b"print('hello')"),
        ("ELF", b"\x7fELF\x02\x01\x01\0\0\0\0\0"),
        ("the magic alone", b"\0asm"),
        ("half a module", &whole[..whole.len() / 2]),
        ("a scrambled module", &scrambled),
    ];
    for (name, bytes) in cases {
        let told = rejection(bytes, &Config::default());
        assert_eq!(told.reason, Reason::Malformed, "{name}: {told}");
    }
}

#[test]
fn caps_are_kept_and_named() {
    type Change = fn(&mut Config);
    let cases: [(Change, Reason, &str); 7] = [
        (
            |c| c.screen.module_bytes = 1_000,
            Reason::TooLarge,
            "at most 1000 are allowed",
        ),
        (
            |c| c.screen.function_bytes = 1_000,
            Reason::Limit,
            "bytes in function",
        ),
        (
            |c| c.screen.functions = 10,
            Reason::Limit,
            "11 functions; at most 10",
        ),
        (|c| c.screen.locals = 5, Reason::Limit, "locals in function"),
        (
            |c| c.screen.nested_locals = 20,
            Reason::Limit,
            "locals times nested blocks in function",
        ),
        (
            |c| c.screen.nested_modules = 1,
            Reason::Limit,
            "2 modules and components inside",
        ),
        (
            |c| c.screen.description_bytes = 50,
            Reason::Limit,
            "its description has",
        ),
    ];
    for (change, reason, words) in cases {
        let mut config = Config::default();
        change(&mut config);
        let told = rejection(&sample("augment"), &config);
        assert!(
            told.reason == reason && told.message.contains(words),
            "{words}: {told:?}"
        );
    }
}

#[test]
fn a_module_without_metadata_is_lifted() {
    let module = hostile("turncoat");
    let compiled = compile(&module, &Config::default()).unwrap();
    assert_eq!(compiled.description.name, "turncoat");
    // A component passes as it is.
    let screened = stoker_plugins::screen(&module, &Config::default()).unwrap();
    let again = stoker_plugins::screen(&screened.component, &Config::default()).unwrap();
    assert_eq!(again, screened);
}

#[test]
fn screening_survives_damaged_uploads() {
    let module = hostile("turncoat");
    let component = stoker_plugins::screen(&module, &Config::default())
        .unwrap()
        .component;
    for upload in [module, component] {
        for bits in noise(3_000, upload.len() as u64) {
            let mut damaged = upload.clone();
            let at = (bits >> 16) as usize % damaged.len();
            damaged[at] ^= (bits as u8).max(1);
            // Either verdict is right; a panic is not.
            let _ = stoker_plugins::screen(&damaged, &Config::default());
        }
    }
}
