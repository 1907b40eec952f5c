//! A network that breaks: forwards connections to a server, until it is told otherwise.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Forwards.
    Fair,
    /// Ends all connections and takes no new one.
    Cut,
    /// Forwards each piece so much later.
    Slow(Duration),
    /// What clients send arrives; answers don't.
    HalfClosed,
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    port: u16,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// In front of `server`, as in `127.0.0.1:6379`, on a port of its own.
    pub(crate) async fn start(server: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let weather = Arc::new(watch::Sender::new(Weather::Fair));
        let telling = weather.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *telling.borrow() == Weather::Cut {
                    continue;
                }
                let (server, weather) = (server.clone(), telling.subscribe());
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(&server).await {
                        forward(client, server, weather).await;
                    }
                });
            }
        });
        Ok(Self { port, weather })
    }

    /// Where clients find it.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn forward(client: TcpStream, server: TcpStream, weather: watch::Receiver<Weather>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut cut = weather.clone();
    tokio::select! {
        () = pipe(client_in, server_out, weather.clone(), false) => {}
        () = pipe(server_in, client_out, weather, true) => {}
        _ = cut.wait_for(|now| *now == Weather::Cut) => {}
    }
}

async fn pipe(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    answers: bool,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let now = *weather.borrow();
        match now {
            Weather::Slow(late) => sleep(late).await,
            // They wait until the weather changes, and then it is too late for this connection.
            Weather::HalfClosed if answers => {
                let _ = weather.changed().await;
                return;
            }
            _ => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
