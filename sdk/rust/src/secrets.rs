//! The operations on secrets, and who one is.

use stoker_domain::view::{CallerView, SecretList, SecretView};

use crate::client::Client;
use crate::error::Result;
use crate::send::{Call, OCTETS};

impl Client {
    /// Writes a secret, in place of an older one of that name.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn put_secret(&self, name: &str, secret: &[u8]) -> Result<SecretView> {
        let url = self.url(&["v1", "secrets", name]);
        self.fetch(&Call::put(url).body(OCTETS, secret.to_vec()))
            .await
    }

    /// The names of the tenant's secrets.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_secrets(&self) -> Result<SecretList> {
        self.fetch(&Call::get(self.url(&["v1", "secrets"]))).await
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is none of that name.
    pub async fn delete_secret(&self, name: &str) -> Result<()> {
        let call = Call::delete(self.url(&["v1", "secrets", name]));
        self.fetch_bytes(&call).await.map(drop)
    }

    /// Who asks, as the server sees it.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn get_caller(&self) -> Result<CallerView> {
        self.fetch(&Call::get(self.url(&["v1", "caller"]))).await
    }
}
