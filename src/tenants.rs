//! Tenants and their first tokens: made by who runs the platform, with the keys at hand.

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use stoker_domain::TenantId;
use stoker_domain::port::{CatalogKind, Expect, PLATFORM, Put};
use stoker_domain::tenant::{Role, TenantRecord};

use crate::config::Config;
use crate::wiring::World;

/// The tenant that `stoker up` makes.
const FIRST: &str = "local";

/// Makes a tenant, and its first token, an admin's. The token is shown once.
pub(crate) async fn create(world: &World, config: &Config, id: &TenantId) -> anyhow::Result<SecretString> {
    if record(world, id).await? == Put::Conflict {
        bail!("tenant {id} is there already");
    }
    mint(world, config, id, Role::Admin, 365).await
}

/// The first tenant's token, made anew at each start; the tenant is made if it isn't there.
pub(crate) async fn ensure_first(
    world: &World,
    config: &Config,
    role: Role,
    days: u64,
) -> anyhow::Result<SecretString> {
    let id = FIRST.parse()?;
    record(world, &id).await?;
    mint(world, config, &id, role, days).await
}

async fn record(world: &World, id: &TenantId) -> anyhow::Result<Put> {
    let platform = PLATFORM.parse()?;
    let record = TenantRecord { record_version: 1, id: id.clone(), created_at: world.clock.now() };
    let value = serde_json::to_value(record)?;
    let catalog = &world.catalog;
    Ok(catalog.put(CatalogKind::Tenant, &platform, id.as_str(), &value, Expect::Absent).await?)
}

async fn mint(
    world: &World,
    config: &Config,
    tenant: &TenantId,
    role: Role,
    days: u64,
) -> anyhow::Result<SecretString> {
    let key = world.keys().signing()?;
    let life_s = days * 24 * 3600;
    let (token, record) = stoker_api::mint(
        &key,
        &config.api.auth,
        tenant,
        "first-token",
        role,
        life_s,
        world.clock.now(),
    )?;
    let value = serde_json::to_value(&record)?;
    let put = world.catalog.put(CatalogKind::Token, tenant, &record.id, &value, Expect::Absent);
    put.await.context("can't record the token")?;
    Ok(token)
}
