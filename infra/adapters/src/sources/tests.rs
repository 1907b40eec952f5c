//! What an attacker would try, and what servers do when they misbehave: a real server on loopback,
//! and a resolver that says what a test needs.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use stoker_domain::TenantId;
use stoker_domain::time::Millis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const TOKEN: &str = "hunter2-token";

/// A server that answers each request with what `answer` makes of its head.
struct Site {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&heads), Arc::new(answer));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&answer)));
            }
        });
        Self {
            address,
            heads,
            task,
        }
    }

    /// Its URL, by a name that the tests' resolver knows.
    fn url(&self, path: &str) -> String {
        format!("http://site.test:{}{path}", self.address.port())
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    log: Arc<Mutex<Vec<String>>>,
    answer: Arc<impl Fn(&str) -> String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let answer = answer(&head);
    log.lock().unwrap().push(head);
    match answer.strip_suffix("<stall>") {
        None => {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Some(begun) => {
            let _ = stream.write_all(begun.as_bytes()).await;
            std::future::pending().await
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

/// `site.test` and `other.test` are this machine, `public.test` isn't, `mixed.test` is both.
fn lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let addresses: &[&str] = match name.as_str() {
                "site.test" | "other.test" => &["127.0.0.1:0"],
                "mixed.test" => &["93.184.216.34:0", "10.0.0.1:0"],
                "metadata.test" => &["169.254.169.254:0"],
                "mapped.test" => &["[::ffff:127.0.0.1]:0"],
                _ => return Err(io::Error::other("no such name")),
            };
            Ok(addresses.iter().map(|a| a.parse().unwrap()).collect())
        })
    })
}

fn config(text: &str) -> SourcesConfig {
    toml::from_str(text).unwrap()
}

fn sources(text: &str) -> RemoteSources {
    let config = SourcesConfig {
        connect_timeout: Millis(2_000),
        idle_timeout: Millis(300),
        ..config(text)
    };
    let secret = |name: &str| (name == "TOKEN").then(|| TOKEN.to_owned());
    RemoteSources::with_lookup(&config, secret, lookup()).unwrap()
}

/// What lets tests reach this machine.
fn here(rest: &str) -> RemoteSources {
    sources(&format!("private = [\"127.0.0.1/32\"]\n{rest}"))
}

async fn read_as(
    sources: &RemoteSources,
    tenant: &str,
    uri: &str,
    credentials: Option<&str>,
) -> Result<(String, Vec<u8>), SourceError> {
    let tenant: TenantId = tenant.parse().unwrap();
    let request = SourceRequest {
        tenant: &tenant,
        uri,
        credentials,
    };
    let mut source = sources.open(&request).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = source.bytes.next().await {
        bytes.extend(chunk?);
    }
    Ok((source.shown, bytes))
}

async fn read(sources: &RemoteSources, uri: &str) -> Result<(String, Vec<u8>), SourceError> {
    read_as(sources, "acme", uri, None).await
}

fn told(outcome: Result<(String, Vec<u8>), SourceError>) -> String {
    outcome.unwrap_err().to_string()
}

fn is_retryable(error: &SourceError) -> bool {
    matches!(error, SourceError::Failed { is_retryable, .. } if *is_retryable)
}

#[tokio::test]
async fn what_is_allowed_is_fetched_as_it_is_kept() {
    let site = Site::start(|_| answer("200 OK", "Content-Encoding: gzip\r\n", "not gzip")).await;
    let sources = here(&format!("allow = [\"{}\"]", site.url("/")));
    let (shown, bytes) = read(&sources, &site.url("/a.csv?sig=secret"))
        .await
        .unwrap();
    assert_eq!(shown, site.url("/a.csv"));
    assert_eq!(bytes, b"not gzip");
    let head = &site.heads()[0].to_lowercase();
    assert!(head.starts_with("get /a.csv?sig=secret http/1.1"), "{head}");
    assert!(head.contains("accept-encoding: identity"), "{head}");
    assert!(
        !head.contains("authorization") && !head.contains("referer"),
        "{head}"
    );
}

