//! How long each kernel of a plan takes.

use std::sync::Arc;
use std::time::Duration;

use super::CpuSession;
use crate::device::Shard;

impl CpuSession {
    /// Runs a shard forward and back `rounds` times, and gives each kernel's shortest time: those
    /// of the way forward, then those of the way back. `now` is any steady clock.
    pub(crate) fn time_kernels(
        &mut self,
        shard: &Shard<'_>,
        rounds: usize,
        now: &(dyn Fn() -> Duration + Sync),
    ) -> Vec<Duration> {
        let memory = &mut self.memory;
        let plan = Arc::clone(&memory.plan);
        let mut shortest = vec![Duration::MAX; plan.forward.len() + plan.backward.len()];
        self.pool.install(|| {
            for _ in 0..rounds {
                memory.load(&plan, shard);
                let (forward, backward) = shortest.split_at_mut(plan.forward.len());
                for (kernel, shortest) in plan.forward.iter().zip(forward) {
                    let start = now();
                    memory.execute(&plan, kernel, shard, true, 0);
                    *shortest = now().saturating_sub(start).min(*shortest);
                }
                memory.loss(&plan, shard);
                for (kernel, shortest) in plan.backward.iter().zip(backward) {
                    let start = now();
                    memory.execute(&plan, kernel, shard, true, 0);
                    *shortest = now().saturating_sub(start).min(*shortest);
                }
            }
        });
        shortest
    }
}
