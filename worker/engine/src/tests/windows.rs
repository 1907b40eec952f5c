//! Windows of convolutions that are read in place against those that are unfolded.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::gradients::layers;
use super::{as_rows, cpu, numbers, plan, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::{Session, Shard};

/// The gradients of one step, as bits.
fn gradients(plan: &Arc<Plan>, rows: usize, level: Level) -> Vec<u32> {
    let (width, target) = (plan.input.width, plan.input.target);
    let cpu = cpu(2, level);
    let mut session = CpuSession::new(cpu.pool().clone(), level, plan.clone()).unwrap();
    session.write(&initial_weights(plan), &[]);
    session.start_step();
    session.train_shard(&Shard {
        features: &numbers(rows * width, 1),
        targets: as_rows(&targets(rows, target)),
        lengths: &[],
        first_row: 0,
        step: 0,
    });
    session.gradients().iter().map(|g| g.to_bits()).collect()
}

#[test]
fn windows_read_in_place_give_the_bits_of_unfolded_ones() {
    // Channels in and out, kernel, stride, padding; some in tiles of rows, some of images.
    for (inputs, outputs, kernel, stride, padding) in [
        (16, 16, 3, 1, 1),
        (32, 5, 3, 1, 1),
        (7, 33, 3, 1, 0),
        (61, 70, 3, 1, 1),
        (16, 40, 5, 1, 2),
        (16, 24, 2, 2, 0),
        (3, 20, 7, 2, 3),
        (20, 12, 3, 2, 1),
        (48, 17, 1, 1, 0),
        (16, 16, 4, 3, 3),
        (16, 9, 3, 1, 2),
        (5, 9, 2, 1, 4),
    ] {
        for [height, width] in [[5, 7], [19, 26], [41, 9]] {
            let blocks = format!(
                r#"{{"type": "conv2d", "channels": {inputs}, "kernel": 3, "padding": 1}},
                   {{"type": "activation", "function": "tanh"}},
                   {{"type": "conv2d", "channels": {outputs}, "kernel": {kernel},
                     "stride": {stride}, "padding": {padding}}},
                   {{"type": "activation", "function": "gelu"}}, {{"type": "global_avg_pool"}},
                   {{"type": "linear", "units": 3}}"#
            );
            let model = layers(&format!("[2, {height}, {width}]"), &blocks);
            let train = r#"{"steps": 1, "batch_size": 5, "loss": "cross_entropy"}"#;
            let plan = plan(&model, train, 2 * height * width, Target::Classes(3));
            let expected = gradients(&plan, 4, Level::Scalar);
            for level in Level::available() {
                assert!(gradients(&plan, 4, level) == expected, "{level:?}: {model}");
            }
        }
    }
}
