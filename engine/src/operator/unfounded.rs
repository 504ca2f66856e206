//! Rows that an operator refuses for what is in them, and what is done with changes that take back what was never there.

use std::borrow::Cow;

use arrow::array::{RecordBatch, UInt32Array};

use super::Output;
use crate::delta::Delta;
use crate::error::{EngineError, Result};

/// Rows that say something of other rows which is not so.
#[derive(Debug, Clone)]
pub struct BadRows {
    /// The rows as the operator saw them.
    pub rows: RecordBatch,
    /// The arrival number of each row.
    pub ordinals: Vec<u64>,
    /// What is wrong with them.
    pub reason: Cow<'static, str>,
    /// Who refuses them: the `origin` of `<table>.errors`.
    pub origin: Cow<'static, str>,
}

impl BadRows {
    /// Some rows of a delta.
    pub(super) fn of(
        delta: &Delta,
        rows: Vec<u32>,
        reason: impl Into<Cow<'static, str>>,
        origin: impl Into<Cow<'static, str>>,
    ) -> Result<Self> {
        let refused = delta.take(&UInt32Array::from(rows))?;
        let ordinals = (0..refused.rows()).map(|row| refused.ordinal(row)).collect();
        Ok(Self { rows: refused.batch, ordinals, reason: reason.into(), origin: origin.into() })
    }
}

/// What is done with a change that takes back what was never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfounded {
    /// It is kept out and is a bad row.
    Tell,
    /// It ends the pipeline.
    Fail,
    /// It is kept out.
    Ignore,
}

/// Judges the changes of a table.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The table that the changes come from.
    pub table: String,
    /// What is done with those that are unfounded.
    pub unfounded: Unfounded,
}

impl Judge {
    /// Refuses rows of a delta; of them, the columns `shown` are kept.
    pub(super) fn refuse(
        &self,
        delta: &Delta,
        rows: Vec<u32>,
        shown: &[usize],
        reason: &'static str,
        out: &mut Output,
    ) -> Result<()> {
        if self.unfounded == Unfounded::Ignore || rows.is_empty() {
            return Ok(());
        }
        let refused = BadRows::of(delta, rows, reason, "changelog")?;
        let rows = refused.rows.project(shown)?;
        if self.unfounded == Unfounded::Fail {
            let first = crate::runtime::rows_as_json(&rows.slice(0, 1))?.pop().unwrap_or_default();
            let message = format!(
                "{reason}: {first} (the table has 'bad-rows' = 'fail'; without it the row goes to `{}.errors`)",
                self.table
            );
            return Err(EngineError::Source { table: self.table.clone(), message });
        }
        out.bad(BadRows { rows, ..refused });
        Ok(())
    }
}
