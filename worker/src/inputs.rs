//! What an attempt needs before it can train: the plan, the table, plugins and a checkpoint.
//! Fetched once and cached by content, so that a warm worker starts at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use stoker_domain::dataset::DatasetRecord;
use stoker_domain::job::{Checkpoint, Failure, FailureKind, JobRecord, TokenizerInput};
use stoker_domain::port::CatalogKind;
use stoker_domain::{Ref, TenantId, object};
use stoker_plugins::{ArtifactKey, Host, LoadError, Plugin};

use crate::config::Config;
use crate::disk::{Disk, FetchError, Scratch};
use crate::ports::Ports;
use crate::prepare::{Fed, Files, TableKey, feed};

/// Most plugins that stay loaded.
const PLUGINS_KEPT: usize = 64;

/// What an attempt needs before it can train.
pub(crate) struct Prepared {
    /// The data set.
    pub(crate) dataset: DatasetRecord,
    /// Its rows as the engine takes them.
    pub(crate) fed: Arc<Fed>,
    /// Plugins by their reference in the spec.
    pub(crate) plugins: BTreeMap<Ref, Arc<Plugin>>,
    /// Where to go on.
    pub(crate) checkpoint: Option<Vec<u8>>,
}

/// What lies on this machine's disk.
enum OnDisk {
    Dataset(Arc<Scratch>),
    Table(Arc<Fed>),
}

/// A tenant's data set is its own, even where another has uploaded the same bytes.
#[derive(PartialEq)]
enum FileKey {
    Dataset(TenantId, String),
    Table(TableKey),
}

/// Fetches and caches.
pub(crate) struct Inputs {
    ports: Ports,
    host: Host,
    key: ArtifactKey,
    disk: Disk,
    /// Prepared rows in memory, and files.
    tables: Mutex<Cache<TableKey, Fed>>,
    files: Mutex<Cache<FileKey, OnDisk>>,
    plugins: Mutex<Cache<(TenantId, String), Plugin>>,
}

impl Inputs {
    pub(crate) fn new(config: &Config, ports: Ports, key: ArtifactKey) -> Result<Self, LoadError> {
        Ok(Self {
            ports,
            host: Host::new(config.plugins.clone())?,
            key,
            disk: Disk {
                dir: config.cache_dir.clone(),
                memory_bytes: config.table_memory_bytes,
                most_bytes: config.disk_cache_bytes,
            },
            tables: Mutex::new(Cache::new(config.dataset_cache_bytes)),
            files: Mutex::new(Cache::new(config.disk_cache_bytes)),
            plugins: Mutex::new(Cache::new(PLUGINS_KEPT as u64)),
        })
    }

    /// Everything that the job needs, from the cache where it is there. It ends when it is dropped.
    pub(crate) async fn prepare(&self, job: &JobRecord) -> Result<Prepared, Failure> {
        let dataset = self.dataset(job).await?;
        let fed = self.fed(job, &dataset).await?;
        let mut plugins = BTreeMap::new();
        let preprocess = job
            .spec
            .preprocess
            .iter()
            .filter_map(|step| step.plugin.as_ref());
        let metrics = job
            .spec
            .metrics
            .iter()
            .filter_map(|metric| metric.plugin.as_ref());
        for reference in preprocess.chain(metrics) {
            plugins.insert(reference.clone(), self.plugin(job, reference).await?);
        }
        let checkpoint = match &job.checkpoint {
            None => None,
            Some(at) => self.checkpoint(job, at).await?,
        };
        Ok(Prepared {
            dataset,
            fed,
            plugins,
            checkpoint,
        })
    }

    /// The bytes of a checkpoint; none when it is gone or damaged, for without it the job comes to
    /// the same, later.
    async fn checkpoint(
        &self,
        job: &JobRecord,
        at: &Checkpoint,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let location = Path::from(object::checkpoint(job.id, at.token, at.step));
        let read = async { self.ports.objects.get(&location).await?.bytes().await };
        match read.await {
            Ok(bytes) if blake3::hash(&bytes).to_hex().as_str() == at.blake3 => {
                Ok(Some(bytes.to_vec()))
            }
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {
                tracing::error!(job.id = %job.id, object = %location, "a committed checkpoint is gone or damaged: the job begins anew");
                Ok(None)
            }
            Err(error) => Err(Failure::new(
                FailureKind::Platform,
                format!("can't read the checkpoint: {error}"),
            )),
        }
    }

