//! What the ranks of a run tell each other.

use std::ops::Range;

use stoker_domain::job::{Failure, FailureKind};

use crate::collective::Collective;
use crate::error::EngineError;

/// First byte of a message: what was asked for is done, it failed, or the first rank ends the run.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const ENDED: u8 = 2;

/// How all ranks go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// All have done their part.
    Done,
    /// The first rank ends the run.
    Ended,
}

/// One rank among those of its run.
#[derive(Debug)]
pub(crate) struct Gang {
    collective: Box<dyn Collective>,
    /// The message in the making.
    message: Vec<u8>,
}

impl Gang {
    pub(crate) fn new(collective: Box<dyn Collective>) -> Self {
        Self {
            collective,
            message: Vec::with_capacity(64),
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.collective.rank()
    }

    pub(crate) fn ranks(&self) -> usize {
        self.collective.ranks()
    }

    /// The one that talks to whoever started the run.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The shards of this rank, of so many.
    pub(crate) fn owned(&self, shards: usize) -> Range<usize> {
        let each = shards / self.ranks();
        self.rank() * each..(self.rank() + 1) * each
    }

    /// For a session to sum over the ranks.
    pub(crate) fn collective(&mut self) -> &mut dyn Collective {
        self.collective.as_mut()
    }

    /// Tells how this rank's part went, and hands what each rank says to `take`, in order.
    ///
    /// # Errors
    /// That of the first rank which failed: the one that a single worker would have met first,
    /// since ranks own shards in order. `platform` when a rank was lost.
    pub(crate) fn agree(
        &mut self,
        part: Result<&[u8], &EngineError>,
        take: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<Agreed, EngineError> {
        self.message.clear();
        match part {
            Ok(bytes) => {
                self.message.push(DONE);
                self.message.extend_from_slice(bytes);
            }
            Err(error) => {
                let failure = serde_json::to_vec(&Failure::from(error.clone()));
                self.message.push(FAILED);
                self.message.extend(failure.unwrap_or_default());
            }
        }
        self.exchange(take)
    }

    /// Tells all ranks that the run ends here.
    pub(crate) fn end(&mut self) -> Result<Agreed, EngineError> {
        self.message.clear();
        self.message.push(ENDED);
        self.exchange(&mut |_, _| ())
    }

    fn exchange(&mut self, take: &mut dyn FnMut(usize, &[u8])) -> Result<Agreed, EngineError> {
        let (mut agreed, mut failed) = (Agreed::Done, None);
        let mut read = |rank: usize, message: &[u8]| match message.split_first() {
            Some((&DONE, bytes)) => take(rank, bytes),
            Some((&ENDED, _)) => agreed = Agreed::Ended,
            _ => {
                let json = message.get(1..).unwrap_or_default();
                failed.get_or_insert_with(|| read_failure(rank, json));
            }
        };
        self.collective.gather(&self.message, &mut read)?;
        match failed {
            Some(error) => Err(error),
            None => Ok(agreed),
        }
    }
}

fn read_failure(rank: usize, json: &[u8]) -> EngineError {
    match serde_json::from_slice::<Failure>(json) {
        Ok(failure) => failure.into(),
        Err(error) => {
            let message = format!("rank {rank} told what can't be read: {error}");
            EngineError::new(FailureKind::Platform, message)
        }
    }
}
