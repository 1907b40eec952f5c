//! `stoker up`: the whole platform in one process, with its state in one directory.

use std::path::Path;

use stoker_domain::tenant::Role;

use super::{
    run_housekeeper, run_notifier, run_scheduler, run_worker, start_api, until_asked, url_of,
};
use crate::cli::context;
use crate::config::Config;
use crate::keys::Keys;
use crate::tenants;
use crate::wiring::World;

/// Runs until asked to stop.
pub(crate) async fn run(mut config: Config, data_dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    // One worker, always the same: a restart takes its jobs up again at once.
    let id = "local".parse()?;
    config.worker.id.get_or_insert(id);
    let world = World::embedded(&config, data_dir).await?;
    Keys::under(data_dir).ensure()?;
    let token = tenants::ensure_first(&world, &config, Role::Operator).await?;
    let stop = until_asked()?;
    let api = start_api(&config, &world).await?;
    let url = url_of(&config, &api);
    let certificates = config.api.tls.as_ref().map(|tls| &tls.certificates);
    let certificates = certificates.map(std::path::absolute).transpose()?;
    context::write_local(data_dir, &url, &token, certificates.as_deref())?;
    tracing::info!(
        "Stoker is up at {url}; clients on this machine find it by {}",
        data_dir.join("client.toml").display()
    );
    let scheduler = run_scheduler(&config, &world, stop.clone());
    let worker = run_worker(&config, &world, stop.clone());
    let notifier = run_notifier(&config, &world, stop.clone());
    let housekeeper = run_housekeeper(&config, &world, stop.clone());
    let (scheduled, worked, notified, ()) = tokio::join!(scheduler, worker, notifier, housekeeper);
    api.stop().await?;
    world.close().await;
    scheduled.and(worked).and(notified)
}
