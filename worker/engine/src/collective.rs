//! The port between the ranks of a data-parallel run.
//!
//! Each of W ranks, a power of two, owns a run of neighbouring virtual shards, which is a subtree
//! of the tree over all shards of an optimiser step: shards of all batches that are accumulated
//! make one tree, so a rank may own whole batches. Subtrees are summed by the ranks, and what is
//! above them over the ranks, in the same tree. So W never changes a bit.

mod threads;

pub(crate) use threads::connect;

use std::fmt::Debug;

use crate::error::EngineError;

/// One rank's end of what connects the ranks of a run. All ranks make the same calls in the same
/// order; a call returns when all have made it.
///
/// Messages are few and small. Gradients that are in a device's own memory go another way, for
/// which the device's sessions may find each other through [`Collective::gather`].
pub trait Collective: Debug + Send {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks in all, a power of two.
    fn ranks(&self) -> usize;

    /// Sums the ranks' buffers, which have one length, number by number in the order of the tree
    /// over ranks: neighbours first, the left one on the left. All have the sum afterwards. What is
    /// in the buffer after an error is undefined.
    ///
    /// # Errors
    /// `platform` when a rank was lost.
    fn sum(&mut self, buffer: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Gives `take` the messages of all ranks, from rank 0 on. It must not wait for another rank.
    ///
    /// # Errors
    /// `platform` when a rank was lost.
    fn gather(
        &mut self,
        message: &[u8],
        take: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), EngineError>;

    /// Ends this rank's part: what others wait for, now and later, ends with an error that says
    /// why. The first reason counts.
    fn leave(&mut self, why: &str);
}

/// The only rank of a run.
#[derive(Debug)]
pub(crate) struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum(&mut self, _buffer: &mut Vec<f32>) -> Result<(), EngineError> {
        Ok(())
    }

    fn gather(
        &mut self,
        message: &[u8],
        take: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), EngineError> {
        take(0, message);
        Ok(())
    }

    fn leave(&mut self, _why: &str) {}
}
