//! Every route with every role: who gets in.

use serde_json::Value;
use stoker_domain::port::{Catalog, CatalogKind, Entry, PLATFORM};
use stoker_domain::tenant::Role;

use super::harness::{Answer, SPEC, TestApp, send};
use crate::openapi;

/// Operation, method, path and the least role; `None` for everyone. `{…}` name nothing.
const ROUTES: [(&str, &str, &str, Option<Role>); 63] = [
    ("get_health", "GET", "/healthz", None),
    ("get_readiness", "GET", "/readyz", None),
    ("get_openapi", "GET", "/openapi.json", None),
    ("create_job", "POST", "/v1/jobs", Some(Role::Developer)),
    ("quote_job", "POST", "/v1/jobs/quote", Some(Role::Developer)),
    (
        "predict",
        "POST",
        "/v1/jobs/{id}/predict",
        Some(Role::Developer),
    ),
    (
        "replay_job",
        "POST",
        "/v1/jobs/{id}/replay",
        Some(Role::Developer),
    ),
    (
        "diff_jobs",
        "GET",
        "/v1/jobs/{id}/diff?with={id}",
        Some(Role::Viewer),
    ),
    ("list_jobs", "GET", "/v1/jobs", Some(Role::Viewer)),
    ("get_job", "GET", "/v1/jobs/{id}", Some(Role::Viewer)),
    (
        "explain_job",
        "GET",
        "/v1/jobs/{id}/explain",
        Some(Role::Viewer),
    ),
    (
        "cancel_job",
        "POST",
        "/v1/jobs/{id}/cancel",
        Some(Role::Developer),
    ),
    (
        "pause_job",
        "POST",
        "/v1/jobs/{id}/pause",
        Some(Role::Developer),
    ),
    (
        "resume_job",
        "POST",
        "/v1/jobs/{id}/resume",
        Some(Role::Developer),
    ),
    (
        "delete_job",
        "DELETE",
        "/v1/jobs/{id}",
        Some(Role::Developer),
    ),
    (
        "list_events",
        "GET",
        "/v1/jobs/{id}/events",
        Some(Role::Viewer),
    ),
    (
        "list_metrics",
        "GET",
        "/v1/jobs/{id}/metrics",
        Some(Role::Viewer),
    ),
    ("list_logs", "GET", "/v1/jobs/{id}/logs", Some(Role::Viewer)),
    (
        "list_artifacts",
        "GET",
        "/v1/jobs/{id}/artifacts",
        Some(Role::Viewer),
    ),
    (
        "get_artifact",
        "GET",
        "/v1/jobs/{id}/artifacts/{name}",
        Some(Role::Viewer),
    ),
    (
        "create_upload",
        "POST",
        "/v1/uploads",
        Some(Role::Developer),
    ),
    ("list_uploads", "GET", "/v1/uploads", Some(Role::Viewer)),
    ("get_upload", "GET", "/v1/uploads/{id}", Some(Role::Viewer)),
    (
        "head_upload",
        "HEAD",
        "/v1/uploads/{id}",
        Some(Role::Viewer),
    ),
    (
        "append_upload",
        "PATCH",
        "/v1/uploads/{id}",
        Some(Role::Developer),
    ),
    (
        "delete_upload",
        "DELETE",
        "/v1/uploads/{id}",
        Some(Role::Developer),
    ),
    (
        "create_dataset",
        "POST",
        "/v1/datasets",
        Some(Role::Developer),
    ),
    ("list_datasets", "GET", "/v1/datasets", Some(Role::Viewer)),
    (
        "get_dataset",
        "GET",
        "/v1/datasets/{reference}",
        Some(Role::Viewer),
    ),
    (
        "preview_dataset",
        "GET",
        "/v1/datasets/{reference}/preview",
        Some(Role::Viewer),
    ),
    (
        "delete_dataset",
        "DELETE",
        "/v1/datasets/{reference}",
        Some(Role::Developer),
    ),
    (
        "create_plugin",
        "POST",
        "/v1/plugins",
        Some(Role::Developer),
    ),
    ("list_plugins", "GET", "/v1/plugins", Some(Role::Viewer)),
    (
        "get_plugin",
        "GET",
        "/v1/plugins/{reference}",
        Some(Role::Viewer),
    ),
    (
        "delete_plugin",
        "DELETE",
        "/v1/plugins/{reference}",
        Some(Role::Developer),
    ),
    ("create_token", "POST", "/v1/tokens", Some(Role::Admin)),
    ("list_tokens", "GET", "/v1/tokens", Some(Role::Admin)),
    (
        "revoke_token",
        "DELETE",
        "/v1/tokens/{id}",
        Some(Role::Admin),
    ),
    (
        "batch_jobs",
        "POST",
        "/v1/jobs/batch",
        Some(Role::Developer),
    ),
    ("list_pools", "GET", "/v1/pools", Some(Role::Viewer)),
    ("get_pool", "GET", "/v1/pools/{pool}", Some(Role::Viewer)),
    ("put_pool", "PUT", "/v1/pools/{pool}", Some(Role::Operator)),
    ("list_workers", "GET", "/v1/workers", Some(Role::Operator)),
    (
        "cordon_worker",
        "POST",
        "/v1/pools/{pool}/workers/{worker}/cordon",
        Some(Role::Operator),
    ),
    (
        "drain_worker",
        "POST",
        "/v1/pools/{pool}/workers/{worker}/drain",
        Some(Role::Operator),
    ),
    (
        "uncordon_worker",
        "POST",
        "/v1/pools/{pool}/workers/{worker}/uncordon",
        Some(Role::Operator),
    ),
    (
        "put_secret",
        "PUT",
        "/v1/secrets/{name}",
        Some(Role::Developer),
    ),
    ("list_secrets", "GET", "/v1/secrets", Some(Role::Developer)),
    (
        "delete_secret",
        "DELETE",
        "/v1/secrets/{name}",
        Some(Role::Developer),
    ),
    ("get_caller", "GET", "/v1/caller", Some(Role::Viewer)),
    ("create_key", "POST", "/v1/keys", Some(Role::Admin)),
    ("list_keys", "GET", "/v1/keys", Some(Role::Admin)),
    ("revoke_key", "DELETE", "/v1/keys/{id}", Some(Role::Admin)),
    ("create_project", "POST", "/v1/projects", Some(Role::Admin)),
    ("list_projects", "GET", "/v1/projects", Some(Role::Viewer)),
    (
        "get_project",
        "GET",
        "/v1/projects/{project}",
        Some(Role::Viewer),
    ),
    (
        "put_project",
        "PUT",
        "/v1/projects/{project}",
        Some(Role::Admin),
    ),
    (
        "delete_project",
        "DELETE",
        "/v1/projects/{project}",
        Some(Role::Admin),
    ),
    (
        "add_member",
        "PUT",
        "/v1/projects/{project}/members/{subject}",
        Some(Role::Admin),
    ),
    (
        "remove_member",
        "DELETE",
        "/v1/projects/{project}/members/{subject}",
        Some(Role::Admin),
    ),
    ("list_audit", "GET", "/v1/audit", Some(Role::Admin)),
    ("list_usage", "GET", "/v1/usage", Some(Role::Viewer)),
    ("sum_usage", "GET", "/v1/usage/sums", Some(Role::Viewer)),
];

