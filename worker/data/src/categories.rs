//! The different texts of a column, while they are few.

use std::collections::BTreeSet;

/// Most different texts.
const COUNT_MAX: usize = 1_024;
/// Most bytes that they have together.
const BYTES_MAX: usize = 64 << 10;
/// Slots of the memory of what was seen lately; a power of two.
const LATELY: usize = 64;

/// The different texts of a column, until there are too many.
#[derive(Debug, Default)]
pub(crate) struct Categories {
    seen: BTreeSet<Box<str>>,
    bytes: usize,
    gave_up: bool,
    lately: Vec<u64>,
}

impl Categories {
    /// Those of a column that is known to have too many.
    pub(crate) fn too_many() -> Self {
        Self {
            gave_up: true,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, text: &str) {
        if self.gave_up || text.is_empty() || self.was_lately(text) || self.seen.contains(text) {
            return;
        }
        self.bytes += text.len();
        if self.seen.len() == COUNT_MAX || self.bytes > BYTES_MAX {
            *self = Self::too_many();
            return;
        }
        self.seen.insert(text.into());
    }

    /// Whether a short text was seen lately: most values of a column of categories were.
    fn was_lately(&mut self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() > 7 {
            return false;
        }
        let mut key = [0; 8];
        key[..bytes.len()].copy_from_slice(bytes);
        key[7] = bytes.len() as u8;
        let key = u64::from_le_bytes(key);
        if self.lately.is_empty() {
            self.lately.resize(LATELY, 0);
        }
        let slot = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize;
        std::mem::replace(&mut self.lately[slot], key) == key
    }

    /// Adds those of the rows that follow.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.gave_up {
            *self = Self::too_many();
        }
        for text in &other.seen {
            self.add(text);
        }
    }

    /// Whether there are too many.
    pub(crate) const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// All of them in order, where they are few.
    pub(crate) fn finish(&self) -> Option<Vec<String>> {
        let few = !self.gave_up && !self.seen.is_empty();
        few.then(|| self.seen.iter().map(ToString::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Categories {
        let mut categories = Categories::default();
        texts.into_iter().for_each(|text| categories.add(text));
        categories
    }

    #[test]
    fn they_are_sorted_and_given_up_when_many() {
        assert_eq!(
            of(["b", "a", "", "b", "a long text"]).finish(),
            Some(vec!["a".into(), "a long text".into(), "b".into()])
        );
        let many: Vec<String> = (0..1_025).map(|i| i.to_string()).collect();
        let many = many.iter().map(String::as_str);
        assert!(of(many.clone().take(1_024)).finish().is_some());
        assert!(of(many).gave_up());
        let long = "x".repeat(40_000);
        let mut first = of([long.as_str()]);
        first.merge(&of([&long[1..]]));
        assert_eq!(first.finish(), None);
    }
}
