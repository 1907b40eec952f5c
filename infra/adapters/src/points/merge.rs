//! One curve of many lists of points, and few points of a long curve.

use stoker_domain::port::StoredPoint;

/// One list, by step. Of a step's points the highest token's wins, and of one token's the last
/// list's.
pub(super) fn merge(lists: Vec<Vec<StoredPoint>>) -> Vec<StoredPoint> {
    let mut lists = lists.into_iter();
    let mut points = lists.next().unwrap_or_default();
    lists.for_each(|list| points.extend(list));
    // Stable, and quick on what is in order already.
    points.sort_by_key(|point| (point.step, point.token));
    points.dedup_by(|later, kept| {
        let same = later.step == kept.step;
        if same {
            *kept = *later;
        }
        same
    });
    points
}

/// At most `most` (at least 4) points of a curve: its first and last, and of each of equal
/// stretches of steps the least and the greatest. What isn't a number counts as greatest.
pub(super) fn thin(curve: &[StoredPoint], most: usize) -> Vec<StoredPoint> {
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else {
        return Vec::new();
    };
    if curve.len() <= most {
        return curve.to_vec();
    }
    let stretches = (most.saturating_sub(2) / 2).max(1) as u128;
    let span = u128::from(last.step - first.step) + 1;
    let stretch = |point: &StoredPoint| u128::from(point.step - first.step) * stretches / span;
    let mut kept = vec![*first];
    for points in curve.chunk_by(|a, b| stretch(a) == stretch(b)) {
        let least = points.iter().min_by(|a, b| a.value.total_cmp(&b.value));
        let greatest = points.iter().max_by(|a, b| a.value.total_cmp(&b.value));
        let mut both: Vec<_> = least.into_iter().chain(greatest).copied().collect();
        both.sort_by_key(|point| point.step);
        kept.extend(both);
    }
    kept.push(*last);
    kept.dedup_by_key(|point| point.step);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, token: u64, value: f64) -> StoredPoint {
        StoredPoint { step, token, value }
    }

    #[test]
    fn the_highest_token_wins_and_then_the_last_list() {
        let merged = merge(vec![
            vec![point(1, 2, 0.1), point(2, 1, 0.2), point(9, 1, 0.9)],
            vec![point(2, 3, 0.3), point(3, 1, 0.4)],
            vec![point(1, 1, 0.5), point(2, 3, 0.6)],
        ]);
        let wanted = [
            point(1, 2, 0.1),
            point(2, 3, 0.6),
            point(3, 1, 0.4),
            point(9, 1, 0.9),
        ];
        assert_eq!(merged, wanted);
        assert!(merge(Vec::new()).is_empty());
    }

    #[test]
    fn never_more_than_asked_for_and_what_is_no_number_stays() {
        for (count, gap) in [(5, 1), (100, 1), (1_000, 977), (7, u64::MAX / 7)] {
            let mut curve: Vec<_> = (0..count)
                .map(|i| point(i * gap, 1, (i as f64).cos()))
                .collect();
            let odd = curve.len() / 2;
            curve[odd].value = f64::NAN;
            for most in [4, 5, 6, 17, 99] {
                let kept = thin(&curve, most);
                assert!(kept.len() <= most, "{} of {most}", kept.len());
                assert!(kept.is_sorted_by(|a, b| a.step < b.step));
                assert!(kept.iter().any(|point| point.value.is_nan()));
                assert_eq!(kept.first().map(|p| p.step), curve.first().map(|p| p.step));
                assert_eq!(kept.last().map(|p| p.step), curve.last().map(|p| p.step));
            }
        }
        assert!(thin(&[], 4).is_empty());
    }
}
