//! The ranks of a run that are threads of this process: all of them train, and none waits for one
//! that is lost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use super::{Outcome, Run};
use crate::error::EngineError;
use crate::observer::{Control, Observer, StepReport};

impl Run {
    /// Runs until all steps are made, or the observer says otherwise.
    ///
    /// # Errors
    /// `numeric` when a loss or gradient isn't finite: the weights are those before the step;
    /// `platform` when a worker was lost; else what a transform, a metric or the observer gave.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome, EngineError> {
        if self.others.is_empty() {
            return self.train(observer);
        }
        let mut others = std::mem::take(&mut self.others);
        let outcome = thread::scope(|scope| {
            for other in &mut others {
                let name = format!("rank-{}", other.gang.rank());
                let started = thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, || other.follow());
                if let Err(error) = started {
                    let why = format!("a thread can't be started: {error}");
                    self.gang.collective().leave(&why);
                }
            }
            self.watch_over(observer)
        });
        self.others = others;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Trains, and lets the other ranks go whatever happens.
    fn watch_over(
        &mut self,
        observer: &mut dyn Observer,
    ) -> thread::Result<Result<Outcome, EngineError>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.train(observer)));
        match &outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.gang.collective().leave(&error.message),
            Err(panic) => self.gang.collective().leave(&told_by(panic.as_ref())),
        }
        outcome
    }

    /// Trains as a rank after the first, which tells how it went.
    fn follow(&mut self) {
        // A panic is told by the first rank, which lost this one.
        let _ = self.watch_over(&mut Follower);
    }
}

/// What a panic said.
fn told_by(panic: &(dyn Any + Send)) -> String {
    let text = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}

/// Watches a rank after the first, of which nobody is told.
struct Follower;

impl Observer for Follower {
    fn step(&mut self, _report: &StepReport) {}
    fn evaluated(&mut self, _step: u64, _epoch: u64, _metrics: &[(String, f64)]) {}
    fn checkpoint(&mut self, _step: u64, _bytes: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}
