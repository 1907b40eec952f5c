//! Steps that need rows in order.

use serde_json::json;

use super::{Data, assert_refused, predict, spec};

/// x = 0, 1, …; hour = x mod 24.
fn series(rows: u32) -> Data {
    let lines = (0..rows).map(|x| format!("{x},{}\n", x % 24));
    Data::csv(&format!("x,hour\n{}", lines.collect::<String>()))
}

fn split(share: f64) -> String {
    format!("split = {{ test = {share}, shuffle = false }}")
}

#[test]
fn windows_predict_the_rows_after_them() {
    let data = series(10);
    let step = "builtin = \"window\"\nconfig = { columns = [\"x\", \"hour\"], length = 3, target = \"x\", horizon = 2, future = [\"hour\"] }";
    let spec = spec(&format!("target = \"next\"\n{}", split(0.3)), &[step]);
    let (pipeline, prepared) = data.prepare(&spec, 3).unwrap();
    let ends: Vec<_> = prepared.ids.iter().zip(&prepared.held_out).collect();
    // 0..7 are for training. A window that ends with 5 would predict 6 and 7, of both sides.
    assert_eq!(
        ends,
        [
            (&2, &false),
            (&3, &false),
            (&4, &false),
            (&6, &true),
            (&7, &true)
        ]
    );
    assert_eq!(pipeline.counts(), Some([3, 2]));
    let first = &prepared.features[..prepared.width];
    assert_eq!(first, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
    assert_eq!(prepared.targets[..2], [3.0, 4.0]);
    let window = pipeline.schema().column("window").unwrap();
    assert_eq!(window.shape, [3, 2]);
    assert_eq!(pipeline.schema().column("next").unwrap().shape, [2]);
    assert_eq!(pipeline.schema().column("future").unwrap().shape, [2]);
}

#[test]
fn what_is_counted_is_what_is_made() {
    for rows in [20_u32, 31] {
        for (length, horizon, stride) in [(1, 1, 1), (3, 1, 1), (3, 2, 2), (4, 5, 3), (2, 3, 7)] {
            for share in [0.0, 0.3, 0.5] {
                let data = series(rows);
                let step = format!(
                    "builtin = \"window\"\nconfig = {{ columns = [\"x\"], length = {length}, target = \"x\", horizon = {horizon}, stride = {stride} }}"
                );
                let spec = spec(&format!("target = \"next\"\n{}", split(share)), &[&step]);
                let held_out = spec.data.split.count_held_out(rows.into());
                let (pipeline, prepared) = data.prepare(&spec, held_out).unwrap();
                let test = prepared.held_out.iter().filter(|&&held| held).count() as u64;
                let train = prepared.held_out.len() as u64 - test;
                assert_eq!(
                    pipeline.counts(),
                    Some([train, test]),
                    "{rows} {length} {horizon} {stride} {share}"
                );
                if test > 0 {
                    let first = prepared.held_out.iter().position(|&held| held).unwrap();
                    assert_eq!(prepared.ids[first] + 1, u64::from(rows) - held_out);
                }
            }
        }
    }
}

#[test]
fn the_rows_to_come_are_predicted_from_the_last_window() {
    let data = series(12);
    let step = "builtin = \"window\"\nconfig = { columns = [\"x\"], length = 3, target = \"x\" }";
    let spec = spec(&format!("target = \"next\"\n{}", split(0.25)), &[step]);
    let (pipeline, _) = data.prepare(&spec, 3).unwrap();
    let rows = json!([{"x": 5}, {"x": 6}, {"x": 7}, {"x": 8}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &rows).unwrap();
    assert_eq!(predicted.features, [5.0, 6.0, 7.0, 6.0, 7.0, 8.0]);
    assert_eq!(predicted.ids, [2, 3]);
}

#[test]
fn lags_leave_out_rows_without_a_past() {
    let data = series(6);
    let step = "builtin = \"lag\"\nconfig = { columns = [\"x\"], by = [1, 3] }";
    let data_spec = format!(
        "features = [\"x_lag_1\", \"x_lag_3\"]\ntarget = \"x\"\n{}",
        split(0.2)
    );
    let spec = spec(&data_spec, &[step]);
    let (pipeline, prepared) = data.prepare(&spec, 2).unwrap();
    assert_eq!(prepared.features, [2.0, 0.0, 3.0, 1.0, 4.0, 2.0]);
    assert_eq!(prepared.targets, [3.0, 4.0, 5.0]);
    assert_eq!(prepared.held_out, [false, true, true]);
    assert_eq!(pipeline.counts(), Some([1, 2]));
}

#[test]
fn order_is_asked_for() {
    let data = series(20);
    let window =
        "builtin = \"window\"\nconfig = { columns = [\"x\"], length = 30, target = \"x\" }";
    let shuffled = spec("target = \"next\"", &[window]);
    assert_refused(&data, &shuffled, "preprocess[0].builtin", "shuffle = false");
    let long = spec(&format!("target = \"next\"\n{}", split(0.2)), &[window]);
    assert_refused(
        &data,
        &long,
        "preprocess[0].config.length",
        "no window of 30",
    );
    let far = "builtin = \"window\"\nconfig = { columns = [\"x\"], length = 3, target = \"x\", horizon = 9 }";
    let far = spec(&format!("target = \"next\"\n{}", split(0.2)), &[far]);
    assert_refused(
        &data,
        &far,
        "preprocess[0].config.horizon",
        "4 rows are held out",
    );
}
