//! The main job's inputs: the digits, two plugins and the spec. Used by the demo, the benches and
//! the tests.

use std::path::Path;

use anyhow::Context as _;
use stoker_domain::dataset::DataFormat;
use stoker_sdk::{Client, Header, NewDataset, Upload};

/// The digits: 1,797 images of 8 x 8 with their labels (UCI, CC BY 4.0).
pub const DATA: &[u8] = include_bytes!("../examples/digits/digits.csv.gz");

/// The job's spec.
pub const SPEC: &str = include_str!("../examples/digits/job.toml");

/// Uploads the digits, and the plugins that `make plugins` put into `plugins`.
///
/// # Errors
/// When a plugin isn't there or an upload fails.
pub async fn upload(client: &Client, plugins: &Path) -> anyhow::Result<()> {
    let new = NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::CsvGz,
        header: Header::No,
    };
    client
        .create_dataset(&new, &Upload::from_bytes(DATA))
        .await?;
    for (reference, file) in [
        ("augment@1", "augment.wasm"),
        ("macro-f1@1", "macro_f1.wasm"),
    ] {
        let path = plugins.join(file);
        let module = tokio::fs::read(&path)
            .await
            .with_context(|| format!("can't read {}: run `make plugins` first", path.display()))?;
        client
            .create_plugin(&reference.parse()?, &Upload::from_bytes(module))
            .await?;
    }
    Ok(())
}