#[test]
fn the_table_has_every_route() {
    let mut listed: Vec<&str> = ROUTES.iter().map(|(name, ..)| *name).collect();
    let mut served = openapi::HANDLERS.to_vec();
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served);
}

#[tokio::test]
async fn every_route_lets_in_who_may_and_no_one_else() {
    let app = TestApp::start().await;
    let id = app.submitted().await.to_string();
    let before = app.stored().await;
    for (name, method, path, least) in ROUTES {
        // The job is there; all else that a path names isn't.
        let path = match name {
            "revoke_token" | "revoke_key" => path.to_owned(),
            name if name.ends_with("_upload") => path.to_owned(),
            _ => path.replace("{id}", &id),
        };
        let Some(least) = least else {
            send(app.bare(method, &path)).await.expect(200);
            continue;
        };
        // The answer to HEAD has no body.
        let problem = |answer: Answer, status, code| match method {
            "HEAD" => answer.expect(status),
            _ => answer.expect_problem(status, code, ""),
        };
        let bare = send(app.bare(method, &path)).await;
        problem(bare, 401, "unauthenticated");
        // A replay is asked for by its key alone.
        let keyed = |request: reqwest::RequestBuilder| match name {
            "replay_job" => request.header("Idempotency-Key", "a key"),
            _ => request,
        };
        for role in [Role::Viewer, Role::Developer, Role::Admin, Role::Operator] {
            // What changes something is tried on what isn't there.
            let path = if method == "GET" {
                path.clone()
            } else {
                path.replace(&id, "job-x")
            };
            let request = app.request_as("acme", role, method, &path);
            let answer = send(keyed(request)).await;
            if role < least {
                let answer = problem(answer, 403, "forbidden");
                let told = String::from_utf8_lossy(&answer.body).into_owned();
                let is_told = method == "HEAD" || told.contains(least.as_str());
                assert!(is_told, "{name}: {told}");
            } else {
                let expected = match (method, path.contains('{') || path.contains("job-x")) {
                    (_, true) => 404,
                    ("GET", false) => 200,
                    // Its one header is the type of its body.
                    _ if name == "quote_job" => 415,
                    _ => 400,
                };
                answer.expect(expected);
            }
        }
        if path.contains(&id) {
            let request = app.request_as("other", Role::Operator, method, &path);
            let answer = send(keyed(request)).await;
            problem(answer, 404, "not_found");
        }
    }
    assert_eq!(app.stored().await, before);
}

