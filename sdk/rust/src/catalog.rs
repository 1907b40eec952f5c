//! The operations on data sets, plugins and tokens, and on the server itself.

use futures::stream::BoxStream;
use reqwest::Url;
use serde::de::DeserializeOwned;
use stoker_domain::Ref;
use stoker_domain::dataset::{DataFormat, DatasetRecord};
use stoker_domain::plugin::PluginRecord;
use stoker_domain::view::{
    DatasetList, DatasetPreview, NewToken, PluginList, TokenCreated, TokenList,
};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::page;
use crate::send::{Call, JSON};
use crate::upload::{Prepared, Upload};

/// Whether a CSV's first row names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// It does when it holds no number.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It doesn't.
    No,
}

impl Header {
    /// The choice as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

/// A data set to be made: the first version of that name, or the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDataset {
    /// The name.
    pub name: String,
    /// How its bytes are written.
    pub format: DataFormat,
    /// Whether a CSV's first row names the columns; ignored for other formats.
    pub header: Header,
}

/// A data set that the server is to fetch by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDataset {
    /// The name.
    pub name: String,
    /// How its bytes are written; told by the URI's name when absent.
    pub format: Option<DataFormat>,
    /// Whether a CSV's first row names the columns; ignored for other formats.
    pub header: Header,
    /// `https://…` or `s3://bucket/key`, as the server's operator allows.
    pub from: String,
    /// The operator's name of the credentials to fetch it with.
    pub credentials: Option<String>,
}

impl Client {
    /// Makes a data set of what the server fetches. Under one key it is fetched once.
    ///
    /// # Errors
    /// When the call fails: `invalid_input` when the source isn't allowed or there is nothing;
    /// `unavailable` when it may be there later.
    pub async fn create_dataset_from(
        &self,
        new: &RemoteDataset,
        key: &IdempotencyKey,
    ) -> Result<DatasetRecord> {
        let mut url = self.url(&["v1", "datasets"]);
        let pairs = [
            ("name", Some(new.name.clone())),
            (
                "format",
                new.format.map(|format| format.as_str().to_owned()),
            ),
            ("header", Some(new.header.as_str().to_owned())),
            ("from", Some(new.from.clone())),
            ("credentials", new.credentials.clone()),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::post(url, key).slow()).await
    }

    /// Uploads a data set; one of more than 16 MiB in parts, each of which is sent again alone when it
    /// breaks. When the newest version of that name has the same bytes, that one is given back.
    ///
    /// # Errors
    /// When the file can't be read, its content isn't what the format says, or the call fails.
    pub async fn create_dataset(&self, new: &NewDataset, upload: &Upload) -> Result<DatasetRecord> {
        let mut url = self.url(&["v1", "datasets"]);
        let pairs = [
            ("name", Some(new.name.clone())),
            ("format", Some(new.format.as_str().to_owned())),
            ("header", Some(new.header.as_str().to_owned())),
        ];
        page::set_query(&mut url, pairs);
        let prepared = upload.prepare().await?;
        if prepared.goes_in_parts() {
            return self.create_of_parts(url, &prepared).await;
        }
        self.create_from(url, &prepared).await
    }

    /// A page of data sets, by name and version, from after `name@version`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_datasets(
        &self,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<DatasetList> {
        self.list_after("datasets", after, limit).await
    }