#[tokio::test]
async fn nothing_is_allowed_until_it_is_listed() {
    let nothing = sources("");
    let why = told(read(&nothing, "https://data.example.org/a.csv?secret").await);
    assert!(
        why.contains("from: ") && why.contains("sources.allow"),
        "{why}"
    );
    let some = sources("allow = [\"https://data.example.org/\", \"s3://lake/\"]");
    let why = told(read(&some, "https://data.example.org.evil.test/a.csv?secret").await);
    assert!(
        why.contains("https://data.example.org/, s3://lake/"),
        "{why}"
    );
    let why = told(read(&some, "ftp://u:secret@data.example.org/a.csv").await);
    assert!(why.contains("neither https://"), "{why}");
    let why = told(read(&some, "https://u:secret@data.example.org/a.csv").await);
    assert!(
        why.contains("user name") && !why.contains("secret"),
        "{why}"
    );
    let why = told(read(&some, "s3://lake/folder/").await);
    assert!(why.contains("a prefix isn't fetched"), "{why}");
    let why = told(read(&some, "s3://lake/a.csv").await);
    assert!(why.starts_with("credentials: "), "{why}");
}

/// Allowed by name, and not by address.
#[tokio::test]
async fn no_private_address_is_connected_to() {
    let site = Site::start(|_| answer("200 OK", "", "inside")).await;
    let port = site.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "2852039166",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "１２７.0.0.1",
        "localhost",
        "site.test",
        "mixed.test",
        "metadata.test",
        "mapped.test",
    ] {
        let base = format!("http://{host}:{port}/");
        let sources = sources(&format!("allow = [\"{base}\"]"));
        let error = read(&sources, &format!("{base}a.csv")).await.unwrap_err();
        let is_told = match host {
            // The tests' resolver doesn't know it; the system's is checked as any other.
            "localhost" => error.to_string().contains("no such name"),
            _ => error.to_string().contains("isn't on the public internet"),
        };
        assert!(is_told, "{host}: {error}");
        assert!(host == "localhost" || !is_retryable(&error), "{host}");
    }
    assert!(site.heads().is_empty());
}

#[tokio::test]
async fn the_systems_resolver_is_checked_too() {
    let config = config("allow = [\"http://localhost:1/\"]");
    let sources = RemoteSources::new(&config, |_| None).unwrap();
    let why = told(read(&sources, "http://localhost:1/a").await);
    assert!(
        why.contains("localhost isn't on the public internet"),
        "{why}"
    );
}

#[tokio::test]
async fn redirects_are_checked_one_by_one() {
    let inside = Site::start(|_| answer("200 OK", "", "inside")).await;
    let inner = inside.address.port();
    let site = Site::start(move |head| {
        let to = |place: &str| answer("302 Found", &format!("Location: {place}\r\n"), "");
        match head.split(' ').nth(1).unwrap() {
            "/once" => to("next"),
            "/next" => answer("200 OK", "", "found"),
            "/loop" => to("/loop"),
            "/unlisted" => to(&format!("http://other.test:{inner}/a?sig=secret")),
            "/literal" => to(&format!("http://[::1]:{inner}/a")),
            "/decimal" => to(&format!("http://2130706433:{inner}/a")),
            "/private" => to(&format!("http://metadata.test:{inner}/a")),
            "/scheme" => to("file:///etc/passwd"),
            "/user" => to("http://u:p@site.test/"),
            "/out" => to("/sets/..%2f..%2fsecret"),
            "/nowhere" => answer("301 Moved Permanently", "", ""),
            other => answer("404 Not Found", "", other),
        }
    })
    .await;
    let allow = [
        site.url("/"),
        format!("http://[::1]:{inner}/"),
        format!("http://2130706433:{inner}/"),
        format!("http://metadata.test:{inner}/"),
    ];
    // What is permitted is one address; that of `2130706433` is the same one.
    let sources = here(&format!("allow = {:?}", allow));
    let (shown, bytes) = read(&sources, &site.url("/once")).await.unwrap();
    assert_eq!((shown, bytes), (site.url("/once"), b"found".to_vec()));
    for (path, part) in [
        ("/loop", "more than 5 times"),
        ("/unlisted", "which isn't in the operator's list"),
        ("/literal", "isn't on the public internet"),
        ("/private", "isn't on the public internet"),
        ("/scheme", "neither"),
        ("/user", "user name"),
        ("/out", "%2f"),
        ("/nowhere", "nowhere"),
    ] {
        let error = read(&sources, &site.url(path)).await.unwrap_err();
        let why = error.to_string();
        assert!(
            why.contains(part) && !why.contains("secret?"),
            "{path}: {why}"
        );
        assert!(
            !why.contains("sig=") && !is_retryable(&error),
            "{path}: {why}"
        );
    }
    assert!(inside.heads().is_empty());
    assert_eq!(
        read(&sources, &site.url("/decimal")).await.unwrap().1,
        b"inside"
    );
}

