//! Tokenizers that a job is given.

use super::harness::{Answer, TestApp, send};

/// Two words.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "red": 1, "blue": 2}, "unk_token": "[UNK]"}}"#;
const SPEC: &str = r#"
name = "colours"
[data]
dataset = "texts@1"
target = "y"
[[preprocess]]
builtin = "tokenise"
config = { tokenizer = "words", length = 4 }
[model]
input = [4]
layers = [{ type = "embedding", units = 4 }, { type = "flatten" }, { type = "linear", units = 2 }]
[train]
epochs = 1
batch_size = 2
loss = "cross_entropy"
"#;

async fn app() -> TestApp {
    let app = TestApp::start().await;
    let texts = "text,y\nred,0\nblue red,1\nred red,0\nblue,1\n";
    app.upload("name=texts&format=csv", texts).await.expect(201);
    let query = "name=words&format=tokenizer";
    let made = app.upload(query, TOKENIZER).await.expect(201).json();
    assert_eq!(made["schema"]["rows"], 3);
    app
}

#[tokio::test]
async fn a_tokenizer_is_pinned_and_stays_while_it_is_used() {
    let app = app().await;
    let job = app.submit("k", SPEC).await.expect(202).json();
    let step = &job["spec"]["preprocess"][0]["config"];
    assert_eq!(step["tokenizer"], "words@1");
    let pinned = &job["inputs"]["tokenizers"]["words@1"];
    assert_eq!(pinned["ids"], 3);
    let expected = blake3::hash(TOKENIZER.as_bytes()).to_hex();
    assert_eq!(pinned["blake3"], expected.as_str());
    let used = send(app.request("DELETE", "/v1/datasets/words@1")).await;
    used.expect_problem(409, "conflict", "");
}

#[tokio::test]
async fn another_thing_is_refused_at_its_field() {
    let app = app().await;
    let refused =
        async |from: &str, to: &str| -> Answer { app.submit(to, &SPEC.replace(from, to)).await };
    let field = "preprocess[0].config.tokenizer";
    for (name, part) in [
        ("\"texts\"", "is csv"),
        ("\"wrds\"", "did you mean `words`"),
        ("\"words@7\"", "its versions: 1"),
        ("\"no name\"", "no name"),
        ("7", "7"),
    ] {
        let answer = refused("\"words\"", name).await;
        let told = String::from_utf8_lossy(&answer.body);
        assert!(told.contains(part), "{name}: {told}");
        answer.expect_problem(422, "invalid_input", field);
    }
    let answer = refused("dataset = \"texts@1\"", "dataset = \"words@1\"").await;
    answer.expect_problem(422, "invalid_input", "data.dataset");
}