    /// All data sets, page after page.
    #[must_use]
    pub fn datasets(&self) -> BoxStream<'static, Result<DatasetRecord>> {
        let client = self.clone();
        page::paged(None, move |after: Option<String>| {
            let client = client.clone();
            async move {
                let page = client.list_datasets(after.as_deref(), None).await?;
                Ok((page.datasets, page.next))
            }
        })
    }

    /// A data set.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such data set.
    pub async fn get_dataset(&self, dataset: &Ref) -> Result<DatasetRecord> {
        self.get_by_ref("datasets", dataset).await
    }

    /// The first rows of a data set; the server's number of them when none is given.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such data set.
    pub async fn preview_dataset(
        &self,
        dataset: &Ref,
        rows: Option<u32>,
    ) -> Result<DatasetPreview> {
        let mut url = self.url(&["v1", "datasets", &dataset.to_string(), "preview"]);
        page::set_query(&mut url, [("rows", rows.map(|rows| rows.to_string()))]);
        self.fetch(&Call::get(url)).await
    }

    /// Removes one version of a data set.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_dataset(&self, dataset: &Ref) -> Result<()> {
        self.delete_by_ref("datasets", dataset).await
    }

    /// Uploads a plugin as `name@version`. When that version is there with the same bytes, it is
    /// given back.
    ///
    /// # Errors
    /// `plugin_rejected` with the reason when the module is refused; `conflict` when the version is
    /// there with other bytes; [`Error::Config`] when no version was given.
    pub async fn create_plugin(&self, plugin: &Ref, upload: &Upload) -> Result<PluginRecord> {
        let Some(version) = &plugin.version else {
            return Err(Error::Config {
                field: "plugin",
                message: format!("{:?} has no version: give name@version", plugin.name),
            });
        };
        let mut url = self.url(&["v1", "plugins"]);
        let pairs = [
            ("name", Some(plugin.name.clone())),
            ("version", Some(version.clone())),
        ];
        page::set_query(&mut url, pairs);
        self.create_from(url, &upload.prepare().await?).await
    }

    /// A page of plugins, by name and version, from after `name@version`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_plugins(
        &self,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<PluginList> {
        self.list_after("plugins", after, limit).await
    }

    /// All plugins, page after page.
    #[must_use]
    pub fn plugins(&self) -> BoxStream<'static, Result<PluginRecord>> {
        let client = self.clone();
        page::paged(None, move |after: Option<String>| {
            let client = client.clone();
            async move {
                let page = client.list_plugins(after.as_deref(), None).await?;
                Ok((page.plugins, page.next))
            }
        })
    }

    /// A plugin.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such plugin.
    pub async fn get_plugin(&self, plugin: &Ref) -> Result<PluginRecord> {
        self.get_by_ref("plugins", plugin).await
    }

    /// Removes one version of a plugin.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_plugin(&self, plugin: &Ref) -> Result<()> {
        self.delete_by_ref("plugins", plugin).await
    }

    /// Makes a token. The answer holds it; it can't be had again.
    ///
    /// # Errors
    /// When the call fails; `forbidden` when the role is above the caller's.
    pub async fn create_token(&self, new: &NewToken) -> Result<TokenCreated> {
        let json = serde_json::to_vec(new).map_err(|error| Error::Config {
            field: "token",
            message: error.to_string(),
        })?;
        let url = self.url(&["v1", "tokens"]);
        let call = Call::post(url, &IdempotencyKey::generate()).body(JSON, json);
        self.fetch(&call).await
    }

    /// The tenant's tokens.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_tokens(&self) -> Result<TokenList> {
        self.fetch(&Call::get(self.url(&["v1", "tokens"]))).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such token.
    pub async fn revoke_token(&self, id: &str) -> Result<()> {
        let call = Call::delete(self.url(&["v1", "tokens", id]));
        self.fetch_bytes(&call).await.map(drop)
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn get_health(&self) -> Result<()> {
        let call = Call::get(self.url(&["healthz"])).accept("*/*");
        self.fetch_bytes(&call).await.map(drop)
    }

    /// Whether the server can do work.
    ///
    /// # Errors
    /// `unavailable` when what it stands on is away, after all tries.
    pub async fn get_readiness(&self) -> Result<()> {
        let call = Call::get(self.url(&["readyz"])).accept("*/*");
        self.fetch_bytes(&call).await.map(drop)
    }

    /// The API's OpenAPI document.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn get_openapi(&self) -> Result<serde_json::Value> {
        self.fetch(&Call::get(self.url(&["openapi.json"]))).await
    }

    async fn create_from<T: DeserializeOwned>(&self, url: Url, prepared: &Prepared) -> Result<T> {
        self.fetch(&Call::post(url, prepared.upload.key()).upload(prepared))
            .await
    }

    async fn list_after<T: DeserializeOwned>(
        &self,
        what: &str,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<T> {
        let mut url = self.url(&["v1", what]);
        let pairs = [
            ("after", after.map(str::to_owned)),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    async fn get_by_ref<T: DeserializeOwned>(&self, what: &str, reference: &Ref) -> Result<T> {
        let url = self.url(&["v1", what, &reference.to_string()]);
        self.fetch(&Call::get(url)).await
    }

    async fn delete_by_ref(&self, what: &str, reference: &Ref) -> Result<()> {
        let url = self.url(&["v1", what, &reference.to_string()]);
        self.fetch_bytes(&Call::delete(url)).await.map(drop)
    }
}
