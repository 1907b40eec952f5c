//! Whose tokens are accepted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use stoker_domain::port::{KeySource, KeySourceError};
use stoker_domain::tenant::Role;
use stoker_domain::time::Clock;

use super::harness::{TestApp, send};
use crate::{Config, KeyError, SigningKey};

/// Claims that are accepted.
fn claims(app: &TestApp) -> Value {
    let now = app.clock.now().as_millis() / 1000;
    json!({
        "iss": "stoker", "aud": "stoker", "sub": "ada", "exp": now + 3600,
        "stoker": { "tenant": "acme", "role": "viewer" },
    })
}

fn with(mut claims: Value, path: &str, value: Value) -> Value {
    *claims.pointer_mut(path).unwrap() = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn encoding_key(app: &TestApp) -> EncodingKey {
    let pem = std::fs::read(app.config.auth.signing_key.as_ref().unwrap()).unwrap();
    EncodingKey::from_ed_pem(&pem).unwrap()
}

fn kid(key: &SigningKey) -> String {
    key.public_jwk()["kid"].as_str().unwrap().to_owned()
}

fn sign(app: &TestApp, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(kid(&app.key));
    jsonwebtoken::encode(&header, claims, &encoding_key(app)).unwrap()
}

async fn status(app: &TestApp, token: &str) -> u16 {
    let request = app.bare("GET", "/v1/jobs").bearer_auth(token);
    send(request).await.status
}

async fn refused(app: &TestApp, token: &str, why: &str) {
    let answer = send(app.bare("GET", "/v1/jobs").bearer_auth(token)).await;
    let answer = answer.expect_problem(401, "unauthenticated", "");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(why), "{why:?}: {detail}");
    let challenge = answer.header("www-authenticate");
    assert!(
        challenge.starts_with("Bearer realm=\"stoker\""),
        "{challenge}"
    );
}

#[tokio::test]
async fn claims_that_are_not_ours_are_refused() {
    let app = TestApp::start().await;
    let good = || claims(&app);
    let now = app.clock.now().as_millis() / 1000;
    assert_eq!(status(&app, &sign(&app, &good())).await, 200);
    let many = with(good(), "/aud", json!(["other", "stoker"]));
    assert_eq!(status(&app, &sign(&app, &many)).await, 200);
    let cases = [
        (with(good(), "/exp", json!(now - 61)), "has expired"),
        (with(good(), "/exp", json!("soon")), "`exp`"),
        (with(good(), "/aud", json!("other")), "another audience"),
        (with(good(), "/iss", json!("other")), "another issuer"),
        (without(good(), "exp"), "`exp`"),
        (without(good(), "aud"), "`aud`"),
        (without(good(), "iss"), "`iss`"),
        (without(good(), "sub"), "`sub`"),
        (without(good(), "stoker"), "no tenant"),
        (with(good(), "/stoker/role", json!("root")), "no role"),
        (with(good(), "/stoker/tenant", json!("a/b")), "may be used"),
        (
            with(good(), "/stoker/tenant", json!("stoker-platform")),
            "may be used",
        ),
    ];
    for (claims, why) in cases {
        refused(&app, &sign(&app, &claims), why).await;
    }
    let mut early = good();
    early["nbf"] = json!(now + 61);
    refused(&app, &sign(&app, &early), "isn't valid yet").await;
}

#[tokio::test]
async fn a_clock_may_be_off_by_the_leeway() {
    let app = TestApp::start().await;
    let now = app.clock.now().as_millis() / 1000;
    let mut late = with(claims(&app), "/exp", json!(now - 59));
    late["nbf"] = json!(now + 59);
    assert_eq!(status(&app, &sign(&app, &late)).await, 200);
    // The token was remembered; it ends all the same.
    app.clock.advance_ms(2_000);
    refused(&app, &sign(&app, &late), "has expired").await;
}

