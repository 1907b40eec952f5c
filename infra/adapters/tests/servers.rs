//! The servers for tests leave nothing behind, however the process that started them ends.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use stoker_infra::testing::Redis;

/// Set for the child process of the next test.
const VICTIM: &str = "STOKER_TEST_VICTIM";

/// Not a test by itself: what the child process of the next one does until it is killed.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let redis = Redis::start().unwrap();
    println!("address {}", redis.url().trim_start_matches("redis://"));
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_leaves_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        line.split_once("address ")
            .map(|(_, address)| address.to_owned())
    });
    let address = address.expect("the child ended");
    assert!(TcpStream::connect(&address).is_ok());
    assert!(!is_empty(dir.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || TcpStream::connect(&address).is_err() && is_empty(dir.path());
    let patience = 20_000;
    let ended = (0..patience / 10).any(|_| gone() || wait());
    assert!(ended && gone(), "the server at {address} is left");
}

/// Between looks; never the end of them.
fn wait() -> bool {
    std::thread::sleep(Duration::from_millis(10));
    false
}

fn is_empty(dir: &Path) -> bool {
    dir.read_dir()
        .is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn a_dropped_server_is_gone() {
    let redis = Redis::start().unwrap();
    let address = redis.url().trim_start_matches("redis://").to_owned();
    assert!(TcpStream::connect(&address).is_ok());
    drop(redis);
    assert!(TcpStream::connect(&address).is_err());
}