/// What `acme` has, by its place in a path.
struct Things {
    /// A job of the closed project `vision`.
    job: String,
    /// By the collection: `{id}`, `{reference}`, `{name}` and the like of its paths.
    named: Vec<(&'static str, &'static str, String)>,
}

async fn made(app: &TestApp, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Value {
    let request = app.request_as("acme", Role::Admin, method, path);
    let request = request.header("Idempotency-Key", format!("{method} {path}"));
    let request = request.header("Content-Type", "application/toml");
    let answer = send(request.body(body.into())).await;
    assert!((200..300).contains(&answer.status), "{method} {path}");
    answer.json()
}

async fn things(app: &TestApp) -> Things {
    app.upload_points().await;
    made(
        app,
        "POST",
        "/v1/plugins?name=augment&version=1",
        "preprocess",
    )
    .await;
    made(app, "PUT", "/v1/secrets/hook", "s3cret").await;
    made(app, "POST", "/v1/projects", r#"{"name": "vision"}"#).await;
    let member = "/v1/projects/vision/members/grace";
    made(app, "PUT", member, r#"{"role": "developer"}"#).await;
    let spec = format!("project = \"vision\"\n{SPEC}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let job = text(&made(app, "POST", "/v1/jobs", spec).await["id"]);
    let upload = made(app, "POST", "/v1/uploads?size_bytes=5", "").await;
    let token = r#"{"subject": "grace", "role": "viewer", "expires_in_s": 600}"#;
    let token = made(app, "POST", "/v1/tokens", token).await;
    let key = r#"{"name": "ci", "role": "viewer", "expires_in_s": 600}"#;
    let key = made(app, "POST", "/v1/keys", key).await;
    Things {
        job: job.clone(),
        named: vec![
            ("/v1/jobs/", "{id}", job),
            ("/v1/jobs/", "{name}", "weights.safetensors".to_owned()),
            ("/v1/uploads/", "{id}", text(&upload["id"])),
            ("/v1/datasets/", "{reference}", "points@1".to_owned()),
            ("/v1/plugins/", "{reference}", "augment@1".to_owned()),
            ("/v1/tokens/", "{id}", text(&token["record"]["id"])),
            ("/v1/keys/", "{id}", text(&key["record"]["id"])),
            ("/v1/secrets/", "{name}", "hook".to_owned()),
            ("/v1/projects/", "{project}", "vision".to_owned()),
            ("/v1/projects/", "{subject}", "grace".to_owned()),
        ],
    }
}

impl Things {
    /// The path of what `acme` has.
    fn path(&self, path: &str) -> String {
        let here = self
            .named
            .iter()
            .filter(|(root, ..)| path.starts_with(root));
        here.fold(path.to_owned(), |path, (_, part, name)| {
            path.replace(part, name)
        })
    }

    /// Whether a text tells of any of it.
    fn told_in(&self, text: &str) -> bool {
        let names = self.named.iter().map(|(.., name)| name.as_str());
        names
            .chain(["acme"])
            .any(|name| text.contains(&format!("\"{name}\"")))
    }
}

/// All documents of `acme` and of the platform.
async fn documents(app: &TestApp) -> Vec<Entry> {
    let mut all = Vec::new();
    for tenant in ["acme", PLATFORM] {
        let tenant = tenant.parse().unwrap();
        for kind in [
            CatalogKind::Dataset,
            CatalogKind::DatasetMark,
            CatalogKind::Plugin,
            CatalogKind::Token,
            CatalogKind::Pool,
            CatalogKind::Worker,
            CatalogKind::Secret,
            CatalogKind::ApiKey,
            CatalogKind::Project,
            CatalogKind::Audit,
        ] {
            all.extend(app.store.list(kind, &tenant, "", None, 100).await.unwrap());
        }
    }
    all
}

/// With a token that isn't good, as another tenant's operator, and with a key for another project:
/// nobody sees or changes what there is.
#[tokio::test]
async fn every_route_is_closed_to_bad_tokens_other_tenants_and_other_projects() {
    let app = TestApp::start().await;
    let things = things(&app).await;
    made(&app, "POST", "/v1/projects?", r#"{"name": "lab"}"#).await;
    let key = r#"{"name": "lab", "role": "developer", "expires_in_s": 600, "project": "lab"}"#;
    let key = made(&app, "POST", "/v1/keys?", key).await["key"].clone();
    let before = (app.stored().await, documents(&app).await);
    let good = app.token("acme", Role::Operator);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().rev().collect();
    let bad = [
        "nonsense".to_owned(),
        format!("{head}."),
        format!("{head}.{flipped}"),
        format!("stk_{}", "0".repeat(64)),
    ];
    for (name, method, pattern, least) in ROUTES {
        if least.is_none() {
            continue;
        }
        let path = things.path(pattern);
        let ask = async |token: &str| {
            let request = app.bare(method, &path).bearer_auth(token);
            send(request.header("Idempotency-Key", format!("stranger {name}"))).await
        };
        for token in &bad {
            ask(token).await.expect(401);
        }
        for (who, token) in [
            ("another tenant", app.token("other", Role::Operator)),
            (
                "a key for another project",
                key.as_str().unwrap().to_owned(),
            ),
        ] {
            let answer = ask(&token).await;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            let of_tenant = who == "another tenant";
            if path.contains(&things.job) {
                assert_eq!(answer.status, 404, "{name} by {who}: {told}");
            } else if of_tenant && path != pattern {
                assert!(answer.status >= 400, "{name} by {who}: {told}");
            }
            if of_tenant {
                assert!(!things.told_in(&told), "{name} tells {who}: {told}");
            }
            assert!(
                !told.contains(&things.job) || answer.status >= 400,
                "{name}: {told}"
            );
        }
    }
    assert_eq!((app.stored().await, documents(&app).await), before);
    // What is refused to a stranger is there for its own.
    for (name, method, path, _) in ROUTES {
        let theirs = things.path(path);
        if method == "GET" && theirs != path && name != "get_artifact" {
            send(app.request_as("acme", Role::Admin, method, &theirs))
                .await
                .expect(200);
        }
    }
}
