//! From a table as people have it to a model that is used: text and gaps in, predictions out, and
//! the same again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod harness;

use std::process::{Command, Output};

use harness::Bench;
use serde_json::{Map, Value, json};
use stoker::launch::Role;
use stoker_domain::job::FailureKind;
use stoker_domain::model::{Output as Predicted, Prediction};
use stoker_domain::{ErrorCode, JobId, JobState};
use stoker_sdk::{Header, IdempotencyKey, NewDataset, Upload, dataset::DataFormat};

const SPEC: &str = r#"
name = "flats"
[data]
dataset = "flats@1"
target = "kind"
split = { test = 0.25, stratify = true }
[[preprocess]]
builtin = "impute"
config = { with = "median", indicator = true }
[[preprocess]]
builtin = "one_hot"
[[preprocess]]
builtin = "normalise"
[model]
family = "mlp"
hidden = [16]
[train]
epochs = 30
batch_size = 8
loss = "cross_entropy"
optimizer = { name = "adamw", learning_rate = 1e-2 }
[[metrics]]
builtin = "accuracy"
"#;

/// Large flats in the north are `let`, the others are `sold`; some sizes are unknown.
fn flats() -> String {
    let rows = (0..160).map(|row| {
        let size = 20 + (row * 37) % 120;
        let north = row % 3 == 0;
        let kind = if size > 70 && north { "let" } else { "sold" };
        let size = match row % 16 {
            7 => String::new(),
            _ => size.to_string(),
        };
        let region = if north { "north" } else { "south" };
        format!("{size};{region};{kind}\n")
    });
    format!("size;region;kind\n{}", rows.collect::<String>())
}

fn row(size: Value, region: &str) -> Map<String, Value> {
    let row = json!({"size": size, "region": region});
    row.as_object().unwrap().clone()
}

fn stoker(bench: &Bench, arguments: &[&str]) -> Output {
    Command::new(harness::program())
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", bench.data_dir())
        .env("STOKER_DATA_DIR", bench.data_dir())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_becomes_a_model_that_is_used_and_replayed() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let new = NewDataset {
        name: "flats".to_owned(),
        format: DataFormat::Csv,
        header: Header::Auto,
    };
    let upload = Upload::from_bytes(flats().into_bytes());
    let dataset = client.create_dataset(&new, &upload).await.unwrap();
    let size = dataset.schema.column("size").unwrap();
    assert_eq!((dataset.delimiter, size.missing), (Some(';'), 10));
    // A gap is refused by name until a step fills it in.
    let gap = SPEC.replacen(
        "[[preprocess]]\nbuiltin = \"impute\"\nconfig = { with = \"median\", indicator = true }\n",
        "",
        1,
    );
    let refused = client.create_job_toml(&gap).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidInput);
    assert!(refused.to_string().contains("impute"), "{refused}");

    let job = client.create_job_toml(SPEC).await.unwrap();
    let job = client.wait_job(job.id).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let result = job.result.unwrap();
    let accuracy = result.metrics["test.accuracy"];
    assert!(accuracy > 0.85, "{accuracy}");

    // By the platform: an unknown region and a missing size are what they were in training.
    let rows = [
        row(json!(120), "north"),
        row(json!(120), "south"),
        row(json!(null), "west"),
    ];
    let list = client.predict(job.id, &rows).await.unwrap().predictions;
    let labels = list.iter().map(|found| match &found.output {
        Predicted::Class {
            label,
            probabilities,
            ..
        } => {
            let sum: f32 = probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5);
            label.clone().unwrap()
        }
        other => panic!("{other:?}"),
    });
    let labels: Vec<String> = labels.collect();
    assert_eq!(labels[..2], ["let", "sold"]);
    let wrong = client.predict(job.id, &[row(json!("big"), "north")]).await;
    let wrong = wrong.unwrap_err();
    assert!(
        wrong.to_string().contains("row 1, column `size`"),
        "{wrong}"
    );

    let table = "size,region\n120,north\n120,south\n,west\n";
    predict_here(&bench, job.id, table, &list);
    replay(&bench, job.id).await;
    bench.platform.stop().await.unwrap();
}

