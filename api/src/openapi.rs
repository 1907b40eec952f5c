//! The list of handlers: what the server serves and what the OpenAPI document describes.

use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::web::ServiceConfig;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, PathItem, RefOr};
use utoipa::{Modify, OpenApi};

use crate::problem::PROBLEM;
use crate::routes::{
    artifacts, audit, batch, create_dataset, create_job, datasets, events, explain, health, jobs,
    keys, logs, metrics, plugins, pools, predict, preview, projects, quote_job, replay, secrets,
    tokens, uploads, workers,
};

/// Declares each route once: served and documented by the same line.
macro_rules! routes {
    ($($module:ident :: $handler:ident),* $(,)?) => {
        /// Registers every handler.
        pub(crate) fn configure(config: &mut ServiceConfig) {
            $(config.service($module::$handler);)*
        }

        /// The handlers' names, in the order of the document.
        #[cfg(test)]
        pub(crate) const HANDLERS: &[&str] = &[$(stringify!($handler)),*];

        #[derive(OpenApi)]
        #[openapi(
            info(title = "Stoker", description = "Trains AI models as jobs."),
            paths($($module::$handler),*),
            security(("bearer" = [])),
            modifiers(&Bearer, &Problems),
        )]
        struct Api;
    };
}

routes! {
    health::get_health,
    health::get_readiness,
    health::get_openapi,
    create_job::create_job,
    quote_job::quote_job,
    predict::predict,
    replay::replay_job,
    replay::diff_jobs,
    jobs::list_jobs,
    jobs::get_job,
    explain::explain_job,
    jobs::cancel_job,
    jobs::pause_job,
    jobs::resume_job,
    jobs::delete_job,
    batch::batch_jobs,
    events::list_events,
    metrics::list_metrics,
    logs::list_logs,
    artifacts::list_artifacts,
    artifacts::get_artifact,
    uploads::create_upload,
    uploads::list_uploads,
    uploads::get_upload,
    uploads::head_upload,
    uploads::append_upload,
    uploads::delete_upload,
    create_dataset::create_dataset,
    datasets::list_datasets,
    datasets::get_dataset,
    preview::preview_dataset,
    datasets::delete_dataset,
    plugins::create_plugin,
    plugins::list_plugins,
    plugins::get_plugin,
    plugins::delete_plugin,
    tokens::create_token,
    tokens::list_tokens,
    tokens::revoke_token,
    pools::list_pools,
    pools::get_pool,
    pools::put_pool,
    workers::list_workers,
    workers::cordon_worker,
    workers::drain_worker,
    workers::uncordon_worker,
    secrets::put_secret,
    secrets::list_secrets,
    secrets::delete_secret,
    secrets::get_caller,
    keys::create_key,
    keys::list_keys,
    keys::revoke_key,
    projects::create_project,
    projects::list_projects,
    projects::get_project,
    projects::put_project,
    projects::delete_project,
    projects::add_member,
    projects::remove_member,
    audit::list_audit,
    audit::list_usage,
    audit::sum_usage,
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Says of errors that they are problems (RFC 9457), which the handlers' attributes can't once for all.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| {
            [
                &mut item.get,
                &mut item.head,
                &mut item.post,
                &mut item.put,
                &mut item.patch,
                &mut item.delete,
            ]
        });
        let answers = operations
            .flatten()
            .flat_map(|operation| &mut operation.responses.responses);
        for (status, answer) in answers {
            if let RefOr::T(answer) = answer
                && !status.starts_with('2')
                && let Some(content) = answer.content.swap_remove("application/json")
            {
                answer.content.insert(PROBLEM.to_owned(), content);
            }
        }
    }
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(Api::openapi);

/// The OpenAPI 3.1 document of the API.
#[must_use]
pub fn document() -> &'static Document {
    &DOCUMENT
}

/// The methods that are served at `path`; empty when it isn't one of ours.
pub(crate) fn methods_of(path: &str) -> Vec<Method> {
    let fits = |template: &str| {
        let (mut given, mut wanted) = (path.split('/'), template.split('/'));
        loop {
            match (given.next(), wanted.next()) {
                (None, None) => return true,
                (Some(given), Some(wanted))
                    if given == wanted || (wanted.starts_with('{') && !given.is_empty()) => {}
                _ => return false,
            }
        }
    };
    let items = DOCUMENT.paths.paths.iter();
    items
        .filter(|(template, _)| fits(template))
        .flat_map(|(_, item)| methods(item))
        .collect()
}

fn methods(item: &PathItem) -> Vec<Method> {
    [
        (item.get.is_some(), Method::GET),
        (item.head.is_some(), Method::HEAD),
        (item.post.is_some(), Method::POST),
        (item.put.is_some(), Method::PUT),
        (item.patch.is_some(), Method::PATCH),
        (item.delete.is_some(), Method::DELETE),
    ]
    .into_iter()
    .filter(|(is_there, _)| *is_there)
    .map(|(_, method)| method)
    .collect()
}
