//! Steps that change columns one by one.

use serde_json::json;

use super::{Data, assert_refused, predict, spec};

fn people() -> Data {
    Data::csv("age,city,pay,y\n20,Ulm,1,0\n,Bonn,2,1\n40,Ulm,30,0\n50,,4,1\n,Kiel,500,0\n")
}

#[test]
fn missing_numbers_become_the_training_rows_mean() {
    let data = people();
    let spec = spec(
        "features = [\"age\"]\ntarget = \"y\"",
        &["builtin = \"impute\"\nconfig = { indicator = true }"],
    );
    let (pipeline, prepared) = data.prepare(&spec, 2).unwrap();
    assert_eq!(prepared.features, [20.0, 30.0, 40.0, 50.0, 30.0]);
    assert_eq!(prepared.held_out, [false, false, false, true, true]);
    assert_eq!(pipeline.schema().column("age").unwrap().missing, 0);
    assert!(pipeline.schema().column("age_missing").is_some());
    let rows = json!([{"age": null}, {"age": 3}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &rows).unwrap();
    assert_eq!(predicted.features, [30.0, 3.0]);
}

#[test]
fn medians_constants_and_the_most_frequent() {
    let data = Data::csv("a,y\n1,0\n9,0\n2,0\n9,0\n,0\n");
    for (config, expected) in [
        ("{ with = \"median\" }", 5.5),
        ("{ with = \"most_frequent\" }", 9.0),
        ("{ with = \"constant\", value = -1 }", -1.0),
    ] {
        let step = format!("builtin = \"impute\"\nconfig = {config}");
        let spec = spec("target = \"y\"", &[&step]);
        let (_, prepared) = data.prepare(&spec, 0).unwrap();
        assert_eq!(prepared.features[4], expected, "{config}");
    }
    let text = Data::csv("a,y\nx,0\ny,0\ny,0\n,0\n");
    let steps = ["builtin = \"impute\"", "builtin = \"one_hot\""];
    let (_, prepared) = text.prepare(&spec("target = \"y\"", &steps), 0).unwrap();
    assert_eq!(prepared.features[6..], [0.0, 1.0], "y is the most frequent");
}

#[test]
fn what_is_missing_after_all_steps_is_named() {
    let data = people();
    let spec = spec("features = [\"age\"]\ntarget = \"y\"", &[]);
    let error = data.prepare(&spec, 0).err().unwrap().to_string();
    assert!(
        error.contains("`age`") && error.contains("`impute`"),
        "{error}"
    );
    let wrong = super::spec(
        "features = [\"age\"]\ntarget = \"y\"",
        &["builtin = \"impute\"\nconfig = { columns = [\"agee\"] }"],
    );
    let field = "preprocess[0].config.columns[0]";
    assert_refused(&data, &wrong, field, "did you mean `age`");
    let wrong = super::spec(
        "features = [\"age\"]\ntarget = \"y\"",
        &["builtin = \"impute\"\nconfig = { wiht = \"mean\" }"],
    );
    assert_refused(
        &data,
        &wrong,
        "preprocess[0].config.wiht",
        "did you mean `with`",
    );
}

#[test]
fn categories_are_those_of_the_training_rows() {
    let data = people();
    let spec = spec(
        "features = [\"city\"]\ntarget = \"y\"",
        &["builtin = \"one_hot\""],
    );
    let (pipeline, prepared) = data.prepare(&spec, 2).unwrap();
    // Kiel is held out and unknown, so its column is never set.
    assert_eq!(prepared.width, 3);
    let rows: Vec<&[f32]> = prepared.features.chunks(3).collect();
    let (bonn, ulm, none) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0; 3]);
    assert_eq!(rows, [&ulm, &bonn, &ulm, &none, &none]);
    let unseen = json!([{"city": "Ulm"}, {"city": "Rom"}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &unseen).unwrap();
    assert_eq!(predicted.features, [ulm, none].concat());
}

