//! Our code allocates nothing in a step, and a run in all what its quote says.
//!
//! Two things that aren't ours are let pass. Rayon queues what comes from outside its pool in
//! blocks of 63 entries, about 1.5 kB each: one for so many calls into the pool. And gemm, which
//! does the products where there is no AVX-512, allocates what it packs in each call: there the
//! steps aren't counted.

#![expect(unsafe_code, reason = "a global allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stoker_domain::spec::SplitSpec;
use stoker_engine::{
    Control, Cpu, EngineError, Observer, Run, RunInput, StepReport, Table, Targets,
};
use stoker_model::{InputDescription, Plan, Target, compile};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

fn change(bytes: i64) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        change(layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Entries of a block of rayon's queue for calls from outside, and most bytes of one.
const QUEUE_BLOCK: usize = 63;
const QUEUE_BYTES: usize = 4096;

/// What a run has besides its buffers: names, queues, the order of the rows.
const MORE_BYTES: i64 = 64 << 10;

struct Shape {
    name: &'static str,
    model: &'static str,
    input: &'static [usize],
    tokens: Option<usize>,
    target: Target,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "mlp",
        model: r#"{"family": "mlp", "hidden": [60, 50], "dropout": 0.1}"#,
        input: &[33],
        tokens: None,
        target: Target::Classes(5),
    },
    Shape {
        name: "cnn",
        model: r#"{"family": "cnn", "input": [2, 12, 12], "channels": [16, 24], "dense": [40],
            "activation": "gelu", "dropout": 0.2}"#,
        input: &[2, 12, 12],
        tokens: None,
        target: Target::Classes(5),
    },
    Shape {
        name: "gpt",
        model: r#"{"family": "gpt", "depth": 2, "width": 32, "heads": 2, "dropout": 0.1}"#,
        input: &[24],
        tokens: Some(20),
        target: Target::Sequence {
            classes: 20,
            positions: 24,
        },
    },
];

fn plan(
    model: &str,
    train: &str,
    shape: &[usize],
    tokens: Option<usize>,
    target: Target,
) -> Arc<Plan> {
    let input = InputDescription {
        width: shape.iter().product(),
        shape: shape.to_vec(),
        vocabulary: tokens,
        columns: Vec::new(),
        target,
    };
    let (model, train) = (
        serde_json::from_str(model).unwrap(),
        serde_json::from_str(train).unwrap(),
    );
    Arc::new(compile(&model, &train, &input).unwrap())
}

fn table(plan: &Plan, rows: usize) -> Arc<Table> {
    let mut state = 1_u64;
    let mut below = |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let width = plan.input.width;
    let feature = |number: usize| match plan.input.vocabulary {
        Some(tokens) => (number % tokens) as f32,
        None => number as f32 / 500.0 - 1.0,
    };
    let features = (0..rows * width).map(|_| feature(below(1000))).collect();
    let classes = match plan.input.target {
        Target::Classes(classes) | Target::Sequence { classes, .. } => classes,
        _ => unreachable!("the shapes have classes"),
    };
    let positions = plan.input.target.positions();
    let targets = (0..rows * positions)
        .map(|_| below(classes) as u32)
        .collect();
    Arc::new(Table::new(features, width, Targets::Classes(targets)).unwrap())
}

/// Devices that stay: threads that end would give memory back in the midst of another run.
fn cpu(threads: usize) -> &'static Cpu {
    static CPUS: [OnceLock<Cpu>; 2] = [const { OnceLock::new() }; 2];
    CPUS[threads - 1].get_or_init(|| Cpu::new(NonZeroUsize::new(threads).unwrap()).unwrap())
}

const ALL_ROWS: SplitSpec = SplitSpec {
    test: 0.0,
    shuffle: true,
    seed: 0,
    stratify: false,
};

