//! The contract of [`Catalog`].
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use futures::future::join_all;
use serde_json::json;

use super::fixture::tenant;
use crate::port::{Catalog, CatalogKind, Document, Expect, Idempotency, Put, Submission};

/// Makes one test of each contract of the catalog.
#[macro_export]
macro_rules! catalog_suite {
    ($open:expr) => {
        $crate::contract_tests!(
            catalog,
            $open,
            [
                a_document_is_written_once,
                a_write_names_the_revision_it_saw,
                of_many_writers_one_wins,
                lists_go_by_key_and_prefix,
                lists_are_paged,
                tenants_and_kinds_are_apart,
                a_removed_document_is_gone,
                a_submitted_document_is_written_once_per_key,
                of_many_submits_of_one_key_one_writes,
                documents_are_written_with_what_they_tell_of_or_not_at_all,
            ]
        );
    };
}

const KIND: CatalogKind = CatalogKind::Dataset;

async fn add(catalog: &dyn Catalog, key: &str) {
    let put = catalog
        .put(KIND, &tenant("acme"), key, &json!(key), Expect::Absent, &[])
        .await;
    assert_eq!(put.unwrap(), Put::Written, "{key}");
}

async fn keys(
    catalog: &dyn Catalog,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let list = catalog
        .list(KIND, &tenant("acme"), prefix, after, limit)
        .await;
    list.unwrap().into_iter().map(|entry| entry.key).collect()
}

/// `Absent` writes where nothing is, and only there.
pub async fn a_document_is_written_once(catalog: &dyn Catalog) {
    let acme = tenant("acme");
    assert_eq!(catalog.get(KIND, &acme, "digits@1").await.unwrap(), None);
    let value = json!({ "rows": 1797, "name": "dígits: \"1\"" });
    let put = catalog
        .put(KIND, &acme, "digits@1", &value, Expect::Absent, &[])
        .await
        .unwrap();
    assert_eq!(put, Put::Written);
    let again = catalog
        .put(KIND, &acme, "digits@1", &json!(0), Expect::Absent, &[])
        .await
        .unwrap();
    assert_eq!(again, Put::Conflict);
    let entry = catalog.get(KIND, &acme, "digits@1").await.unwrap().unwrap();
    assert_eq!(
        (entry.key.as_str(), entry.revision, entry.value),
        ("digits@1", 1, value)
    );
}

/// `Revision` writes over what was seen, and nothing else.
pub async fn a_write_names_the_revision_it_saw(catalog: &dyn Catalog) {
    let acme = tenant("acme");
    for revision in [0, 1] {
        let early = catalog
            .put(KIND, &acme, "a", &json!(0), Expect::Revision(revision), &[])
            .await;
        assert_eq!(
            early.unwrap(),
            Put::Conflict,
            "nothing has revision {revision} yet"
        );
    }
    add(catalog, "a").await;
    let second = catalog
        .put(KIND, &acme, "a", &json!(2), Expect::Revision(1), &[])
        .await
        .unwrap();
    assert_eq!(second, Put::Written);
    let repeated = catalog
        .put(KIND, &acme, "a", &json!(3), Expect::Revision(1), &[])
        .await
        .unwrap();
    assert_eq!(repeated, Put::Conflict);
    let entry = catalog.get(KIND, &acme, "a").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.value), (2, json!(2)));
}

/// Writers that saw the same can't both write.
pub async fn of_many_writers_one_wins(catalog: &dyn Catalog) {
    let acme = tenant("acme");
    add(catalog, "a").await;
    let values: Vec<_> = (0..8).map(|n| json!(n)).collect();
    let puts = values
        .iter()
        .map(|value| catalog.put(KIND, &acme, "a", value, Expect::Revision(1), &[]));
    let written = join_all(puts)
        .await
        .into_iter()
        .filter(|put| *put == Ok(Put::Written));
    assert_eq!(written.count(), 1);
    assert_eq!(
        catalog
            .get(KIND, &acme, "a")
            .await
            .unwrap()
            .unwrap()
            .revision,
        2
    );
}

