//! `stoker pool`, and the verbs of `stoker worker` that talk to a server.

use std::time::Duration;

use clap::{Args, Subcommand};
use stoker_domain::pool::{PoolSettings, Share};
use stoker_domain::time::Millis;
use stoker_domain::{PoolName, TenantId, WorkerId};
use stoker_sdk::view::{PoolView, WorkerView};

use super::exit::Failure;
use super::show::number;
use super::table::{Table, duration, size};
use super::{Session, argument};

/// What to do with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List pools.
    List,
    /// Show a pool and how it is shared.
    Get {
        /// The pool.
        pool: PoolName,
    },
    /// Set a pool up; what isn't given stays. For operators.
    Set(Set),
    /// Give a tenant a share of its own; what isn't given stays. For operators.
    Share(SetShare),
}

/// Settings of a pool.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The pool.
    pool: PoolName,
    /// What a device costs for an hour.
    #[arg(long, value_name = "PRICE")]
    price: Option<f64>,
    /// After this time use counts half as much against its tenant.
    #[arg(long, value_parser = argument::duration, value_name = "DURATION")]
    half_life: Option<Duration>,
    /// How long an attempt runs before another job may take its place.
    #[arg(long, value_parser = argument::duration, value_name = "DURATION")]
    min_run_time: Option<Duration>,
}

/// A tenant's share of a pool.
#[derive(Debug, Args)]
pub(crate) struct SetShare {
    /// The pool.
    pool: PoolName,
    /// The tenant.
    tenant: TenantId,
    /// Who weighs twice as much gets twice as much, 1 to 1000.
    #[arg(long)]
    weight: Option<u32>,
    /// Devices that are the tenant's whenever it asks.
    #[arg(long, value_name = "N")]
    devices: Option<u32>,
    /// Most devices at a time; `none` for no limit.
    #[arg(long, value_parser = limit, value_name = "N")]
    devices_max: Option<Limit>,
    /// Most jobs at a time; `none` for no limit.
    #[arg(long, value_parser = limit, value_name = "N")]
    jobs_max: Option<Limit>,
    /// Back to the default share.
    #[arg(long, conflicts_with_all = ["weight", "devices", "devices_max", "jobs_max"])]
    reset: bool,
}

/// A number, or none.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => (text.parse())
            .map(|number| Limit(Some(number)))
            .map_err(|_| format!("{text:?} is neither a number nor `none`")),
    }
}

/// Runs a verb.
pub(super) async fn run(command: PoolCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let view = match command {
        PoolCommand::List => {
            let list = client.list_pools().await?;
            match output.json() {
                true => output.document(&list)?,
                false => output.line(&pools(&list.pools)),
            }
            return Ok(());
        }
        PoolCommand::Get { pool } => client.get_pool(&pool).await?,
        PoolCommand::Set(set) => {
            let before = settings(session, &set.pool).await?;
            let millis = |given: Option<Duration>, before: Millis| {
                given.map_or(before, |given| {
                    Millis(u64::try_from(given.as_millis()).unwrap_or(u64::MAX))
                })
            };
            let settings = PoolSettings {
                price_per_device_hour: set.price.unwrap_or(before.price_per_device_hour),
                usage_half_life: millis(set.half_life, before.usage_half_life),
                min_run_time: millis(set.min_run_time, before.min_run_time),
                ..before
            };
            client.put_pool(&set.pool, &settings).await?
        }
        PoolCommand::Share(set) => {
            let mut settings = settings(session, &set.pool).await?;
            let before = settings.share(&set.tenant);
            settings.tenants.remove(&set.tenant);
            if !set.reset {
                let share = Share {
                    weight: set.weight.unwrap_or(before.weight),
                    devices: set.devices.unwrap_or(before.devices),
                    devices_max: set.devices_max.map_or(before.devices_max, |max| max.0),
                    jobs_max: set.jobs_max.map_or(before.jobs_max, |max| max.0),
                };
                settings.tenants.insert(set.tenant, share);
            }
            client.put_pool(&set.pool, &settings).await?
        }
    };
    match output.json() {
        true => output.document(&view)?,
        false => output.line(&pool(&view)),
    }
    Ok(())
}