fn run(cpu: &Cpu, plan: &Arc<Plan>, table: &Arc<Table>, workers: usize) -> Run {
    let input = RunInput {
        plan: Arc::clone(plan),
        table: Arc::clone(table),
        split: &ALL_ROWS,
        preprocess: Vec::new(),
        metrics: Vec::new(),
        resume: None,
    };
    Run::with_workers(cpu, input, workers).unwrap()
}

/// Counts from the second step on, and stops after the last.
struct Watch {
    stop_at: u64,
    allocations: usize,
    largest: usize,
    /// Most bytes that lived before the last step's evaluation.
    peak: i64,
}

impl Watch {
    const fn until(stop_at: u64) -> Self {
        Self {
            stop_at,
            allocations: 0,
            largest: 0,
            peak: 0,
        }
    }
}

impl Observer for Watch {
    fn step(&mut self, report: &StepReport) {
        if report.step == 2 {
            LARGEST.store(0, Ordering::SeqCst);
            self.allocations = ALLOCATIONS.load(Ordering::SeqCst);
        }
        if report.step == self.stop_at {
            self.allocations = ALLOCATIONS.load(Ordering::SeqCst) - self.allocations;
            self.largest = LARGEST.load(Ordering::SeqCst);
            self.peak = PEAK.load(Ordering::SeqCst);
        }
    }
    fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}

fn has_kernels_of_our_own() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[test]
fn a_step_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_kernels_of_our_own() {
        return;
    }
    let train = r#"{"epochs": 9, "batch_size": 8, "virtual_shards": 2, "accumulate": 2,
        "loss": "cross_entropy", "clip": {"norm": 1.0}, "ema": {"decay": 0.9}}"#;
    for shape in &SHAPES {
        let plan = plan(shape.model, train, shape.input, shape.tokens, shape.target);
        let table = table(&plan, 100);
        for (threads, workers) in [(1, 1), (2, 1), (2, 2)] {
            let cpu = cpu(threads);
            // Each shard, whether gradients are finite, and the update; all ranks do the last two.
            let calls = 4 + 2 * workers;
            let mut run = run(cpu, &plan, &table, workers);
            let steps = run.steps() as usize;
            assert_eq!(
                steps,
                9 * 7,
                "several epochs, each with a last step that isn't full"
            );
            let mut watch = Watch::until(steps as u64);
            run.run(&mut watch).unwrap();
            let what = format!("{} on {threads} threads, {workers} workers", shape.name);
            let given = watch.allocations;
            assert!(
                given <= 1 + steps * calls / QUEUE_BLOCK,
                "{what}: {given} allocations"
            );
            let largest = watch.largest;
            assert!(
                given == 0 || largest <= QUEUE_BYTES,
                "{what}: {largest} bytes"
            );
        }
    }
}

#[test]
fn a_run_takes_the_memory_of_its_quote() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let models = [
        ("wide", r#"{"family": "mlp", "hidden": [900, 700]}"#),
        ("small", r#"{"family": "mlp", "hidden": [32]}"#),
    ];
    for (name, model) in models {
        for more in ["", r#", "ema": {}, "keep_best": true, "virtual_shards": 8"#] {
            let train =
                format!(r#"{{"steps": 40, "batch_size": 64, "loss": "cross_entropy"{more}}}"#);
            let plan = plan(model, &train, &[300], None, Target::Classes(10));
            let table = table(&plan, 200);
            let cpu = cpu(2);
            let before = LIVE.load(Ordering::SeqCst);
            PEAK.store(before, Ordering::SeqCst);
            let mut run = run(cpu, &plan, &table, 1);
            let mut watch = Watch::until(40);
            run.run(&mut watch).unwrap();
            let (taken, quote) = (watch.peak - before, plan.quote());
            // The best weights are kept from the first evaluation on, which comes later.
            let best = if plan.train.keep_best {
                plan.parameter_floats as i64 * 4
            } else {
                0
            };
            let quoted = quote.peak_bytes as i64 - best;
            let limit = quoted + quoted / 50 + MORE_BYTES;
            assert!(
                (quoted..=limit).contains(&taken),
                "{name}{more}: {taken} of {quoted} bytes"
            );
        }
    }
}
