//! `stoker model`: a finished job's model as one file, and predictions with it on this machine.

use std::fs::File;
use std::io::{Cursor, IsTerminal as _, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Map, Value};
use stoker_data::{Chunk, Header, Layout, Limits, chunk_of_json, describe, read};
use stoker_domain::dataset::{Column, DataFormat};
use stoker_domain::model::{
    CARD_FILE, MODEL_FILE, ModelRecord, PREDICT_ROWS_MAX, Prediction, WEIGHTS_FILE,
};
use stoker_domain::port::PredictError;
use stoker_domain::{ErrorCode, JobId};
use stoker_worker::{Model, check_names};

use super::exit::{Exit, Failure};
use super::{Session, argument};

/// Largest record of a model, which holds what its preprocessing was fitted to.
const RECORD_MAX_BYTES: u64 = 256 << 20;
/// Artifacts of a package beside those that it must have.
const MORE: [&str; 4] = [CARD_FILE, "spec.json", "environment.json", "model.onnx"];

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Put a finished job's model into one file: weights, preprocessing, spec, card.
    Package {
        /// The job.
        id: JobId,
        /// The file [default: <job>.zip].
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Predict rows on this machine, a JSON line each.
    Predict {
        /// A job, or a file that `stoker model package` made.
        model: String,
        /// The rows: any file that a data set can be made of; JSON lines from stdin when absent.
        rows: Option<PathBuf>,
        /// How the rows are written; by the file's name when absent.
        #[arg(long, value_parser = argument::one_of(&DataFormat::ALL, DataFormat::as_str))]
        format: Option<DataFormat>,
    },
}

/// Runs a verb.
pub(super) async fn run(
    command: ModelCommand,
    session: &dyn Fn() -> Result<Session, Failure>,
) -> Result<(), Failure> {
    match command {
        ModelCommand::Package { id, out, force } => {
            let out = out.unwrap_or_else(|| format!("{id}.zip").into());
            package(id, &out, force, &session()?).await
        }
        ModelCommand::Predict {
            model,
            rows,
            format,
        } => {
            let package = match Path::new(&model).exists() {
                true => PathBuf::from(&model),
                false => {
                    let id = model.parse::<JobId>().map_err(|_| {
                        Failure::input(format!("{model:?} is neither a file nor a job"))
                    })?;
                    let dir = tempfile::tempdir().map_err(|error| unwritable(&error))?;
                    let path = dir.keep().join("model.zip");
                    package_quietly(id, &path, &session()?).await?;
                    path
                }
            };
            let predicting = tokio::task::spawn_blocking(move || {
                let outcome = predict(&package, rows.as_deref(), format);
                if !Path::new(&model).exists() {
                    let dir = package.parent().unwrap_or(&package);
                    let _ = std::fs::remove_dir_all(dir);
                }
                outcome
            });
            let bug =
                |_| Failure::new(Exit::Internal, "predicting failed in a way that is our bug");
            predicting.await.map_err(bug)?
        }
    }
}

async fn package(id: JobId, out: &Path, force: bool, session: &Session) -> Result<(), Failure> {
    if out.exists() && !force {
        let told = format!("{} is there already; --force replaces it", out.display());
        return Err(Failure::input(told));
    }
    package_quietly(id, out, session).await?;
    match session.output.json() {
        true => session.output.document(&serde_json::json!({ "path": out })),
        false => {
            session.output.line(&out.display().to_string());
            Ok(())
        }
    }
}

/// Writes a zip of a job's artifacts, each checked against its hash.
async fn package_quietly(id: JobId, out: &Path, session: &Session) -> Result<(), Failure> {
    let artifacts = session.client.list_artifacts(id).await?;
    for name in [WEIGHTS_FILE, MODEL_FILE] {
        if !artifacts.iter().any(|artifact| artifact.name == name) {
            let told = format!("{id} has no {name}: a job has a model once it succeeded");
            return Err(Failure::new(Exit::NotFound, told));
        }
    }
    let dir = tempfile::tempdir().map_err(|error| unwritable(&error))?;
    let mut written = Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut written);
    let stored = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for artifact in artifacts {
        let name = artifact.name.as_str();
        if ![WEIGHTS_FILE, MODEL_FILE].contains(&name) && !MORE.contains(&name) {
            continue;
        }
        let path = dir.path().join(name);
        let client = &session.client;
        client
            .download_artifact(id, &artifact, &path, |_| ())
            .await?;
        let bytes = std::fs::read(&path).map_err(|error| Failure::file(&path, &error))?;
        let wrote = zip.start_file(name, stored).map_err(std::io::Error::from);
        let wrote = wrote.and_then(|()| zip.write_all(&bytes));
        wrote.map_err(|error| Failure::file(out, &error))?;
    }
    let finished = zip.finish().map(|_| ()).map_err(std::io::Error::from);
    finished.map_err(|error| Failure::file(out, &error))?;
    let wrote = std::fs::write(out, written.into_inner());
    wrote.map_err(|error| Failure::file(out, &error))
}

