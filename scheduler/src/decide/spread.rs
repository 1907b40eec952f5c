//! How far runs were from what was expected of them.

use std::collections::VecDeque;

/// Ratios that are kept.
const KEPT: usize = 256;

/// Ratios of which it can be said how they are spread.
const ENOUGH: usize = 8;

/// Ratios that stand for those that weren't seen.
const GUESSED: usize = 32;

/// The last ratios of actual to expected times.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread {
    recent: VecDeque<f64>,
}

impl Spread {
    pub(super) fn observe(&mut self, ratio: f64) {
        if !ratio.is_finite() || ratio < 0.0 {
            return;
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(ratio);
    }

    pub(super) fn ratios(&self) -> impl Iterator<Item = f64> {
        self.recent.iter().copied()
    }

    /// The ratios, the least first; `None` while there are too few.
    pub(super) fn sorted(&self) -> Option<Vec<f64>> {
        let mut sorted: Vec<f64> = self.ratios().collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= ENOUGH).then_some(sorted)
    }
}

/// Ratios from `least` to `most`, spread evenly on a logarithmic scale: what to reckon
/// with before any were seen.
pub(super) fn log_uniform(least: f64, most: f64) -> Vec<f64> {
    let place = |number: usize| (number as f64 + 0.5) / GUESSED as f64;
    let guess = |number: usize| least * (most / least).powf(place(number));
    (0..GUESSED).map(guess).collect()
}

/// The ratio at `share` (0 to 1) of those above `least`: how long it will be in all, given that it
/// is `least` already.
pub(super) fn above(sorted: &[f64], least: f64, share: f64) -> f64 {
    let rest = sorted
        .split_at(sorted.partition_point(|ratio| *ratio <= least))
        .1;
    let place = (share.clamp(0.0, 1.0) * rest.len() as f64) as usize;
    let last = rest.len().saturating_sub(1);
    // None was ever so long: as much again is as good a guess as any.
    rest.get(place.min(last))
        .copied()
        .unwrap_or(least * (1.0 + share))
}