#[tokio::test]
async fn signatures_that_are_not_ours_are_refused() {
    let app = TestApp::start().await;
    let good = claims(&app);
    let token = sign(&app, &good);
    let payload = token.split('.').nth(1).unwrap();

    // {"alg":"none"}
    refused(
        &app,
        &format!("eyJhbGciOiJub25lIn0.{payload}."),
        "can't be read",
    )
    .await;
    refused(&app, "nonsense", "can't be read").await;
    refused(&app, &"x".repeat(20_000), "bytes").await;

    // Another key under our key's name.
    let other = SigningKey::generate().unwrap();
    let path = app.dir.path().join("other.pem");
    other.save(&path).unwrap();
    let other = EncodingKey::from_ed_pem(&std::fs::read(path).unwrap()).unwrap();
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(kid(&app.key));
    let forged = jsonwebtoken::encode(&header, &good, &other).unwrap();
    refused(&app, &forged, "signature").await;
    header.kid = Some("unknown".to_owned());
    let unknown = jsonwebtoken::encode(&header, &good, &other).unwrap();
    refused(&app, &unknown, "key is not known").await;

    // The public key, which anyone has, as a secret of HS256.
    let jwk = app.key.public_jwk();
    for secret in [jwk["x"].as_str().unwrap(), &jwk.to_string()] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid(&app.key));
        let secret = EncodingKey::from_secret(secret.as_bytes());
        let confused = jsonwebtoken::encode(&header, &good, &secret).unwrap();
        refused(&app, &confused, "algorithm is not its key's").await;
    }

    // A changed payload.
    let changed = sign(&app, &with(good, "/stoker/role", json!("admin")));
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[1] = changed.split('.').nth(1).unwrap();
    refused(&app, &parts.join("."), "signature").await;
}

#[tokio::test]
async fn headers_that_are_no_bearer_token_are_refused() {
    let app = TestApp::start().await;
    for value in ["", "Basic YTpi", "Bearer", "token"] {
        let request = app.bare("GET", "/v1/jobs").header("Authorization", value);
        send(request)
            .await
            .expect_problem(401, "unauthenticated", "");
    }
    send(app.bare("GET", "/v1/jobs"))
        .await
        .expect_problem(401, "unauthenticated", "");
}

#[tokio::test]
async fn a_key_set_file_is_read_again_when_it_changes() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys.json");
    let issuer = SigningKey::generate().unwrap();
    std::fs::write(&path, json!({ "keys": [] }).to_string()).unwrap();
    let app = TestApp::start_with(|config, _| config.auth.jwks = Some(path.clone())).await;
    let grant = crate::Grant {
        id: None,
        subject: "ada",
        tenant: &"acme".parse().unwrap(),
        role: Role::Viewer,
        issued_at: app.clock.now(),
        expires_at: app.clock.now().plus_millis(3_600_000),
    };
    let token = issuer.sign(&grant, &app.config.auth).unwrap();
    refused(&app, &token, "key is not known").await;
    let keys = json!({ "keys": [issuer.public_jwk()] });
    std::fs::write(&path, keys.to_string()).unwrap();
    app.clock.advance_ms(5_000);
    assert_eq!(status(&app, &token).await, 200);
    // The server's own key stays good.
    let own = app.token("acme", Role::Viewer);
    assert_eq!(status(&app, &own).await, 200);
    // A broken file changes nothing; a key that was taken out is out.
    std::fs::write(&path, "{").unwrap();
    app.clock.advance_ms(5_000);
    assert_eq!(status(&app, &token).await, 200);
    std::fs::write(&path, json!({ "keys": [] }).to_string()).unwrap();
    app.clock.advance_ms(5_000);
    refused(&app, &token, "key is not known").await;
}

/// Keys as an issuer gives them out, or why it doesn't; counts the fetches.
struct FakeKeys {
    answer: Mutex<Result<String, String>>,
    fetches: AtomicUsize,
}

