//! The operations on the audit log and on use.

use stoker_domain::Timestamp;
use stoker_domain::view::{AuditList, UsageBy, UsageList, UsageSums};

use crate::client::Client;
use crate::error::Result;
use crate::page;
use crate::send::Call;

/// Which changes to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// By this subject.
    pub actor: Option<String>,
    /// By this operation.
    pub action: Option<String>,
    /// Of this thing.
    pub target: Option<String>,
    /// From after this entry: `next` of the page before.
    pub after: Option<String>,
    /// Most entries looked at for the page; the server's choice when absent.
    pub limit: Option<u32>,
}

/// Which attempts' use to list or sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// Ended at this time or later.
    pub from: Option<Timestamp>,
    /// Ended before this time.
    pub to: Option<Timestamp>,
}

impl Client {
    /// A page of what was changed in the tenant, oldest first; an admin's.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<AuditList> {
        let mut url = self.url(&["v1", "audit"]);
        let pairs = [
            ("from", query.from.map(|at| at.to_string())),
            ("actor", query.actor.clone()),
            ("action", query.action.clone()),
            ("target", query.target.clone()),
            ("after", query.after.clone()),
            ("limit", query.limit.map(|limit| limit.to_string())),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    /// A page of what attempts used, oldest first, from after `after`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_usage(&self, query: &UsageQuery, after: Option<&str>) -> Result<UsageList> {
        let mut url = self.url(&["v1", "usage"]);
        let pairs = [
            ("from", query.from.map(|at| at.to_string())),
            ("to", query.to.map(|at| at.to_string())),
            ("after", after.map(str::to_owned)),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    /// What attempts used, summed.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn sum_usage(&self, by: UsageBy, query: &UsageQuery) -> Result<UsageSums> {
        let mut url = self.url(&["v1", "usage", "sums"]);
        let pairs = [
            ("by", Some(by.as_str().to_owned())),
            ("from", query.from.map(|at| at.to_string())),
            ("to", query.to.map(|at| at.to_string())),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }
}
