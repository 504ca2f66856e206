//! The oracle: each row by itself, by what is said of a state.

use super::{Batch, Pattern};

/// For each row whether a match of the pattern may begin there.
pub(super) fn starts(pattern: &Pattern, batch: &Batch) -> Vec<bool> {
    let bit = |words: &[u64], row: usize| words[row / 64] >> (row % 64) & 1 == 1;
    let mut starts = vec![false; batch.row_count()];
    // Of the row after the one that is looked at.
    let mut after = vec![false; pattern.states.len()];
    for row in (0..batch.row_count()).rev() {
        let ends = bit(&batch.ends, row);
        let goes_on = |state: &super::State| {
            let holds = state.predicate.is_none_or(|predicate| bit(&batch.bitmaps[predicate as usize], row));
            let leads = (0..after.len()).any(|next| state.next >> next & 1 == 1 && after[next]);
            holds && (state.free || ends || leads)
        };
        let now: Vec<bool> = pattern.states.iter().map(goes_on).collect();
        starts[row] = (0..now.len()).any(|state| pattern.start >> state & 1 == 1 && now[state]);
        after = now;
    }
    starts
}