fn with_token(allow: &str, prefix: &str) -> RemoteSources {
    here(&format!(
        "allow = {allow}\n[credentials.archive]\ntenants = [\"acme\"]\nprefix = \"{prefix}\"\nbearer = {{ env = \"TOKEN\" }}"
    ))
}

#[tokio::test]
async fn credentials_go_to_their_place_and_nowhere_else() {
    let other = Site::start(|_| answer("200 OK", "", "other")).await;
    let elsewhere = format!("http://other.test:{}/a", other.address.port());
    let away = elsewhere.clone();
    let site = Site::start(move |head| match head.split(' ').nth(1).unwrap() {
        "/private/away" => answer(
            "307 Temporary Redirect",
            &format!("Location: {away}\r\n"),
            "",
        ),
        "/private/up" => answer("302 Found", "Location: /public\r\n", ""),
        "/private/broken" => answer("403 Forbidden", "", "hunter2-token"),
        _ => answer("200 OK", "", "ok"),
    })
    .await;
    let allow = format!(
        "[\"{}\", \"http://other.test:{}/\"]",
        site.url("/"),
        other.address.port()
    );
    let sources = with_token(&allow, &site.url("/private/"));
    let with = async |uri: &str| read_as(&sources, "acme", uri, Some("archive")).await;
    let sent = |head: &String| head.contains(&format!("authorization: Bearer {TOKEN}"));

    assert_eq!(with(&site.url("/private/a")).await.unwrap().1, b"ok");
    assert!(site.heads().iter().all(sent));
    // Not without being asked for, and not to where a redirect leads.
    read(&sources, &site.url("/private/a")).await.unwrap();
    assert!(!sent(&site.heads()[1]));
    assert_eq!(with(&site.url("/private/away")).await.unwrap().1, b"other");
    with(&site.url("/private/up")).await.unwrap();
    assert!(!other.heads().iter().any(sent));
    assert!(!sent(site.heads().last().unwrap()));

    let why = told(with(&site.url("/public")).await);
    assert!(why.starts_with("credentials: \"archive\" are for"), "{why}");
    let why = told(with(&site.url("/private/broken")).await);
    assert!(why.contains("403") && !why.contains(TOKEN), "{why}");
    for (tenant, name) in [("other", "archive"), ("acme", "archives")] {
        let refused = read_as(&sources, tenant, &site.url("/private/a"), Some(name)).await;
        let why = told(refused);
        assert!(why.starts_with("credentials: there are no"), "{why}");
        assert_eq!(
            why.contains("there are: archive"),
            tenant == "acme",
            "{why}"
        );
    }
    assert!(!format!("{:?}", sources.config).contains(TOKEN));
}

