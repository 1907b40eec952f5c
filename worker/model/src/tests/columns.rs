//! What the compiler refuses of columns, recommenders and autoencoders.

use stoker_domain::FieldError;
use stoker_domain::dataset::{ColumnKind, Schema};
use stoker_domain::spec::{Format, JobSpec};

use super::column;
use crate::{Plan, Target, compile_job};

fn schema() -> Schema {
    Schema {
        rows: 100,
        columns: vec![
            column("rating", ColumnKind::Float, &[], 1.0),
            column("item", ColumnKind::Integer, &[], 1682.0),
            column("price", ColumnKind::Float, &[2], 9.0),
            column("user", ColumnKind::Integer, &[], 943.0),
            column("genres", ColumnKind::Integer, &[3], 18.0),
        ],
    }
}

fn job(model: &str, target: &str, loss: &str) -> String {
    format!(
        "name = \"r\"\n[data]\ndataset = \"r@1\"\n{target}\n[model]\n{model}\n[train]\nsteps = 1\nbatch_size = 8\nloss = \"{loss}\"\n"
    )
}

fn build(model: &str) -> Result<Plan, Vec<FieldError>> {
    let text = job(model, "target = \"rating\"", "bce");
    compile_job(&JobSpec::parse(&text, Format::Toml)?, &schema())
}

#[track_caller]
fn refuse(model: &str, field: &str, message: &str) {
    let errors = build(model).unwrap_err();
    let found = (errors.iter()).any(|e| e.field == field && e.message.contains(message));
    assert!(found, "{field}: {message} is not in {errors:?}");
}

