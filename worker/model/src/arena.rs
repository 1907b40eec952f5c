//! Places values in one arena: two that never live at the same time may share memory.

/// Values start at multiples of this many floats: a cache line.
pub(crate) const ALIGNMENT: usize = 16;

/// A value to be placed: its size, and the first and last kernel that touch it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) floats: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Offsets for `lives`, and the size of the arena, in floats. Larger values are placed first, each
/// at the lowest gap among those that live at the same time.
pub(crate) fn place(lives: &[Life]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lives[index].floats), index));
    let mut offsets = vec![0; lives.len()];
    // Those that have a place, by where it starts and ends.
    let mut placed: Vec<(usize, usize, usize)> = Vec::with_capacity(lives.len());
    let mut total = 0;
    for index in order {
        let life = lives[index];
        let size = life.floats.next_multiple_of(ALIGNMENT);
        let mut offset = 0;
        for &(start, end, other) in &placed {
            let together = lives[other].first <= life.last && life.first <= lives[other].last;
            if !together {
                continue;
            }
            if offset + size <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(ALIGNMENT));
        }
        offsets[index] = offset;
        total = total.max(offset + size);
        let place = (offset, offset + life.floats, index);
        placed.insert(placed.partition_point(|other| *other < place), place);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_live_together_never_overlap() {
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from((state >> 33) % below).unwrap()
        };
        let lives: Vec<Life> = (0..200)
            .map(|_| {
                let first = next(50);
                Life {
                    floats: 1 + next(300),
                    first,
                    last: first + next(9),
                }
            })
            .collect();
        let (offsets, total) = place(&lives);
        let end = |index: usize| offsets[index] + lives[index].floats;
        for a in 0..lives.len() {
            assert!(offsets[a].is_multiple_of(ALIGNMENT) && end(a) <= total);
            for b in 0..a {
                let together = lives[a].first <= lives[b].last && lives[b].first <= lives[a].last;
                let apart = end(a) <= offsets[b] || end(b) <= offsets[a];
                assert!(!together || apart, "{a} and {b} overlap");
            }
        }
        let all: usize = lives.iter().map(|life| life.floats).sum();
        assert!(total < all / 2, "memory must be shared: {total} of {all}");
    }
}
