//! The sample `augment`: images really move, the same way for the same seed.

use crate::support::{batch, compile, load, noise, sample, tensor};
use std::sync::OnceLock;
use stoker_plugins::{
    Batch, Config, Contract, Element, Plugin, PluginErrorKind, Role, Strings, Values,
};

const CONFIG: &str = r#"{"max_shift":2,"height":6,"width":5}"#;
const ROWS: u32 = 64;

fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| load(&sample("augment")))
}

/// Images whose pixels are all different and none is 0, beside columns that are none of its business.
fn images() -> Batch {
    let pixels = (0..ROWS * 30).map(|index| (index + 1) as f32).collect();
    let mut words = Strings::default();
    (0..ROWS).for_each(|row| words.push(&format!("row {row}")).unwrap());
    batch(vec![
        tensor("id", &[ROWS], Values::Text(words)),
        tensor("features", &[ROWS, 6, 5], Values::Float32(pixels)),
        tensor(
            "labels",
            &[ROWS],
            Values::Int64((0..i64::from(ROWS)).collect()),
        ),
    ])
}

fn pixels(batch: &Batch) -> &[f32] {
    match &batch.tensor("features").unwrap().values {
        Values::Float32(values) => values,
        other => panic!("{other:?}"),
    }
}

fn shifted(image: &[f32], down: i32, right: i32) -> Vec<f32> {
    let pixel = |y: i32, x: i32| match (y - down, x - right) {
        (from_y @ 0..6, from_x @ 0..5) => image[(from_y * 5 + from_x) as usize],
        _ => 0.0,
    };
    (0..6)
        .flat_map(|y| (0..5).map(move |x| pixel(y, x)))
        .collect()
}

#[test]
fn every_image_is_shifted_within_the_limit_and_the_rest_is_untouched() {
    let before = images();
    let after = plugin()
        .preprocess(CONFIG)
        .unwrap()
        .run(before.clone(), 7)
        .unwrap();
    let mut moves = std::collections::BTreeSet::new();
    for (image, result) in pixels(&before).chunks(30).zip(pixels(&after).chunks(30)) {
        let all = (-2..=2).flat_map(|down| (-2..=2).map(move |right| (down, right)));
        let found: Vec<_> = all
            .filter(|(down, right)| shifted(image, *down, *right) == result)
            .collect();
        assert_eq!(
            found.len(),
            1,
            "the result is a shift of its image, and of one distance"
        );
        moves.insert(found[0]);
    }
    assert!(
        moves.len() > 15,
        "of 25 distances only {moves:?} occur among {ROWS} images"
    );
    assert_eq!(
        (before.tensor("id"), before.tensor("labels")),
        (after.tensor("id"), after.tensor("labels"))
    );
}

#[test]
fn the_seed_alone_decides() {
    let mut one = plugin().preprocess(CONFIG).unwrap();
    let mut two = plugin().preprocess(CONFIG).unwrap();
    let first = one.run(images(), 7).unwrap();
    let other = one.run(images(), 8).unwrap();
    assert_ne!(first, other);
    assert_eq!(
        one.run(images(), 7).unwrap(),
        first,
        "a repeated run in one instance"
    );
    assert_eq!(
        two.run(images(), 7).unwrap(),
        first,
        "a run in another instance"
    );
    assert_eq!(
        (one.usage().calls, two.usage().calls),
        (5, 3),
        "two calls make an instance"
    );
    assert!(one.usage().memory_bytes > 0);
}

#[test]
fn without_shift_nothing_changes() {
    let values: Vec<f32> = noise(16 * 64, 3).map(|bits| (bits >> 40) as f32).collect();
    let before = batch(vec![tensor("x", &[16, 64], Values::Float32(values))]);
    let config = r#"{"max_shift":0,"height":8,"width":8,"tensor":"x"}"#;
    let after = plugin()
        .preprocess(config)
        .unwrap()
        .run(before.clone(), 1)
        .unwrap();
    assert_eq!(after, before);
}

#[test]
fn mistakes_are_told_and_leave_the_instance_usable() {
    for (config, wanted) in [
        (r#"{"height":8}"#, "width"),
        (r#"{"height":8,"width":8,"max_shfit":1}"#, "max_shfit"),
        (r#"{"height":0,"width":8}"#, "at least 1"),
        (r#"{"height":8,"width":2,"max_shift":2}"#, "less than 2"),
        ("no json", "line 1"),
    ] {
        let told = plugin().preprocess(config).unwrap_err();
        assert_eq!(
            (told.kind, told.call),
            (PluginErrorKind::InvalidConfig, "create")
        );
        assert!(told.message.contains(wanted), "{config}: {told}");
    }

    let mut augment = plugin().preprocess(CONFIG).unwrap();
    let bytes = batch(vec![tensor(
        "features",
        &[2, 30],
        Values::Uint8(vec![0; 60]),
    )]);
    let small = batch(vec![tensor(
        "features",
        &[2, 29],
        Values::Float32(vec![0.0; 58]),
    )]);
    let other = batch(vec![tensor(
        "pixels",
        &[2, 30],
        Values::Float32(vec![0.0; 60]),
    )]);
    let broken = batch(vec![tensor(
        "features",
        &[2, 30],
        Values::Float32(vec![0.0; 59]),
    )]);
    for (given, wanted) in [
        (bytes, "uint8"),
        (small, "58"),
        (other, "`pixels`"),
        (broken, "59"),
    ] {
        let told = augment.run(given, 1).unwrap_err();
        assert_eq!(told.kind, PluginErrorKind::InvalidBatch);
        assert!(told.message.contains(wanted), "{told}");
    }
    augment.run(images(), 1).unwrap();
    let told = plugin().metric("{}").unwrap_err();
    assert!(
        told.message.contains("preprocess plugin, not a metric"),
        "{told}"
    );
}

#[test]
fn compilation_tells_what_the_plugin_is() {
    let compiled = compile(&sample("augment"), &Config::default()).unwrap();
    assert_eq!(compiled.role, Role::Preprocess);
    assert_eq!(compiled.engine_hash, crate::support::host().engine_hash());
    assert_eq!(compiled.description.name, "random shift");
    assert_eq!(compiled.description.example_config()["height"], 8);
    let Contract::Preprocess { inputs, outputs } = &compiled.description.contract else {
        panic!("{:?}", compiled.description);
    };
    assert_eq!(
        (inputs[0].name.as_str(), inputs[0].element),
        ("features", Element::Float32)
    );
    assert_eq!(outputs[0].example, [8, 8]);
    assert!(
        compiled.probe.fuel > 1_000 && compiled.probe.rows == 4,
        "{:?}",
        compiled.probe
    );
    assert_eq!(plugin().describe().unwrap(), compiled.description);
    let json = serde_json::to_value(&compiled.description).unwrap();
    assert_eq!(json["role"], "preprocess");
}