/// Keys come in byte order; only those with the prefix.
pub async fn lists_go_by_key_and_prefix(catalog: &dyn Catalog) {
    for key in ["b@1", "a@2", "a@10", "a.b@1", "Z@1", "ab@1"] {
        add(catalog, key).await;
    }
    let all = ["Z@1", "a.b@1", "a@10", "a@2", "ab@1", "b@1"];
    assert_eq!(keys(catalog, "", None, 100).await, all);
    assert_eq!(keys(catalog, "a@", None, 100).await, ["a@10", "a@2"]);
    assert!(keys(catalog, "c", None, 100).await.is_empty());
}

/// The next page begins after the last key.
pub async fn lists_are_paged(catalog: &dyn Catalog) {
    for key in ["a@1", "a@2", "a@3", "b@1"] {
        add(catalog, key).await;
    }
    assert_eq!(keys(catalog, "a@", None, 2).await, ["a@1", "a@2"]);
    assert_eq!(keys(catalog, "a@", Some("a@2"), 2).await, ["a@3"]);
    assert_eq!(
        keys(catalog, "a@", Some("0"), 1).await,
        ["a@1"],
        "a cursor before the prefix"
    );
    assert!(
        keys(catalog, "a@", Some("b"), 2).await.is_empty(),
        "a cursor after the prefix"
    );
}

/// A key of another tenant or kind is another key.
pub async fn tenants_and_kinds_are_apart(catalog: &dyn Catalog) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    add(catalog, "a").await;
    assert_eq!(catalog.get(KIND, &other, "a").await.unwrap(), None);
    assert_eq!(
        catalog.get(CatalogKind::Plugin, &acme, "a").await.unwrap(),
        None
    );
    assert!(
        catalog
            .list(KIND, &other, "", None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!catalog.delete(KIND, &other, "a", &[]).await.unwrap());
    let put = catalog
        .put(KIND, &other, "a", &json!(0), Expect::Absent, &[])
        .await
        .unwrap();
    assert_eq!(put, Put::Written);
}

/// After its removal a key is free again.
pub async fn a_removed_document_is_gone(catalog: &dyn Catalog) {
    let acme = tenant("acme");
    add(catalog, "a").await;
    assert!(catalog.delete(KIND, &acme, "a", &[]).await.unwrap());
    assert!(!catalog.delete(KIND, &acme, "a", &[]).await.unwrap());
    assert_eq!(catalog.get(KIND, &acme, "a").await.unwrap(), None);
    assert!(keys(catalog, "", None, 10).await.is_empty());
    add(catalog, "a").await;
}

fn request(key: &str, body: &str) -> Idempotency {
    Idempotency {
        key: key.to_owned(),
        body_blake3: body.to_owned(),
        answer: format!("answer to {body}"),
    }
}

/// A repeat gets the first answer, another request under the key is told so; neither writes.
pub async fn a_submitted_document_is_written_once_per_key(catalog: &dyn Catalog) {
    let (acme, value) = (tenant("acme"), json!({"a": 1}));
    let submit = async |tenant, key: Option<&str>, request: &Idempotency| {
        let document = key.map(|key| (key, &value));
        catalog
            .submit(KIND, tenant, document, request, &[])
            .await
            .unwrap()
    };
    let first = request("k1", "one");
    assert_eq!(
        submit(&acme, Some("x@1"), &first).await,
        Submission::Written
    );
    let replayed = Submission::Replayed {
        answer: "answer to one".to_owned(),
    };
    assert_eq!(submit(&acme, Some("x@1"), &first).await, replayed);
    assert_eq!(submit(&acme, Some("x@2"), &first).await, replayed);
    assert_eq!(submit(&acme, None, &first).await, replayed);
    let other = request("k1", "two");
    assert_eq!(
        submit(&acme, Some("x@2"), &other).await,
        Submission::Mismatch
    );
    // What is there isn't written over, and the key stays free.
    let second = request("k2", "two");
    assert_eq!(
        submit(&acme, Some("x@1"), &second).await,
        Submission::Conflict
    );
    assert_eq!(
        submit(&acme, Some("x@3"), &second).await,
        Submission::Written
    );
    let none = request("k3", "three");
    assert_eq!(submit(&acme, None, &none).await, Submission::Written);
    assert!(matches!(
        submit(&acme, None, &none).await,
        Submission::Replayed { .. }
    ));
    assert_eq!(keys(catalog, "", None, 9).await, ["x@1", "x@3"]);
    let entry = catalog.get(KIND, &acme, "x@1").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.value), (1, value.clone()));
    // Tenants' keys are apart.
    let zeta = tenant("zeta");
    assert_eq!(
        submit(&zeta, Some("x@1"), &other).await,
        Submission::Written
    );
}

