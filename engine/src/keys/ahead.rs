//! Looking ahead in tables that are larger than the nearest caches.
//!
//! A probe of a table is a load from far away and then a branch that depends on it; where that branch is guessed wrongly, the loads of the
//! rows behind it have not begun yet, and a step of a thousand rows waits a thousand times. So the places where the probes of the next
//! rows begin are loaded first, by a loop without branches: its misses overlap, and the probes then find their lines near.

/// So many rows are looked at ahead of their turn: enough to fill the queue of misses of a core, few enough to stay in its nearest cache.
pub(crate) const AHEAD: usize = 32;

/// Loads the given words; what they are does not matter.
#[inline(always)]
pub(crate) fn look_ahead(words: impl Iterator<Item = u64>) {
    // The fold is opaque, or the loads would be left out.
    std::hint::black_box(words.fold(0, |all, word| all ^ word));
}
