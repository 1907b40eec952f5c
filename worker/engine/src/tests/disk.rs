//! Rows in a file: what is made of them is what is made of rows in memory.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::Arc;

use serde_json::json;
use stoker_domain::job::FailureKind;
use stoker_domain::spec::PreprocessSpec;
use stoker_model::Target;

use super::{cpu, input, measure, numbers, on_disk, plan, run, targets};
use crate::cpu::simd::Level;
use crate::{Preprocess, Run, RunInput, Table, TableBuilder, TargetKind, Targets};

const WIDTH: usize = 5;

fn table(rows: usize, target: Target, window_bytes: usize) -> Arc<Table> {
    let table = Table::new(numbers(rows * WIDTH, 1), WIDTH, targets(rows, target));
    Arc::new(table.unwrap().with_window_bytes(window_bytes))
}

#[test]
fn statistics_targets_and_metrics_are_those_of_memory() {
    let train = r#"{"epochs": 3, "batch_size": 8, "virtual_shards": 2, "loss": "mse", "seed": 4}"#;
    let plan = plan(r#"{"family": "mlp"}"#, train, WIDTH, Target::Values(2));
    let steps = || -> Vec<Preprocess> {
        let steps = [
            json!({"builtin": "normalise"}),
            json!({"builtin": "normalise", "config": {"of": "target"}}),
        ];
        let steps = steps.map(|step| {
            let spec: PreprocessSpec = serde_json::from_value(step).unwrap();
            Preprocess::builtin(&spec, &plan.input).unwrap().unwrap()
        });
        steps.into()
    };
    // A batch in each window, several, all.
    for window_bytes in [0, 700, 1 << 20] {
        let memory = table(103, Target::Values(2), window_bytes);
        let of = |table: &Arc<Table>| {
            let input = RunInput {
                preprocess: steps(),
                metrics: vec![measure("mae", &plan)],
                ..input(&plan, table, None)
            };
            run(&cpu(2, Level::detect()), input)
        };
        let ((expected, watched), (given, watch)) = (of(&memory), of(&Arc::new(on_disk(&memory))));
        assert_eq!(watch.losses, watched.losses, "{window_bytes}");
        assert!(given == expected, "{window_bytes}");
    }
}

#[test]
fn windows_change_the_order_and_nothing_else_does() {
    let train = r#"{"epochs": 2, "batch_size": 4, "loss": "cross_entropy", "seed": 4}"#;
    let plan = plan(r#"{"family": "mlp"}"#, train, WIDTH, Target::Classes(3));
    let of = |window_bytes| {
        let table = table(200, Target::Classes(3), window_bytes);
        run(&cpu(1, Level::detect()), input(&plan, &table, None))
            .1
            .losses
    };
    assert_eq!(of(1 << 20), of(1 << 25), "all rows are in one window");
    assert_ne!(of(1 << 20), of(1 << 10));
}

/// A table of three rows, which is written once it has more than so many bytes.
fn built(memory_bytes: u64, files: &Cell<u32>) -> Table {
    let make = || -> io::Result<File> {
        files.set(files.get() + 1);
        tempfile::tempfile()
    };
    let mut builder = TableBuilder::new(TargetKind::Classes, memory_bytes, make);
    builder.push((&[1.0, 2.0], 2), (&[7.0], 1)).unwrap();
    builder
        .push((&[3.0, 4.0, 5.0, 6.0], 2), (&[0.0, 9.0], 1))
        .unwrap();
    assert_eq!(builder.size_bytes(), 36);
    builder.finish().unwrap()
}

#[test]
fn what_fits_stays_in_memory() {
    let files = Cell::new(0);
    for (memory_bytes, expected) in [(36, 0), (35, 1), (0, 1)] {
        files.set(0);
        let table = built(memory_bytes, &files);
        assert_eq!((files.get(), table.is_on_disk()), (expected, expected == 1));
        assert_eq!(
            (table.rows(), table.width(), table.size_bytes()),
            (3, 2, 36)
        );
        let mut seen = Vec::new();
        let look = &mut |id, row: crate::table::Row<'_>| {
            seen.push((id, row.features.to_vec(), format!("{:?}", row.targets)));
            Ok(())
        };
        table.visit([0, 2].into_iter(), look).unwrap();
        let row = |id: u64, features: [f32; 2], class: u32| {
            (id, features.to_vec(), format!("Classes([{class}])"))
        };
        assert_eq!(seen, [row(0, [1.0, 2.0], 7), row(2, [5.0, 6.0], 9)]);
    }
}

#[test]
fn a_class_that_the_plan_does_not_have_is_named() {
    let train = r#"{"epochs": 1, "batch_size": 1, "loss": "cross_entropy"}"#;
    let plan = plan(r#"{"family": "mlp"}"#, train, 2, Target::Classes(9));
    let table = Arc::new(built(0, &Cell::new(0)));
    let cpu = cpu(1, Level::detect());
    let error = Run::new(&cpu, input(&plan, &table, None)).err().unwrap();
    assert_eq!(
        error.message,
        "class 9 in row 2, but there are 9 classes, from 0"
    );
    assert_eq!((error.kind, error.samples), (FailureKind::Data, vec![2]));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let mut builder = TableBuilder::new(TargetKind::Values, 0, tempfile::tempfile);
    builder.push((&[1.0, 2.0], 2), (&[7.0], 1)).unwrap();
    for (features, targets) in [
        ((&[1.0_f32, 2.0, 3.0][..], 3), (&[7.0_f32][..], 1)),
        ((&[1.0, 2.0], 2), (&[7.0, 8.0], 2)),
        ((&[1.0, 2.0], 2), (&[7.0, 8.0], 1)),
        ((&[1.0, 2.0], 2), (&[], 0)),
        ((&[1.0, 2.0, 3.0], 2), (&[7.0], 1)),
    ] {
        let error = builder.push(features, targets).unwrap_err();
        assert_eq!(error.kind, FailureKind::Data, "{}", error.message);
    }
    assert_eq!(builder.size_bytes(), 12);
    let empty = TableBuilder::new(TargetKind::Values, 0, tempfile::tempfile);
    assert_eq!(empty.finish().unwrap_err().kind, FailureKind::Data);
    let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let mut builder = TableBuilder::new(TargetKind::Features, 0, full);
    let error = builder.push((&[1.0], 1), (&[], 0)).unwrap_err();
    assert_eq!(error.kind, FailureKind::Capacity, "{}", error.message);
}

#[test]
fn a_file_that_lost_rows_ends_the_run() {
    let train = r#"{"epochs": 1, "batch_size": 8, "loss": "cross_entropy"}"#;
    let plan = plan(r#"{"family": "mlp"}"#, train, WIDTH, Target::Classes(3));
    let memory = table(100, Target::Classes(3), 700);
    let kept: Cell<Option<File>> = Cell::new(None);
    let mut builder = TableBuilder::new(TargetKind::Classes, 0, || {
        let file = tempfile::tempfile()?;
        kept.set(Some(file.try_clone()?));
        Ok(file)
    });
    let Targets::Classes(classes) = memory.targets() else {
        unreachable!()
    };
    for (row, &class) in classes.iter().enumerate() {
        builder
            .push((memory.row(row), WIDTH), (&[class as f32], 1))
            .unwrap();
    }
    let table = Arc::new(builder.finish().unwrap().with_window_bytes(700));
    kept.take().unwrap().set_len(60 * 24).unwrap();
    let cpu = cpu(1, Level::detect());
    let mut run = Run::new(&cpu, input(&plan, &table, None)).unwrap();
    let error = run.run(&mut super::Watch::default()).unwrap_err();
    assert_eq!(error.kind, FailureKind::Platform);
    assert!(error.message.contains("can't be read"), "{}", error.message);
}
