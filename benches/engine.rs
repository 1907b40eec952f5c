//! The engine beside PyTorch and JAX: the same shapes, weights, data and threads. `make
//! bench-engine`; one JSON line per shape and number of threads, and one over all at the end.
//!
//! Each side is a process that stays alive and waits on stdin while the other works; blocks of
//! steps alternate. First both make the same 20 steps from the same weights, and their losses are
//! compared. A ratio is our samples per second over the peer's. The profile is the one that
//! everything else is built with (`dev`, where the engine has opt-level 3).
//!
//! `bench-engine PYTHON [--shapes mlp,cnn] [--peers eager,fused,compile,jax] [--threads 1,2]
//! [--blocks 7]`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints lines"
)]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use stoker_domain::spec::SplitSpec;
use stoker_engine::{
    Control, Cpu, EngineError, Observer, Run, RunInput, StepReport, Table, Targets,
};
use stoker_model::{InputDescription, Plan, Target, compile};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// A model at a size. The peer knows it by its name.
struct Shape {
    name: &'static str,
    model: &'static str,
    input: &'static [usize],
    /// Token ids are below this; 0 where the features are no token ids. A model over token ids
    /// predicts one at each position.
    tokens: usize,
    classes: usize,
    batch: usize,
    /// Steps of one block: about half a second.
    steps: usize,
}

/// What is measured. The peer's side of an entry is in `engine_peer.py`.
const SHAPES: &[Shape] = &[
    Shape {
        name: "mlp",
        model: r#"{"layers": [{"type": "linear", "units": 256}, {"type": "activation", "function": "relu"},
            {"type": "linear", "units": 256}, {"type": "activation", "function": "relu"},
            {"type": "linear", "units": 10}]}"#,
        input: &[784],
        tokens: 0,
        classes: 10,
        batch: 128,
        steps: 250,
    },
    Shape {
        name: "cnn",
        model: r#"{"input": [1, 28, 28], "layers": [
            {"type": "conv2d", "channels": 32, "kernel": 3}, {"type": "activation", "function": "relu"},
            {"type": "conv2d", "channels": 64, "kernel": 3}, {"type": "activation", "function": "relu"},
            {"type": "max_pool2d", "kernel": 2}, {"type": "flatten"},
            {"type": "linear", "units": 128}, {"type": "activation", "function": "relu"},
            {"type": "linear", "units": 10}]}"#,
        input: &[1, 28, 28],
        tokens: 0,
        classes: 10,
        batch: 64,
        steps: 15,
    },
    Shape {
        name: "gpt",
        model: r#"{"family": "gpt", "depth": 4, "width": 128, "heads": 4}"#,
        input: &[128],
        tokens: 65,
        classes: 65,
        batch: 16,
        steps: 5,
    },
];

impl Shape {
    /// Predictions per row.
    fn positions(&self) -> usize {
        if self.tokens > 0 { self.input[0] } else { 1 }
    }
}

const LEARNING_RATE: f32 = 1e-3;
const WEIGHT_DECAY: f32 = 1e-4;
/// Steps whose losses are compared.
const COMPARED: usize = 20;
/// Time for the threads of whoever worked last to fall asleep.
const REST: Duration = Duration::from_millis(30);

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [role, shape, threads] if role == "ours" => ours(find(shape)?, threads.parse()?),
        [python, options @ ..] => compare(python, options),
        [] => Err(
            "usage: bench-engine PYTHON [--shapes …] [--peers …] [--threads …] [--blocks …]".into(),
        ),
    }
}

fn find(name: &str) -> Fallible<&'static Shape> {
    let shape = SHAPES.iter().find(|shape| shape.name == name);
    shape.ok_or_else(|| format!("no shape `{name}`").into())
}

// ---- our side

