//! State TTL: what was not touched for a time is forgotten.
//!
//! The time is *processing* time, that is the clock of the step, which the step log records: a replay forgets the same keys in the same
//! steps, and so does every number of shards. An operator with a TTL forgets at the start of a step whatever was last touched a TTL or more
//! before the step's clock, and then takes the step's rows in. To forget says nothing to what follows: results stand as they were shown,
//! and a key that comes again begins anew.
//!
//! A change that takes back a row which was forgotten is dropped, because what it takes back is no longer counted: what a step takes back
//! goes before what comes, and of what is not there nothing can go. So a count never goes below zero, and an update of a forgotten row
//! puts in the new one. For this, changes must be consolidated ([`super::consolidate`]): a row that comes and goes within a step would else
//! stay. A count may be too small where a key was forgotten, began anew, and an old row of it is then taken back.
//!
//! Checkpoints hold touch times beside the state, and no word of what was forgotten: the clock says it again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};

use super::expiry::Expiry;

/// The column of touch times in a checkpoint.
const TOUCHED: &str = "__touched_ms";

/// The field of touch times in a checkpoint.
pub(crate) fn touched_field() -> FieldRef {
    Arc::new(Field::new(TOUCHED, DataType::Int64, false))
}

/// The touch times of a chunk, whose last column they are.
pub(crate) fn touched_of(rows: &RecordBatch) -> &Int64Array {
    rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>()
}

/// The last moment of what was touched at `touched_ms`.
pub(crate) fn expires_ms(touched_ms: i64, ttl_ms: i64) -> i64 {
    touched_ms.saturating_add(ttl_ms - 1)
}

/// When each key of an operator was last touched, by slot.
pub(crate) struct KeyTtl {
    ttl_ms: i64,
    /// A key expires when the clock is beyond its last moment.
    expiry: Expiry,
}

impl KeyTtl {
    /// No keys; each lives for `ttl_ms` milliseconds, at least 1.
    pub(crate) fn new(ttl_ms: i64) -> Self {
        Self { ttl_ms: ttl_ms.max(1), expiry: Expiry::default() }
    }

    /// The step at `clock_ms` touched these keys.
    pub(crate) fn touch(&mut self, slots: &[u32], clock_ms: i64) {
        let expires = vec![expires_ms(clock_ms, self.ttl_ms); slots.len()];
        self.expiry.renew(slots, &expires);
    }

    /// Keys of a checkpoint were touched at these times.
    pub(crate) fn restore(&mut self, slots: &[u32], touched_ms: &Int64Array) {
        let expires: Vec<i64> = touched_ms.values().iter().map(|at| expires_ms(*at, self.ttl_ms)).collect();
        self.expiry.renew(slots, &expires);
    }

    /// When keys were last touched, as a column.
    pub(crate) fn touched(&self, slots: &[u32]) -> ArrayRef {
        let touched = |slot: &u32| self.expiry.at(*slot).saturating_sub(self.ttl_ms - 1);
        Arc::new(Int64Array::from_iter_values(slots.iter().map(touched)))
    }

    /// Whether a step at `clock_ms` finds a key forgotten.
    pub(crate) fn is_due(&self, slot: u32, clock_ms: i64) -> bool {
        self.expiry.get(slot).is_some_and(|expires| clock_ms > expires)
    }

    /// The keys that a step at `clock_ms` forgets; ascending, so that it does not matter in which order they were touched.
    pub(crate) fn due(&mut self, clock_ms: i64) -> Vec<u32> {
        let mut due = self.expiry.due(clock_ms);
        due.sort_unstable();
        due
    }

    /// A key has gone for another reason.
    pub(crate) fn forget(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.expiry.forget(*slot));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.expiry.bytes()
    }
}

#[cfg(test)]
mod tests;
