//! Data sets coming in through the built binary: a large upload while client and server are killed,
//! and what the server fetches by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stoker::launch::{Platform, Role};
use stoker_domain::UploadId;
use stoker_domain::dataset::DatasetRecord;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

const PART: u64 = 8 << 20;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stoker"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Between a client and the server: counts what the client sends, notes where its parts begin, and
/// can be shut for what goes beyond a number of bytes.
struct Gate {
    address: SocketAddr,
    server: SocketAddr,
    sent: AtomicU64,
    shut_at: AtomicU64,
    offsets: Mutex<Vec<u64>>,
    is_shut: Notify,
    opened: Notify,
}

impl Gate {
    async fn start(server: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            server,
            sent: AtomicU64::new(0),
            shut_at: AtomicU64::new(u64::MAX),
            offsets: Mutex::new(Vec::new()),
            is_shut: Notify::new(),
            opened: Notify::new(),
        });
        let shared = Arc::clone(&gate);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let gate = Arc::clone(&shared);
                tokio::spawn(async move {
                    // Without a server the client finds its connection closed.
                    if let Ok(server) = TcpStream::connect(gate.server).await {
                        gate.pass(client, server).await;
                    }
                });
            }
        });
        gate
    }

    /// Shuts after so many more bytes.
    fn shut_after(&self, bytes: u64) {
        let sent = self.sent.load(Ordering::SeqCst);
        self.shut_at.store(sent + bytes, Ordering::SeqCst);
    }

    fn open(&self) {
        self.shut_at.store(u64::MAX, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn pass(&self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async {
            let (mut buffer, mut seen) = (vec![0; 64 << 10], Vec::new());
            loop {
                let count = from_client.read(&mut buffer).await.unwrap_or(0);
                if count == 0 {
                    return;
                }
                self.note(&mut seen, &buffer[..count]);
                let sent = self.sent.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                let opened = self.opened.notified();
                if sent >= self.shut_at.load(Ordering::SeqCst) {
                    self.is_shut.notify_one();
                    opened.await;
                }
                if to_server.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        };
        let down = tokio::io::copy(&mut from_server, &mut to_client);
        tokio::select! {
            () = up => {}
            _ = down => {}
        }
    }

    /// Notes the offsets in the heads of requests, which may come in two reads.
    fn note(&self, seen: &mut Vec<u8>, bytes: &[u8]) {
        const NAME: &[u8] = b"\r\nupload-offset: ";
        seen.extend_from_slice(bytes);
        while let Some(at) = seen.windows(NAME.len()).position(|window| window == NAME) {
            let rest = &seen[at + NAME.len()..];
            let Some(end) = rest.iter().position(|&byte| byte == b'\r') else {
                return;
            };
            let offset = text(&rest[..end]).parse().unwrap();
            self.offsets.lock().unwrap().push(offset);
            seen.drain(..at + NAME.len() + end);
        }
        let keep = seen.len().min(NAME.len());
        seen.drain(..seen.len() - keep);
    }
}

struct Bench {
    platform: Platform,
    dir: tempfile::TempDir,
    server: SocketAddr,
    token: String,
}

impl Bench {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let platform = Platform::embedded(program(), &data_dir, settings)
            .await
            .unwrap();
        let local = std::fs::read_to_string(data_dir.join("client.toml")).unwrap();
        let local: toml::Table = toml::from_str(&local).unwrap();
        let text = |name: &str| local[name].as_str().unwrap().to_owned();
        let server = text("server")
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap();
        Self {
            platform,
            dir,
            server,
            token: text("token"),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, server: SocketAddr, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .args(["--json", "--server", &format!("http://{server}")])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("STOKER_DATA_DIR", self.data_dir())
            .env("STOKER_TOKEN", &self.token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(self.server, arguments).output().await.unwrap()
    }

    /// What the client remembers of its unfinished uploads.
    fn remembered(&self) -> Vec<toml::Table> {
        let entries = std::fs::read_dir(self.data_dir().join("uploads"));
        let paths = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        paths
            .map(|path| toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
            .collect()
    }

    async fn kill_and_restart(&mut self) {
        self.platform.kill(Role::Up).await.unwrap();
        self.platform.start(Role::Up).await.unwrap();
    }
}

/// A table of about so many bytes, other rows for another seed.
fn table(path: &Path, bytes: usize, seed: u64) -> String {
    let mut csv = String::from("a,b\n");
    let mut row = seed;
    while csv.len() < bytes {
        csv.push_str(&format!("{row},{}\n", row * 7 % 1_000));
        row += 1;
    }
    std::fs::write(path, &csv).unwrap();
    blake3::hash(csv.as_bytes()).to_hex().to_string()
}

async fn killed(mut client: Child) {
    client.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_client_and_server() {
    let mut bench = Bench::start(&[]).await;
    let gate = Gate::start(bench.server).await;
    let file = bench.dir.path().join("large.csv");
    let blake3 = table(&file, 40 << 20, 0);
    let arguments = ["dataset", "create", "large", file.to_str().unwrap()];

    // Both die in the third part.
    gate.shut_after(2 * PART + PART / 2);
    let client = bench.command(gate.address, &arguments).spawn().unwrap();
    gate.is_shut.notified().await;
    killed(client).await;
    bench.kill_and_restart().await;
    gate.open();
    let remembered = bench.remembered();
    let id: UploadId = remembered[0]["id"].as_str().unwrap().parse().unwrap();
    let client = bench.platform.client().unwrap();
    assert_eq!(client.get_upload(id).await.unwrap().offset, 2 * PART);
    let before = gate.offsets.lock().unwrap().len();

    // The same command goes on, and the server dies once more.
    gate.shut_after(PART + PART / 2);
    let client = bench.command(gate.address, &arguments).spawn().unwrap();
    gate.is_shut.notified().await;
    bench.kill_and_restart().await;
    gate.open();
    let mut output = client.wait_with_output().await.unwrap();
    let told = text(&output.stderr);
    assert!(
        told.contains("resuming at 40 %") || told.contains("resuming at 39 %"),
        "{told}"
    );
    if !output.status.success() {
        // The server was away for longer than the client is patient.
        output = bench
            .command(gate.address, &arguments)
            .output()
            .await
            .unwrap();
        assert!(
            text(&output.stderr).contains("resuming at"),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    let record: DatasetRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record.blake3, blake3);
    assert_eq!(record.size_bytes, file.metadata().unwrap().len());
    assert!(bench.remembered().is_empty());

    // No byte that had been acknowledged was sent twice.
    let offsets = gate.offsets.lock().unwrap().clone();
    assert!(offsets.is_sorted(), "{offsets:?}");
    assert!(
        offsets[before..].iter().all(|&offset| offset >= 2 * PART),
        "{offsets:?}"
    );
    let again = offsets.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert!((2..=4).contains(&again), "{offsets:?}");
    let sent = gate.sent.load(Ordering::SeqCst);
    assert!(
        sent < record.size_bytes + again * PART + (1 << 20),
        "{sent} bytes"
    );
    bench.platform.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_uploaded_anew() {
    let bench = Bench::start(&[]).await;
    let gate = Gate::start(bench.server).await;
    let file = bench.dir.path().join("large.csv");
    table(&file, 20 << 20, 0);
    let arguments = ["dataset", "create", "large", file.to_str().unwrap()];
    gate.shut_after(PART + PART / 2);
    let client = bench.command(gate.address, &arguments).spawn().unwrap();
    gate.is_shut.notified().await;
    killed(client).await;
    gate.open();
    let blake3 = table(&file, 20 << 20, 5);
    let output = bench.run(&arguments).await;
    // By another address it is another server to the client; by the same it is the changed file.
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = bench
        .command(gate.address, &arguments)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        !text(&output.stderr).contains("resuming"),
        "{}",
        text(&output.stderr)
    );
    let record: DatasetRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((record.blake3, record.version), (blake3, 1));
    let left = bench.data_dir().join("objects/uploads");
    let parts = walk(&left)
        .into_iter()
        .filter(|path| !path.ends_with("upload.json"));
    assert_eq!(parts.count(), 0, "parts are left");
    bench.platform.stop().await.unwrap();
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .collect()
}

/// A server of one table; its address.
async fn site() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let count = stream.read(&mut head).await.unwrap();
            let body = "x,y\n1,2\n3,4\n";
            let answer = match head[..count].starts_with(b"GET /sets/points.csv?sig=secret ") {
                true => format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                false => "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let answer = format!("HTTP/1.1 {answer}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_fetches_what_its_operator_allows() {
    let site = site().await;
    let allow = format!("https://data.example.org/,http://{site}/sets/");
    let bench = Bench::start(&[
        ("STOKER__SOURCES__ALLOW", &allow),
        ("STOKER__SOURCES__PRIVATE", "127.0.0.1/32"),
    ])
    .await;
    let create = async |from: &str| {
        bench
            .run(&["dataset", "create", "web", "--from", from])
            .await
    };
    let output = create(&format!("http://{site}/sets/points.csv?sig=secret")).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let record: DatasetRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record.schema.rows, 2);
    assert_eq!(
        record.source,
        Some(format!("http://{site}/sets/points.csv"))
    );
    for (from, code, part) in [
        (
            format!("http://{site}/other/points.csv"),
            2,
            "operator's list",
        ),
        (format!("http://{site}/sets/none.csv"), 2, "answered 404"),
        (
            "http://169.254.169.254/a.csv".to_owned(),
            2,
            "operator's list",
        ),
        ("ftp://example.org/a.csv".to_owned(), 2, "ftp://"),
    ] {
        let output = create(&from).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(part), "{told}");
    }
    // A path is the short form's file.
    let file = bench.dir.path().join("here.csv");
    table(&file, 100, 0);
    let output = create(file.to_str().unwrap()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let log = std::fs::read_to_string(bench.platform.log(Role::Up)).unwrap();
    assert!(!log.contains("secret"), "{log}");
    bench.platform.stop().await.unwrap();
}
