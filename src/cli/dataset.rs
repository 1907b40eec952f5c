//! `stoker dataset`.

use std::path::PathBuf;

use clap::Subcommand;
use futures::TryStreamExt;
use stoker_domain::Ref;
use stoker_domain::dataset::{ColumnKind, DataFormat, DatasetRecord};
use stoker_sdk::view::DatasetList;
use stoker_sdk::{Header, IdempotencyKey, NewDataset, Upload};

use super::exit::Failure;
use super::table::{Table, size, time};
use super::{Session, argument, transfer};

const HEADERS: [Header; 3] = [Header::Auto, Header::Yes, Header::No];

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Upload a file as the next version of a data set.
    Create {
        /// The data set's name.
        name: String,
        /// The file.
        file: PathBuf,
        /// How it is written; told from the file's name when not given.
        #[arg(long, value_parser = argument::one_of(&DataFormat::ALL, DataFormat::as_str))]
        format: Option<DataFormat>,
        /// Whether a CSV's first row names the columns; auto: if it holds no number.
        #[arg(long, default_value = "auto", value_parser = argument::one_of(&HEADERS, Header::as_str))]
        header: Header,
        /// Upload at most once, however often this is run with the same key.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<IdempotencyKey>,
    },
    /// List data sets.
    List,
    /// Show a data set and its columns.
    Get {
        /// NAME, for its newest version, or NAME@VERSION.
        dataset: Ref,
    },
    /// Remove one version of a data set.
    Delete {
        /// NAME@VERSION.
        dataset: Ref,
    },
}

/// Runs a verb.
pub(super) async fn run(command: DatasetCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output } = session;
    match command {
        DatasetCommand::Create {
            name,
            file,
            format,
            header,
            idempotency_key,
        } => {
            let format = match format {
                Some(format) => format,
                None => told_by_name(&file)?,
            };
            let bar = transfer::bar(output, &format!("uploading {}", file.display()));
            let shown = bar.clone();
            let mut upload = Upload::from_path(file)
                .with_progress(move |progress| transfer::show(&shown, progress));
            if let Some(key) = idempotency_key {
                upload = upload.with_key(key);
            }
            let new = NewDataset {
                name,
                format,
                header,
            };
            let outcome = client.create_dataset(&new, &upload).await;
            bar.finish_and_clear();
            print(&outcome?, session)
        }
        DatasetCommand::List => {
            let datasets: Vec<DatasetRecord> = client.datasets().try_collect().await?;
            if output.json() {
                return output.document(&DatasetList {
                    datasets,
                    next: None,
                });
            }
            output.line(&list(&datasets));
            Ok(())
        }
        DatasetCommand::Get { dataset } => print(&client.get_dataset(&dataset).await?, session),
        DatasetCommand::Delete { dataset } => {
            client.delete_dataset(&dataset).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "deleted": dataset }))?,
                false => output.line(&format!("{dataset} deleted")),
            }
            Ok(())
        }
    }
}

fn told_by_name(file: &std::path::Path) -> Result<DataFormat, Failure> {
    DataFormat::of_file_name(&file.to_string_lossy()).ok_or_else(|| {
        let known = DataFormat::ALL.map(DataFormat::as_str).join(", ");
        Failure::input(format!(
            "{}: its name doesn't tell its format; give --format, one of {known}",
            file.display()
        ))
    })
}

fn print(record: &DatasetRecord, session: &Session) -> Result<(), Failure> {
    if session.output.json() {
        return session.output.document(record);
    }
    session.output.line(&show(record));
    Ok(())
}

fn show(record: &DatasetRecord) -> String {
    let mut table = Table::of_fields();
    table.field("data set", format!("{}@{}", record.name, record.version));
    table.field("format", record.format.as_str());
    table.field("size", size(record.size_bytes));
    table.field("rows", record.schema.rows.to_string());
    table.field("blake3", &record.blake3);
    table.field("created", time(record.created_at));
    let mut columns = Table::new(["COLUMN", "KIND", "SHAPE", "MIN", "MAX", "MEAN"]);
    for column in &record.schema.columns {
        let kind = match column.kind {
            ColumnKind::Integer => "integer",
            ColumnKind::Float => "float",
            ColumnKind::Text => "text",
            ColumnKind::Image => "image",
        };
        let shape: Vec<String> = column.shape.iter().map(ToString::to_string).collect();
        let statistic = |value: fn(&stoker_domain::dataset::Statistics) -> f64| {
            let known = column.statistics.as_ref().map(value);
            known.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
        };
        columns.row([
            column.name.clone(),
            kind.to_owned(),
            if shape.is_empty() {
                "-".to_owned()
            } else {
                shape.join(" x ")
            },
            statistic(|s| s.min),
            statistic(|s| s.max),
            statistic(|s| s.mean),
        ]);
    }
    format!("{}\n\n{}", table.render(), columns.render())
}

fn list(datasets: &[DatasetRecord]) -> String {
    let mut table = Table::new(["DATA SET", "FORMAT", "ROWS", "COLUMNS", "SIZE", "CREATED"]);
    for record in datasets {
        table.row([
            format!("{}@{}", record.name, record.version),
            record.format.as_str().to_owned(),
            record.schema.rows.to_string(),
            record.schema.columns.len().to_string(),
            size(record.size_bytes),
            time(record.created_at),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_by_the_file_name_or_must_be_given() {
        assert_eq!(
            told_by_name("a/digits.csv.gz".as_ref()),
            Ok(DataFormat::CsvGz)
        );
        let failure = told_by_name("digits.parquet".as_ref()).unwrap_err();
        assert!(
            failure.message.ends_with("one of csv, csv_gz, npy, npz"),
            "{}",
            failure.message
        );
    }
}