fn unwritable(error: &std::io::Error) -> Failure {
    Failure::file(&std::env::temp_dir(), error)
}

fn predict(package: &Path, rows: Option<&Path>, format: Option<DataFormat>) -> Result<(), Failure> {
    let mut model = open(package)?;
    let columns = model.columns();
    model.start();
    match rows {
        None => predict_lines(&mut model, &columns),
        Some(path) => predict_file(&mut model, &columns, path, format),
    }
}

fn open(package: &Path) -> Result<Model, Failure> {
    let unreadable = |error: std::io::Error| Failure::file(package, &error);
    let broken = |what: String| Failure::input(format!("{}: {what}", package.display()));
    let file = File::open(package).map_err(unreadable)?;
    let mut zip = zip::ZipArchive::new(file)
        .map_err(|error| broken(format!("not a package of a model: {error}")))?;
    let mut part = |name: &str, max: u64| {
        let found = zip
            .by_name(name)
            .map_err(|_| broken(format!("it has no {name}")))?;
        let mut bytes = Vec::new();
        found
            .take(max)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Ok::<_, Failure>(bytes)
    };
    let record = part(MODEL_FILE, RECORD_MAX_BYTES)?;
    let record: ModelRecord = serde_json::from_slice(&record)
        .map_err(|error| broken(format!("{MODEL_FILE}: {error}")))?;
    let weights = part(WEIGHTS_FILE, u64::MAX)?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Model::load(record, &weights, threads).map_err(failed)
}

fn failed(error: PredictError) -> Failure {
    let exit = match error.code {
        ErrorCode::InvalidInput | ErrorCode::TooLarge => Exit::Input,
        _ => Exit::Internal,
    };
    Failure::new(exit, error.message)
}

/// Writes predictions, a line each.
fn write(predictions: &[Prediction]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for prediction in predictions {
        let line = serde_json::to_string(prediction)
            .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        match writeln!(out, "{line}") {
            Ok(()) => {}
            // Whoever read them has enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => return Err(Failure::file(Path::new("stdout"), &error)),
        }
    }
    Ok(())
}

/// Rows from stdin, as they come.
fn predict_lines(model: &mut Model, columns: &[Column]) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("reading JSON lines; Ctrl-D ends");
    }
    let columns: Vec<&Column> = columns.iter().collect();
    let (mut first, mut predicted) = (0, 0);
    let mut rows = Vec::new();
    let mut send = |rows: &mut Vec<Map<String, Value>>| {
        let chunk =
            chunk_of_json(&columns, rows).map_err(|error| Failure::input(error.to_string()))?;
        let chunk = Chunk {
            first_row: first,
            ..chunk
        };
        first += rows.len() as u64;
        rows.clear();
        let predictions = model.predict(chunk).map_err(failed)?;
        predicted += predictions.len();
        write(&predictions)
    };
    for (number, line) in (1..).zip(stdin.lines()) {
        let line = line.map_err(|error| Failure::file(Path::new("stdin"), &error))?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line)
            .map_err(|error| Failure::input(format!("line {number}: {error}")))?;
        check_names(columns.iter().copied(), &row)
            .map_err(|wrong| Failure::input(format!("line {number} {wrong}")))?;
        rows.push(row);
        if rows.len() == PREDICT_ROWS_MAX {
            send(&mut rows)?;
        }
    }
    send(&mut rows)?;
    tell_of_none(predicted);
    Ok(())
}

fn tell_of_none(predicted: usize) {
    if predicted == 0 {
        eprintln!("nothing was predicted: there are no rows, or too few for a window");
    }
}

/// Rows of a file.
fn predict_file(
    model: &mut Model,
    columns: &[Column],
    path: &Path,
    format: Option<DataFormat>,
) -> Result<(), Failure> {
    let told =
        |error: stoker_data::DataError| Failure::input(format!("{}: {error}", path.display()));
    let by_name = DataFormat::of_file_name(&path.to_string_lossy());
    let format = format.or(by_name).ok_or_else(|| {
        let known = DataFormat::ALL.map(DataFormat::as_str).join(", ");
        Failure::input(format!("{}: name the --format: {known}", path.display()))
    })?;
    let open = || File::open(path).map_err(|error| Failure::file(path, &error));
    let limits = Limits {
        size_bytes: u64::MAX,
        ..Limits::default()
    };
    let found = describe(Box::new(open()?), format, Header::Auto, &limits).map_err(told)?;
    let mut schema = found.schema;
    // A file may be too short to tell what a column holds.
    for column in &mut schema.columns {
        let known = columns.iter().find(|known| known.name == column.name);
        column.kind = known.map_or(column.kind, |known| known.kind);
    }
    let layout = Layout {
        format,
        header: found.header,
        delimiter: found.delimiter,
        schema: Some(schema),
    };
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let mut predicted = 0;
    for chunk in read(Box::new(open()?), &layout, &names, &limits).map_err(told)? {
        let predictions = model.predict(chunk.map_err(told)?).map_err(failed)?;
        predicted += predictions.len();
        write(&predictions)?;
    }
    tell_of_none(predicted);
    Ok(())
}