#[test]
fn each_column_has_its_own_vocabulary() {
    let embedding = r#"{ type = "embedding", units = 4 }, { type = "flatten" }, { type = "linear", units = 1 }"#;
    for (columns, vocabulary) in [
        (r#"["user"]"#, 944),
        (r#"["item"]"#, 1683),
        (r#"["user", "item"]"#, 1683),
        (r#"["genres"]"#, 19),
    ] {
        let model =
            format!(r#"layers = [{{ type = "select", columns = {columns} }}, {embedding}]"#);
        let plan = build(&model).unwrap();
        assert_eq!(plan.parameters[0].shape, [vocabulary, 4], "{columns}");
        let json = serde_json::to_string(&plan).unwrap();
        assert!(!json.contains("genres"), "columns are no part of a plan");
    }
    // The features are item, price, user and genres: numbers 3 to 6 are ids.
    let range = r#"{ type = "select", first = 3, count = 4 }"#;
    let plan = build(&format!("layers = [{range}, {embedding}]")).unwrap();
    assert_eq!(plan.parameters[0].shape, [944, 4]);
    let range = r#"{ type = "select", first = 2, count = 2 }"#;
    refuse(
        &format!("layers = [{range}, {embedding}]"),
        "model.layers[1].vocabulary",
        "aren't all whole numbers",
    );
}

#[test]
fn selections_and_pairs_that_do_not_fit_are_named() {
    let layers = |layers: &str| format!("layers = [{layers}]");
    refuse(
        &layers(r#"{ type = "select", columns = ["usr"] }"#),
        "model.layers[0].columns[0]",
        "did you mean `user`?",
    );
    refuse(
        &layers(r#"{ type = "select", first = 5, count = 3 }"#),
        "model.layers[0].count",
        "up to 8 asked for, but 7 come in",
    );
    refuse(
        &layers(r#"{ type = "linear", units = 3 }, { type = "select", columns = ["user"] }"#),
        "model.layers[1]",
        "give `first` and `count`",
    );
    let wrong = "needs either `columns`, or `count`";
    refuse(&layers(r#"{ type = "select" }"#), "model.layers[0]", wrong);
    refuse(
        &layers(r#"{ type = "select", columns = ["user"], count = 1 }"#),
        "model.layers[0]",
        wrong,
    );
    let a =
        r#"{ type = "linear", units = 3, name = "a" }, { type = "linear", units = 4, name = "b" }"#;
    refuse(
        &layers(&format!(r#"{a}, {{ type = "dot", inputs = ["a", "b"] }}"#)),
        "model.layers[2]",
        "`a` gives [3]; `dot` needs inputs of one shape, the other gives [4]",
    );
    refuse(
        &layers(&format!(r#"{a}, {{ type = "dot" }}"#)),
        "model.layers[2].inputs",
        "1 inputs given, `dot` takes 2",
    );
    refuse(
        &layers(&format!(
            r#"{a}, {{ type = "interact", inputs = ["a", "b"] }}"#
        )),
        "model.layers[2]",
        "vectors of one size, another gives [4]",
    );
    refuse(
        &layers(&format!(r#"{a}, {{ type = "interact" }}"#)),
        "model.layers[2]",
        "needs 2 vectors or more",
    );
    refuse(
        &layers(&format!(
            r#"{a}, {{ type = "sample", inputs = ["a", "a"] }}"#
        )),
        "model.layers[2]",
        "not the same twice",
    );
    refuse(
        &layers(r#"{ type = "sample", beta = -1.0 }"#),
        "model.layers[0].beta",
        "-1 is not a number from 0",
    );
}

#[test]
fn recommenders_name_their_columns() {
    let of = |rest: &str| format!("family = \"recommender\"\n{rest}");
    let factors = "kind = \"matrix_factorisation\"\n";
    let pair = "user = \"user\"\nitem = \"item\"\n";
    assert_eq!(build(&of(&format!("{factors}{pair}"))).unwrap().outputs, 1);
    refuse(&of(factors), "model.user", "a column is needed");
    let same = of(&format!("{factors}user = \"user\"\nitem = \"user\"\n"));
    refuse(&same, "model.item", "the same column");
    let unknown = of(&format!("{factors}user = \"uses\"\nitem = \"item\"\n"));
    refuse(&unknown, "model.user", "did you mean `user`?");
    let wide = of(&format!("{factors}user = \"user\"\nitem = \"genres\"\n"));
    refuse(&wide, "model.item", "3 numbers per row, 1 needed");
    let numbers = of("kind = \"dlrm\"\ncategorical = [\"user\", \"price\"]\n");
    refuse(&numbers, "model.categorical[1]", "isn't whole numbers");
    let more = of(&format!("{factors}{pair}numeric = [\"price\"]\n"));
    refuse(&more, "model.numeric", "users and items alone");
    let tower = of(&format!(
        "kind = \"two_tower\"\n{pair}item_columns = [\"price\"]\n"
    ));
    refuse(&tower, "model.item_columns[0]", "in neither");
    let dlrm = "kind = \"dlrm\"\nuser = \"user\"\nnumeric = [\"price\"]\nhidden = [4]\n";
    let plan = build(&of(dlrm)).unwrap();
    // The bottom's 32 numbers and one product.
    assert_eq!(plan.parameters[3].shape, [4, 33]);
    let text = job(
        &of(&format!("{factors}{pair}")),
        "target = \"genres\"",
        "mse",
    );
    let job = JobSpec::parse(&text, Format::Toml).unwrap();
    let errors = compile_job(&job, &schema()).unwrap_err();
    assert_eq!(errors[0].field, "model.kind", "{errors:?}");
}

#[test]
fn normalisation_leaves_ids_alone() {
    let with_step = |model: &str| {
        let step = "[[preprocess]]\nbuiltin = \"normalise\"\n";
        let text = job(model, "target = \"rating\"", "bce") + step;
        compile_job(&JobSpec::parse(&text, Format::Toml).unwrap(), &schema())
    };
    let dlrm = "family = \"recommender\"\nkind = \"dlrm\"\nuser = \"user\"\ncategorical = [\"genres\"]\nnumeric = [\"price\"]\n";
    let ids: Vec<(usize, usize)> = (with_step(dlrm).unwrap().ids().into_iter())
        .map(|span| (span.first, span.count))
        .collect();
    // After item and price.
    assert_eq!(ids, [(3, 1), (4, 3)]);
    let all = r#"layers = [{ type = "select", columns = ["genres", "user", "item", "price"] }, { type = "linear", units = 1 }]"#;
    assert!(with_step(all).unwrap().ids().is_empty());
}

/// More columns than one `concat` joins.
#[test]
fn towers_and_pairs_take_many_columns() {
    let names: Vec<String> = (0..40).map(|index| format!("c{index}")).collect();
    let mut schema = schema();
    let more = names.iter();
    (schema.columns).extend(more.map(|name| column(name, ColumnKind::Integer, &[], 3.0)));
    let pair = "user = \"user\"\nitem = \"item\"\n";
    for (kind, parameters) in [("two_tower", 2 + 40 + 4), ("dlrm", 2 + 40 + 2)] {
        let model = format!(
            "family = \"recommender\"\nkind = \"{kind}\"\n{pair}dim = 2\ncategorical = {names:?}"
        );
        let text = job(&model, "target = \"rating\"", "bce");
        let job = JobSpec::parse(&text, Format::Toml).unwrap();
        let plan = compile_job(&job, &schema);
        // The item's tower is its embedding alone.
        let expected = if kind == "two_tower" {
            parameters - 2
        } else {
            parameters
        };
        assert_eq!(plan.unwrap().parameters.len(), expected, "{kind}");
    }
}

#[test]
fn autoencoders_predict_their_features() {
    let model = "family = \"autoencoder\"\nkind = \"vae\"\n";
    let features = "features = [\"price\", \"genres\"]";
    let of = |target: &str, loss: &str| {
        let job = JobSpec::parse(&job(model, target, loss), Format::Toml)?;
        compile_job(&job, &schema())
    };
    let plan = of(features, "mse").unwrap();
    assert_eq!((plan.input.target, plan.outputs), (Target::Values(5), 5));
    let errors = of(features, "bce").unwrap_err();
    assert_eq!(errors[0].field, "train.loss");
    assert!(
        errors[0].message.contains("`price` holds others"),
        "{errors:?}"
    );
    let errors = of(features, "cross_entropy").unwrap_err();
    assert_eq!(errors[0].field, "train.loss");
    let errors = of("target = \"rating\"", "mse").unwrap_err();
    assert_eq!(errors[0].field, "data.target");
}
