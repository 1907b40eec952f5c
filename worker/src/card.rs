//! The model's card: what it is, what it was trained on, how well it does, how to use it.

use std::fmt::Write as _;

use stoker_domain::dataset::{Column, ColumnKind};

use crate::train::Finished;

/// Writes the card of a finished job, in Markdown.
pub(crate) fn write(finished: &Finished) -> String {
    let model = &finished.model;
    let spec = &model.spec;
    let mut text = format!("# {}\n\n", spec.name);
    let split = &spec.data.split;
    let held_out = match (split.test > 0.0, split.shuffle) {
        (false, _) => "no rows were held out".to_owned(),
        (true, true) => format!("{} of the rows were held out at random", split.test),
        (true, false) => format!("the last {} of the rows were held out", split.test),
    };
    // Writing to a string doesn't fail.
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    line("", "");
    line("---", "---");
    line("job", &model.job.to_string());
    line(
        "data set",
        &format!("`{}`, {} rows; {held_out}", spec.data.dataset, model.rows),
    );
    line("data set's BLAKE3", &model.inputs.dataset_blake3);
    for (plugin, blake3) in &model.inputs.plugins {
        line("plugin", &format!("`{plugin}`, BLAKE3 {blake3}"));
    }
    line("spec's BLAKE3", &spec.blake3());
    line(
        "engine",
        &format!("{} on {}", model.engine.build, model.engine.device_class),
    );
    line("steps", &finished.steps.to_string());
    text.push_str("\n## Columns\n\n| column | what it holds |\n| --- | --- |\n");
    for column in &model.columns {
        let target = spec.data.target.as_ref() == Some(&column.name);
        let role = if target { ", to be predicted" } else { "" };
        let _ = writeln!(text, "| {} | {}{role} |", column.name, holds(column));
    }
    if let Some(labels) = &model.labels {
        let _ = writeln!(text, "\nClasses, in order: {}.", labels.join(", "));
    }
    text.push_str("\n## Metrics\n\n| metric | value |\n| --- | --- |\n");
    for (name, value) in &finished.metrics {
        let _ = writeln!(text, "| {name} | {value:.6} |");
    }
    let job = model.job;
    let _ = writeln!(
        text,
        "\n## Use\n\n`stoker model predict {job} rows.csv`, `POST /v1/jobs/{job}/predict`; the weights open in PyTorch:\n`safetensors.torch.load_file(\"weights.safetensors\")`."
    );
    text
}

fn holds(column: &Column) -> String {
    let kind = match column.kind {
        ColumnKind::Integer => "whole numbers",
        ColumnKind::Float => "numbers",
        ColumnKind::Text => "text",
        ColumnKind::Image => "pictures",
    };
    match column.shape.as_slice() {
        [] => kind.to_owned(),
        shape => format!("{kind}, {shape:?} a row"),
    }
}
