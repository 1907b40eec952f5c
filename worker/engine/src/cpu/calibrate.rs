//! How fast this CPU is at each kind of work, for the times of quotes.

use std::sync::Arc;
use std::time::Duration;

use stoker_domain::job::FailureKind;
use stoker_domain::worker::DeviceProfile;
use stoker_model::{InputDescription, Plan, Target, Work, WorkKind, compile};

use super::session::CpuSession;
use super::{Cpu, device_class};
use crate::error::EngineError;
use crate::init::initial_weights;
use crate::philox::{Purpose, Stream};
use crate::{Session as _, Shard, TargetRows};

/// Times that each kernel is run; its shortest time counts.
const ROUNDS: usize = 9;

/// A model of common sizes.
struct Sample {
    name: &'static str,
    model: &'static str,
    /// Numbers per row.
    width: usize,
    /// Token ids are below this; 0 where the features are no token ids.
    tokens: usize,
    batch: u32,
}

const SAMPLES: &[Sample] = &[
    Sample {
        name: "products",
        model: r#"{"family": "mlp", "hidden": [512, 512]}"#,
        width: 784,
        tokens: 0,
        batch: 128,
    },
    Sample {
        name: "convolutions",
        model: r#"{"family": "cnn", "input": [3, 32, 32], "channels": [32, 64, 64], "dense": [128]}"#,
        width: 3 * 1024,
        tokens: 0,
        batch: 32,
    },
    Sample {
        name: "attention",
        model: r#"{"family": "gpt", "depth": 2, "width": 128, "heads": 4, "dropout": 0.1}"#,
        width: 128,
        tokens: 64,
        batch: 16,
    },
];

/// Next to nothing to do.
const SMALL: Sample = Sample {
    name: "starting kernels",
    model: r#"{"family": "mlp", "hidden": [4, 4, 4], "dropout": 0.5}"#,
    width: 4,
    tokens: 0,
    batch: 1,
};

/// Sums over kernels of one kind.
#[derive(Default)]
struct Sum {
    amount: u64,
    seconds: f64,
}

impl Sum {
    fn add(&mut self, amount: u64, seconds: f64) {
        self.amount += amount;
        self.seconds += seconds;
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and a float beyond the range becomes its end"
    )]
    fn rate(&self) -> u64 {
        ((self.amount as f64 / self.seconds.max(1e-9)) as u64).max(1)
    }
}

