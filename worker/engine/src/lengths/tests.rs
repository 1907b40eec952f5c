use stoker_model::Target;

use super::*;
use crate::order::{Shuffled, Windows, shuffle_epoch};
use crate::table::Targets;

/// Rows of up to 9 positions of 2 numbers, padded with 7.
fn lengths(rows: &[usize], shorter: &[u32]) -> Lengths {
    let features = rows.iter().flat_map(|&length| {
        (0..18).map(move |at| {
            if at < 2 * length {
                at as f32 % 7.0
            } else {
                7.0
            }
        })
    });
    let table = Table::new(
        features.collect(),
        18,
        Targets::Classes(vec![0; rows.len()]),
    )
    .unwrap();
    let model = r#"{"input": [9, 2], "layers": [{"type": "linear", "units": 3},
        {"type": "global_avg_pool"}]}"#;
    let train = r#"{"steps": 1, "batch_size": 4, "loss": "cross_entropy"}"#;
    let input = stoker_model::InputDescription {
        width: 18,
        shape: vec![9, 2],
        vocabulary: None,
        columns: Vec::new(),
        target: Target::Classes(3),
    };
    let plan = stoker_model::compile_padded(
        &serde_json::from_str(model).unwrap(),
        &serde_json::from_str(train).unwrap(),
        &input,
        shorter,
        Some(7.0),
    );
    Lengths::new(&plan.unwrap(), &table).unwrap().unwrap()
}

#[test]
fn a_row_is_as_long_as_its_last_position_that_is_not_padding() {
    let given = [1, 9, 5, 0, 3];
    let lengths = lengths(&given, &[3, 6, 9]);
    assert_eq!(lengths.rows, [1, 9, 5, 1, 3], "1 at least");
    assert_eq!(lengths.floats(2), 10);
    assert_eq!(lengths.buckets, [3, 6, 9]);
    for (batch, bucket) in [
        (vec![0, 3, 4], 3),
        (vec![0, 2], 6),
        (vec![1], 9),
        (vec![], 3),
    ] {
        assert_eq!(lengths.bucket(&batch), bucket, "{batch:?}");
    }
}

#[test]
fn an_epoch_has_every_row_once_in_batches_of_similar_length() {
    let given: Vec<usize> = (0..1003).map(|row| 1 + row * 7 % 9).collect();
    let mut lengths = lengths(&given, &[3, 6, 9]);
    let train: Vec<u64> = (0..1003).collect();
    let mut orders = Vec::new();
    for epoch in [0, 1, 0] {
        let mut order = Vec::new();
        let windows = Windows::new(1 << 20, 4, 4);
        shuffle_epoch(5, epoch, &train, &windows, &mut order);
        let last = order[1000..].to_vec();
        lengths.arrange(Shuffled::Batches(0).stream(5, epoch), 4, &mut order);
        assert_eq!(
            order[1000..],
            last,
            "a batch that isn't full stays the last"
        );
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, train);
        let spread = |batch: &[u64]| {
            let of = batch.iter().map(|&row| lengths.of(row));
            of.clone().max().unwrap() - of.min().unwrap()
        };
        let spreads: u32 = order.chunks_exact(4).map(spread).sum();
        assert!(spreads < 250, "{spreads} in 250 batches");
        let firsts: Vec<u32> = order.chunks_exact(4).map(|b| lengths.of(b[0])).collect();
        assert!(!firsts.is_sorted(), "batches are shuffled");
        orders.push(order);
    }
    assert!(orders[0] == orders[2] && orders[0] != orders[1]);
}

#[test]
fn one_bucket_leaves_the_order_alone() {
    let mut lengths = lengths(&[3, 1, 2, 9, 4], &[]);
    let mut order = vec![4, 2, 0, 1, 3];
    lengths.arrange(Shuffled::Batches(0).stream(5, 0), 2, &mut order);
    lengths.sort(&mut order);
    assert_eq!(order, [4, 2, 0, 1, 3]);
}

#[test]
fn what_is_measured_is_what_is_there() {
    let mut there = There::default();
    let scores: Vec<f32> = (0..12).map(|x| x as f32).collect();
    let classes = [0, 1, 0, 1, 1, 1];
    let targets = TargetRows::Classes(&classes);
    let (given, rows) = there.of((&scores, 2), targets, &[1, 3]);
    assert_eq!(given, [0.0, 1.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    assert_eq!(rows, TargetRows::Classes(&[0, 1, 1, 1]));
    let (given, rows) = there.of((&scores, 2), targets, &[]);
    assert!(given == scores && rows == targets);
}
