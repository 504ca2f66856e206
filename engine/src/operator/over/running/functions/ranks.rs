//! `row_number`, `rank`, `dense_rank` as they go on.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, UInt64Type};

use crate::error::Result;
use crate::operator::over::running::{Arrived, Running};

/// `row_number`, `rank`, `dense_rank`.
pub(in crate::operator::over) struct RunningRanks {
    kind: RankKind,
    /// How many rows, and how many groups of peers.
    states: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::over) enum RankKind {
    RowNumber,
    Rank,
    DenseRank,
}

impl RunningRanks {
    pub(in crate::operator::over) fn new(kind: RankKind) -> Self {
        Self { kind, states: Vec::new() }
    }
}

impl Running for RunningRanks {
    fn resize(&mut self, count: usize) {
        self.states.resize(count.max(self.states.len()), (0, 0));
    }

    fn advance(
        &mut self,
        _args: &[ArrayRef],
        _columns: &[usize],
        _filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let grouped = rows.rows;
        let mut ranks = vec![0; grouped.order.len()];
        for (slot, run) in grouped.runs {
            let (mut count, mut groups) = self.states[*slot as usize];
            let mut rank = 0;
            for position in run.clone() {
                count += 1;
                if grouped.new_peer[position] {
                    groups += 1;
                    rank = count;
                }
                let number = match self.kind {
                    RankKind::RowNumber => count,
                    RankKind::Rank => rank,
                    RankKind::DenseRank => groups,
                };
                ranks[grouped.order[position] as usize] = number as i64;
            }
            self.states[*slot as usize] = (count, groups);
        }
        Ok(Arc::new(Int64Array::from(ranks)))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.states[*slot as usize] = (0, 0));
    }

    fn state_fields(&self) -> Vec<Field> {
        let field = |name| Field::new(name, DataType::UInt64, false);
        vec![field("rows"), field("groups")]
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let column = |of: fn(&(u64, u64)) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(&self.states[*slot as usize]))))
        };
        Ok(vec![column(|state| state.0), column(|state| state.1)])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (rows, groups) = (state[0].as_primitive::<UInt64Type>(), state[1].as_primitive::<UInt64Type>());
        for (row, slot) in slots.iter().enumerate() {
            self.states[*slot as usize] = (rows.value(row), groups.value(row));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * 16
    }
}