fn plan(shape: &Shape) -> Fallible<Plan> {
    let train = json!({
        "steps": 10_000_000, "batch_size": shape.batch, "loss": "cross_entropy",
        "optimizer": {"name": "adamw", "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY},
        "eval_every_epochs": 1_000_000_000,
    });
    let input = InputDescription {
        width: shape.input.iter().product(),
        shape: shape.input.to_vec(),
        vocabulary: (shape.tokens > 0).then_some(shape.tokens),
        columns: Vec::new(),
        target: match shape.positions() {
            1 => Target::Classes(shape.classes),
            positions => Target::Sequence {
                classes: shape.classes,
                positions,
            },
        },
    };
    let (model, train) = (
        serde_json::from_str(shape.model)?,
        serde_json::from_value(train)?,
    );
    compile(&model, &train, &input).map_err(|errors| format!("{}: {errors:?}", shape.name).into())
}

/// One batch, so that every step has all of it.
fn data(shape: &Shape) -> (Vec<f32>, Vec<u32>) {
    let mut state = 1_u64;
    let mut word = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let width: usize = shape.input.iter().product();
    let mut feature = || match shape.tokens {
        0 => word() as f32 / 16_777_216.0 - 0.5,
        tokens => (word() % tokens as u32) as f32,
    };
    let features: Vec<f32> = (0..shape.batch * width).map(|_| feature()).collect();
    let classes: Vec<u32> = (0..shape.batch * shape.positions())
        .map(|_| word() % shape.classes as u32)
        .collect();
    (features, classes)
}

fn start(shape: &Shape, cpu: &Cpu, table: Arc<Table>) -> Fallible<(Run, u64)> {
    let plan = Arc::new(plan(shape)?);
    let quoted = plan.quote().peak_bytes;
    let split = SplitSpec {
        test: 0.0,
        shuffle: true,
        seed: 0,
        stratify: false,
    };
    let (preprocess, metrics) = (Vec::new(), Vec::new());
    let input = RunInput {
        plan,
        table,
        split: &split,
        preprocess,
        metrics,
        resume: None,
    };
    Ok((Run::new(cpu, input)?, quoted))
}

fn table(shape: &Shape) -> Fallible<Arc<Table>> {
    let (features, classes) = data(shape);
    let width = shape.input.iter().product();
    Ok(Arc::new(Table::new(
        features,
        width,
        Targets::Classes(classes),
    )?))
}

/// Writes what the peer starts from: the task, the batch, and our initial weights.
fn export(shape: &Shape, folder: &Path) -> Fallible<()> {
    let task = json!({"batch": shape.batch, "input": shape.input, "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY});
    std::fs::write(folder.join("task.json"), task.to_string())?;
    let (features, classes) = data(shape);
    let bytes: Vec<u8> = features.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join("features.f32"), bytes)?;
    let bytes: Vec<u8> = classes.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join("classes.u32"), bytes)?;
    let (run, _) = start(shape, &Cpu::new(NonZeroUsize::MIN)?, table(shape)?)?;
    Ok(std::fs::write(
        folder.join("weights.safetensors"),
        run.checkpoint(),
    )?)
}

/// Stops after a number of steps and keeps their losses.
#[derive(Default)]
struct Count {
    left: usize,
    losses: Vec<f64>,
}

impl Observer for Count {
    fn step(&mut self, report: &StepReport) {
        self.left -= 1;
        self.losses.push(report.loss);
    }
    fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        if self.left == 0 {
            Control::Stop
        } else {
            Control::Continue
        }
    }
}

/// Makes `count` steps and gives their losses.
fn steps(run: &mut Run, count: usize) -> Fallible<Vec<f64>> {
    let mut observer = Count {
        left: count,
        losses: Vec::with_capacity(count),
    };
    run.run(&mut observer)?;
    Ok(observer.losses)
}

fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// A field of this process's status, in bytes.
fn memory(field: &str) -> Fallible<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .ok_or("no such field")?;
    let kib: i64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// The process that runs the engine: speaks as the peer does.