/// Submits of one key at the same time: one is written, the others get its answer.
pub async fn of_many_submits_of_one_key_one_writes(catalog: &dyn Catalog) {
    let (acme, value, request) = (tenant("acme"), json!(1), request("k", "one"));
    let names: Vec<String> = (0..16).map(|index| format!("n@{index}")).collect();
    let submits = names
        .iter()
        .map(|key| catalog.submit(KIND, &acme, Some((key, &value)), &request, &[]));
    let outcomes: Vec<Submission> = join_all(submits)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let written = outcomes.iter().filter(|o| **o == Submission::Written);
    assert_eq!(written.count(), 1, "{outcomes:?}");
    let replayed = |o: &&Submission| matches!(o, Submission::Replayed { .. });
    assert_eq!(outcomes.iter().filter(replayed).count(), 15, "{outcomes:?}");
    assert_eq!(keys(catalog, "n@", None, 99).await.len(), 1);
}

/// What is written with a document is there exactly when the document is.
pub async fn documents_are_written_with_what_they_tell_of_or_not_at_all(catalog: &dyn Catalog) {
    let (acme, zeta, value) = (tenant("acme"), tenant("zeta"), json!(1));
    let also = |key: &str| {
        [("one", &acme), ("two", &zeta)].map(|(name, tenant)| Document {
            kind: CatalogKind::Audit,
            tenant: tenant.clone(),
            key: format!("{key} {name}"),
            value: json!({ "told": key }),
        })
    };
    let told = async |key: &str| {
        let kind = CatalogKind::Audit;
        let one = catalog.get(kind, &acme, &format!("{key} one")).await;
        let two = catalog.get(kind, &zeta, &format!("{key} two")).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.is_some(), two.is_some());
        assert!(
            one.iter()
                .all(|entry| entry.value == json!({ "told": key }))
        );
        one.map(|entry| entry.revision)
    };
    for (key, expect, written) in [
        ("put", Expect::Absent, Some(1)),
        ("twice", Expect::Absent, None),
        ("stale", Expect::Revision(9), None),
        ("over", Expect::Revision(1), Some(1)),
    ] {
        let also = also(key);
        let put = catalog.put(KIND, &acme, "a", &value, expect, &also);
        assert_eq!(put.await.unwrap() == Put::Written, written.is_some());
        assert_eq!(told(key).await, written, "{key}");
    }
    let requests = [
        ("submit", Some("b"), request("k1", "one"), Some(1)),
        ("replayed", Some("c"), request("k1", "one"), None),
        ("mismatch", Some("c"), request("k1", "two"), None),
        ("conflict", Some("a"), request("k2", "two"), None),
        ("answer", None, request("k3", "three"), Some(1)),
    ];
    for (key, name, request, written) in requests {
        let document = name.map(|name| (name, &value));
        let also = also(key);
        let submit = catalog.submit(KIND, &acme, document, &request, &also);
        submit.await.unwrap();
        assert_eq!(told(key).await, written, "{key}");
    }
    for (key, written) in [("delete", Some(1)), ("gone", None)] {
        let also = also(key);
        let delete = catalog.delete(KIND, &acme, "b", &also);
        assert_eq!(delete.await.unwrap(), written.is_some());
        assert_eq!(told(key).await, written, "{key}");
    }
    // The same again is written over.
    let also = also("put");
    let put = catalog.put(KIND, &acme, "a", &value, Expect::Revision(2), &also);
    assert_eq!(put.await.unwrap(), Put::Written);
    assert_eq!(told("put").await, Some(2));
    let kind = CatalogKind::Audit;
    let listed = catalog.list(kind, &acme, "", None, 99).await.unwrap();
    assert_eq!(listed.len(), 5);
}
