//! The OpenAPI document and the pages about errors say what is so.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use stoker_domain::ErrorCode;

use super::harness::{TestApp, send};
use crate::{openapi, problem};

fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

/// Operation, method and path of all that the document describes.
fn described() -> Vec<(String, String, String)> {
    let document = document();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            found.push((id, method.to_uppercase(), path.clone()));
        }
    }
    found
}

#[tokio::test]
async fn what_is_described_is_served_and_the_reverse() {
    let described = described();
    let ids: BTreeSet<&str> = described.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids, openapi::HANDLERS.iter().copied().collect());
    assert_eq!(described.len(), openapi::HANDLERS.len());
    let app = TestApp::start().await;
    for (id, method, path) in described {
        // A route that wasn't served would answer 404 or 405 before it asks for a token.
        let expected = if path.starts_with("/v1/") { 401 } else { 200 };
        let answer = send(app.bare(&method, &path)).await;
        assert_eq!(answer.status, expected, "{id}");
    }
}

#[test]
fn the_design_names_every_operation() {
    let design = include_str!("../../../docs/api-design.md");
    for id in openapi::HANDLERS {
        assert!(
            design.contains(&format!("`{id}`")),
            "{id} isn't in docs/api-design.md"
        );
    }
}

#[test]
fn all_but_the_health_pages_ask_for_a_token() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    assert_eq!(document["security"][0]["bearer"], serde_json::json!([]));
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let own = operation.get("security");
            assert_eq!(own.is_some(), !path.starts_with("/v1/"), "{path}");
        }
    }
}

#[test]
fn every_schema_that_is_named_is_there() {
    let document = document();
    let text = document.to_string();
    let mut names = BTreeSet::new();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        names.insert(reference.split('"').next().unwrap().to_owned());
    }
    assert!(names.len() > 20);
    for name in names {
        let schema = &document["components"]["schemas"][&name];
        assert!(schema.is_object(), "{name} is named and not there");
    }
}

#[test]
fn the_document_is_as_it_was() {
    insta::assert_json_snapshot!("openapi", document());
}

#[test]
fn every_error_code_has_a_page_that_names_its_status() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    let mut expected = BTreeSet::new();
    for code in ErrorCode::ALL {
        let name = format!("{}.md", code.as_str());
        let page = std::fs::read_to_string(pages.join(&name));
        let page = page.unwrap_or_else(|_| panic!("docs/errors/{name} is missing"));
        assert!(
            page.starts_with(&format!("# `{}`\n", code.as_str())),
            "{name}"
        );
        let status = problem::status(code).as_u16().to_string();
        assert!(page.contains(&status), "{name} doesn't name {status}");
        for part in ["## What it means", "## What to do", "## Example"] {
            assert!(page.contains(part), "{name} has no {part:?}");
        }
        expected.insert(name);
    }
    let found: BTreeSet<String> = (std::fs::read_dir(pages).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}
