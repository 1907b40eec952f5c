//! Uploads in parts against a server that keeps what arrived and loses what a test says.
#![cfg(test)]

mod harness;

use std::io::Write;
use std::sync::{Arc, Mutex};

use harness::{Reply, Seen, Server, json, problem};
use serde_json::{Value, json};
use stoker_sdk::dataset::DataFormat;
use stoker_sdk::{
    Begun, ErrorCode, Header, IdempotencyKey, NewDataset, Progress, Upload, UploadMemory,
};

const AT: &str = "2026-01-02T03:04:05.678Z";
const PART: usize = 1_000;

/// What happens to the n-th part that is sent (from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is kept, and the answer arrives.
    Kept,
    /// It is kept, and the answer is lost.
    Silent,
    /// It is lost on its way.
    Lost,
    /// The server is away, for this and two more requests.
    Away,
}

/// The server's side.
#[derive(Default)]
struct Store {
    /// Uploads by their number, each with what has come of it and the data set it became.
    uploads: Vec<(usize, Vec<u8>, Option<String>)>,
    parts: usize,
    away: usize,
    /// Answers to the first POSTs that would make a data set.
    refusals: Vec<Reply>,
}

fn name(n: usize) -> String {
    format!("upload-{n:032x}")
}

impl Store {
    fn view(&self, n: usize) -> Value {
        let (size, bytes, dataset) = &self.uploads[n];
        let mut view = json!({
            "id": name(n), "size_bytes": size, "offset": bytes.len(), "part_max_bytes": PART,
            "expires_at": AT,
        });
        if let Some(dataset) = dataset {
            view["dataset"] = json!(dataset);
        }
        view
    }

    fn answer(&mut self, seen: &Seen, fates: &[Fate]) -> Reply {
        if self.away > 0 {
            self.away -= 1;
            return problem(503, "unavailable", None);
        }
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let of = |text: &str| usize::from_str_radix(&text[text.len() - 32..], 16).unwrap();
        match (seen.method.as_str(), path) {
            ("POST", "/v1/uploads") => {
                let size = query.strip_prefix("size_bytes=").unwrap().parse().unwrap();
                self.uploads.push((size, Vec::new(), None));
                json(201, &self.view(self.uploads.len() - 1))
            }
            // What comes whole isn't what these tests are about.
            ("POST", _) if !query.contains("upload=") => problem(422, "invalid_input", None),
            ("POST", _) => {
                let n = of(query);
                if !self.refusals.is_empty() {
                    return self.refusals.remove(0);
                }
                assert!(seen.body.is_empty());
                let (size, bytes, dataset) = &mut self.uploads[n];
                assert_eq!(bytes.len(), *size, "asked for before it was whole");
                *dataset = Some("digits@1".to_owned());
                let blake3 = seen.header("content-blake3");
                json(201, &record(blake3))
            }
            ("DELETE", path) => {
                let n = of(path);
                self.uploads[n].1.clear();
                Reply::Full(204, Vec::new(), Vec::new())
            }
            (_, path) if of(path) >= self.uploads.len() => problem(404, "not_found", None),
            ("GET", path) => json(200, &self.view(of(path))),
            ("PATCH", path) => self.append(of(path), seen, fates),
            other => panic!("{other:?}"),
        }
    }

    fn append(&mut self, n: usize, seen: &Seen, fates: &[Fate]) -> Reply {
        let offset: usize = seen.header("upload-offset").parse().unwrap();
        if offset != self.uploads[n].1.len() {
            return problem(409, "conflict", None);
        }
        let hash = blake3::hash(&seen.body).to_hex();
        assert_eq!(seen.header("content-blake3"), hash.as_str());
        assert!(seen.body.len() <= PART);
        let fate = fates.get(self.parts).copied().unwrap_or(Fate::Kept);
        self.parts += 1;
        if matches!(fate, Fate::Kept | Fate::Silent) {
            self.uploads[n].1.extend_from_slice(&seen.body);
        }
        match fate {
            Fate::Kept => json(200, &self.view(n)),
            Fate::Silent | Fate::Lost => Reply::Nothing,
            Fate::Away => {
                self.away = 2;
                problem(503, "unavailable", None)
            }
        }
    }
}

