//! A first run on made-up rows: does the plugin do what it says, and twice the same?

mod sample;

use crate::compile::Failure;
use crate::config::CompileLimits;
use crate::description::{Contract, Description, TensorSpec};
use crate::plugin::Plugin;
use crate::rejection::{Reason, Rejection};
use sample::{ROWS, sample_batch};
use serde::{Deserialize, Serialize};

/// What the probe measured. It is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Rows of each call.
    pub rows: u32,
    /// Fuel of the dearest call, about one a WebAssembly instruction.
    pub fuel: u64,
    /// The most linear memory that an instance had, in bytes.
    pub memory_bytes: u64,
}

impl ProbeReport {
    fn with(self, fuel: u64, memory_bytes: u64) -> Self {
        Self {
            rows: ROWS,
            fuel: self.fuel.max(fuel),
            memory_bytes: self.memory_bytes.max(memory_bytes),
        }
    }
}

/// Runs `plugin`, which must be paced by fuel, on its own example.
pub(crate) fn probe(
    plugin: &Plugin,
    description: &Description,
    limits: &CompileLimits,
) -> Result<ProbeReport, Failure> {
    check_examples(description, limits)?;
    let config = description.example_config().to_string();
    match &description.contract {
        Contract::Preprocess { inputs, outputs } => {
            probe_preprocess(plugin, &config, inputs, outputs)
        }
        Contract::Metric {
            predictions,
            targets,
            ..
        } => probe_metric(plugin, &config, predictions, targets),
    }
}

/// The values of all examples together must stay few: a description may name any extents.
fn check_examples(description: &Description, limits: &CompileLimits) -> Result<(), Rejection> {
    let (first, second) = match &description.contract {
        Contract::Preprocess { inputs, outputs } => (inputs, outputs),
        Contract::Metric {
            predictions,
            targets,
            ..
        } => (predictions, targets),
    };
    let values = |spec: &TensorSpec| {
        spec.example
            .iter()
            .fold(1_u64, |all, extent| all.saturating_mul(u64::from(*extent)))
    };
    let all = first
        .iter()
        .chain(second)
        .map(values)
        .fold(0, u64::saturating_add);
    let allowed = limits.probe_row_values;
    if all <= allowed {
        return Ok(());
    }
    let message =
        format!("its example rows have {all} values together; at most {allowed} are allowed");
    Err(Rejection::new(Reason::Probe, message))
}

fn probe_preprocess(
    plugin: &Plugin,
    config: &str,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<ProbeReport, Failure> {
    let batch = || sample_batch(inputs, 0);
    let mut one = plugin.preprocess(config)?;
    let mut two = plugin.preprocess(config)?;
    let mut hashes = Vec::new();
    // The second run of the first instance stands between two that must agree.
    for (instance, seed) in [(0, 1), (0, 2), (0, 1), (1, 1)] {
        let runner = if instance == 0 { &mut one } else { &mut two };
        let result = runner.run(batch(), seed)?;
        outputs
            .iter()
            .try_for_each(|spec| check_output(&result, spec))?;
        let mut hasher = blake3::Hasher::new();
        result.hash_bits(&mut hasher);
        hashes.push(hasher.finalize());
    }
    if hashes[0] != hashes[2] || hashes[0] != hashes[3] {
        return Err(not_deterministic(
            "`run` gave different results for one batch and seed",
        ));
    }
    let memory_bytes = one.usage().memory_bytes.max(two.usage().memory_bytes);
    Ok(NOTHING.with(one.fuel_used().max(two.fuel_used()), memory_bytes))
}

const NOTHING: ProbeReport = ProbeReport {
    rows: ROWS,
    fuel: 0,
    memory_bytes: 0,
};

fn check_output(result: &crate::Batch, spec: &TensorSpec) -> Result<(), Rejection> {
    let wrong = |what: String| Err(Rejection::new(Reason::Probe, what));
    let Some(tensor) = result.tensor(&spec.name) else {
        return wrong(format!(
            "`run` gave no tensor `{}`, which `outputs` promises",
            spec.name
        ));
    };
    let found = tensor.values.element();
    if found != spec.element || tensor.shape[1..] != spec.example {
        return wrong(format!(
            "`run` gave tensor `{}` of {found:?} with rows of shape {:?}; `outputs` promises \
             {:?} with rows of shape {:?}",
            spec.name,
            &tensor.shape[1..],
            spec.element,
            spec.example
        ));
    }
    Ok(())
}

fn probe_metric(
    plugin: &Plugin,
    config: &str,
    predictions: &[TensorSpec],
    targets: &[TensorSpec],
) -> Result<ProbeReport, Failure> {
    let shard = |salt| (sample_batch(predictions, salt), sample_batch(targets, salt));
    let mut report = NOTHING;
    let mut values = Vec::new();
    for _ in 0..2 {
        let mut whole = plugin.metric(config)?;
        for salt in 0..2 {
            let (predictions, targets) = shard(salt);
            whole.update(predictions, targets)?;
        }
        let state = whole.save()?;
        let mut restored = plugin.metric(config)?;
        restored.merge(&state)?;
        for mut metric in [whole, restored] {
            values.push(metric.finish()?.to_bits());
            report = report.with(metric.fuel_used(), metric.usage().memory_bytes);
        }
    }
    if values[0] != values[2] {
        return Err(not_deterministic(
            "`finish` gave different values for the same updates",
        ));
    }
    if values[0] != values[1] {
        let message = "a state that was saved and merged into a new accumulator gave another value";
        return Err(Rejection::new(Reason::Probe, message).into());
    }
    Ok(report)
}

fn not_deterministic(message: &str) -> Failure {
    Rejection::new(Reason::NotDeterministic, message).into()
}
