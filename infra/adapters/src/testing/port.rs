//! Ports that are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::ServerError;

/// Below what the system gives to outgoing connections: a client that tries to reach a server that
/// is down could otherwise be given the very port, and keep the server from coming back.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// Steps through all ports before it comes back to one: prime to `COUNT`.
const STRIDE: u32 = 7_919;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on.
pub(super) fn free() -> Result<u16, ServerError> {
    let start = std::process::id().wrapping_mul(101);
    for _ in 0..COUNT {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed).wrapping_mul(STRIDE);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServerError::system(
        "looking for a free port",
        &"there is none",
    ))
}

/// A connection to a server on loopback, with short limits.
pub(super) fn connect(port: u16) -> Option<TcpStream> {
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    Some(stream)
}