/// How the pool is shared now; a new pool has the defaults.
async fn settings(session: &Session, pool: &PoolName) -> Result<PoolSettings, Failure> {
    let list = session.client.list_pools().await?;
    let found = list.pools.into_iter().find(|view| view.name == *pool);
    Ok(found.map_or_else(PoolSettings::default, |view| view.settings))
}

fn pools(pools: &[PoolView]) -> String {
    let mut table = Table::new([
        "POOL", "WORKERS", "DEVICES", "BUSY", "RUNNING", "QUEUED", "PRICE",
    ]);
    for view in pools {
        table.row([
            view.name.to_string(),
            view.workers.to_string(),
            view.devices.to_string(),
            view.busy.to_string(),
            view.running.to_string(),
            view.queued.to_string(),
            number(view.settings.price_per_device_hour),
        ]);
    }
    table.render()
}

fn pool(view: &PoolView) -> String {
    let settings = &view.settings;
    let mut fields = Table::of_fields();
    fields.field("pool", view.name.to_string());
    fields.field("workers", view.workers.to_string());
    fields.field("devices", format!("{}, {} busy", view.devices, view.busy));
    fields.field(
        "jobs",
        format!("{} running, {} queued", view.running, view.queued),
    );
    let price = number(settings.price_per_device_hour);
    fields.field("price", format!("{price} for a device and hour"));
    fields.field("half-life of use", duration(settings.usage_half_life.0));
    fields.field("min run time", duration(settings.min_run_time.0));
    let mut text = fields.render();
    if !settings.tenants.is_empty() {
        let mut shares = Table::new(["TENANT", "WEIGHT", "DEVICES", "AT MOST", "JOBS AT MOST"]);
        for (tenant, share) in &settings.tenants {
            let most = |max: Option<u32>| max.map_or("-".to_owned(), |max| max.to_string());
            shares.row([
                tenant.to_string(),
                share.weight.to_string(),
                share.devices.to_string(),
                most(share.devices_max),
                most(share.jobs_max),
            ]);
        }
        text = format!("{text}\n\n{}", shares.render());
    }
    text
}

/// What operators do with workers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum WorkerCommand {
    /// List workers, with the jobs that they have. For operators.
    List {
        /// Only workers of this pool.
        #[arg(long)]
        pool: Option<PoolName>,
    },
    /// Give a worker no new jobs; those that it has go on. For operators.
    Cordon(Named),
    /// Give a worker jobs again. For operators.
    Uncordon(Named),
    /// Give a worker no new jobs; those that it has save a checkpoint and go on elsewhere. For
    /// operators.
    Drain(Named),
}

/// A worker.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// The worker's id, as listed.
    id: WorkerId,
    /// Its pool.
    #[arg(long, default_value = "default")]
    pool: PoolName,
}

/// Runs a verb.
pub(super) async fn run_worker(command: WorkerCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let view = match command {
        WorkerCommand::List { pool } => {
            let list = client.list_workers(pool.as_ref()).await?;
            match output.json() {
                true => output.document(&list)?,
                false => output.line(&workers(&list.workers)),
            }
            return Ok(());
        }
        WorkerCommand::Cordon(named) => client.cordon_worker(&named.pool, &named.id).await?,
        WorkerCommand::Uncordon(named) => client.uncordon_worker(&named.pool, &named.id).await?,
        WorkerCommand::Drain(named) => client.drain_worker(&named.pool, &named.id).await?,
    };
    match output.json() {
        true => output.document(&view)?,
        false => {
            let (id, standing) = (&view.worker.id, view.standing.as_str());
            let jobs = view.jobs.len();
            output.line(&format!("{id} {standing}, {jobs} jobs"));
        }
    }
    Ok(())
}

fn workers(workers: &[WorkerView]) -> String {
    let mut table = Table::new([
        "WORKER", "POOL", "STANDING", "SLOTS", "MEMORY", "DEVICE", "PLACE", "JOBS",
    ]);
    for view in workers {
        let worker = &view.worker;
        let standing = match worker.draining {
            true => "leaving",
            false => view.standing.as_str(),
        };
        let jobs: Vec<String> = view.jobs.iter().map(ToString::to_string).collect();
        table.row([
            worker.id.to_string(),
            worker.pool.to_string(),
            standing.to_owned(),
            worker.slots.to_string(),
            size(worker.memory_bytes),
            worker.engine.device_class.clone(),
            worker.place.join("/"),
            jobs.join(" "),
        ]);
    }
    table.render()
}