fn ours(shape: &Shape, threads: usize) -> Fallible<()> {
    let cpu = Cpu::new(NonZeroUsize::new(threads).ok_or("no threads")?)?;
    let table = table(shape)?;
    std::fs::write("/proc/self/clear_refs", "5")?; // starts the peak again from here
    let level = memory("VmRSS")?;
    let (mut run, quoted) = start(shape, &cpu, table)?;
    println!(
        "{}",
        json!({"version": stoker_engine::build(), "quoted": quoted})
    );
    for line in std::io::stdin().lines() {
        let line = line?;
        let (verb, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let answer = match verb {
            "losses" => json!({"losses": steps(&mut run, count.parse()?)?}),
            "block" => {
                let (wall, cpu) = (Instant::now(), cpu_s());
                steps(&mut run, count.parse()?)?;
                json!({"wall_s": wall.elapsed().as_secs_f64(), "cpu_s": cpu_s() - cpu})
            }
            _ => json!({"bytes": memory("VmHWM")? - level}),
        };
        println!("{answer}");
    }
    Ok(())
}

// ---- the comparison

/// A process that makes steps when it is told to.
struct Side {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    hello: Value,
    losses: Vec<f64>,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
}

impl Side {
    fn start(mut command: Command) -> Fallible<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let (losses, wall_s, cpu_s) = (Vec::new(), Vec::new(), Vec::new());
        let mut side = Self {
            child,
            stdin,
            answers,
            hello: Value::Null,
            losses,
            wall_s,
            cpu_s,
        };
        side.hello = side.answer()?;
        Ok(side)
    }

    fn answer(&mut self) -> Fallible<Value> {
        let line = self.answers.next().ok_or("a side ended early")??;
        Ok(serde_json::from_str(&line)?)
    }

    fn ask(&mut self, question: &str) -> Fallible<Value> {
        writeln!(self.stdin, "{question}")?;
        self.answer()
    }

    fn compare_losses(&mut self) -> Fallible<()> {
        let answer = self.ask(&format!("losses {COMPARED}"))?;
        self.losses = serde_json::from_value(answer["losses"].clone())?;
        Ok(())
    }

    fn block(&mut self, steps: usize) -> Fallible<()> {
        let answer = self.ask(&format!("block {steps}"))?;
        let seconds = |key: &str| answer[key].as_f64().ok_or("no time");
        self.wall_s.push(seconds("wall_s")?);
        self.cpu_s.push(seconds("cpu_s")?);
        Ok(())
    }

    /// Ends the process; gives its peak memory above what it had before the model was there.
    fn end(mut self) -> Fallible<(i64, Self)> {
        let bytes = self.ask("memory")?["bytes"].as_i64().ok_or("no memory")?;
        Ok((bytes, self))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

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
        let mut options = Self {
            python: python.into(),
            shapes: SHAPES.iter().map(|shape| shape.name.to_owned()).collect(),
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

fn compare(python: &str, args: &[String]) -> Fallible<()> {
    let options = Options::parse(python, args)?;
    let policy = std::env::var("OMP_WAIT_POLICY").unwrap_or_else(|_| "default".to_owned());
    let build = stoker_engine::build();
    println!(
        "{}",
        json!({"engine": build, "profile": "dev", "omp_wait_policy": policy, "blocks": options.blocks})
    );
    let folder = std::env::temp_dir().join(format!("bench-engine-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut lines = Vec::new();
    for shape in &options.shapes {
        for threads in &options.threads {
            let line = measure(&options, find(shape)?, threads, &folder)?;
            println!("{line}");
            lines.push(line);
        }
    }
    std::fs::remove_dir_all(&folder)?;
    let all = |key: &str| {
        lines
            .iter()
            .filter_map(|line| line[key].as_f64())
            .collect::<Vec<_>>()
    };
    let error = all("quote_error").into_iter().fold(0.0, f64::max);
    let summary = json!({
        "min_ratio_eager": least(all("ratio_eager")), "median_ratio_eager": median(&all("ratio_eager")),
        "min_ratio_eager_best_block": least(all("ratio_eager_best_block")),
        "min_ratio_best": least(all("ratio_best")), "max_quote_error": error,
    });
    println!("{summary}");
    Ok(())
}

/// One shape at one number of threads, against every peer in turns.
fn measure(options: &Options, shape: &Shape, threads: &str, folder: &Path) -> Fallible<Value> {
    export(shape, folder)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ours", shape.name, threads]);
    let mut ours = Side::start(command)?;
    ours.compare_losses()?;
    let mut peers = Vec::new();
    for name in &options.peers {
        let mut command = Command::new(&options.python);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/engine_peer.py");
        command
            .args([script, name, shape.name, threads])
            .arg(folder);
        let mut peer = Side::start(command)?;
        peer.compare_losses()?;
        peers.push((name.as_str(), peer));
    }
    for _ in 0..options.blocks {
        std::thread::sleep(REST);
        ours.block(shape.steps)?;
        for (_, peer) in &mut peers {
            std::thread::sleep(REST);
            peer.block(shape.steps)?;
        }
    }
    report(shape, threads, ours, peers)
}

fn report(shape: &Shape, threads: &str, ours: Side, peers: Vec<(&str, Side)>) -> Fallible<Value> {
    let rows = (shape.steps * shape.batch) as f64;
    let step_ms = |cpu_s: &[f64]| 1e3 * median(cpu_s) / shape.steps as f64;
    let quoted = ours.hello["quoted"].as_i64().unwrap_or(0);
    let (bytes, ours) = ours.end()?;
    let wall = median(&ours.wall_s);
    let mut line = json!({
        "shape": shape.name, "threads": threads.parse::<u32>()?,
        "samples_per_s": rows / wall, "cpu_ms_per_step": step_ms(&ours.cpu_s),
        "bytes": bytes, "quoted_bytes": quoted,
        "quote_error": (bytes - quoted).abs() as f64 / quoted as f64,
        "ratio_best": f64::INFINITY,
    });
    let mut ratio_best = f64::INFINITY;
    for (name, peer) in peers {
        let (bytes, peer) = peer.end()?;
        let errors = ours.losses.iter().zip(&peer.losses);
        let loss_error = errors
            .map(|(a, b)| (a - b).abs() / b.abs())
            .fold(0.0, f64::max);
        let ratio = median(&peer.wall_s) / wall;
        ratio_best = ratio_best.min(ratio);
        line[name] = json!({
            "version": peer.hello["version"], "samples_per_s": rows / median(&peer.wall_s),
            "best_block": rows / least(peer.wall_s.iter().copied()),
            "cpu_ms_per_step": step_ms(&peer.cpu_s), "loss_error": loss_error, "bytes": bytes,
        });
        line[format!("ratio_{name}")] = json!(ratio);
        line[format!("ratio_{name}_best_block")] = json!(least(peer.wall_s.iter().copied()) / wall);
        line[format!("cpu_ratio_{name}")] = json!(median(&peer.cpu_s) / median(&ours.cpu_s));
    }
    line["ratio_best"] = json!(ratio_best);
    Ok(line)
}
