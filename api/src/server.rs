//! The server: binds, serves, stops.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App as ActixApp, HttpServer, web};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stoker_domain::FieldError;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::app::{App, LineCounts, Ports};
use crate::auth::{KeyError, SigningKey, Verifier};
use crate::config::{Config, TlsConfig};
use crate::extract::Guarded;
use crate::openapi;
use crate::rate::Rate;
use crate::request::{TimeLimits, around, no_route};

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration isn't valid.
    #[error("the configuration is not valid: {}", list(.0))]
    Config(Vec<FieldError>),
    /// The signing key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys whose tokens are to be accepted can't be used.
    #[error("the keys can't be used: {0}")]
    Keys(String),
    /// Certificate or key can't be used.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
    /// The address can't be listened on.
    #[error("{address} can't be listened on")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server has failed.
    #[error("the server has failed")]
    Failed(#[source] io::Error),
}

fn list(errors: &[FieldError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// A running server. Dropping it stops it at once; [`Server::stop`] lets requests end.
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// The address that it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no new connection, and waits for requests in progress up to the configured
    /// limit.
    ///
    /// # Errors
    /// [`ServeError::Failed`] when it had failed before.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.handle.stop(true).await;
        self.join().await
    }

    /// Waits until the server ends by itself, which it does when it fails.
    ///
    /// # Errors
    /// [`ServeError::Failed`].
    pub async fn wait(&mut self) -> Result<(), ServeError> {
        self.join().await
    }

    async fn join(&mut self) -> Result<(), ServeError> {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(ended) => ended.map_err(ServeError::Failed),
            Err(error) => Err(ServeError::Failed(io::Error::other(error))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is sent by the call; the future would only wait for its end.
        drop(self.handle.stop(false));
    }
}

/// Serves the API until it is stopped. Must be called in a tokio runtime; requests are served on
/// threads of their own.
///
/// # Errors
/// [`ServeError`]; nothing is listened on then.
pub async fn serve(config: Config, ports: Ports) -> Result<Server, ServeError> {
    config.validate().map_err(ServeError::Config)?;
    let tls = config.tls.as_ref().map(tls_config).transpose()?;
    let address = config.bind;
    let limits = TimeLimits::new(&config);
    let app = web::Data::new(Guarded::new(Arc::new(app(config.clone(), ports)?)));
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .configure(openapi::configure)
            .default_service(web::to(no_route))
            .wrap(from_fn(move |request, next| around(limits, request, next)))
    })
    .workers(match config.workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        count => count,
    })
    .max_connections(config.connections_max)
    .client_request_timeout(config.head_timeout.into())
    .shutdown_timeout(Duration::from(config.shutdown_timeout).as_secs())
    .disable_signals();
    let bound = match tls {
        Some(tls) => server.bind_rustls_0_23(address, tls),
        None => server.bind(address),
    };
    let server = bound.map_err(|source| ServeError::Bind { address, source })?;
    let address = server.addrs().first().copied().unwrap_or(address);
    let running = server.run();
    Ok(Server {
        address,
        handle: running.handle(),
        task: Some(tokio::spawn(running)),
    })
}

fn app(config: Config, ports: Ports) -> Result<App, ServeError> {
    let path = config.auth.signing_key.as_deref();
    let signing_key = path.map(SigningKey::load).transpose()?.map(Arc::new);
    let remote = ports.keys.clone();
    let verifier = Verifier::new(config.auth.clone(), signing_key.as_deref(), remote)
        .map_err(ServeError::Keys)?;
    Ok(App {
        rate: Rate::new(&config.rate, ports.clock.clone()),
        ports,
        verifier,
        signing_key,
        streams: Arc::new(Semaphore::new(config.events.streams_max)),
        uploads: Arc::new(Semaphore::new(config.uploads_max)),
        predictions: Arc::new(Semaphore::new(config.predictions_max)),
        explanations: Arc::new(Semaphore::new(config.explanations_max)),
        log_lines: LineCounts::default(),
        config,
    })
}

fn tls_config(config: &TlsConfig) -> Result<rustls::ServerConfig, ServeError> {
    let about = |path: &Path, error: &dyn std::fmt::Display| {
        ServeError::Tls(format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(&config.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| about(&config.certificates, &error))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| about(&config.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| about(&config.certificates, &error))
}
