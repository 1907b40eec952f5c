//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use stoker_domain::job::FailureKind;

use super::Collective;
use crate::error::EngineError;

/// Floats that are summed over all ranks before the next ones: they stay in a core's cache.
const CHUNK: usize = 1 << 12;

/// Connects so many ranks, a power of two.
pub(crate) fn connect(ranks: usize) -> Vec<Box<dyn Collective>> {
    let board = Board {
        messages: [vec![Vec::new(); ranks], vec![Vec::new(); ranks]],
        buffers: vec![Vec::new(); ranks],
        ..Board::default()
    };
    let shared = Arc::new(Shared {
        ranks,
        board: Mutex::new(board),
        turned: Condvar::new(),
    });
    let one = |rank| -> Box<dyn Collective> {
        let shared = Arc::clone(&shared);
        Box::new(ThreadRank { rank, shared })
    };
    (0..ranks).map(one).collect()
}

#[derive(Debug)]
struct ThreadRank {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ranks: usize,
    board: Mutex<Board>,
    turned: Condvar,
}

/// What the ranks lay down and pick up.
#[derive(Debug, Default)]
struct Board {
    /// Calls that all ranks have made.
    turn: usize,
    /// Ranks that have made the next one.
    here: usize,
    /// For even and odd turns: a rank is at most a turn ahead of one that still reads.
    messages: [Vec<Vec<u8>>; 2],
    buffers: Vec<Vec<f32>>,
    /// The first rank that left, and why.
    lost: Option<(usize, String)>,
}

impl ThreadRank {
    fn board(&self) -> MutexGuard<'_, Board> {
        // What a rank that panicked was at is told by `lost`.
        (self.shared.board.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, board: &Board) -> Result<(), EngineError> {
        let Some((rank, why)) = &board.lost else {
            return Ok(());
        };
        let message = format!("rank {rank} of {} was lost: {why}", self.shared.ranks);
        Err(EngineError::new(FailureKind::Platform, message))
    }

    /// Waits until all ranks are here. The last one does `work`.
    fn meet<'a>(
        &'a self,
        mut board: MutexGuard<'a, Board>,
        work: impl FnOnce(&mut Board),
    ) -> Result<MutexGuard<'a, Board>, EngineError> {
        self.check(&board)?;
        board.here += 1;
        if board.here == self.shared.ranks {
            work(&mut board);
            board.here = 0;
            board.turn += 1;
            self.shared.turned.notify_all();
            return Ok(board);
        }
        let turn = board.turn;
        while board.turn == turn {
            self.check(&board)?;
            board = (self.shared.turned.wait(board)).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(board)
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.shared.ranks
    }

    /// The buffers are moved, not copied; the last rank to come sums them.
    fn sum(&mut self, buffer: &mut Vec<f32>) -> Result<(), EngineError> {
        let mut board = self.board();
        board.buffers[self.rank] = std::mem::take(buffer);
        let met = self.meet(board, |board| sum_tree(&mut board.buffers));
        let met = met.map(drop);
        *buffer = std::mem::take(&mut self.board().buffers[self.rank]);
        met
    }

    fn gather(
        &mut self,
        message: &[u8],
        take: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), EngineError> {
        let mut board = self.board();
        let side = board.turn % 2;
        let slot = &mut board.messages[side][self.rank];
        slot.clear();
        slot.extend_from_slice(message);
        let board = self.meet(board, |_| ())?;
        for (rank, message) in board.messages[side].iter().enumerate() {
            take(rank, message);
        }
        Ok(())
    }

    fn leave(&mut self, why: &str) {
        let lost = (self.rank, why.to_owned());
        self.board().lost.get_or_insert(lost);
        self.shared.turned.notify_all();
    }
}

