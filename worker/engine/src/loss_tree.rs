//! Sums of losses in the tree of the shards' gradients.

use crate::device::LossSum;

/// Takes in losses in order, of shards or of subtrees of one size.
#[derive(Debug)]
pub(crate) struct LossTree {
    /// As a session's gradients: each entry sums a power of two of neighbours, larger ones first.
    sums: [LossSum; usize::BITS as usize],
    added: usize,
}

impl Default for LossTree {
    fn default() -> Self {
        Self {
            sums: [LossSum::default(); usize::BITS as usize],
            added: 0,
        }
    }
}

impl LossTree {
    pub(crate) fn add(&mut self, loss: LossSum) {
        let mut top = self.added.count_ones() as usize;
        let mut sum = loss;
        for _ in 0..self.added.trailing_ones() {
            top -= 1;
            sum += self.sums[top];
        }
        self.sums[top] = sum;
        self.added += 1;
    }

    /// The sum of all that was taken in.
    pub(crate) fn sum(&self) -> LossSum {
        let mut total = LossSum::default();
        let open = &self.sums[..self.added.count_ones() as usize];
        open.iter().for_each(|sum| total += *sum);
        total
    }
}
