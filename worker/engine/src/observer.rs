//! What a run tells whoever started it, and what it is told.

use crate::error::EngineError;

/// Receives a run's progress. Called between steps, from the thread that runs.
pub trait Observer {
    /// An optimiser step was made.
    fn step(&mut self, report: &StepReport);

    /// The held-out rows were measured: `test.loss`, then `test.<metric>` in the spec's order, but for
    /// those that are undefined.
    fn evaluated(&mut self, step: u64, epoch: u64, metrics: &[(String, f64)]);

    /// Metrics of the same evaluation that are undefined on these rows, and so aren't reported.
    fn undefined(&mut self, _step: u64, _epoch: u64, _names: &[String]) {}

    /// The state after `step`, from which a run can go on exactly.
    ///
    /// # Errors
    /// Ends the run.
    fn checkpoint(&mut self, step: u64, bytes: Vec<u8>) -> Result<(), EngineError>;

    /// The BLAKE3 of the weights after `step`. Of runs of one job, the first interval in which they
    /// came apart is found by these.
    fn trace(&mut self, _step: u64, _weights: blake3::Hash) {}

    /// Asked after every step.
    fn control(&mut self) -> Control;
}

/// What a run is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Make a checkpoint, then stop.
    Pause,
    /// Stop at once.
    Stop,
}

/// One optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps made, this one included.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The epoch in progress, from 1.
    pub epoch: u64,
    /// Rows trained on in this step.
    pub rows: u64,
    /// Mean loss of the step's rows.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}
