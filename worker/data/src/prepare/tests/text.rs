//! Steps that make numbers of text.

use serde_json::json;

use super::{Data, assert_refused, predict, spec};

fn mails() -> Data {
    Data::csv(
        "text,y\n\"Buy now, buy cheap\",1\nlunch at noon?,0\nbuy lunch,0\n\"meeting moved, see notes\",0\n",
    )
}

#[test]
fn words_are_counted_in_buckets() {
    let data = mails();
    let step = "builtin = \"hash\"\nconfig = { mode = \"words\", buckets = 512 }";
    let spec = spec("target = \"y\"", &[step]);
    let (pipeline, prepared) = data.prepare(&spec, 1).unwrap();
    assert_eq!(prepared.width, 512);
    let rows: Vec<&[f32]> = prepared.features.chunks(512).collect();
    for row in &rows {
        let norm: f32 = row.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }
    let dot = |a: usize, b: usize| -> f32 { rows[a].iter().zip(rows[b]).map(|(a, b)| a * b).sum() };
    assert!(dot(0, 2) > 0.1 && dot(1, 2) > 0.1 && dot(0, 1) < 1e-6);
    let again = json!([{"text": "lunch at noon?"}, {"text": "BUY lunch"}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &again).unwrap();
    assert_eq!(predicted.features, [rows[1], rows[2]].concat());
}

#[test]
fn values_become_ids() {
    let data = Data::csv("user,y\nu1,1\nu2,2\nu1,3\n");
    let step = "builtin = \"hash\"\nconfig = { buckets = 1000 }";
    let (pipeline, prepared) = data.prepare(&spec("target = \"y\"", &[step]), 0).unwrap();
    let ids = &prepared.features;
    assert!(ids[0] == ids[2] && ids[0] != ids[1] && ids.iter().all(|&id| id < 1000.0));
    let user = pipeline.schema().column("user").unwrap();
    assert_eq!(user.statistics.as_ref().unwrap().max, 999.0);
    let few = "builtin = \"hash\"\nconfig = { buckets = 1 }";
    assert_refused(
        &data,
        &spec("target = \"y\"", &[few]),
        "preprocess[0].config.buckets",
        "2 to",
    );
}

#[test]
fn characters_have_the_training_rows_ids() {
    let data = Data::csv("text,y\nab,1\nba,2\nzz,3\n");
    let step = "builtin = \"tokenise\"\nconfig = { kind = \"chars\", length = 3 }";
    let spec = spec("target = \"y\"", &[step]);
    let (pipeline, prepared) = data.prepare(&spec, 1).unwrap();
    // 0 ends a row; 1 is what no training row has.
    let expected = [[2.0, 3.0, 0.0], [3.0, 2.0, 0.0], [1.0, 1.0, 0.0]];
    assert_eq!(prepared.features, expected.concat());
    let text = pipeline.schema().column("text").unwrap();
    assert_eq!(text.shape, [3]);
    assert_eq!(text.statistics.as_ref().unwrap().max, 255.0);
}

#[test]
fn lines_are_packed_into_rows_of_one_length() {
    let data = Data::csv("text\nabcde\nfgh\nXY\nZ\n");
    let step = "builtin = \"tokenise\"\nconfig = { kind = \"bytes\", length = 4, pack = true }";
    let packed = spec(
        "features = [\"text\"]\ntarget = \"next\"\nloss = \"cross_entropy\"",
        &[step],
    );
    let (pipeline, prepared) = data.prepare(&packed, 2).unwrap();
    let text = |numbers: &[f32]| -> String {
        numbers.iter().map(|&id| char::from(id as u8 - 2)).collect()
    };
    let rows: Vec<_> = prepared.features.chunks(4).map(text).collect();
    let next: Vec<_> = prepared.targets.chunks(4).map(text).collect();
    assert_eq!(rows, ["abcd", "e\nfg", "XY\nZ"]);
    assert_eq!(next, ["bcde", "\nfgh", "Y\nZ\n"]);
    assert_eq!(prepared.held_out, [false, false, true]);
    assert!(pipeline.counts().is_none() && !pipeline.keeps_rows());
}

#[test]
fn byte_pairs_are_the_same_each_time() {
    let lines = (0..60).map(|n| format!("the {} cats sat on the mat number {n}\n", n % 7));
    let data = Data::csv(&format!("text\n{}", lines.collect::<String>()));
    let step = "builtin = \"tokenise\"\nconfig = { vocabulary = 300, length = 16, pack = true }";
    let packed = spec(
        "features = [\"text\"]\ntarget = \"next\"\nloss = \"cross_entropy\"",
        &[step],
    );
    let (pipeline, prepared) = data.prepare(&packed, 6).unwrap();
    for _ in 0..3 {
        let (again, rows) = data.prepare(&packed, 6).unwrap();
        assert_eq!(rows, prepared);
        assert_eq!(again.save(), pipeline.save());
    }
    let bytes: usize = 54 * "the 1 cats sat on the mat number 12\n".len();
    let tokens = prepared.held_out.iter().filter(|held| !**held).count() * 16;
    assert!(tokens * 3 < bytes, "{tokens} tokens of {bytes} bytes");
    assert!(
        prepared
            .features
            .iter()
            .all(|&id| (2.0..300.0).contains(&id))
    );
}

#[test]
fn a_given_tokenizer_is_used_as_it_is() {
    let data = Data::csv("text,y\nRed blue,1\ngreen,2\nblue red red,3\n")
        .with_tokenizer("words@1", crate::tokenizer::SAMPLE);
    let step = |more: &str| {
        format!("builtin = \"tokenise\"\nconfig = {{ tokenizer = \"words@1\", length = 4{more} }}")
    };
    let of = |more: &str| {
        let spec = spec("target = \"y\"", &[&step(more)]);
        let (pipeline, prepared) = data.prepare(&spec, 1).unwrap();
        (spec, pipeline, prepared.features)
    };
    let (spec, pipeline, rows) = of("");
    let expected = [[2, 3, 5, 0], [2, 1, 0, 0], [2, 5, 3, 3]].concat();
    assert_eq!(
        rows,
        expected.iter().map(|&id| id as f32).collect::<Vec<f32>>()
    );
    let text = pipeline.schema().column("text").unwrap();
    assert_eq!(text.statistics.as_ref().unwrap().max, 5.0);
    // The model takes the tokenizer with it.
    let again = serde_json::json!([{"text": "red green"}]);
    let predicted = predict(&data, &spec, &pipeline.save(), &again).unwrap();
    assert_eq!(predicted.features, [2.0, 3.0, 1.0, 0.0]);
    let (_, _, plain) = of(", marks = false, padding = 1");
    let expected = [[3, 5, 1, 1], [1, 1, 1, 1], [5, 3, 3, 1]].concat();
    assert_eq!(
        plain,
        expected.iter().map(|&id| id as f32).collect::<Vec<f32>>()
    );
    for (more, field) in [
        (", kind = \"bpe\"", "kind"),
        (", vocabulary = 300", "vocabulary"),
        (", lower = true", "lower"),
        (", padding = 6", "padding"),
    ] {
        let spec = super::spec("target = \"y\"", &[&step(more)]);
        assert_refused(&data, &spec, &format!("preprocess[0].config.{field}"), "");
    }
    for (config, field, part) in [
        (
            "tokenizer = \"other@1\"",
            "tokenizer",
            "no tokenizer `other@1`",
        ),
        ("marks = true", "marks", "goes with `tokenizer`"),
        ("padding = 0", "padding", "goes with `tokenizer`"),
    ] {
        let step = format!("builtin = \"tokenise\"\nconfig = {{ {config} }}");
        let spec = super::spec("target = \"y\"", &[&step]);
        assert_refused(&data, &spec, &format!("preprocess[0].config.{field}"), part);
    }
}
