//! The form of the stored keys, and how an older one becomes the present one.

use redis::aio::ConnectionManager;
use redis::{Cmd, RedisError};

use super::config::server;
use super::keys::Keys;
use crate::setup::SetupError;

/// Newest form of the stored keys that this version knows.
///
/// 2: the sets of tenants that have jobs, and of jobs that have metric points.
const FORM: i64 = 2;
/// Keys that one step of a search looks at.
const KEYS_PER_SCAN: usize = 1_000;

/// Marks the keys' form. An older one is brought up to date; that of a later version is refused.
pub(super) async fn check(
    connection: &mut ConnectionManager,
    keys: &Keys,
) -> Result<(), SetupError> {
    let asked = async {
        Cmd::set_nx(keys.form(), FORM)
            .exec_async(connection)
            .await?;
        Cmd::get(keys.form()).query_async::<i64>(connection).await
    };
    let found = asked.await.map_err(|error| server(&error))?;
    if found > FORM {
        return Err(SetupError::Newer {
            place: "redis".to_owned(),
            found,
            known: FORM,
        });
    }
    if found < FORM {
        tracing::info!("redis: the keys are of form {found} and become of form {FORM}");
        let brought = bring_up(connection, keys).await;
        brought.map_err(|error| server(&error))?;
    }
    Ok(())
}

/// From form 1. What is cut off is done again by the next who connects.
async fn bring_up(connection: &mut ConnectionManager, keys: &Keys) -> Result<(), RedisError> {
    for tenant in names_after(connection, &keys.jobs_of_any()).await? {
        Cmd::sadd(keys.tenants(), tenant)
            .exec_async(connection)
            .await?;
    }
    for job in names_after(connection, &keys.metrics_of_any()).await? {
        Cmd::zadd(keys.jobs_with_points(), job, 0)
            .exec_async(connection)
            .await?;
    }
    Cmd::set(keys.form(), FORM).exec_async(connection).await
}

/// What follows `beginning` in the names of all keys that begin so.
async fn names_after(
    connection: &mut ConnectionManager,
    beginning: &str,
) -> Result<Vec<String>, RedisError> {
    let mut pattern = String::new();
    for character in beginning.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    let mut names = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(&pattern)
            .arg("COUNT")
            .arg(KEYS_PER_SCAN);
        let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
        names.extend(
            keys.iter()
                .filter_map(|key| key.strip_prefix(beginning))
                .map(str::to_owned),
        );
        if next == 0 {
            return Ok(names);
        }
        cursor = next;
    }
}
