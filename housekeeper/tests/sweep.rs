//! What a sweep moves, removes and leaves alone.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use stoker_domain::audit::id_from;
use stoker_domain::job::{Checkpoint, Transition};
use stoker_domain::port::{Catalog, CatalogKind, Expect, JobStore, Point, transition};
use stoker_domain::testkit::fixture::{outcome, running, step, submitted, tenant};
use stoker_domain::time::Millis;
use stoker_domain::upload::UploadRecord;
use stoker_domain::{Clock, JobId, Timestamp, UploadId, object};
use stoker_housekeeper::{Config, Keep, Ports, Swept, sweep};
use stoker_infra::{EmbeddedStore, SystemClock, TieredPoints};
use tempfile::TempDir;

const HOUR_MS: u64 = 3_600_000;

/// The machine's clock, moved.
struct Moved {
    clock: SystemClock,
    by_ms: AtomicI64,
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(now + self.by_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }
}

struct Place {
    ports: Ports,
    clock: Arc<Moved>,
    store: EmbeddedStore,
    config: Config,
    _dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path().join("stoker.db")).unwrap();
        let objects = Arc::new(InMemory::new());
        let clock = Arc::new(Moved {
            clock: SystemClock::new(),
            by_ms: AtomicI64::new(0),
        });
        let points = TieredPoints::new(Arc::new(store.clone()), objects.clone());
        let ports = Ports {
            jobs: Arc::new(store.clone()),
            catalog: Arc::new(store.clone()),
            telemetry: Arc::new(points),
            objects,
            clock: clock.clone(),
        };
        Self {
            ports,
            clock,
            store,
            config: Config::default(),
            _dir: dir,
        }
    }

    fn later(&self, ms: u64) {
        self.clock
            .by_ms
            .fetch_add(ms.cast_signed(), Ordering::Relaxed);
    }

    async fn sweep(&self) -> Swept {
        let (swept, errors) = sweep(&self.config, &self.ports, true).await;
        assert!(errors.is_empty(), "{errors:?}");
        swept
    }

    async fn put(&self, key: &str) {
        let key = Path::from(key);
        self.ports.objects.put(&key, "bytes".into()).await.unwrap();
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self.ports.objects.list(None);
        let keys = listed.map_ok(|found| found.location.to_string());
        let mut keys: Vec<String> = keys.try_collect().await.unwrap();
        keys.sort();
        keys
    }

    async fn point(&self, job: JobId) {
        let points = [Point {
            metric: "train.loss".to_owned(),
            step: 1,
            value: 0.5,
        }];
        let telemetry = &self.ports.telemetry;
        telemetry.append_points(job, 1, &points).await.unwrap();
    }

    async fn points(&self, job: JobId) -> usize {
        let telemetry = &self.ports.telemetry;
        let points = telemetry.points(job, None, 0..=9, 9).await.unwrap();
        points.len()
    }

    /// A job that ended well, and its token.
    async fn ended(&self, name: &str) -> (JobId, u64) {
        let id = submitted(&self.store, name).await;
        let token = running(&self.store, id).await;
        let outcome = outcome(token);
        step(&self.store, id, Transition::Succeed { token, outcome }).await;
        (id, token)
    }
}

#[tokio::test]
async fn points_of_ended_jobs_move_to_files_and_of_lost_ones_go() {
    let place = Place::new();
    let (ended, _) = place.ended("ended").await;
    let begun = submitted(&place.store, "running").await;
    running(&place.store, begun).await;
    let lost = JobId::generate();
    for job in [ended, begun, lost] {
        place.point(job).await;
    }
    let swept = place.sweep().await;
    assert_eq!(swept.compacted, 2);
    assert_eq!(
        (place.points(ended).await, place.points(begun).await),
        (1, 1)
    );
    assert_eq!(place.points(lost).await, 0);
    let waiting = place.ports.telemetry.jobs_to_compact(None, 9).await;
    assert_eq!(waiting.unwrap(), [begun]);
    assert_eq!(place.sweep().await, Swept::default());
}

#[tokio::test]
async fn a_job_is_kept_for_its_time_from_its_end() {
    let mut place = Place::new();
    let (old, _) = place.ended("old").await;
    place
        .put(&object::artifact(old, 1, "weights.safetensors"))
        .await;
    place.point(old).await;
    let begun = submitted(&place.store, "running").await;
    let token = running(&place.store, begun).await;
    place.later(3 * HOUR_MS);
    let fresh = submitted(&place.store, "fresh").await;
    let cancel = Transition::Cancel;
    let now = place.ports.clock.now();
    transition(&place.store, fresh, &cancel, None, now)
        .await
        .unwrap();
    assert_eq!(
        place.sweep().await.expired,
        0,
        "for ever, where nothing is said"
    );
    place.config.keep.jobs = Some(Millis(HOUR_MS));
    assert_eq!(place.sweep().await.expired, 1);
    assert_eq!(place.store.job(old).await.unwrap(), None);
    for job in [begun, fresh] {
        assert!(place.store.job(job).await.unwrap().is_some());
    }
    assert_eq!(place.points(old).await, 0);
    assert!(place.keys().await.is_empty());
    let acme = tenant("acme");
    let told = place
        .store
        .list(CatalogKind::Audit, &acme, "", None, 9)
        .await;
    let told = told.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].value["action"], "expire_job");
    assert_eq!(told[0].value["target"], format!("job {old}"));
    let outcome = outcome(token);
    step(&place.store, begun, Transition::Succeed { token, outcome }).await;
}

