//! `stoker dataset`.

use clap::Subcommand;
use futures::TryStreamExt;
use stoker_domain::Ref;
use stoker_domain::dataset::{Column, ColumnKind, DatasetRecord};
use stoker_sdk::view::{DatasetList, DatasetPreview};

use super::exit::Failure;
use super::table::{Table, size, time};
use super::{Session, create_dataset};

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Make the next version of a data set of a file, a folder of pictures, a URL or an object.
    Create(create_dataset::Arguments),
    /// List data sets.
    List,
    /// Show a data set and its columns.
    Get {
        /// NAME, for its newest version, or NAME@VERSION.
        dataset: Ref,
    },
    /// Show the first rows of a data set.
    Preview {
        /// NAME, for its newest version, or NAME@VERSION.
        dataset: Ref,
        /// How many rows.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        rows: u32,
    },
    /// Remove one version of a data set.
    Delete {
        /// NAME@VERSION.
        dataset: Ref,
    },
}

/// Runs a verb.
pub(super) async fn run(command: DatasetCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        DatasetCommand::Create(arguments) => {
            print(&create_dataset::run(arguments, session).await?, session)
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
        DatasetCommand::Preview { dataset, rows } => {
            let preview = client.preview_dataset(&dataset, Some(rows)).await?;
            match output.json() {
                true => output.document(&preview)?,
                false => output.line(&preview_table(&preview)),
            }
            Ok(())
        }
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
    if let Some(source) = &record.source {
        table.field("source", source);
    }
    if let Some(delimiter) = record.delimiter {
        table.field("delimiter", format!("{delimiter:?}"));
    }
    format!("{}\n\n{}", table.render(), columns(record))
}

fn columns(record: &DatasetRecord) -> String {
    let mut columns = Table::new([
        "COLUMN",
        "KIND",
        "SHAPE",
        "MISSING",
        "MIN",
        "MAX",
        "MEAN",
        "DEVIATION",
        "VALUES",
    ]);
    for column in &record.schema.columns {
        let kind = match column.kind {
            ColumnKind::Integer => "integer",
            ColumnKind::Float => "float",
            ColumnKind::Text => "text",
            ColumnKind::Image => "image",
        };
        let shape: Vec<String> = column.shape.iter().map(ToString::to_string).collect();
        let or_none = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        let statistic = |value: fn(&stoker_domain::dataset::Statistics) -> f64| {
            let known = column.statistics.as_ref().map(value);
            known.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
        };
        columns.row([
            column.name.clone(),
            kind.to_owned(),
            or_none(shape.join(" x ")),
            column.missing.to_string(),
            statistic(|s| s.min),
            statistic(|s| s.max),
            statistic(|s| s.mean),
            statistic(|s| s.deviation),
            or_none(values(column)),
        ]);
    }
    columns.render()
}

/// The different values of a column, the first of them where they are many.
fn values(column: &Column) -> String {
    let distinct = column.statistics.as_ref().and_then(|s| s.distinct);
    match (&column.categories, distinct) {
        (Some(categories), _) => {
            let shown: Vec<&str> = categories.iter().take(5).map(String::as_str).collect();
            let more = if categories.len() > shown.len() {
                ", …"
            } else {
                ""
            };
            format!("{}: {}{more}", categories.len(), shown.join(", "))
        }
        (None, Some(distinct)) => distinct.to_string(),
        (None, None) => String::new(),
    }
}

fn preview_table(preview: &DatasetPreview) -> String {
    let mut table = Table::of_rows(preview.columns.clone());
    for row in &preview.rows {
        let cells = preview.columns.iter().map(|column| match row.get(column) {
            None | Some(serde_json::Value::Null) => "-".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        table.cells(cells.collect());
    }
    format!(
        "{}\n\n{} of {} rows, {} of {} columns",
        table.render(),
        preview.rows.len(),
        preview.total_rows,
        preview.columns.len(),
        preview.total_columns
    )
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
