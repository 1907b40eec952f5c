//! The operations on API keys.

use stoker_domain::view::{ApiKeyCreated, ApiKeyList, NewApiKey};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::send::{Call, JSON};

impl Client {
    /// Makes an API key; an admin's. When the answer is lost the key is, too: it isn't tried again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create_key(&self, new: &NewApiKey) -> Result<ApiKeyCreated> {
        let json = serde_json::to_vec(new).map_err(|error| Error::Config {
            field: "key",
            message: error.to_string(),
        })?;
        let call = Call::post(self.url(&["v1", "keys"]), &IdempotencyKey::generate());
        let call = call.body(JSON, json);
        let bytes = self.try_fetch(&call).await.map_err(|failed| failed.error)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Decode(error.to_string()))
    }

    /// The tenant's API keys, without the keys themselves; an admin's.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_keys(&self) -> Result<ApiKeyList> {
        self.fetch(&Call::get(self.url(&["v1", "keys"]))).await
    }

    /// Revokes an API key; an admin's.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such key.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        let call = Call::delete(self.url(&["v1", "keys", id]));
        self.fetch_bytes(&call).await.map(drop)
    }
}
