//! Disjoint views into the arena.

use std::ops::Range;

use stoker_model::{Plan, ValueId};

/// The arena of a session, with the plan that says where values are.
pub(crate) struct Arena<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) floats: &'a mut [f32],
}

impl Arena<'_> {
    /// Views of values that live at the same time, which the plan keeps apart.
    pub(crate) fn views<const N: usize>(&mut self, ids: [ValueId; N]) -> [&mut [f32]; N] {
        self.optional(ids.map(Some))
    }

    /// The same; a value that isn't there has an empty view.
    pub(crate) fn optional<const N: usize>(
        &mut self,
        ids: [Option<ValueId>; N],
    ) -> [&mut [f32]; N] {
        let end = self.floats.len();
        let ranges: [Range<usize>; N] = ids.map(|id| match id {
            Some(id) => {
                let value = &self.plan.values[id.0];
                value.offset..value.offset + value.floats
            }
            None => end..end,
        });
        match self.floats.get_disjoint_mut(ranges) {
            Ok(views) => views,
            Err(error) => unreachable!("a plan keeps living values apart: {error}"),
        }
    }
}
