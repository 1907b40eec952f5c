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
const DAY_MS: u64 = 24 * 3_600_000;
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
    let id_of_token = uuid::Uuid::now_v7().simple().to_string();
    let token = new_token(world, id_of_token, Role::Admin);
    keep(world, id, &token).await?;
    sign(world, config, id, &token)
}

/// The first tenant's token, the same at each start until it was revoked or its end is near; the
/// tenant is made if it isn't there.
pub(crate) async fn ensure_first(
    world: &World,
    config: &Config,
    role: Role,
) -> anyhow::Result<SecretString> {
    let id = FIRST.parse()?;
    record(world, &id).await?;
    for number in 1.. {
        let name = format!("first-{number}");
        let found = world.catalog.get(CatalogKind::Token, &id, &name).await?;
        let token = match found {
            Some(entry) => serde_json::from_value(entry.value)?,
            None => {
                let token = new_token(world, name, role);
                keep(world, &id, &token).await?;
                token
            }
        };
        if !token.revoked && token.role == role && is_lasting(world, &token) {
            return sign(world, config, &id, &token);
        }
    }
    bail!("no first token can be made")
}

/// Whether a token has more than a day to live.
fn is_lasting(world: &World, token: &TokenRecord) -> bool {
    world.clock.now().plus_millis(DAY_MS) < token.expires_at
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
            &[],
        )
        .await?)
}

fn new_token(world: &World, id: String, role: Role) -> TokenRecord {
    let created_at = world.clock.now();
    TokenRecord {
        record_version: 1,
        id,
        subject: "first-token".to_owned(),
        role,
        created_at,
        expires_at: created_at.plus_millis(TOKEN_LIFE_MS),
        revoked: false,
    }
}

/// Signs a token by its record: the same record gives the same token.
fn sign(
    world: &World,
    config: &Config,
    tenant: &TenantId,
    record: &TokenRecord,
) -> anyhow::Result<SecretString> {
    let key = world.keys().signing()?;
    let grant = Grant {
        id: Some(&record.id),
        subject: &record.subject,
        tenant,
        role: record.role,
        issued_at: record.created_at,
        expires_at: record.expires_at,
    };
    Ok(key.sign(&grant, &config.api.auth)?.into())
}

/// Records a token, so that it can be revoked.
async fn keep(world: &World, tenant: &TenantId, record: &TokenRecord) -> anyhow::Result<()> {
    let value = serde_json::to_value(record)?;
    let put = world.catalog.put(
        CatalogKind::Token,
        tenant,
        &record.id,
        &value,
        Expect::Absent,
        &[],
    );
    put.await.context("can't record the token")?;
    Ok(())
}
