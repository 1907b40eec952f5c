//! Running statistics: what a step's shards saw, blended into what was seen before.

use stoker_model::{Op, Plan};

/// Updates the running statistics in `weights` from their summed "gradients": a sum over what was
/// seen for each number, and its count behind them. The means are weighed by the positions of each
/// shard; the variances are the squared deviations within the shards over what is left of the
/// positions after a mean for each, which for one shard is PyTorch's unbiased variance. Where
/// nothing counts the statistic stays.
pub(super) fn update(plan: &Plan, weights: &mut [f32], sums: &[f32]) {
    for kernel in &plan.forward {
        let Op::BatchNorm {
            running, momentum, ..
        } = &kernel.op
        else {
            continue;
        };
        for id in running {
            let parameter = &plan.parameters[id.0];
            let running = &mut weights[parameter.offset..][..parameter.floats];
            let sums = &sums[parameter.offset..][..=parameter.floats];
            let count = sums[parameter.floats];
            if count > 0.0 {
                for (running, sum) in running.iter_mut().zip(sums) {
                    *running = (sum / count - *running).mul_add(*momentum, *running);
                }
            }
        }
    }
}