    async fn dataset(&self, job: &JobRecord) -> Result<DatasetRecord, Failure> {
        let reference = &job.spec.data.dataset;
        let key = reference.to_string();
        let entry = self
            .ports
            .catalog
            .get(CatalogKind::Dataset, &job.tenant, &key)
            .await;
        let entry = entry
            .map_err(|error| Failure::new(FailureKind::Platform, error.to_string()))?
            .ok_or_else(|| gone(&format!("data set {reference}")))?;
        serde_json::from_value(entry.value).map_err(|error| {
            Failure::new(
                FailureKind::Platform,
                format!("the record of data set {reference}: {error}"),
            )
        })
    }

    async fn fed(&self, job: &JobRecord, dataset: &DatasetRecord) -> Result<Arc<Fed>, Failure> {
        let key = TableKey::of(&job.spec, &job.inputs, dataset);
        if let Some(fed) = lock(&self.tables).get(&key) {
            return Ok(fed);
        }
        let on_disk = lock(&self.files).get(&FileKey::Table(key.clone()));
        if let Some(OnDisk::Table(fed)) = on_disk.as_deref() {
            return Ok(fed.clone());
        }
        // Whoever asked may give up, and this with them.
        let wanted = Arc::new(());
        let mut files = Files {
            dataset: self.dataset_file(job, dataset).await?,
            tokenizers: BTreeMap::new(),
            wanted: Arc::downgrade(&wanted),
        };
        for (name, TokenizerInput { blake3, .. }) in &job.inputs.tokenizers {
            let object = object::dataset(&job.tenant, blake3);
            let what = format!("the tokenizer {name}");
            let file = self.fetch(&object, blake3, &what).await?;
            files.tokenizers.insert(name.clone(), file);
        }
        let (spec, inputs) = (job.spec.clone(), job.inputs.clone());
        let (record, disk) = (dataset.clone(), self.disk.clone());
        let read =
            tokio::task::spawn_blocking(move || feed((&spec, &inputs), &record, &files, &disk));
        let failed = "the reader failed in a way that is our bug";
        let fed = read
            .await
            .map_err(|_| Failure::new(FailureKind::Platform, failed))??;
        drop(wanted);
        let (size, fed) = (fed.table.size_bytes(), Arc::new(fed));
        match fed.table.is_on_disk() {
            false => lock(&self.tables).put(key, fed.clone(), size),
            true => {
                let table = Arc::new(OnDisk::Table(fed.clone()));
                lock(&self.files).put(FileKey::Table(key), table, size);
            }
        }
        Ok(fed)
    }

    /// The bytes of a data set, on this machine's disk.
    async fn dataset_file(
        &self,
        job: &JobRecord,
        dataset: &DatasetRecord,
    ) -> Result<Arc<Scratch>, Failure> {
        let blake3 = &job.inputs.dataset_blake3;
        let key = FileKey::Dataset(job.tenant.clone(), blake3.clone());
        if let Some(OnDisk::Dataset(file)) = lock(&self.files).get(&key).as_deref() {
            return Ok(file.clone());
        }
        let location = Path::from(object::dataset(&job.tenant, &dataset.blake3));
        let fetched = self
            .disk
            .fetch(&self.ports.objects, &location, dataset.size_bytes);
        let (file, hash) = fetched.await.map_err(|error| match error {
            FetchError::Objects(object_store::Error::NotFound { .. }) => lost(gone("the data set")),
            error => error.into(),
        })?;
        if hash.to_hex().as_str() != blake3 {
            return Err(lost(changed("the data set")));
        }
        let file = Arc::new(file);
        let entry = Arc::new(OnDisk::Dataset(file.clone()));
        lock(&self.files).put(key, entry, dataset.size_bytes);
        Ok(file)
    }