fn record(blake3: &str) -> Value {
    json!({
        "record_version": 1, "name": "digits", "version": 1, "format": "csv", "header": true,
        "blake3": blake3, "size_bytes": 1, "created_at": AT,
        "schema": { "rows": 0, "columns": [] },
    })
}

async fn server(fates: &'static [Fate], store: Store) -> (Server, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(store));
    let shared = Arc::clone(&store);
    let server = Server::start(move |_, seen| shared.lock().unwrap().answer(seen, fates)).await;
    (server, store)
}

fn new_dataset() -> NewDataset {
    NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::Csv,
        header: Header::Yes,
    }
}

fn bytes() -> Vec<u8> {
    (0..9_500_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Remembers in memory what a process would in a file.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<(Option<Begun>, Vec<Progress>)>>);

impl UploadMemory for Memory {
    fn recall(&self) -> Option<Begun> {
        self.0.lock().unwrap().0.clone()
    }

    fn keep(&self, begun: &Begun) {
        self.0.lock().unwrap().0 = Some(begun.clone());
    }

    fn forget(&self) {
        self.0.lock().unwrap().0 = None;
    }

    fn resumed(&self, from: Progress) {
        self.0.lock().unwrap().1.push(from);
    }
}

impl Memory {
    fn resumed_at(&self) -> Vec<u64> {
        self.0.lock().unwrap().1.iter().map(|p| p.bytes).collect()
    }
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was() {
    use Fate::{Away, Kept, Lost, Silent};
    const FATES: &[Fate] = &[Kept, Silent, Lost, Away, Kept, Silent, Lost, Lost, Kept];
    let (server, store) = server(FATES, Store::default()).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes()).unwrap();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&shown);
    let upload = Upload::from_path(file.path())
        .in_parts()
        .with_progress(move |progress| log.lock().unwrap().push(progress));
    let made = server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap();
    assert_eq!(made.blake3, blake3::hash(&bytes()).to_hex().as_str());
    let store = store.lock().unwrap();
    assert_eq!(store.uploads.len(), 1);
    assert!(
        store.uploads[0].1 == bytes(),
        "the bytes are those of the file"
    );

    // Nothing that was kept is sent again, and the bar goes back to what was kept at most.
    let patches = server
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PATCH");
    let offsets: Vec<usize> = patches
        .map(|seen| seen.header("upload-offset").parse().unwrap())
        .collect();
    let sent_again = offsets.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(offsets.is_sorted(), "{offsets:?}");
    assert_eq!(sent_again, 4, "{offsets:?}");
    let shown = shown.lock().unwrap();
    assert!(
        shown
            .iter()
            .all(|p| p.total_bytes == 9_500 && p.bytes <= 9_500)
    );
    assert_eq!(shown.last().unwrap().bytes, 9_500);
    let back = shown
        .windows(2)
        .map(|pair| pair[0].bytes.saturating_sub(pair[1].bytes));
    assert_eq!(back.max(), Some(PART as u64));
}

#[tokio::test]
async fn an_upload_that_never_gets_through_ends_with_the_error() {
    const FATES: &[Fate] = &[Fate::Lost; 100];
    let (server, _) = server(FATES, Store::default()).await;
    let upload = Upload::from_bytes(bytes()).in_parts();
    let error = server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    let patches = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .count();
    assert_eq!(patches, 4, "the tries that are configured");
}

#[tokio::test]
async fn another_process_goes_on_with_what_is_remembered() {
    const FATES: &[Fate] = &[
        Fate::Kept,
        Fate::Kept,
        Fate::Lost,
        Fate::Lost,
        Fate::Lost,
        Fate::Lost,
    ];
    let (server, store) = server(FATES, Store::default()).await;
    let memory = Memory::default();
    let upload = || {
        Upload::from_bytes(bytes())
            .in_parts()
            .with_memory(memory.clone())
    };
    let client = server.client();
    client
        .create_dataset(&new_dataset(), &upload())
        .await
        .unwrap_err();
    let begun = memory.recall().unwrap();
    assert_eq!((begun.size_bytes, memory.resumed_at().len()), (9_500, 0));
    let before = server.seen().len();
    client
        .create_dataset(&new_dataset(), &upload())
        .await
        .unwrap();
    assert_eq!(memory.resumed_at(), [2_000]);
    assert_eq!(memory.recall(), None);
    assert_eq!(store.lock().unwrap().uploads.len(), 1);
    let seen = server.seen();
    let post = seen.last().unwrap();
    assert_eq!(post.header("idempotency-key"), begun.key.as_str());
    let first = seen[before..]
        .iter()
        .find(|seen| seen.method == "PATCH")
        .unwrap();
    assert_eq!(first.header("upload-offset"), "2000");
}