#[test]
fn whole_numbers_have_categories_too() {
    let data = Data::csv("code,y\n7,0\n-3,1\n7,0\n100,1\n");
    let step = "builtin = \"one_hot\"\nconfig = { columns = [\"code\"] }";
    let (_, prepared) = data.prepare(&spec("target = \"y\"", &[step]), 0).unwrap();
    let rows: Vec<&[f32]> = prepared.features.chunks(3).collect();
    let expected = [
        [0.0, 1.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn labels_of_text_become_classes() {
    let data = people();
    let labelled = spec(
        "features = [\"pay\"]\ntarget = \"city\"\nloss = \"cross_entropy\"",
        &[],
    );
    let error = data.prepare(&labelled, 0).err().unwrap().to_string();
    assert!(
        error.contains("row 4") && error.contains("no label"),
        "{error}"
    );
    let data = Data::csv("pay,kind\n1,dog\n2,cat\n3,dog\n");
    let labelled = spec("target = \"kind\"\nloss = \"cross_entropy\"", &[]);
    let (pipeline, prepared) = data.prepare(&labelled, 0).unwrap();
    assert_eq!(prepared.targets, [1.0, 0.0, 1.0]);
    assert_eq!(pipeline.labels().unwrap(), ["cat", "dog"]);
    assert_eq!(pipeline.columns_to_predict(), ["pay"]);
}

#[test]
fn numbers_are_clipped_at_limits_or_quantiles() {
    let data = people();
    let clip = |config: &str| {
        let step = format!("builtin = \"clip\"\nconfig = {config}");
        let spec = spec("features = [\"pay\"]\ntarget = \"y\"", &[&step]);
        data.prepare(&spec, 1).unwrap()
    };
    let (pipeline, prepared) = clip("{ columns = [\"pay\"], min = 2, max = 20 }");
    assert_eq!(prepared.features, [2.0, 2.0, 20.0, 4.0, 20.0]);
    let pay = pipeline.schema().column("pay").unwrap();
    assert_eq!(pay.statistics.as_ref().unwrap().max, 20.0);
    let (_, prepared) = clip("{ columns = [\"pay\"], quantiles = [0.0, 0.5] }");
    // Of 1, 2, 30, 4: 500 is held out.
    assert_eq!(prepared.features, [1.0, 2.0, 3.0, 3.0, 3.0]);
    for (config, field, part) in [
        ("{ columns = [\"pay\"] }", "config", "needs"),
        (
            "{ columns = [\"pay\"], min = 3, max = 1 }",
            "config.min",
            "nothing between",
        ),
        (
            "{ columns = [\"city\"], min = 3 }",
            "config.columns[0]",
            "is text",
        ),
        (
            "{ columns = [\"pay\"], quantiles = [0.9, 0.1] }",
            "config.quantiles",
            "lower",
        ),
    ] {
        let step = format!("builtin = \"clip\"\nconfig = {config}");
        let spec = spec("features = [\"pay\"]\ntarget = \"y\"", &[&step]);
        assert_refused(&data, &spec, &format!("preprocess[0].{field}"), part);
    }
}

#[test]
fn rows_without_a_value_are_left_out() {
    let data = people();
    let drop = "builtin = \"impute\"\nconfig = { columns = [\"age\"], with = \"drop\" }";
    let spec = spec("features = [\"pay\"]\ntarget = \"age\"", &[drop]);
    let (pipeline, prepared) = data.prepare(&spec, 2).unwrap();
    assert_eq!(prepared.targets, [20.0, 40.0, 50.0]);
    assert_eq!(
        (prepared.ids, prepared.held_out),
        (vec![0, 2, 3], vec![false, false, true])
    );
    assert!(!pipeline.keeps_rows());
    // What is to be predicted needn't be there.
    let rows = json!([{"pay": 7}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &rows).unwrap();
    assert_eq!(predicted.features, [7.0]);
}