impl Cpu {
    /// Measures the device, which should have nothing else to do: about two seconds. `now` is any
    /// steady clock; `about_to` hears what is measured next.
    ///
    /// # Errors
    /// `capacity` when the memory for the samples isn't there.
    pub fn calibrate(
        &self,
        now: &(dyn Fn() -> Duration + Sync),
        about_to: &mut dyn FnMut(&str),
    ) -> Result<DeviceProfile, EngineError> {
        about_to(SMALL.name);
        let mut each: Vec<Duration> = self
            .time(&SMALL, now)?
            .into_iter()
            .map(|(_, t)| t)
            .collect();
        each.sort_unstable();
        let start = each.get(each.len() / 2).copied().unwrap_or_default();
        let [mut products, mut convolutions, mut attention, mut traffic] =
            std::array::from_fn(|_| Sum::default());
        for sample in SAMPLES {
            about_to(sample.name);
            for (work, time) in self.time(sample, now)? {
                let seconds = time.saturating_sub(start).as_secs_f64();
                match work.kind {
                    WorkKind::Product => products.add(work.flops, seconds),
                    WorkKind::Convolution => convolutions.add(work.flops, seconds),
                    WorkKind::Attention => attention.add(work.flops, seconds),
                    WorkKind::Traffic => traffic.add(work.bytes, seconds),
                }
            }
        }
        Ok(DeviceProfile {
            version: 1,
            device_class: device_class(),
            threads: u32::try_from(self.pool.current_num_threads()).unwrap_or(u32::MAX),
            product_flops_per_s: products.rate(),
            convolution_flops_per_s: convolutions.rate(),
            attention_flops_per_s: attention.rate(),
            bytes_per_s: traffic.rate(),
            kernel_ns: u64::try_from(start.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    /// The work and the time of each kernel of a sample.
    fn time(
        &self,
        sample: &Sample,
        now: &(dyn Fn() -> Duration + Sync),
    ) -> Result<Vec<(Work, Duration)>, EngineError> {
        let plan = Arc::new(plan(sample)?);
        let mut session = CpuSession::new(Arc::clone(&self.pool), self.level, Arc::clone(&plan))?;
        session.write(&initial_weights(&plan), &[]);
        let stream = Stream::new(0, Purpose::Init, 0, 0);
        let (rows, outputs) = (plan.rows, plan.input.target.positions());
        let feature = |index: u64| match sample.tokens {
            0 => stream.below(index, 2001) as f32 / 1000.0 - 1.0,
            tokens => stream.below(index, tokens as u64) as f32,
        };
        let features: Vec<f32> = (0..(rows * sample.width) as u64).map(feature).collect();
        let classes = vec![0; rows * outputs];
        let shard = Shard {
            features: &features,
            targets: TargetRows::Classes(&classes),
            lengths: &[],
            first_row: 0,
            step: 0,
        };
        let times = session.time_kernels(&shard, ROUNDS, now);
        let kernels = plan.forward.iter().chain(&plan.backward);
        Ok(kernels.map(|kernel| plan.work(kernel)).zip(times).collect())
    }
}

fn plan(sample: &Sample) -> Result<Plan, EngineError> {
    let broken = |error: String| {
        let message = format!("the sample `{}` doesn't compile: {error}", sample.name);
        EngineError::new(FailureKind::Platform, message)
    };
    let train = format!(
        r#"{{"steps": 1, "batch_size": {}, "loss": "cross_entropy"}}"#,
        sample.batch
    );
    let model = serde_json::from_str(sample.model).map_err(|error| broken(error.to_string()))?;
    let train = serde_json::from_str(&train).map_err(|error| broken(error.to_string()))?;
    let target = match sample.tokens {
        0 => Target::Classes(10),
        classes => Target::Sequence {
            classes,
            positions: sample.width,
        },
    };
    let input = InputDescription {
        width: sample.width,
        shape: vec![sample.width],
        vocabulary: (sample.tokens > 0).then_some(sample.tokens),
        target,
    };
    compile(&model, &train, &input).map_err(|errors| broken(format!("{errors:?}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::cpu::simd::Level;
    use crate::tests::cpu;

    #[test]
    fn a_profile_tells_what_the_clock_told() {
        // Every kernel takes a millisecond by this clock.
        let ticks = AtomicU64::new(0);
        let now = || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let mut told = Vec::new();
        let cpu = cpu(1, Level::detect());
        let profile = cpu.calibrate(&now, &mut |what| told.push(what.to_owned()));
        let profile = profile.unwrap();
        assert_eq!(told.len(), 1 + SAMPLES.len());
        assert_eq!((profile.kernel_ns, profile.threads), (1_000_000, 1));
        let plan = plan(&SAMPLES[1]).unwrap();
        let slow = DeviceProfile {
            convolution_flops_per_s: 1_000_000,
            bytes_per_s: u64::MAX,
            product_flops_per_s: u64::MAX,
            ..profile
        };
        let kernels = plan.forward.iter().chain(&plan.backward);
        let flops: u64 = kernels
            .map(|kernel| plan.work(kernel))
            .filter(|work| work.kind == WorkKind::Convolution)
            .map(|work| work.flops)
            .sum();
        let expected = flops as f64 / 1e6 + (plan.forward.len() + plan.backward.len()) as f64 / 1e3;
        let given = plan.step_seconds(&slow);
        assert!(
            (given / expected - 1.0).abs() < 1e-6,
            "{given} for {expected}"
        );
        let run = plan.run_seconds(&slow, (10, 20), 32);
        assert!(run > 20.0 * given && run < 21.0 * given, "{run} of {given}");
    }
}
