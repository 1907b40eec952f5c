//! A server on a free port with ports of its own, and a client that speaks as any role.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use stoker_domain::job::{Change, EngineIdentity, Holder, Transition};
use stoker_domain::port::{CatalogKind, JobFilter, JobStore, transition};
use stoker_domain::tenant::Role;
use stoker_domain::time::Clock;
use stoker_domain::{JobId, TenantId};
use stoker_infra::{EmbeddedStore, RemoteSources, SealedVault, SourcesConfig, TieredPoints};
use tempfile::TempDir;

use super::ports::{FakeClock, FakeCompiler, FakeExplainer, FakePredictor, FakeSigner, Recorder};
use crate::{Config, Grant, Ports, Server, SigningKey, serve};

/// Rows of the data set that [`TestApp::upload_points`] makes.
pub(super) const POINTS: &str = "x,y,label\n0.5,1,0\n1.5,2,1\n2.5,3,2\n3.5,4,0\n";

/// A spec that fits [`POINTS`].
pub(super) const SPEC: &str = r#"
name = "points"
[data]
dataset = "points"
target = "label"
[model]
family = "mlp"
hidden = [4]
[train]
epochs = 1
batch_size = 2
loss = "cross_entropy"
"#;

/// A server with its ports.
pub(super) struct TestApp {
    pub(super) server: Server,
    pub(super) store: EmbeddedStore,
    pub(super) objects: Arc<InMemory>,
    pub(super) relay: Arc<Recorder>,
    pub(super) compiler: Arc<FakeCompiler>,
    pub(super) clock: Arc<FakeClock>,
    pub(super) config: Config,
    pub(super) key: SigningKey,
    pub(super) client: Client,
    pub(super) dir: TempDir,
    pub(super) ports: Ports,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The answer, when it has that status.
    pub(super) fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        self
    }

    /// Checks that it is a problem with that code, about that field (any when empty).
    pub(super) fn expect_problem(self, status: u16, code: &str, field: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/errors/{code}"));
        assert_eq!(problem["request_id"], answer.header("x-request-id"));
        assert!(answer.header("x-request-id").starts_with("req-"));
        if !field.is_empty() {
            let fields: Vec<&str> = problem["errors"]
                .as_array()
                .map(|errors| {
                    errors
                        .iter()
                        .map(|e| e["field"].as_str().unwrap())
                        .collect()
                })
                .unwrap_or_default();
            assert!(fields.contains(&field), "{field} is not in {problem}");
        }
        answer
    }
}

