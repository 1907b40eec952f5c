//! What metrics tell besides their values, of the weights that a run leaves.

use std::collections::BTreeMap;

use super::Run;
use crate::collective::Alone;
use crate::error::EngineError;
use crate::evaluate::Evaluation;
use crate::gang::Gang;
use crate::metric::Metric;
use crate::monitor::Monitor;

impl Run {
    /// The files of the metrics: those of the newest evaluation, or of another one where the best
    /// weights are older, which the first rank makes alone.
    ///
    /// # Errors
    /// As an evaluation.
    pub(super) fn files(&mut self) -> Result<BTreeMap<String, Vec<u8>>, EngineError> {
        let Some((step, mut measured)) = self.evaluated.take() else {
            return Ok(BTreeMap::new());
        };
        let mut files = collect(&mut measured.metrics);
        self.evaluated = Some((step, measured));
        let best = self.monitor.as_ref().and_then(Monitor::best);
        let best = best.map(|best| best.step).filter(|best| *best != step);
        if let (Some(step), Some(weights), false) = (best, &self.best, files.is_empty()) {
            let trained = self.session.read(0).into_owned();
            self.session
                .write(0, &mut |buffer| buffer.copy_from_slice(weights));
            let evaluated = Evaluation {
                plan: &self.plan,
                session: self.session.as_mut(),
                feed: &mut self.feed,
                sources: &self.metrics,
                gang: &mut Gang::new(Box::new(Alone)),
                order: &self.rows.test,
                step,
            }
            .run();
            self.session
                .write(0, &mut |buffer| buffer.copy_from_slice(&trained));
            let mut measured = evaluated.map_err(|error| error.at_step(self.step))?;
            files = collect(&mut measured.metrics);
        }
        Ok(files)
    }
}

/// Of metrics that give the same file, the first.
fn collect(metrics: &mut [Box<dyn Metric>]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, bytes) in metrics.iter_mut().flat_map(|metric| metric.files()) {
        files.entry(name).or_insert(bytes);
    }
    files
}