#[tokio::test]
async fn a_file_that_changed_begins_anew() {
    const FATES: &[Fate] = &[Fate::Kept, Fate::Lost, Fate::Lost, Fate::Lost, Fate::Lost];
    let (server, store) = server(FATES, Store::default()).await;
    let memory = Memory::default();
    let client = server.client();
    let upload = |bytes| {
        Upload::from_bytes(bytes)
            .in_parts()
            .with_memory(memory.clone())
    };
    client
        .create_dataset(&new_dataset(), &upload(bytes()))
        .await
        .unwrap_err();
    let mut changed = bytes();
    changed[9_000] ^= 1;
    client
        .create_dataset(&new_dataset(), &upload(changed.clone()))
        .await
        .unwrap();
    assert!(memory.resumed_at().is_empty());
    let store = store.lock().unwrap();
    assert!(store.uploads[0].1.is_empty(), "the first one was removed");
    assert!(store.uploads[1].1 == changed);
}

#[tokio::test]
async fn what_was_refused_is_asked_for_otherwise_without_sending_it_again() {
    let store = Store {
        refusals: vec![problem(422, "invalid_input", None)],
        ..Store::default()
    };
    let (server, store) = server(&[], store).await;
    let memory = Memory::default();
    let client = server.client();
    let upload = || {
        Upload::from_bytes(bytes())
            .in_parts()
            .with_memory(memory.clone())
    };
    let error = client
        .create_dataset(&new_dataset(), &upload())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let other = NewDataset {
        header: Header::No,
        ..new_dataset()
    };
    client.create_dataset(&other, &upload()).await.unwrap();
    assert_eq!(memory.resumed_at(), [9_500]);
    assert_eq!(store.lock().unwrap().parts, 10);
    let seen = server.seen();
    let keys: Vec<_> = seen
        .iter()
        .filter(|seen| seen.target.starts_with("/v1/datasets"))
        .map(|seen| seen.header("idempotency-key"))
        .collect();
    assert_ne!(keys[0], keys[1], "another request has another key");
}

#[tokio::test]
async fn an_upload_that_is_gone_begins_anew() {
    let (server, store) = server(&[], Store::default()).await;
    let memory = Memory::default();
    memory.keep(&Begun {
        id: name(7).parse().unwrap(),
        key: IdempotencyKey::generate(),
        request: "x".to_owned(),
        blake3: blake3::hash(&bytes()).to_hex().to_string(),
        size_bytes: 9_500,
        expires_at: AT.parse().unwrap(),
    });
    let key: IdempotencyKey = "mine".parse().unwrap();
    let upload = Upload::from_bytes(bytes())
        .in_parts()
        .with_memory(memory.clone());
    let upload = upload.with_key(key);
    server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap();
    assert!(store.lock().unwrap().uploads[0].1 == bytes());
    assert_eq!(
        server.seen().last().unwrap().header("idempotency-key"),
        "mine"
    );
}

#[tokio::test]
async fn only_what_is_large_goes_in_parts() {
    let (server, _) = server(&[], Store::default()).await;
    let small = Upload::from_bytes(vec![b'x'; 16 << 20]);
    let large = Upload::from_bytes(vec![b'x'; (16 << 20) + 1]);
    for (upload, in_parts) in [(small, false), (large, true)] {
        let before = server.seen().len();
        // Neither gets to its end; what counts is which way was tried.
        let _ = tokio::time::timeout(
            std::time::Duration::from_millis(300),
            server.client().create_dataset(&new_dataset(), &upload),
        )
        .await;
        let first = server.seen()[before..]
            .first()
            .map(|seen| seen.target.clone());
        let is_in_parts = first.is_some_and(|target| target.starts_with("/v1/uploads?"));
        assert_eq!(is_in_parts, in_parts);
    }
}
