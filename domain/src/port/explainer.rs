//! Says why a job waits.

use async_trait::async_trait;

use super::StoreError;
use crate::explain::{Explanation, WhatIf};
use crate::job::JobRecord;

/// Says why a job waits, by asking what decides.
#[async_trait]
pub trait Explainer: Send + Sync {
    /// What is to be said of a job in its pool as it is now, or as it would be; `None` when it
    /// neither waits nor has a worker. The record may say another pool than the stored one does.
    async fn explain(
        &self,
        job: &JobRecord,
        what_if: Option<&WhatIf>,
    ) -> Result<Option<Explanation>, StoreError>;
}
