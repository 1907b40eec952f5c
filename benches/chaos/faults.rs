//! What breaks, and when: drawn from the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::proxy::Weather;

/// Draws faults.
pub(crate) struct Faults {
    random: fastrand::Rng,
    counts: BTreeMap<&'static str, u32>,
}

/// How often what broke.
pub(crate) struct Broken(BTreeMap<&'static str, u32>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = (self.0.iter())
            .map(|(what, times)| format!("{what} {times}"))
            .collect();
        f.write_str(&told.join(", "))
    }
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            counts: BTreeMap::new(),
        }
    }

    /// Breaks one thing after the other until it is over.
    pub(crate) async fn run(
        &mut self,
        fleet: &mut Fleet,
        over: &AtomicBool,
    ) -> anyhow::Result<Broken> {
        while !over.load(Ordering::Relaxed) {
            self.rest(500, 3_000).await;
            self.one(fleet).await?;
            if let Some(name) = fleet.ended_by_itself()? {
                bail!("{name} ended by itself:\n{}", fleet.log(name));
            }
        }
        Ok(Broken(std::mem::take(&mut self.counts)))
    }

    async fn rest(&mut self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(self.random.u64(from_ms..to_ms))).await;
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn one(&mut self, fleet: &mut Fleet) -> anyhow::Result<()> {
        let index = self.random.usize(..fleet.processes.len());
        match self.random.u8(..100) {
            0..30 => {
                self.count("process killed");
                fleet.kill(index).await?;
                self.rest(0, 2_000).await;
                fleet.start_process(index)?;
            }
            30..45 => {
                self.count("process stopped");
                fleet.signal(index, Signal::STOP)?;
                self.rest(500, 8_000).await;
                fleet.signal(index, Signal::CONT)?;
            }
            45..53 => {
                self.count("Redis killed");
                fleet.services.redis.kill();
                self.rest(0, 3_000).await;
                tokio::task::block_in_place(|| fleet.services.redis.restart())?;
            }
            53..59 => {
                self.count("RabbitMQ killed");
                fleet.services.rabbit.kill();
                self.rest(0, 3_000).await;
                tokio::task::block_in_place(|| fleet.services.rabbit.restart())?;
            }
            59..64 => {
                self.count("server stopped");
                let redis = self.random.bool();
                match redis {
                    true => fleet.services.redis.pause(),
                    false => fleet.services.rabbit.pause(),
                }
                self.rest(500, 6_000).await;
                match redis {
                    true => fleet.services.redis.resume(),
                    false => fleet.services.rabbit.resume(),
                }
            }
            64..90 => self.weather(fleet).await,
            _ if Fleet::can_move_clocks() => {
                self.count("clock moved");
                // Not further: a job that is tried again later waits by the clock of who says so.
                fleet.move_clock(index, self.random.i64(-20..=20))?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn weather(&mut self, fleet: &Fleet) {
        let (what, weather) = match self.random.u8(..3) {
            0 => ("connections cut", Weather::Cut),
            1 => {
                let late = Duration::from_millis(self.random.u64(20..400));
                ("network slow", Weather::Slow(late))
            }
            _ => ("answers lost", Weather::HalfClosed),
        };
        self.count(what);
        let (_, proxy) = &fleet.proxies[self.random.usize(..fleet.proxies.len())];
        proxy.set(weather);
        self.rest(500, 6_000).await;
        proxy.set(Weather::Fair);
    }
}