#[tokio::test]
async fn a_server_that_misbehaves_is_told_about() {
    let site = Site::start(|head| match head.split(' ').nth(1).unwrap() {
        "/slow" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc<stall>".to_owned(),
        "/silent" => "<stall>".to_owned(),
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_owned(),
        "/long" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef".to_owned(),
        "/cut" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_owned(),
        "/partial" => answer("206 Partial Content", "", "abc"),
        "/busy" => answer("429 Too Many Requests", "", ""),
        "/down" => answer("503 Service Unavailable", "", ""),
        "/no" => answer("404 Not Found", "", ""),
        "/nonsense" => "hello\r\n\r\n".to_owned(),
        _ => String::new(),
    })
    .await;
    let sources = here(&format!("allow = [\"{}\"]", site.url("/")));
    for (path, part, retryable) in [
        ("/slow", "sent nothing for 0.3 s", true),
        ("/silent", "sent nothing for 0.3 s", true),
        ("/short", "broke off", true),
        ("/cut", "broke off", true),
        ("/partial", "206", false),
        ("/busy", "429", true),
        ("/down", "503", true),
        ("/no", "answered 404 Not Found", false),
        ("/nonsense", "broke off", true),
        ("/closed", "broke off", true),
    ] {
        let error = read(&sources, &site.url(path)).await.unwrap_err();
        let why = error.to_string();
        assert!(
            why.contains(part) && why.contains(&site.url(path)),
            "{path}: {why}"
        );
        assert_eq!(is_retryable(&error), retryable, "{path}: {why}");
    }
    // What is longer than it says ends where it says.
    assert_eq!(read(&sources, &site.url("/long")).await.unwrap().1, b"abc");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let base = format!("http://site.test:{port}/");
    let sources = here(&format!("allow = [\"{base}\"]"));
    let error = read(&sources, &base).await.unwrap_err();
    assert!(error.to_string().contains("can't be reached") && is_retryable(&error));
    let unknown = here("allow = [\"https://nobody.test/\"]");
    let why = told(read(&unknown, "https://nobody.test/a").await);
    assert!(why.contains("no such name"), "{why}");
}

#[test]
fn settings_that_cannot_be_used_are_named_without_secrets() {
    for (text, field) in [
        (
            "allow = [\"https://a.example/\", \"example.org\"]",
            "allow[1]",
        ),
        ("private = [\"10.0.0.0/33\"]", "private[0]"),
        ("idle_timeout = \"0s\"", "idle_timeout"),
        (
            "[credentials.a]\ntenants = [\"t\"]\nprefix = \"x\"",
            "credentials.a.prefix",
        ),
        (
            "[credentials.a]\ntenants = [\"t\"]\nprefix = \"https://a.example/\"",
            "credentials.a.bearer",
        ),
        (
            "[credentials.a]\ntenants = []\nprefix = \"s3://lake/\"",
            "credentials.a.tenants",
        ),
        (
            "[credentials.a]\ntenants = [\"t\"]\nprefix = \"s3://lake/\"\naccess_key_id = { env = \"TOKEN\" }",
            "credentials.a.secret_access_key",
        ),
        (
            "[credentials.a]\ntenants = [\"t\"]\nprefix = \"https://a.example/\"\nregion = \"x\"",
            "credentials.a.region",
        ),
    ] {
        let errors = config(text).validate();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert_eq!(errors[0].field, field, "{text}");
    }
    let missing = "[credentials.a]\ntenants = [\"t\"]\nprefix = \"https://a.example/\"\nbearer = ";
    for (secret, part) in [
        ("{ env = \"UNSET\" }", "UNSET isn't set"),
        ("{ env = \"EMPTY\" }", "EMPTY is empty"),
        ("{ file = \"/nonexistent/x\" }", "/nonexistent/x"),
    ] {
        let secrets = |name: &str| (name == "EMPTY").then(String::new);
        let made = RemoteSources::new(&config(&format!("{missing}{secret}")), secrets);
        let why = made.err().unwrap().to_string();
        assert!(
            why.contains("credentials.a.bearer") && why.contains(part),
            "{why}"
        );
    }
    // A secret itself has no place in the settings.
    let plain: Result<SourcesConfig, _> = toml::from_str(&format!("{missing}\"hunter2\""));
    assert!(plain.is_err());
}