    pub(crate) async fn plugin(
        &self,
        job: &JobRecord,
        reference: &Ref,
    ) -> Result<Arc<Plugin>, Failure> {
        let name = reference.to_string();
        let blake3 = job
            .inputs
            .plugins
            .get(&name)
            .ok_or_else(|| gone(&format!("plugin {name}")))?;
        // A tenant's plugin is its own, even where another has uploaded the same bytes.
        let key = (job.tenant.clone(), blake3.clone());
        if let Some(plugin) = lock(&self.plugins).get(&key) {
            return Ok(plugin);
        }
        let object = object::plugin_artifact(&job.tenant, blake3, &self.host.engine_hash());
        let artifact = self
            .get(
                &object,
                &format!("plugin {name} as compiled for this worker"),
            )
            .await?;
        let plugin = self.host.load(&artifact, &self.key).map_err(|error| {
            Failure::new(
                FailureKind::Platform,
                format!("plugin {name} can't be loaded: {error}"),
            )
        })?;
        let plugin = Arc::new(plugin);
        lock(&self.plugins).put(key, plugin.clone(), 1);
        Ok(plugin)
    }

    pub(crate) async fn fetch(
        &self,
        key: &str,
        blake3: &str,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        let bytes = self.get(key, what).await?;
        if blake3::hash(&bytes).to_hex().as_str() == blake3 {
            return Ok(bytes);
        }
        Err(changed(what))
    }

    async fn get(&self, key: &str, what: &str) -> Result<Vec<u8>, Failure> {
        let objects: &dyn ObjectStore = &*self.ports.objects;
        let read = async { objects.get(&Path::from(key)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(object_store::Error::NotFound { .. }) => Err(gone(what)),
            Err(error) => Err(Failure::new(
                FailureKind::Platform,
                format!("can't read {what}: {error}"),
            )),
        }
    }
}

fn gone(what: &str) -> Failure {
    Failure::new(
        FailureKind::Platform,
        format!("{what} isn't there any more"),
    )
}

/// The same, where no other try would end better.
fn lost(failure: Failure) -> Failure {
    let message = format!(
        "{}; delete that version and upload it again",
        failure.message
    );
    Failure::new(FailureKind::Data, message)
}

fn changed(what: &str) -> Failure {
    let message = format!("{what} in object storage isn't what was stored");
    Failure::new(FailureKind::Platform, message)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was used last, up to a total size.
pub(crate) struct Cache<K, V> {
    limit: u64,
    entries: VecDeque<(K, Arc<V>, u64)>,
}

impl<K: PartialEq, V> Cache<K, V> {
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            limit,
            entries: VecDeque::new(),
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let index = self.entries.iter().position(|(known, ..)| known == key)?;
        let entry = self.entries.remove(index)?;
        let value = entry.1.clone();
        self.entries.push_back(entry);
        Some(value)
    }

    pub(crate) fn put(&mut self, key: K, value: Arc<V>, size: u64) {
        self.entries.retain(|(known, ..)| *known != key);
        self.entries.push_back((key, value, size));
        while self.entries.len() > 1
            && self.entries.iter().map(|(.., size)| size).sum::<u64>() > self.limit
        {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut cache = Cache::new(2);
        for key in ["a", "b"] {
            cache.put(key, Arc::new(key), 1);
        }
        assert!(cache.get(&"a").is_some());
        cache.put("c", Arc::new("c"), 1);
        assert!(cache.get(&"b").is_none(), "b was used longest ago");
        assert!(cache.get(&"a").is_some() && cache.get(&"c").is_some());
    }

    #[test]
    fn what_is_larger_than_the_limit_is_kept_alone() {
        let mut cache = Cache::new(2);
        cache.put("a", Arc::new(1), 1);
        cache.put("b", Arc::new(2), 9);
        assert!(cache.get(&"a").is_none() && cache.get(&"b").is_some());
    }
}