impl FakeKeys {
    fn set(&self, answer: Result<Value, &str>) {
        let answer = answer.map(|keys| json!({ "keys": keys }).to_string());
        *self.answer.lock().unwrap() = answer.map_err(str::to_owned);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl KeySource for FakeKeys {
    async fn fetch(&self) -> Result<String, KeySourceError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.answer.lock().unwrap().clone().map_err(KeySourceError)
    }
}

#[tokio::test]
async fn fetched_keys_are_rotated_and_outlive_an_outage() {
    let issuers = [(); 2].map(|()| SigningKey::generate().unwrap());
    let keys = Arc::new(FakeKeys {
        answer: Mutex::new(Err("away".to_owned())),
        fetches: AtomicUsize::new(0),
    });
    let source = keys.clone();
    let app = TestApp::start_with(move |_, ports| ports.keys = Some(source)).await;
    let tokens = issuers.each_ref().map(|issuer| {
        let grant = crate::Grant {
            id: None,
            subject: "ada",
            tenant: &"acme".parse().unwrap(),
            role: Role::Viewer,
            issued_at: app.clock.now(),
            expires_at: app.clock.now().plus_millis(7 * 86_400_000),
        };
        issuer.sign(&grant, &app.config.auth).unwrap()
    });
    let [old, new] = &tokens;
    // Not there yet: the server's own key works, and unknown keys aren't asked for all the time.
    assert_eq!(status(&app, &app.token("acme", Role::Viewer)).await, 200);
    refused(&app, old, "key is not known").await;
    refused(&app, old, "key is not known").await;
    assert_eq!(keys.fetches(), 1);
    keys.set(Ok(json!([issuers[0].public_jwk()])));
    app.clock.advance_ms(10_000);
    assert_eq!((status(&app, old).await, keys.fetches()), (200, 2));
    app.clock.advance_ms(10_000);
    assert_eq!(
        (status(&app, old).await, keys.fetches()),
        (200, 2),
        "it is young"
    );
    // Rotation: a token with a new key makes it fetched at once, and the old one is out.
    keys.set(Ok(json!([issuers[1].public_jwk()])));
    assert_eq!((status(&app, new).await, keys.fetches()), (200, 3));
    refused(&app, old, "key is not known").await;
    assert_eq!(keys.fetches(), 3, "the least wait holds");
    // A key that is taken out is out when the set is old.
    app.clock.advance_ms(600_000);
    keys.set(Ok(json!([])));
    refused(&app, new, "key is not known").await;
    keys.set(Ok(json!([issuers[1].public_jwk()])));
    app.clock.advance_ms(10_000);
    assert_eq!(status(&app, new).await, 200);
    // An outage, and a set that isn't one: the keys stay good for a day.
    for answer in [Err("away"), Ok(json!("no"))] {
        keys.set(answer);
        app.clock.advance_ms(3_600_000);
        assert_eq!(status(&app, new).await, 200);
    }
    app.clock.advance_ms(86_400_000);
    refused(&app, new, "key is not known").await;
}

#[test]
fn keys_that_are_weak_or_symmetric_are_refused() {
    use crate::auth::Verifier;
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys.json");
    let try_keys = |keys: Value| {
        std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
        let mut config = Config::default().auth;
        config.jwks = Some(path.clone());
        Verifier::new(config, None, None).map(drop)
    };
    let symmetric = Jwk::from_encoding_key(&EncodingKey::from_secret(b"secret"), Algorithm::HS256);
    let symmetric = serde_json::to_value(symmetric.unwrap()).unwrap();
    let refused = try_keys(json!([symmetric])).unwrap_err();
    assert!(refused.contains("only Ed25519"), "{refused}");
    let weak = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
    assert!(try_keys(json!([weak])).unwrap_err().contains("2048"));
    let mut misused = SigningKey::generate().unwrap().public_jwk();
    misused["alg"] = json!("RS256");
    assert!(
        try_keys(json!([misused]))
            .unwrap_err()
            .contains("only EdDSA")
    );
    let encrypts = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc" });
    try_keys(json!([encrypts])).unwrap();
    assert!(try_keys(json!("no")).unwrap_err().contains("not a key set"));
}

#[test]
fn a_signing_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("key.pem");
    let key = SigningKey::load_or_generate(&path).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let again = SigningKey::load_or_generate(&path).unwrap();
    assert_eq!(key.public_jwk(), again.public_jwk());
    assert!(matches!(key.save(&path), Err(KeyError::File { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        SigningKey::load(&path),
        Err(KeyError::Readable(_))
    ));
    std::fs::write(&path, "x").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        SigningKey::load(&path),
        Err(KeyError::Content { .. })
    ));
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let app = TestApp::start().await;
    let admin = |method: &str, path: &str| app.request_as("acme", Role::Admin, method, path);
    let new = json!({ "subject": "ci", "role": "developer", "expires_in_s": 3600 });
    let make = async |key: &str, new: &serde_json::Value| {
        let request = admin("POST", "/v1/tokens").header("Idempotency-Key", key);
        send(request.json(new)).await
    };
    let made = make("k", &new).await.expect(201).json();
    assert_eq!(make("k", &new).await.expect(201).json(), made, "a repeat");
    let other = json!({ "subject": "cd", "role": "developer", "expires_in_s": 3600 });
    let refused_key = make("k", &other).await;
    refused_key.expect_problem(422, "idempotency_mismatch", "");
    let (token, id) = (
        made["token"].as_str().unwrap(),
        made["record"]["id"].as_str().unwrap(),
    );
    assert_eq!(status(&app, token).await, 200);
    let listed = send(admin("GET", "/v1/tokens")).await.expect(200);
    assert_eq!(listed.json()["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(listed.json()["tokens"][0]["id"], id);
    assert!(!String::from_utf8_lossy(&listed.body).contains(token));

    let path = format!("/v1/tokens/{id}");
    let elsewhere = app.request_as("other", Role::Admin, "DELETE", &path);
    send(elsewhere).await.expect_problem(404, "not_found", "");
    send(admin("DELETE", &path)).await.expect(204);
    refused(&app, token, "was revoked").await;
    send(admin("DELETE", &path)).await.expect(204);
    let listed = send(admin("GET", "/v1/tokens")).await.json();
    assert_eq!(listed["tokens"][0]["revoked"], true);
}

#[tokio::test]
async fn tokens_that_ask_for_too_much_are_refused() {
    let app = TestApp::start().await;
    let cases = [
        (
            json!({ "subject": "a", "role": "operator", "expires_in_s": 60 }),
            422,
            "role",
        ),
        (
            json!({ "subject": "", "role": "viewer", "expires_in_s": 60 }),
            422,
            "subject",
        ),
        (
            json!({ "subject": "a", "role": "viewer", "expires_in_s": 59 }),
            422,
            "expires_in_s",
        ),
        (
            json!({ "subject": "a", "role": "viewer", "expires_in_s": 31_536_001 }),
            422,
            "expires_in_s",
        ),
        (json!({ "subject": "a", "role": "viewer" }), 400, ""),
        (
            json!({ "subject": "a", "role": "viewer", "expires_in_s": 60, "x": 1 }),
            400,
            "",
        ),
    ];
    for (new, status, field) in cases {
        let request = app.request_as("acme", Role::Admin, "POST", "/v1/tokens");
        let answer = send(request.header("Idempotency-Key", "k").json(&new)).await;
        answer.expect_problem(status, "invalid_input", field);
    }
    let listed = send(app.request_as("acme", Role::Admin, "GET", "/v1/tokens")).await;
    assert_eq!(listed.json()["tokens"], json!([]));
}

#[tokio::test]
async fn claims_may_lie_elsewhere() {
    let app = TestApp::start_with(|config, _| {
        config.auth.tenant_claim = "https://stoker.example/tenant".to_owned();
        config.auth.role_claim = "role".to_owned();
    })
    .await;
    assert_eq!(status(&app, &app.token("acme", Role::Viewer)).await, 200);
    let elsewhere = json!({
        "iss": "stoker", "aud": "stoker", "sub": "ada", "exp": 4_000_000_000_u64,
        "https://stoker.example/tenant": "acme", "role": "viewer",
    });
    assert_eq!(status(&app, &sign(&app, &elsewhere)).await, 200);
    refused(&app, &sign(&app, &claims(&app)), "no tenant").await;
}
