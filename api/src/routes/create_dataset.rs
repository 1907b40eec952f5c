//! How a data set comes in: in the body, as an upload in parts, or fetched from elsewhere.

use actix_web::{HttpResponse, post, web};
use futures::StreamExt;
use stoker_data::Header;
use stoker_domain::dataset::{DataFormat, DatasetRecord};
use stoker_domain::port::{SourceError, SourceRequest};
use stoker_domain::upload::Made;
use stoker_domain::view::Problem;
use stoker_domain::{ErrorCode, UploadId};

use super::catalog::Once;
use super::dataset_version::{Wanted, make};
use super::upload_store::{UploadStore, already};
use crate::extract::{
    Announced, Authorized, IdempotencyKey, Make, Params, Spool, Spooled, path_name,
};
use crate::problem::ApiError;

const HEADERS: [(&str, Header); 3] = [
    ("auto", Header::Auto),
    ("yes", Header::Yes),
    ("no", Header::No),
];

/// Creates a version of a data set. The bytes of the newest version give that version again.
#[utoipa::path(tag = "datasets", params(
    ("name" = String, Query, description = "the data set's name"),
    ("format" = Option<DataFormat>, Query, description = "how the bytes are written; only with `from` it may be left out, when the source's name tells it"),
    ("header" = Option<String>, Query, description = "whether a CSV's first row names the columns: `auto` (default), `yes` or `no`"),
    ("upload" = Option<UploadId>, Query, description = "take the bytes of this upload; the body is empty then"),
    ("from" = Option<String>, Query, description = "fetch the bytes from `https://…` or `s3://bucket/key`, where the operator allows it; the body is empty then"),
    ("credentials" = Option<String>, Query, description = "the operator's name of the credentials to fetch with"),
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
    ("Content-BLAKE3" = Option<String>, Header, description = "BLAKE3 of the data set's bytes, in hexadecimal digits"),
), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 201, body = DatasetRecord),
    (status = 200, body = DatasetRecord, description = "the newest version has these bytes"),
    (status = "default", body = Problem),
))]
#[post("/v1/datasets")]
pub(crate) async fn create_dataset(
    authorized: Authorized<Make>,
    key: IdempotencyKey,
    params: Params,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    params.only(&["name", "format", "header", "upload", "from", "credentials"])?;
    let origin = Origin::read(&params)?;
    let wanted = Wanted::read(&params, &origin)?;
    let _permit = authorized.uploads.try_acquire().map_err(|_| too_many())?;
    let (record, is_new) = match origin {
        Origin::Body => {
            let spooled = Spooled::receive(&announced, payload, spool(&authorized)?).await?;
            let once = wanted.once(key, &spooled.blake3);
            make(&authorized, once, wanted, &spooled, None).await?
        }
        Origin::Upload(id) => {
            announced.refuse_body(payload, "upload").await?;
            of_upload(&authorized, key, wanted, &announced, id).await?
        }
        Origin::Source { uri, credentials } => {
            announced.refuse_body(payload, "from").await?;
            of_source(&authorized, key, wanted, &announced, (uri, credentials)).await?
        }
    };
    Ok(if is_new {
        HttpResponse::Created().json(record)
    } else {
        HttpResponse::Ok().json(record)
    })
}

pub(super) fn too_many() -> ApiError {
    let detail = "too many uploads are in progress; try again";
    ApiError::new(ErrorCode::RateLimited, detail)
}

fn spool(authorized: &Authorized<Make>) -> Result<Spool, ApiError> {
    let config = &authorized.config;
    let (dir, max) = (config.spool_dir.as_deref(), config.dataset_max_bytes);
    Spool::new(dir, "data set", max)
}

/// Where the bytes are.
enum Origin<'a> {
    Body,
    Upload(UploadId),
    Source {
        uri: &'a str,
        credentials: Option<&'a str>,
    },
}

impl<'a> Origin<'a> {
    fn read(params: &'a Params) -> Result<Self, ApiError> {
        let credentials = params.text("credentials")?;
        match (params.text("upload")?, params.text("from")?) {
            (Some(_), Some(_)) => {
                let message = "`from` and `upload` exclude each other: the bytes are in one place";
                Err(ApiError::syntax_field("from", message))
            }
            (_, None) if credentials.is_some() => {
                let message = "is only for what `from` names, which is missing";
                Err(ApiError::syntax_field("credentials", message))
            }
            (Some(id), None) => path_name("upload", id).map(Self::Upload),
            (None, Some(uri)) => Ok(Self::Source { uri, credentials }),
            (None, None) => Ok(Self::Body),
        }
    }
}

