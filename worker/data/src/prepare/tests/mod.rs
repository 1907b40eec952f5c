//! What each step makes, of training rows and of rows to predict.

mod columns;
mod order;
mod text;

use std::io::Cursor;

use serde_json::Value;
use stoker_domain::dataset::{DataFormat, DatasetRecord, Schema};
use stoker_domain::job::{Inputs, TokenizerInput};
use stoker_domain::spec::{Format, JobSpec};
use stoker_domain::{FieldError, Timestamp};

use super::{Pipeline, Prepared, Sides};
use crate::chunk::Values;
use crate::error::DataError;
use crate::{Header, Layout, Limits, chunk_of_json, describe, read};

/// A data set out of a CSV.
pub(super) struct Data {
    text: String,
    layout: Layout,
    pub(super) schema: Schema,
    /// The tokenizers that are there, and the files that are given.
    inputs: Inputs,
    files: Vec<(String, Vec<u8>)>,
}

impl Data {
    pub(super) fn csv(text: &str) -> Self {
        let source = Box::new(Cursor::new(text.as_bytes().to_vec()));
        let found = describe(source, DataFormat::Csv, Header::Yes, &Limits::default()).unwrap();
        let record = DatasetRecord {
            record_version: 1,
            name: "x".to_owned(),
            version: 1,
            format: DataFormat::Csv,
            header: found.header,
            delimiter: found.delimiter,
            blake3: String::new(),
            size_bytes: 0,
            source: None,
            schema: found.schema.clone(),
            created_at: Timestamp::from_millis(0),
        };
        Self {
            text: text.to_owned(),
            layout: Layout::from(&record),
            schema: found.schema,
            inputs: Inputs::default(),
            files: Vec::new(),
        }
    }

    /// With a tokenizer.
    pub(super) fn with_tokenizer(mut self, name: &str, file: &str) -> Self {
        let source = Box::new(Cursor::new(file.as_bytes().to_vec()));
        let limits = Limits::default();
        let found = describe(source, DataFormat::Tokenizer, Header::Auto, &limits).unwrap();
        let tokenizer = TokenizerInput {
            blake3: String::new(),
            ids: found.schema.rows,
        };
        self.inputs.tokenizers.insert(name.to_owned(), tokenizer);
        self.files.push((name.to_owned(), file.into()));
        self
    }

    /// A pipeline fitted to the rows but the last `held_out`, and those rows.
    pub(super) fn prepare(
        &self,
        spec: &JobSpec,
        held_out: u64,
    ) -> Result<(Pipeline, Prepared), DataError> {
        let mut pipeline = Pipeline::new(spec, &self.schema, &self.inputs).unwrap();
        for (name, file) in &self.files {
            pipeline.give_tokenizer(name, file)?;
        }
        let first = self.schema.rows - held_out;
        let sides = Sides::new((0..self.schema.rows).map(|row| row >= first).collect());
        let columns = pipeline.columns().to_vec();
        let limits = Limits::default();
        let mut open = || {
            let source = Box::new(Cursor::new(self.text.as_bytes()));
            read(source, &self.layout, &columns, &limits)
        };
        pipeline.fit(&mut open, &sides)?;
        let mut prepared = Prepared::default();
        pipeline.prepare(open()?, &sides, &mut |part| {
            prepared.width = part.width;
            prepared.features.extend(part.features);
            prepared.target_width = part.target_width;
            prepared.targets.extend(part.targets);
            prepared.ids.extend(part.ids);
            prepared.held_out.extend(part.held_out);
            Ok::<(), DataError>(())
        })?;
        Ok((pipeline, prepared))
    }
}

/// A job of these steps; `data` adds to the table of that name.
pub(super) fn spec(data: &str, steps: &[&str]) -> JobSpec {
    let steps: String = steps
        .iter()
        .map(|step| format!("[[preprocess]]\n{step}\n"))
        .collect();
    let loss = if data.contains("loss") {
        ""
    } else {
        "loss = \"mse\""
    };
    let (data, loss) = match data.split_once("loss") {
        Some((data, rest)) => (data, format!("loss{rest}")),
        None => (data, loss.to_owned()),
    };
    let text = format!(
        "name = \"x\"\n[data]\ndataset = \"x@1\"\n{data}\n{steps}[model]\nfamily = \"mlp\"\nhidden = [2]\n[train]\nepochs = 1\nbatch_size = 2\n{loss}\n"
    );
    JobSpec::parse(&text, Format::Toml).unwrap()
}

/// What is wrong with a pipeline.
pub(super) fn refusal(data: &Data, spec: &JobSpec) -> FieldError {
    let Err(mut errors) = Pipeline::new(spec, &data.schema, &data.inputs) else {
        panic!("not refused")
    };
    errors.remove(0)
}

pub(super) fn assert_refused(data: &Data, spec: &JobSpec, field: &str, part: &str) {
    let error = refusal(data, spec);
    assert!(
        error.field == field && error.message.contains(part),
        "{error}, not {field}: …{part}…"
    );
}

/// What a restored pipeline makes of rows to predict.
pub(super) fn predict(
    data: &Data,
    spec: &JobSpec,
    saved: &Value,
    rows: &Value,
) -> Result<Prepared, DataError> {
    let mut pipeline = Pipeline::new(spec, &data.schema, &data.inputs).unwrap();
    let text = serde_json::to_string(saved).unwrap();
    pipeline.restore(&serde_json::from_str(&text).unwrap())?;
    pipeline.start_predicting();
    let names = pipeline.columns_to_predict();
    let columns: Vec<_> = (names.iter())
        .map(|name| data.schema.column(name).unwrap())
        .collect();
    let rows: Vec<_> = (rows.as_array().unwrap().iter())
        .map(|row| row.as_object().unwrap().clone())
        .collect();
    pipeline.predict_chunk(chunk_of_json(&columns, &rows)?)
}

#[test]
fn flows_are_cut_and_lose_nothing() {
    let data = Data::csv("a,b\n1,x\n2,y\n3,x\n4,z\n5,x\n");
    let spec = spec("target = \"a\"", &["builtin = \"one_hot\""]);
    let mut pipeline = Pipeline::new(&spec, &data.schema, &data.inputs).unwrap();
    pipeline.rows_max = 2;
    let columns = pipeline.columns().to_vec();
    let source = Box::new(Cursor::new(data.text.as_bytes()));
    let chunk = read(source, &data.layout, &columns, &Limits::default())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let flows = pipeline.cut(chunk, &Sides::new(vec![false, false, false, false, true]));
    let ids: Vec<_> = flows.iter().map(|flow| flow.ids.clone()).collect();
    assert_eq!(ids, [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(flows[2].held_out, [true]);
    let texts: Vec<String> = flows
        .iter()
        .flat_map(|flow| match &flow.column("b").unwrap().values {
            Values::Texts(texts) => texts.iter().map(str::to_owned).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["x", "y", "x", "z", "x"]);
}

#[test]
fn steps_by_batch_come_last() {
    let data = Data::csv("a,b\n1,x\n2,y\n");
    let steps = ["builtin = \"normalise\"", "builtin = \"one_hot\""];
    let spec = spec("target = \"a\"", &steps);
    assert_refused(
        &data,
        &spec,
        "preprocess[1].builtin",
        "before preprocess[0]",
    );
}
