//! The comparison: which sides work when.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::export::export;
use crate::report::{Measured, Peer, report, summary};
use crate::shapes::{Shape, find, shapes};
use crate::side::Side;
use crate::task::Fallible;

/// Time for the threads of whoever worked last to fall asleep: OpenMP libraries let them spin for up to 200 ms.
const REST: Duration = Duration::from_millis(300);
/// What would change the products of a peer's library: users have neither.
const UNSET: [&str; 2] = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"];

/// What is to be compared.
struct Options {
    python: PathBuf,
    shapes: Vec<String>,
    peers: Vec<String>,
    threads: Vec<String>,
    blocks: usize,
}

impl Options {
    fn parse(python: &str, args: &[String]) -> Fallible<Self> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let all = shapes().into_iter().map(|shape| shape.task.name.to_owned());
        let mut options = Self {
            python: python.into(),
            shapes: all.collect(),
            peers: list("eager,fused,compile,jax"),
            threads: list("1,2"),
            blocks: 7,
        };
        for pair in args.chunks(2) {
            match pair {
                [key, value] if key == "--shapes" => options.shapes = list(value),
                [key, value] if key == "--peers" => options.peers = list(value),
                [key, value] if key == "--threads" => options.threads = list(value),
                [key, value] if key == "--blocks" => options.blocks = value.parse()?,
                other => return Err(format!("unknown option {other:?}").into()),
            }
        }
        Ok(options)
    }
}

/// Compares all that the options ask for, and prints a line each.
pub(crate) fn compare(python: &str, args: &[String]) -> Fallible<()> {
    let options = Options::parse(python, args)?;
    let policy = std::env::var("OMP_WAIT_POLICY").unwrap_or_else(|_| "default".to_owned());
    let build = stoker_engine::build();
    println!(
        "{}",
        json!({"engine": build, "profile": "dev", "omp_wait_policy": policy, "blocks": options.blocks})
    );
    let folder = std::env::temp_dir().join(format!("bench-engine-{}", std::process::id()));
    let mut lines = Vec::new();
    for name in &options.shapes {
        let shape = find(name)?;
        export(&shape.task, &folder)?;
        for threads in &options.threads {
            let mut line = measure(&options, &shape, threads, &folder)?;
            compare_threads(&mut line, &lines);
            println!("{line}");
            lines.push(line);
        }
    }
    std::fs::remove_dir_all(&folder)?;
    println!("{}", summary(&lines));
    Ok(())
}

/// Two threads' samples per second over one thread's, where both were measured.
fn compare_threads(line: &mut Value, lines: &[Value]) {
    let one = lines
        .iter()
        .find(|one| one["shape"] == line["shape"] && one["threads"] == 1);
    let speed = |line: &Value| line["samples_per_s"].as_f64();
    if let (2, Some(one), Some(two)) = (
        line["threads"].as_u64().unwrap_or(0),
        one.and_then(speed),
        speed(line),
    ) {
        line["two_threads_over_one"] = json!(two / one);
    }
}

/// One shape at one number of threads, against every peer in turns.
fn measure(options: &Options, shape: &Shape, threads: &str, folder: &Path) -> Fallible<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ours", shape.task.name, threads]);
    let mut ours = Side::start(command, &folder.join("ours.stderr"))?;
    let mut peers: Vec<Peer> = options
        .peers
        .iter()
        .map(|name| {
            let mut command = Command::new(&options.python);
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/engine/peer.py");
            command.args([script, name, threads]).arg(folder);
            for name in UNSET {
                command.env_remove(name);
            }
            let side = Side::start(command, &folder.join(format!("{name}.stderr")));
            (name.clone(), side.map_err(|error| error.to_string()))
        })
        .collect();
    // What the machine can do takes memory of its own.
    ours.measure_memory()?;
    std::thread::sleep(REST);
    let before = ours.ask("peak")?;
    for _ in 0..options.blocks {
        std::thread::sleep(REST);
        ours.block(shape.steps)?;
        for (_, peer) in &mut peers {
            if let Ok(peer) = peer {
                std::thread::sleep(REST);
                peer.block(shape.steps)?;
            }
        }
    }
    for peer in peers.iter_mut().filter_map(|(_, peer)| peer.as_mut().ok()) {
        peer.measure_memory()?;
    }
    let after = ours.ask("peak")?;
    let measured = Measured {
        shape,
        threads: threads.parse()?,
        ours,
        peers,
        peaks: [before, after],
    };
    Ok(report(&measured))
}
