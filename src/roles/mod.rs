//! The server roles: `up` is all of them in one process.

pub(crate) mod calibrate;
mod stop;
pub(crate) mod up;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use stoker_domain::port::KeySource;
use stoker_infra::{HttpKeySource, Notifier, RemoteSources};
use stoker_scheduler::Explanations;
use stoker_worker::Predictions;
use tokio::sync::watch;

use crate::config::Config;
use crate::environment;
use crate::wiring::{SandboxedCompiler, World};

pub(crate) use stop::until_asked;

/// Serves the API, and tells webhooks, until asked to stop.
pub(crate) async fn api(config: &Config, data_dir: &Path) -> anyhow::Result<()> {
    let world = World::services(config, data_dir).await?;
    let stop = until_asked()?;
    let api = start_api(config, &world).await?;
    tracing::info!("the API listens at {}", url_of(config, &api));
    let notified = run_notifier(config, &world, stop).await;
    api.stop().await?;
    world.close().await;
    notified
}

/// Serves the API; returns the server, which knows its address.
pub(crate) async fn start_api(
    config: &Config,
    world: &World,
) -> anyhow::Result<stoker_api::Server> {
    let keys = world.keys();
    let compiler = SandboxedCompiler::new(&config.worker.plugins, &keys)?;
    let predictions = Predictions::new(&config.worker, worker_ports(world), keys.sealing()?)?;
    let keys_url = config.api.auth.jwks_url.as_deref();
    let key_source = keys_url.map(HttpKeySource::new).transpose();
    let key_source = key_source.context("api.auth.jwks_url")?;
    let ports = stoker_api::Ports {
        jobs: world.jobs.clone(),
        catalog: world.catalog.clone(),
        telemetry: world.telemetry.clone(),
        objects: world.objects.clone(),
        signer: world.signer.clone(),
        compiler: Arc::new(compiler),
        predictor: Arc::new(predictions),
        explainer: Arc::new(Explanations::new(
            config.scheduler.clone(),
            world.jobs.clone(),
            world.catalog.clone(),
            world.clock.clone(),
        )),
        sources: Arc::new(RemoteSources::new(&config.sources, environment::secret)?),
        vault: Arc::new(keys.vault()?),
        relay: world.relay.clone(),
        keys: key_source.map(|source| Arc::new(source) as Arc<dyn KeySource>),
        clock: world.clock.clone(),
    };
    stoker_api::serve(config.api.clone(), ports)
        .await
        .context("can't serve the API")
}

/// Tells webhooks what is to be told, until asked to stop.
pub(crate) async fn run_notifier(
    config: &Config,
    world: &World,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let vault = Arc::new(world.keys().vault()?);
    let (catalog, clock) = (world.catalog.clone(), world.clock.clone());
    let notifier = Notifier::new(&config.notify, catalog, vault, clock)?;
    notifier.run(stop).await;
    Ok(())
}

/// Where clients on this machine reach it.
pub(crate) fn url_of(config: &Config, api: &stoker_api::Server) -> String {
    let scheme = if config.api.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut addr = api.addr();
    if addr.ip().is_unspecified() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{scheme}://{addr}")
}

/// Schedules a pool, and keeps house, until asked to stop.
pub(crate) async fn scheduler(config: &Config, data_dir: &Path) -> anyhow::Result<()> {
    let world = World::services(config, data_dir).await?;
    let stop = until_asked()?;
    let (ended, ()) = tokio::join!(
        run_scheduler(config, &world, stop.clone()),
        run_housekeeper(config, &world, stop)
    );
    world.close().await;
    ended
}

/// Works for a pool until asked to stop.
pub(crate) async fn worker(config: &Config, data_dir: &Path) -> anyhow::Result<()> {
    let world = World::services(config, data_dir).await?;
    let ended = run_worker(config, &world, until_asked()?).await;
    world.close().await;
    ended
}

/// Schedules the pool until asked to stop.
pub(crate) async fn run_scheduler(
    config: &Config,
    world: &World,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let ports = stoker_scheduler::Ports {
        jobs: world.jobs.clone(),
        queue: world.queue.clone(),
        catalog: world.catalog.clone(),
        relay: world.relay.clone(),
        clock: world.clock.clone(),
    };
    let candidate = uuid::Uuid::now_v7().simple().to_string();
    stoker_scheduler::run(
        config.scheduler.clone(),
        ports,
        config.pool()?,
        candidate,
        stop,
    )
    .await;
    Ok(())
}

/// Keeps the store and the object storage tidy until asked to stop.
pub(crate) async fn run_housekeeper(config: &Config, world: &World, stop: watch::Receiver<bool>) {
    let ports = stoker_housekeeper::Ports {
        jobs: world.jobs.clone(),
        catalog: world.catalog.clone(),
        telemetry: world.telemetry.clone(),
        objects: world.objects.clone(),
        clock: world.clock.clone(),
    };
    stoker_housekeeper::run(config.housekeeping.clone(), ports, stop).await;
}

fn worker_ports(world: &World) -> stoker_worker::Ports {
    stoker_worker::Ports {
        jobs: world.jobs.clone(),
        queue: world.queue.clone(),
        catalog: world.catalog.clone(),
        telemetry: world.telemetry.clone(),
        relay: world.relay.clone(),
        objects: world.objects.clone(),
        clock: world.clock.clone(),
    }
}

/// Works for the pool until asked to stop.
pub(crate) async fn run_worker(
    config: &Config,
    world: &World,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let ports = worker_ports(world);
    let key = world.keys().sealing()?;
    let mut settings = config.worker.clone();
    let measured = || calibrate::load(&world.data_dir);
    settings.profile = settings.profile.or_else(measured);
    stoker_worker::run(settings, ports, config.pool()?, key, stop).await?;
    Ok(())
}