impl TestApp {
    pub(super) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// A server whose configuration and ports `change` may change.
    pub(super) async fn start_with(change: impl FnOnce(&mut Config, &mut Ports)) -> Self {
        let dir = TempDir::new().unwrap();
        let store = EmbeddedStore::open(dir.path().join("stoker.db")).unwrap();
        let objects = Arc::new(InMemory::new());
        let relay = Arc::new(Recorder::default());
        let compiler = Arc::new(FakeCompiler::default());
        let clock = Arc::new(FakeClock::new());
        let key_path = dir.path().join("key.pem");
        let key = SigningKey::load_or_generate(&key_path).unwrap();
        let mut config = Config {
            bind: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            spool_dir: Some(dir.path().join("spool")),
            ..Config::default()
        };
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        config.auth.signing_key = Some(key_path);
        config.events.poll = stoker_domain::time::Millis(10);
        let mut ports = Ports {
            jobs: Arc::new(store.clone()),
            catalog: Arc::new(store.clone()),
            telemetry: Arc::new(TieredPoints::new(Arc::new(store.clone()), objects.clone())),
            objects: objects.clone(),
            signer: Some(Arc::new(FakeSigner)),
            compiler: compiler.clone(),
            predictor: Arc::new(FakePredictor),
            explainer: Arc::new(FakeExplainer),
            vault: Arc::new(SealedVault::new(&[7; 32]).unwrap()),
            sources: Arc::new(RemoteSources::new(&SourcesConfig::default(), |_| None).unwrap()),
            relay: relay.clone(),
            keys: None,
            clock: clock.clone(),
        };
        change(&mut config, &mut ports);
        let server = serve(config.clone(), ports.clone()).await.unwrap();
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            server,
            store,
            objects,
            relay,
            compiler,
            clock,
            config,
            key,
            client,
            dir,
            ports,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.addr())
    }

    /// A token for that tenant and role, good for an hour.
    pub(super) fn token(&self, tenant: &str, role: Role) -> String {
        self.token_of(tenant, "ada", role)
    }

    /// The same for another subject.
    pub(super) fn token_of(&self, tenant: &str, subject: &str, role: Role) -> String {
        let grant = Grant {
            id: None,
            subject,
            tenant: &tenant.parse().unwrap(),
            role,
            issued_at: self.clock.now(),
            expires_at: self.clock.now().plus_millis(3_600_000),
        };
        self.key.sign(&grant, &self.config.auth).unwrap()
    }

    /// A request with no token.
    pub(super) fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, self.url(path))
    }

    /// A request as a role of a tenant.
    pub(super) fn request_as(
        &self,
        tenant: &str,
        role: Role,
        method: &str,
        path: &str,
    ) -> RequestBuilder {
        self.bare(method, path)
            .bearer_auth(self.token(tenant, role))
    }

    /// A request as a developer of `acme`.
    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.request_as("acme", Role::Developer, method, path)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    /// Uploads [`POINTS`] as `points@1`.
    pub(super) async fn upload_points(&self) -> Answer {
        self.upload("name=points&format=csv", POINTS).await
    }

    pub(super) async fn upload(&self, query: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        let key = format!("upload {}", uuid::Uuid::now_v7());
        self.upload_as(&key, query, bytes).await
    }

    /// The same under an idempotency key.
    pub(super) async fn upload_as(
        &self,
        key: &str,
        query: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Answer {
        let request = self.request("POST", &format!("/v1/datasets?{query}"));
        send(request.header("Idempotency-Key", key).body(bytes.into())).await
    }

    /// Submits a TOML spec.
    pub(super) async fn submit(&self, key: &str, spec: &str) -> Answer {
        let request = self.request("POST", "/v1/jobs");
        let request = request.header("Idempotency-Key", key);
        let request = request.header("Content-Type", "application/toml");
        send(request.body(spec.to_owned())).await
    }

    /// A job on [`POINTS`], submitted.
    pub(super) async fn submitted(&self) -> JobId {
        self.upload_points().await;
        let answer = self.submit("first", SPEC).await.expect(202);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    pub(super) async fn apply(&self, id: JobId, wanted: Transition) -> Change {
        let now = self.clock.now();
        transition(&self.store, id, &wanted, None, now)
            .await
            .unwrap()
    }

    /// Dispatches and starts a queued job; gives its token.
    pub(super) async fn run(&self, id: JobId) -> u64 {
        let holder = Holder {
            worker: "worker-1".parse().unwrap(),
            incarnation: "first".to_owned(),
            engine: EngineIdentity {
                build: "test".to_owned(),
                device_class: "cpu".to_owned(),
            },
            price_per_device_hour: 0.0,
        };
        let token = self
            .apply(id, Transition::Dispatch(holder))
            .await
            .record
            .token;
        self.apply(id, Transition::Start { token }).await;
        token
    }

    /// How much of everything is stored: equal before and after a refused request.
    pub(super) async fn stored(&self) -> [usize; 5] {
        use stoker_domain::port::Catalog;
        let tenant: TenantId = "acme".parse().unwrap();
        let jobs = self
            .store
            .list_jobs(&tenant, &JobFilter::default(), None, 100)
            .await;
        let datasets = self
            .store
            .list(CatalogKind::Dataset, &tenant, "", None, 100)
            .await;
        let plugins = self
            .store
            .list(CatalogKind::Plugin, &tenant, "", None, 100)
            .await;
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let spooled = std::fs::read_dir(self.dir.path().join("spool")).unwrap();
        assert_eq!(spooled.count(), 0, "an upload was left behind");
        [
            jobs.unwrap().jobs.len(),
            datasets.unwrap().len(),
            plugins.unwrap().len(),
            objects.len(),
            self.store.outbox(100).await.unwrap().len(),
        ]
    }
}

pub(super) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}