mod s3 {
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;
    use crate::testing::S3;

    fn lake(endpoint: &str, id: &str) -> RemoteSources {
        let text = format!(
            "allow = [\"s3://stoker/raw/\", \"s3://nowhere/\"]\n[credentials.lake]\ntenants = [\"acme\"]\nprefix = \"s3://stoker/\"\nendpoint = \"{endpoint}\"\naccess_key_id = {{ env = \"{id}\" }}\nsecret_access_key = {{ env = \"TOKEN\" }}\n[credentials.nowhere]\ntenants = [\"acme\"]\nprefix = \"s3://nowhere/\"\nendpoint = \"{endpoint}\""
        );
        sources(&text)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_object_is_fetched_with_its_credentials() {
        let s3 = tokio::task::spawn_blocking(S3::shared)
            .await
            .unwrap()
            .unwrap();
        let bucket = crate::objects::open(&s3.config()).unwrap().store;
        let bytes = vec![b'x'; 3_000_000];
        let key = Path::from("raw/a.csv");
        bucket
            .put(&key, PutPayload::from(bytes.clone()))
            .await
            .unwrap();

        // The server may be on a private network: it is the operator's own.
        let sources = lake(&s3.endpoint(), "TOKEN");
        let with = async |uri: &str, name: &str| read_as(&sources, "acme", uri, Some(name)).await;
        let (shown, read) = with("s3://stoker/raw/a.csv", "lake").await.unwrap();
        assert_eq!(shown, "s3://stoker/raw/a.csv");
        assert!(read == bytes);
        for (uri, name, part) in [
            (
                "s3://stoker/raw/none.csv",
                "lake",
                "there is no such object",
            ),
            (
                "s3://stoker/other/a.csv",
                "lake",
                "isn't in the operator's list",
            ),
            ("s3://nowhere/a.csv", "lake", "are for s3://stoker/"),
            (
                "s3://nowhere/a.csv",
                "nowhere",
                "no such object, or no such bucket",
            ),
        ] {
            let why = told(with(uri, name).await);
            assert!(why.contains(part) && !why.contains(TOKEN), "{uri}: {why}");
        }
        let refused = read_as(&sources, "other", "s3://stoker/raw/a.csv", Some("lake")).await;
        assert!(told(refused).contains("there are no \"lake\""));
        bucket.delete(&key).await.unwrap();
    }

    #[tokio::test]
    async fn a_bucket_that_refuses_or_is_away_is_told_about() {
        let site = Site::start(|head| match head.contains("/denied") {
            true => answer(
                "403 Forbidden",
                "",
                &format!("<Error><Code>InvalidAccessKeyId</Code><Id>{TOKEN}</Id></Error>"),
            ),
            false => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"e\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nabc<stall>".to_owned(),
        })
        .await;
        let sources = lake(&format!("http://{}", site.address), "TOKEN");
        let with = async |uri: &str| read_as(&sources, "acme", uri, Some("lake")).await;
        let error = with("s3://stoker/raw/denied").await.unwrap_err();
        assert!(
            error.to_string().contains("refuses these credentials"),
            "{error}"
        );
        assert!(!is_retryable(&error) && !error.to_string().contains(TOKEN));
        let slow = tokio::time::timeout(Duration::from_secs(20), with("s3://stoker/raw/slow"));
        let error = slow.await.unwrap().unwrap_err();
        assert!(
            error.to_string().contains("sent nothing") && is_retryable(&error),
            "{error}"
        );
    }
}
