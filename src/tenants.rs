//! Tenants and their first tokens: made by who runs the platform, with the keys at hand.

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use stoker_api::Grant;
use stoker_domain::TenantId;
use stoker_domain::port::{CatalogKind, Expect, PLATFORM, Put};
use stoker_domain::tenant::{Role, TenantRecord, TokenRecord};

use crate::config::Config;
use crate::wiring::World;

/// How long a first token lives: a year.
const TOKEN_LIFE_MS: u64 = 365 * 24 * 3_600_000;
/// The tenant that `stoker up` makes.
const FIRST: &str = "local";

/// Makes a tenant, and its first token, an admin's. The token is shown once.
pub(crate) async fn create(
    world: &World,
    config: &Config,
    id: &TenantId,
) -> anyhow::Result<SecretString> {
    if record(world, id).await? == Put::Conflict {
        bail!("tenant {id} is there already");
    }
    mint(world, config, id, Role::Admin).await
}

/// The first tenant's token, made anew at each start; the tenant is made if it isn't there.
pub(crate) async fn ensure_first(
    world: &World,
    config: &Config,
    role: Role,
) -> anyhow::Result<SecretString> {
    let id = FIRST.parse()?;
    record(world, &id).await?;
    mint(world, config, &id, role).await
}

async fn record(world: &World, id: &TenantId) -> anyhow::Result<Put> {
    let platform = PLATFORM.parse()?;
    let record = TenantRecord {
        record_version: 1,
        id: id.clone(),
        created_at: world.clock.now(),
    };
    let value = serde_json::to_value(record)?;
    let catalog = &world.catalog;
    Ok(catalog
        .put(
            CatalogKind::Tenant,
            &platform,
            id.as_str(),
            &value,
            Expect::Absent,
        )
        .await?)
}

async fn mint(
    world: &World,
    config: &Config,
    tenant: &TenantId,
    role: Role,
) -> anyhow::Result<SecretString> {
    let key = world.keys().signing()?;
    let created_at = world.clock.now();
    let record = TokenRecord {
        record_version: 1,
        id: uuid::Uuid::now_v7().simple().to_string(),
        subject: "first-token".to_owned(),
        role,
        created_at,
        expires_at: created_at.plus_millis(TOKEN_LIFE_MS),
        revoked: false,
    };
    let grant = Grant {
        id: Some(&record.id),
        subject: &record.subject,
        tenant,
        role,
        issued_at: created_at,
        expires_at: record.expires_at,
    };
    let token = key.sign(&grant, &config.api.auth)?;
    let value = serde_json::to_value(&record)?;
    let put = world.catalog.put(
        CatalogKind::Token,
        tenant,
        &record.id,
        &value,
        Expect::Absent,
    );
    put.await.context("can't record the token")?;
    Ok(token.into())
}
