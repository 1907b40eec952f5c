//! Webhooks over a real store and a real receiver.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stoker_domain::audit::AuditEntry;
use stoker_domain::job::Transition;
use stoker_domain::port::{Catalog, CatalogKind, Expect, PLATFORM, Vault, transition};
use stoker_domain::spec::WebhookSpec;
use stoker_domain::tenant::SecretRecord;
use stoker_domain::testkit::fixture::{job_with, spec, submit, tenant};
use stoker_domain::time::Millis;
use stoker_domain::{Clock, JobId, Timestamp};
use stoker_infra::{EmbeddedStore, Notifier, NotifierConfig, SealedVault};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A clock that stands still until it is moved.
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Acquire))
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }
}

/// One request that came: its headers in lower case, and its body.
type Request = (HashMap<String, String>, String);

/// Answers with the statuses in order, the last one for ever, and keeps what came.
async fn receiver(statuses: &'static [u16]) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook?token=hidden",
        listener.local_addr().unwrap()
    );
    let came = Arc::new(Mutex::new(Vec::new()));
    let kept = came.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, mut body) = loop {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                bytes.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let headers: HashMap<String, String> = (head.lines())
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers["content-length"].parse().unwrap();
            while body.len() < length {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                body.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push((headers, body));
                kept.len()
            };
            let status = statuses[(number - 1).min(statuses.len() - 1)];
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, came)
}

struct World {
    store: EmbeddedStore,
    vault: Arc<SealedVault>,
    clock: Arc<Still>,
    stop: watch::Sender<bool>,
    _dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path().join("stoker.db")).unwrap();
        let vault = Arc::new(SealedVault::new(&[7; 32]).unwrap());
        let acme = tenant("acme");
        let record = SecretRecord {
            record_version: 1,
            name: "hook".to_owned(),
            sealed: vault.seal(&acme, "hook", b"s3cret").unwrap(),
            by: "ada".to_owned(),
            at: Timestamp::default(),
        };
        let value = serde_json::to_value(&record).unwrap();
        let kind = CatalogKind::Secret;
        store
            .put(kind, &acme, "hook", &value, Expect::Absent, &[])
            .await
            .unwrap();
        Self {
            store,
            vault,
            clock: Arc::new(Still(AtomicI64::new(1_800_000_000_000))),
            stop: watch::Sender::new(false),
            _dir: dir,
        }
    }

    fn start(&self, private: &[&str]) {
        let config = NotifierConfig {
            private: private.iter().map(|net| (*net).to_owned()).collect(),
            poll: Millis(10),
            ..NotifierConfig::default()
        };
        let catalog = Arc::new(self.store.clone());
        let (vault, clock) = (self.vault.clone(), self.clock.clone());
        let notifier = Notifier::new(&config, catalog, vault, clock).unwrap();
        tokio::spawn(notifier.run(self.stop.subscribe()));
    }

    /// A job that tells `url` of its cancellation, cancelled.
    async fn cancelled(&self, url: &str) -> JobId {
        let mut spec = spec("digits");
        spec.notify.webhooks = vec![WebhookSpec {
            url: url.to_owned(),
            secret: "hook".to_owned(),
            events: vec!["cancelled".to_owned()],
        }];
        let id = submit(&self.store, &job_with("acme", spec)).await;
        let now = self.clock.now();
        transition(&self.store, id, &Transition::Cancel, None, now)
            .await
            .unwrap();
        id
    }

    async fn waiting(&self) -> usize {
        let platform = PLATFORM.parse().unwrap();
        let list = self
            .store
            .list(CatalogKind::Notice, &platform, "", None, 99);
        list.await.unwrap().len()
    }

    async fn given_up(&self) -> Vec<AuditEntry> {
        let acme = tenant("acme");
        let list = self.store.list(CatalogKind::Audit, &acme, "", None, 99);
        let entries = list.await.unwrap().into_iter();
        entries
            .map(|entry| serde_json::from_value(entry.value).unwrap())
            .collect()
    }
}

async fn until(what: impl AsyncFn() -> bool) {
    let waited = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited)
        .await
        .expect("it doesn't come to pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_until_it_takes_it_and_by_one_process_at_a_time() {
    let world = World::new().await;
    let (url, came) = receiver(&[500, 200]).await;
    let id = world.cancelled(&url).await;
    assert_eq!(world.waiting().await, 1);
    for _ in 0..3 {
        world.start(&["127.0.0.0/8"]);
    }
    let count = || came.lock().unwrap().len();
    until(async || count() == 1).await;
    // It failed, and isn't due yet.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((count(), world.waiting().await), (1, 1));
    world.clock.0.fetch_add(60_000, Ordering::AcqRel);
    until(async || world.waiting().await == 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let came = came.lock().unwrap().clone();
    assert_eq!(came.len(), 2);
    assert_eq!(came[0].1, came[1].1, "every try is the same");
    assert_eq!(came[0].0["stoker-delivery"], came[1].0["stoker-delivery"]);
    let body: serde_json::Value = serde_json::from_str(&came[0].1).unwrap();
    assert_eq!(body["job"]["id"], id.to_string());
    assert_eq!(body["event"]["type"], "cancelled");
    // The receiver can tell who sent it, and when.
    for (number, seconds) in [(0, 1_800_000_000), (1, 1_800_000_060)] {
        let signature = &came[number].0["stoker-signature"];
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"s3cret");
        let signed = format!("{seconds}.{}", came[number].1);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(*signature, format!("t={seconds},v1={hex}"));
    }
    assert!(world.given_up().await.is_empty());
    world.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_told_is_given_up_and_the_tenant_sees_why() {
    let world = World::new().await;
    let (url, came) = receiver(&[200]).await;
    let local = url.replace("127.0.0.1", "localhost");
    let private = "https://10.0.0.1/hook";
    let metadata = "http://169.254.169.254/latest";
    for url in [url.as_str(), &local, private, metadata] {
        world.cancelled(url).await;
    }
    world.start(&[]);
    until(async || world.waiting().await == 0).await;
    assert!(came.lock().unwrap().is_empty(), "it was told all the same");
    let given_up = world.given_up().await;
    assert_eq!(given_up.len(), 4);
    for entry in &given_up {
        assert_eq!(entry.action, "give_up_webhook");
        let after = entry.after.to_string();
        assert!(
            after.contains("public internet") || after.contains("plain http"),
            "{after}"
        );
        assert!(!after.contains("hidden"), "{after}");
    }
    world.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_gone_or_never_answers_is_given_up() {
    let world = World::new().await;
    let (gone, came) = receiver(&[410]).await;
    world.cancelled(&gone).await;
    world.start(&["127.0.0.0/8"]);
    until(async || world.waiting().await == 0).await;
    assert_eq!(came.lock().unwrap().len(), 1);
    let (broken, came) = receiver(&[503]).await;
    world.cancelled(&broken).await;
    let mut tries = 0;
    while world.waiting().await > 0 && tries < 60 {
        tries += 1;
        let before = came.lock().unwrap().len();
        world.clock.0.fetch_add(3_700_000, Ordering::AcqRel);
        until(async || came.lock().unwrap().len() > before || world.waiting().await == 0).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        (20..40).contains(&tries),
        "a day of tries, an hour apart: {tries}"
    );
    let given_up = world.given_up().await;
    assert_eq!(given_up.len(), 2);
    assert!(given_up[1].after["why"].as_str().unwrap().contains("503"));
    world.stop.send_replace(true);
}