#[tokio::test]
async fn audit_entries_and_usage_are_kept_for_their_time() {
    let mut place = Place::new();
    submitted(&place.store, "digits").await;
    let acme = tenant("acme");
    let now = place.ports.clock.now();
    for kind in [CatalogKind::Audit, CatalogKind::Attempt] {
        for (ms, name) in [(0, "old"), (2 * HOUR_MS, "new")] {
            let key = format!("{}-{name}", id_from(now.plus_millis(ms)));
            let put = place
                .store
                .put(kind, &acme, &key, &Value::Null, Expect::Absent, &[]);
            put.await.unwrap();
        }
    }
    place.later(2 * HOUR_MS);
    place.config.keep = Keep {
        audit: Some(Millis(HOUR_MS)),
        ..Keep::default()
    };
    assert_eq!(place.sweep().await.expired, 1);
    place.config.keep.usage = Some(Millis(HOUR_MS));
    assert_eq!(place.sweep().await.expired, 1);
    assert_eq!(place.sweep().await.expired, 0);
    for kind in [CatalogKind::Audit, CatalogKind::Attempt] {
        let left = place.store.list(kind, &acme, "", None, 9).await.unwrap();
        assert!(left.len() == 1 && left[0].key.ends_with("-new"), "{left:?}");
    }
}

/// A job that was cancelled with a checkpoint, and the token of its attempt.
async fn cancelled(place: &Place) -> (JobId, u64) {
    let saved = submitted(&place.store, "cancelled").await;
    let under = running(&place.store, saved).await;
    let checkpoint = Checkpoint {
        token: under,
        step: 7,
        blake3: "aa".to_owned(),
        size_bytes: 5,
    };
    let commit = Transition::Checkpoint {
        token: under,
        checkpoint,
    };
    step(&place.store, saved, commit).await;
    step(&place.store, saved, Transition::Cancel).await;
    (saved, under)
}

#[tokio::test]
async fn objects_that_nothing_names_go_once_they_are_old() {
    let place = Place::new();
    let (ended, token) = place.ended("ended").await;
    let begun = submitted(&place.store, "running").await;
    running(&place.store, begun).await;
    let (saved, under) = cancelled(&place).await;
    let acme = tenant("acme");
    for (kind, key) in [(CatalogKind::Dataset, "a@1"), (CatalogKind::Plugin, "p@1")] {
        let record = json!({ "blake3": "named" });
        let put = place
            .store
            .put(kind, &acme, key, &record, Expect::Absent, &[]);
        put.await.unwrap();
    }
    let mut kept = vec![
        object::artifact(ended, token, "weights.safetensors"),
        object::manifest(ended, token),
        object::log_chunk(ended, token + 5, 0),
        object::metric_points(ended, "train.loss") + "/file.parquet",
        object::checkpoint(begun, 9, 1),
        object::checkpoint(saved, under, 7),
        object::dataset(&acme, "named"),
        object::plugin_module(&acme, "named"),
        object::plugin_artifact(&acme, "named", "engine"),
        "of-somebody-else/file".to_owned(),
    ];
    let lost = JobId::generate();
    let garbage = [
        object::checkpoint(ended, token + 5, 3),
        object::artifact(saved, under + 1, "weights.safetensors"),
        object::log_chunk(lost, 1, 0),
        object::dataset(&acme, "nameless"),
        object::plugin_module(&acme, "nameless"),
    ];
    // What a sweep left that died: one has a name again.
    kept.push(object::dataset(&acme, "named2"));
    let record = json!({ "blake3": "named2" });
    let put = (place.store).put(
        CatalogKind::Dataset,
        &acme,
        "a@2",
        &record,
        Expect::Absent,
        &[],
    );
    put.await.unwrap();
    for key in kept[..kept.len() - 1].iter().chain(&garbage) {
        place.put(key).await;
    }
    for name in ["named2", "nameless2"] {
        place
            .put(&format!("garbage/{}", object::dataset(&acme, name)))
            .await;
    }
    assert_eq!(
        place.sweep().await.collected,
        0,
        "they may be somebody's who works"
    );
    place.later(25 * HOUR_MS);
    assert_eq!(place.sweep().await.collected, garbage.len() as u64 + 1);
    kept.sort();
    assert_eq!(place.keys().await, kept);
    assert_eq!(place.sweep().await, Swept::default());
}

#[tokio::test]
async fn uploads_go_when_they_expire() {
    let place = Place::new();
    let acme = tenant("acme");
    let now = place.ports.clock.now();
    let mut left = Vec::new();
    for hours in [1, 3] {
        let record = UploadRecord {
            record_version: 1,
            id: UploadId::generate(),
            size_bytes: 5,
            created_at: now,
            expires_at: now.plus_millis(hours * HOUR_MS),
            made: None,
        };
        let key = Path::from(object::upload(&acme, record.id));
        let json = serde_json::to_vec(&record).unwrap();
        place.ports.objects.put(&key, json.into()).await.unwrap();
        place.put(&object::upload_part(&acme, record.id, 0)).await;
        left = vec![
            object::upload_part(&acme, record.id, 0),
            object::upload(&acme, record.id),
        ];
    }
    place.later(2 * HOUR_MS);
    assert_eq!(place.sweep().await.collected, 2);
    assert_eq!(place.keys().await, left);
}

#[test]
fn settings_that_would_empty_a_platform_are_refused() {
    let mut config = Config::default();
    assert!(config.validate().is_empty());
    config.keep.jobs = Some(Millis(1_000));
    config.garbage_after = Millis(0);
    let fields: Vec<String> = config.validate().iter().map(|e| e.field.clone()).collect();
    assert_eq!(fields, ["keep.jobs", "garbage_after"]);
}