/// Sums buffers in the order of the tree, and gives all of them the sum.
fn sum_tree(buffers: &mut [Vec<f32>]) {
    let floats = buffers.first().map_or(0, Vec::len);
    assert!(
        buffers.iter().all(|buffer| buffer.len() == floats),
        "ranks sum buffers of one length"
    );
    for first in (0..floats).step_by(CHUNK) {
        let chunk = first..(first + CHUNK).min(floats);
        let mut apart = 1;
        while apart < buffers.len() {
            for pair in buffers.chunks_mut(2 * apart) {
                if let (left, [right, ..]) = pair.split_at_mut(apart) {
                    let numbers = left[0][chunk.clone()].iter_mut().zip(&right[chunk.clone()]);
                    numbers.for_each(|(left, right)| *left += right);
                }
            }
            apart *= 2;
        }
        if let [sum, others @ ..] = buffers {
            for other in others {
                other[chunk.clone()].copy_from_slice(&sum[chunk.clone()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Runs `f` for each rank on a thread of its own.
    fn each<T: Send>(ranks: usize, f: impl Fn(Box<dyn Collective>) -> T + Sync) -> Vec<T> {
        let f = &f;
        std::thread::scope(|scope| {
            let threads: Vec<_> = connect(ranks)
                .into_iter()
                .map(|rank| scope.spawn(move || f(rank)))
                .collect();
            (threads.into_iter())
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    /// Numbers whose sum depends on the order.
    fn numbers(rank: usize, count: usize) -> Vec<f32> {
        let of = |index: usize| ((rank * 7919 + index * 104_729) % 1009) as f32 * 0.1 - 40.0;
        (0..count).map(of).collect()
    }

    fn tree(all: &[Vec<f32>]) -> Vec<f32> {
        let [left, right] = match all {
            [one] => return one.clone(),
            more => [0, 1].map(|half| tree(&more[half * more.len() / 2..][..more.len() / 2])),
        };
        left.iter().zip(&right).map(|(a, b)| a + b).collect()
    }

    #[test]
    fn all_ranks_have_the_tree_of_all_buffers() {
        for ranks in [1, 2, 4, 8, 16] {
            for floats in [0, 1, CHUNK, 3 * CHUNK + 5] {
                let all: Vec<_> = (0..ranks).map(|rank| numbers(rank, floats)).collect();
                let expected: Vec<u32> = tree(&all).iter().map(|x| x.to_bits()).collect();
                let given = each(ranks, |mut rank| {
                    let mut sum = numbers(rank.rank(), floats);
                    rank.sum(&mut sum).unwrap();
                    sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                });
                assert!(given.iter().all(|sum| *sum == expected), "{ranks} ranks");
            }
        }
        let all: Vec<_> = (0..8).map(|rank| numbers(rank, 999)).collect();
        let in_line = all[1..].iter().fold(all[0].clone(), |sum, next| {
            sum.iter().zip(next).map(|(a, b)| a + b).collect()
        });
        assert!(in_line != tree(&all), "the order must be seen");
    }

    #[test]
    fn messages_come_in_the_order_of_ranks_whoever_is_fast() {
        each(4, |mut rank| {
            for turn in 0..300_u32 {
                if (turn as usize + rank.rank()).is_multiple_of(7) {
                    std::thread::yield_now();
                }
                let message = [rank.rank() as u8].repeat(turn as usize % 5);
                let mut seen = Vec::new();
                rank.gather(&message, &mut |from, bytes| {
                    seen.push((from, bytes.to_vec()))
                })
                .unwrap();
                let expected = (0..4).map(|from| (from, [from as u8].repeat(turn as usize % 5)));
                assert!(seen.into_iter().eq(expected), "turn {turn}");
            }
        });
    }

    #[test]
    fn a_rank_that_left_is_named_by_all_who_wait() {
        let waiting = AtomicUsize::new(0);
        let errors = each(4, |mut rank| {
            rank.gather(&[1], &mut |_, _| ()).unwrap();
            if rank.rank() == 2 {
                while waiting.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                rank.leave("it panicked");
                rank.leave("another reason");
            }
            waiting.fetch_add(1, Ordering::SeqCst);
            let first = rank.gather(&[1], &mut |_, _| ()).unwrap_err();
            assert_eq!(rank.sum(&mut vec![1.0]).unwrap_err(), first, "for good");
            first
        });
        for error in errors {
            assert_eq!(error.kind, FailureKind::Platform);
            assert_eq!(error.message, "rank 2 of 4 was lost: it panicked");
        }
    }
}