impl Wanted {
    fn read(params: &Params, origin: &Origin<'_>) -> Result<Self, ApiError> {
        let name = params.name("name")?;
        let formats = DataFormat::ALL.map(|format| (format.as_str(), format));
        let format = match (params.one_of("format", &formats)?, origin) {
            (Some(format), _) => format,
            (None, Origin::Source { uri, .. }) => told_by_name(uri)?,
            (None, _) => {
                return Err(ApiError::syntax_field("format", "the parameter is missing"));
            }
        };
        Ok(Self {
            name,
            format,
            header: params.one_of("header", &HEADERS)?.unwrap_or_default(),
        })
    }
}

/// The format that the last part of a source's path stands for.
fn told_by_name(uri: &str) -> Result<DataFormat, ApiError> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    DataFormat::of_file_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let known = DataFormat::ALL.map(DataFormat::as_str).join(", ");
        let message = format!("the name {shown:?} doesn't tell it; give one of {known}");
        ApiError::syntax_field("format", message)
    })
}

/// The data set of an upload, which is used up by it.
async fn of_upload(
    authorized: &Authorized<Make>,
    key: IdempotencyKey,
    wanted: Wanted,
    announced: &Announced,
    id: UploadId,
) -> Result<(DatasetRecord, bool), ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    // A repeat is answered even when the upload is gone.
    if let Some(blake3) = announced.blake3() {
        let once = wanted.once(key.clone(), &blake3);
        if let Some(record) = once.earlier(app, tenant).await? {
            return Ok((record, true));
        }
    }
    let store = UploadStore::of(authorized);
    let upload = store.find(id).await?;
    if let Some(made) = &upload.made {
        let once = wanted.once(key, &made.blake3);
        let earlier = once.earlier(app, tenant).await?;
        let record = earlier.ok_or_else(|| already(id, made))?;
        return Ok((record, true));
    }
    let spooled = store.assemble(&upload, spool(authorized)?).await?;
    announced.check_hash(&spooled.blake3)?;
    let once = wanted.once(key, &spooled.blake3);
    let (record, is_new) = make(authorized, once, wanted, &spooled, None).await?;
    let made = Made {
        dataset: format!("{}@{}", record.name, record.version),
        blake3: spooled.blake3,
    };
    store.settle(upload, made).await;
    Ok((record, is_new))
}

/// The data set of a source, which is fetched once per key.
async fn of_source(
    authorized: &Authorized<Make>,
    key: IdempotencyKey,
    wanted: Wanted,
    announced: &Announced,
    (uri, credentials): (&str, Option<&str>),
) -> Result<(DatasetRecord, bool), ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let kind = format!("{:?} {:?}", wanted.format, wanted.header);
    let parts = [
        "dataset from",
        &wanted.name,
        &kind,
        uri,
        credentials.unwrap_or_default(),
    ];
    let once = Once::new(key, &parts.map(str::as_bytes));
    if let Some(record) = once.earlier(app, tenant).await? {
        return Ok((record, true));
    }
    let request = SourceRequest {
        tenant,
        uri,
        credentials,
    };
    let mut spool = spool(authorized)?;
    let mut source = app
        .ports
        .sources
        .open(&request)
        .await
        .map_err(not_fetched)?;
    let max = authorized.config.dataset_max_bytes;
    if source.size_bytes.is_some_and(|size| size > max) {
        return Err(ApiError::too_large("data set", max));
    }
    while let Some(chunk) = source.bytes.next().await {
        spool.write(&chunk.map_err(not_fetched)?).await?;
    }
    let spooled = spool.finish().await?;
    announced.check_hash(&spooled.blake3)?;
    make(authorized, once, wanted, &spooled, Some(source.shown)).await
}

fn not_fetched(error: SourceError) -> ApiError {
    match error {
        SourceError::Refused { field, message } => ApiError::invalid_field(field, message),
        SourceError::Failed {
            message,
            is_retryable: true,
        } => ApiError::new(ErrorCode::Unavailable, format!("{message}; try again")),
        SourceError::Failed { message, .. } => ApiError::invalid_field("from", message),
    }
}