/// On this machine, from one file: the same to the bit.
fn predict_here(bench: &Bench, id: JobId, rows: &str, list: &[Prediction]) {
    let package = bench.data_dir().join("model.zip");
    let (id, path) = (id.to_string(), package.to_str().unwrap());
    let made = stoker(bench, &["model", "package", &id, "--out", path]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let table = bench.data_dir().join("rows.csv");
    std::fs::write(&table, rows).unwrap();
    let told = stoker(bench, &["model", "predict", path, table.to_str().unwrap()]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let lines: Vec<Prediction> = text(&told.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines, list);
}

/// Again, equal; with another seed, named.
async fn replay(bench: &Bench, job: JobId) {
    let (client, id) = (bench.client(), job.to_string());
    let again = stoker(bench, &["job", "replay", &id]);
    assert!(
        again.status.success(),
        "{}{}",
        text(&again.stdout),
        text(&again.stderr)
    );
    assert!(text(&again.stdout).contains("equal to the bit"));
    let other = SPEC.replace("epochs = 30", "epochs = 30\nseed = 5");
    let other = client.create_job_toml(&other).await.unwrap();
    client.wait_job(other.id).await.unwrap();
    let differs = stoker(bench, &["job", "diff", &id, &other.id.to_string()]);
    assert_eq!(differs.status.code(), Some(1));
    let shown = text(&differs.stdout);
    assert!(
        shown.contains("train.seed") && shown.contains("came apart"),
        "{shown}"
    );
    let key = IdempotencyKey::generate();
    let first = client.replay_job(job, &key).await.unwrap();
    assert_eq!(client.replay_job(job, &key).await.unwrap().id, first.id);
}

const WORDS: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": null, "decoder": null, "model": {"type": "WordLevel", "unk_token": "[UNK]",
    "vocab": {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "day": 4, "night": 5}}}"#;

/// A model takes the tokenizer that it was given along, to wherever it predicts.
#[tokio::test(flavor = "multi_thread")]
async fn a_given_tokenizer_goes_with_the_model() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let rows = (0..60).map(|row| match row % 3 {
        0 => "Good night,glad\n",
        1 => "bad day,sad\n",
        _ => "what a good day,glad\n",
    });
    let text = format!("text,mood\n{}", rows.collect::<String>());
    for (name, format, bytes) in [
        ("words", DataFormat::Tokenizer, WORDS.to_owned()),
        ("moods", DataFormat::Csv, text),
    ] {
        let new = NewDataset {
            name: name.to_owned(),
            format,
            header: Header::Auto,
        };
        let upload = Upload::from_bytes(bytes.into_bytes());
        client.create_dataset(&new, &upload).await.unwrap();
    }
    let spec = r#"
name = "moods"
[data]
dataset = "moods"
target = "mood"
padding = 0
split = { test = 0.25 }
[[preprocess]]
builtin = "tokenise"
config = { tokenizer = "words", length = 6 }
[model]
input = [6]
layers = [{ type = "embedding", units = 8 }, { type = "global_avg_pool" }, { type = "linear", units = 2 }]
[train]
epochs = 30
batch_size = 8
loss = "cross_entropy"
optimizer = { name = "adamw", learning_rate = 0.05 }
[[metrics]]
builtin = "accuracy"
"#;
    let job = client.create_job_toml(spec).await.unwrap();
    let job = client.wait_job(job.id).await.unwrap();
    let result = job.result.unwrap();
    assert_eq!(result.metrics["test.accuracy"], 1.0);
    let texts = ["A GOOD day", "BAD Day"];
    let rows = texts.map(|text| json!({ "text": text }).as_object().unwrap().clone());
    let list = client.predict(job.id, &rows).await.unwrap().predictions;
    let labels = list.iter().map(|found| match &found.output {
        Predicted::Class { label, .. } => label.clone().unwrap(),
        other => panic!("{other:?}"),
    });
    assert!(labels.eq(["glad", "sad"]));
    let table = format!("text\n{}\n", texts.join("\n"));
    predict_here(&bench, job.id, &table, &list);
}

/// A module with a custom section of this byte, which changes nothing that it does.
fn with_section(module: &[u8], byte: u8) -> Vec<u8> {
    [module, &[0, 3, 1, b'n', byte]].concat()
}

