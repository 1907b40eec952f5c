//! The shapes of lists, told by levels of repetition.

/// Numbers of a list of that shape.
pub(super) fn width_of(shape: &[u32]) -> usize {
    shape.iter().map(|&extent| extent as usize).product()
}

/// The shape that a list's levels tell.
pub(super) fn shape_of(levels: &[i16], depth: i16) -> Vec<u32> {
    let up_to = |level| levels.iter().filter(|&&found| found <= level).count();
    let extents = (1..=depth).map(|level| up_to(level) / up_to(level - 1).max(1));
    extents.map(|extent| extent as u32).collect()
}

/// Whether a list's levels are those of a shape: an element that begins a list of the level `l`
/// and none above has that level.
pub(super) fn has_shape(levels: &[i16], shape: &[u32]) -> bool {
    if levels.len() != width_of(shape) {
        return false;
    }
    levels.iter().enumerate().all(|(index, &level)| {
        let mut size = 1;
        let mut expected = shape.len() as i16;
        for &extent in shape.iter().rev() {
            size *= extent as usize;
            if index % size != 0 {
                break;
            }
            expected -= 1;
        }
        level == expected
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_tell_a_shape() {
        let levels = [0, 2, 2, 1, 2, 2];
        assert_eq!(shape_of(&levels, 2), [2, 3]);
        assert!(has_shape(&levels, &[2, 3]));
        assert!(!has_shape(&levels, &[3, 2]));
        assert!(!has_shape(&levels[..5], &[2, 3]));
        assert!(has_shape(&[0, 1, 1], &[3]) && has_shape(&[0], &[1, 1]));
    }
}
