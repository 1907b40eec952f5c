//! One pass of the readers over a file: prints seconds, rows, column sums and peak memory as JSON.
//! `bench-data csv|parquet|jpeg PATH [COLUMN]…`

#![expect(
    clippy::print_stdout,
    reason = "a bench reports on its standard output"
)]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use stoker_data::{Chunk, Header, Layout, Limits, Values};
use stoker_domain::dataset::{Column, ColumnKind, DataFormat, Schema};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().context("no kind")?;
    let path = arguments.next().context("no path")?;
    let mut columns: Vec<String> = arguments.collect();
    let format = match kind.trim_start_matches("describe-") {
        "csv" => DataFormat::Csv,
        "parquet" => DataFormat::Parquet,
        "jpeg" => DataFormat::Images,
        other => bail!("no kind {other:?}"),
    };
    let limits = Limits {
        size_bytes: u64::MAX,
        threads: 2,
        ..Limits::default()
    };
    let file = Box::new(File::open(&path)?);
    if kind.starts_with("describe-") {
        let begin = Instant::now();
        let found = stoker_data::describe(file, format, Header::Auto, &limits)?;
        println!("{} rows in {:?}", found.schema.rows, begin.elapsed());
        return Ok(());
    }
    if format == DataFormat::Images {
        columns = vec!["image".to_owned()];
    }
    let layout = Layout {
        format,
        header: true,
        delimiter: None,
        schema: Some(schema(&columns)),
    };
    let begin = Instant::now();
    let mut totals = Totals::default();
    for chunk in stoker_data::read(file, &layout, &columns, &limits)? {
        totals.add(&chunk?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (rows, sums) = (totals.rows, totals.sums);
    println!(
        "{{\"seconds\": {seconds}, \"rows\": {rows}, \"sums\": {sums:?}, \"peak_mb\": {}}}",
        peak_mb()?
    );
    Ok(())
}

/// What is known of the files: all their columns are of numbers.
fn schema(columns: &[String]) -> Schema {
    let column = |name: &String| Column {
        name: name.clone(),
        kind: ColumnKind::Float,
        shape: Vec::new(),
        statistics: None,
        missing: 0,
        categories: None,
    };
    Schema {
        rows: 0,
        columns: columns.iter().map(column).collect(),
    }
}

/// Column sums over batches of 32-bit numbers, row-major, which every chunk becomes.
#[derive(Default)]
struct Totals {
    rows: usize,
    sums: Vec<f64>,
    batch: Vec<f32>,
}

impl Totals {
    fn add(&mut self, chunk: &Chunk) {
        let width = chunk.columns.len();
        self.rows += chunk.rows;
        self.sums.resize(width, 0.0);
        self.batch.clear();
        self.batch.resize(chunk.rows * width, 0.0);
        for (index, column) in chunk.columns.iter().enumerate() {
            match &column.values {
                Values::Numbers(numbers) => {
                    let places = self.batch[index..].iter_mut().step_by(width);
                    for (place, &number) in places.zip(numbers) {
                        *place = number as f32;
                    }
                }
                Values::Pictures(pictures) => {
                    for picture in pictures {
                        self.batch.clear();
                        self.batch
                            .extend(picture.pixels.iter().map(|&pixel| f32::from(pixel)));
                        self.sums[index] += self.batch.iter().map(|&v| f64::from(v)).sum::<f64>();
                    }
                    return;
                }
                Values::Texts(_) => {}
            }
        }
        for row in self.batch.chunks_exact(width) {
            for (sum, &value) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
    }
}

/// The most memory that the process has had (Linux).
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let digits = line.context("no VmHWM")?.split_whitespace().nth(1);
    Ok(digits.context("no VmHWM")?.parse::<u64>()? / 1024)
}