/// One byte of data, plugin or spec, and the diff names it; one byte of what is stored, and the job
/// says so.
#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_is_named() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let module = std::fs::read(harness::plugins().join("augment.wasm")).unwrap();
    for (version, byte) in [(2, 0), (3, 1)] {
        let reference = format!("augment@{version}").parse().unwrap();
        let upload = Upload::from_bytes(with_section(&module, byte));
        client.create_plugin(&reference, &upload).await.unwrap();
    }
    let new = NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::Csv,
        header: Header::No,
    };
    let csv = digits_with_one_pixel_changed();
    let changed = client
        .create_dataset(&new, &Upload::from_bytes(csv))
        .await
        .unwrap();
    assert_eq!(changed.version, 2);
    let short = stoker::digits::SPEC
        .replace("epochs = 30", "epochs = 2")
        .replace("dataset = \"digits\"", "dataset = \"digits@1\"");
    let of = |from: &str, to: &str| {
        assert!(short.contains(from), "{from} isn't in the spec");
        short.replace(from, to)
    };
    let specs = [
        of("augment@1", "augment@2"),
        of("augment@1", "augment@3"),
        short.clone(),
        of("digits@1", "digits@2"),
        of("learning_rate = 0.003", "learning_rate = 0.002"),
    ];
    let mut jobs = Vec::new();
    for spec in &specs {
        let job = client.create_job_toml(spec).await.unwrap();
        bench.weights(job.id).await;
        jobs.push(job.id);
    }
    let plugins = client.diff_jobs(jobs[0], Some(jobs[1])).await.unwrap();
    assert_eq!(plugins.equal, Some(true), "the section does nothing");
    let names: Vec<&str> = plugins.plugins.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["augment@2", "augment@3"]);
    assert!(plugins.data.is_none(), "{plugins:?}");
    let data = client.diff_jobs(jobs[2], Some(jobs[3])).await.unwrap();
    assert!(data.equal == Some(false) && data.data.is_some() && data.plugins.is_empty());
    assert!(data.diverged.is_some(), "{data:?}");
    let spec = client.diff_jobs(jobs[2], Some(jobs[4])).await.unwrap();
    let names: Vec<&str> = spec.spec.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["train.optimizer.learning_rate"]);
    assert!(spec.data.is_none() && spec.diverged.is_some());
    tampered(bench, &changed.blake3).await;
}

/// The digits without their compression, and another number in one field.
fn digits_with_one_pixel_changed() -> Vec<u8> {
    let mut csv = Vec::new();
    let mut packed = flate2::read::GzDecoder::new(stoker::digits::DATA);
    std::io::Read::read_to_end(&mut packed, &mut csv).unwrap();
    let at = csv.iter().position(|byte| *byte == b'5').unwrap();
    csv[at] = b'6';
    csv
}

/// A byte of a stored data set changes behind Stoker's back.
async fn tampered(mut bench: Bench, blake3: &str) {
    let stored = bench.data_dir().join("objects/datasets/local").join(blake3);
    let mut bytes = std::fs::read(&stored).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    // The rows of the job before aren't at hand any more.
    let spec = stoker::digits::SPEC.replace("dataset = \"digits\"", "dataset = \"digits@2\"");
    bench
        .platform
        .restart_in_good_order(Role::Up)
        .await
        .unwrap();
    let job = bench.client().create_job_toml(&spec).await.unwrap();
    let job = bench.client().wait_job(job.id).await.unwrap();
    let failure = job.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Data);
    assert!(
        failure.message.contains("isn't what was stored"),
        "{failure:?}"
    );
}

/// A worker's settings say where its rows are, and change nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn rows_on_disk_give_the_weights_of_rows_in_memory() {
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = cache.path().join("rows");
    let on_disk = [
        ("STOKER__WORKER__TABLE_MEMORY_BYTES", "0"),
        ("STOKER__WORKER__CACHE_DIR", cache_dir.to_str().unwrap()),
    ];
    let mut weights = Vec::new();
    for settings in [&on_disk[..], &[]] {
        let bench = Bench::embedded_with(settings).await;
        let new = NewDataset {
            name: "flats".to_owned(),
            format: DataFormat::Csv,
            header: Header::Auto,
        };
        let upload = Upload::from_bytes(flats().into_bytes());
        bench.client().create_dataset(&new, &upload).await.unwrap();
        // The steps look at the training rows; the digits' rows go on as they are.
        for spec in [SPEC, stoker::digits::SPEC] {
            let job = bench.client().create_job_toml(spec).await.unwrap();
            weights.push(bench.weights(job.id).await);
        }
    }
    assert_eq!(weights[..2], weights[2..]);
    let left = std::fs::read_dir(&cache_dir).unwrap().count();
    assert_eq!(left, 0, "files without names");
}
