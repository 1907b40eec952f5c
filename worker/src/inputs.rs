//! What an attempt needs before it can train: the plan, the table, plugins and a checkpoint.
//! Fetched once and cached by content, so that a warm worker starts at once.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use stoker_data::Limits;
use stoker_domain::dataset::{DatasetRecord, Schema};
use stoker_domain::job::{Failure, FailureKind, JobRecord};
use stoker_domain::port::CatalogKind;
use stoker_domain::spec::JobSpec;
use stoker_domain::{Ref, TenantId, object};
use stoker_engine::{Table, Targets};
use stoker_plugins::{ArtifactKey, Host, LoadError, Plugin};

use crate::config::Config;
use crate::ports::Ports;

/// Most plugins that stay loaded.
const PLUGINS_KEPT: usize = 64;

/// What an attempt needs before it can train.
pub(crate) struct Prepared {
    /// The data set's schema.
    pub(crate) schema: Schema,
    /// Features and targets of all rows.
    pub(crate) table: Arc<Table>,
    /// Plugins by their reference in the spec.
    pub(crate) plugins: BTreeMap<Ref, Arc<Plugin>>,
    /// Where to go on.
    pub(crate) checkpoint: Option<Vec<u8>>,
}

/// Fetches and caches.
pub(crate) struct Inputs {
    ports: Ports,
    host: Host,
    key: ArtifactKey,
    tables: Mutex<Cache<TableKey, Table>>,
    plugins: Mutex<Cache<(TenantId, String), Plugin>>,
}

/// A data set's content, the columns read from it, and how the target is read.
type TableKey = (String, Vec<String>, Reading);

/// How the target is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The last column holds class indices.
    Classes,
    /// The last column holds numbers.
    Values,
    /// There is none: the features are predicted.
    Features,
}

impl Reading {
    const fn of(spec: &JobSpec) -> Self {
        match (&spec.data.target, spec.train.loss.takes_classes()) {
            (None, _) => Self::Features,
            (Some(_), true) => Self::Classes,
            (Some(_), false) => Self::Values,
        }
    }
}

impl Inputs {
    pub(crate) fn new(config: &Config, ports: Ports, key: ArtifactKey) -> Result<Self, LoadError> {
        Ok(Self {
            ports,
            host: Host::new(config.plugins.clone())?,
            key,
            tables: Mutex::new(Cache::new(config.dataset_cache_bytes)),
            plugins: Mutex::new(Cache::new(PLUGINS_KEPT as u64)),
        })
    }

    /// Everything that the job needs, from the cache where it is there.
    pub(crate) async fn prepare(&self, job: &JobRecord) -> Result<Prepared, Failure> {
        let dataset = self.dataset(job).await?;
        let columns = columns(job, &dataset.schema);
        let table = self.table(job, &dataset, columns).await?;
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
            Some(at) => {
                let key = object::checkpoint(job.id, at.token, at.step);
                Some(self.fetch(&key, &at.blake3, "the checkpoint").await?)
            }
        };
        Ok(Prepared {
            schema: dataset.schema,
            table,
            plugins,
            checkpoint,
        })
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

    async fn table(
        &self,
        job: &JobRecord,
        dataset: &DatasetRecord,
        columns: Vec<String>,
    ) -> Result<Arc<Table>, Failure> {
        let reading = Reading::of(&job.spec);
        let key = (dataset.blake3.clone(), columns.clone(), reading);
        if let Some(table) = lock(&self.tables).get(&key) {
            return Ok(table);
        }
        let object = object::dataset(&job.tenant, &dataset.blake3);
        let bytes = self
            .fetch(&object, &job.inputs.dataset_blake3, "the data set")
            .await?;
        let (format, header) = (dataset.format, dataset.header);
        let read = tokio::task::spawn_blocking(move || {
            let limits = Limits::default();
            let source = &mut Cursor::new(bytes);
            let read = stoker_data::read_columns(source, format, header, &columns, &limits)
                .map_err(|error| Failure::new(FailureKind::Data, error.to_string()))?;
            assemble(read, reading)
        });
        let failed = "the reader failed in a way that is our bug";
        let table = read
            .await
            .map_err(|_| Failure::new(FailureKind::Platform, failed))??;
        let table = Arc::new(table);
        let size = table.rows() * (table.width() + 1) * size_of::<f32>();
        lock(&self.tables).put(key, table.clone(), size as u64);
        Ok(table)
    }

    async fn plugin(&self, job: &JobRecord, reference: &Ref) -> Result<Arc<Plugin>, Failure> {
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

    async fn fetch(&self, key: &str, blake3: &str, what: &str) -> Result<Vec<u8>, Failure> {
        let bytes = self.get(key, what).await?;
        if blake3::hash(&bytes).to_hex().as_str() == blake3 {
            return Ok(bytes);
        }
        Err(Failure::new(
            FailureKind::Platform,
            format!("{what} in object storage isn't what was stored"),
        ))
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

/// Puts the feature columns side by side; the last column is the target, where there is one.
fn assemble(mut read: stoker_data::Table, reading: Reading) -> Result<Table, Failure> {
    let no_target = || Failure::new(FailureKind::Data, "there is no target column");
    let target = match reading {
        Reading::Features => None,
        Reading::Classes | Reading::Values => Some(read.columns.pop().ok_or_else(no_target)?),
    };
    let width_of = |column: &stoker_data::ColumnValues| column.values.len() / read.rows.max(1);
    let width: usize = read.columns.iter().map(width_of).sum();
    let mut features = Vec::with_capacity(read.rows * width);
    for row in 0..read.rows {
        for column in &read.columns {
            let width = width_of(column);
            features.extend_from_slice(&column.values[row * width..][..width]);
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the compiler checked that the target holds whole numbers from 0 to 65,535"
    )]
    let targets = match (target, reading) {
        (None, _) => Targets::Features,
        (Some(target), Reading::Classes) => {
            Targets::Classes(target.values.iter().map(|&class| class as u32).collect())
        }
        (Some(target), _) => Targets::Values {
            width: width_of(&target),
            values: target.values,
        },
    };
    Ok(Table::new(features, width, targets)?)
}

/// Feature columns in order, then the target where there is one.
fn columns(job: &JobRecord, schema: &Schema) -> Vec<String> {
    let data = &job.spec.data;
    let all = || {
        let names = schema.columns.iter().map(|column| column.name.clone());
        names
            .filter(|name| data.target.as_ref() != Some(name))
            .collect()
    };
    let mut columns: Vec<String> = data.features.clone().unwrap_or_else(all);
    columns.extend(data.target.clone());
    columns
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was used last, up to a total size.
struct Cache<K, V> {
    limit: u64,
    entries: VecDeque<(K, Arc<V>, u64)>,
}

impl<K: PartialEq, V> Cache<K, V> {
    const fn new(limit: u64) -> Self {
        Self {
            limit,
            entries: VecDeque::new(),
        }
    }

    fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let index = self.entries.iter().position(|(known, ..)| known == key)?;
        let entry = self.entries.remove(index)?;
        let value = entry.1.clone();
        self.entries.push_back(entry);
        Some(value)
    }

    fn put(&mut self, key: K, value: Arc<V>, size: u64) {
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
