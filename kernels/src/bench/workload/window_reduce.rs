//! `window_reduce`: integers, decimals and floats by cell.

use std::sync::Arc;

use super::{Random, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::kernel::Kernel;
use crate::rows::GroupedRows;
use crate::window_reduce::{Batch, Cells, Sum, Value, ValueKind, Values, WindowReduce};

struct Reduce {
    kernel: WindowReduce,
    kind: ValueKind,
    variant: &'static str,
    input: &'static str,
}

/// Rows in order of arrival: the cell of each, and its value.
pub(super) struct Rows {
    slots: Vec<u32>,
    cell_count: usize,
    values: Values,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut reduce = |variant, kind, input| {
        cases.push(Box::new(Reduce { kernel: WindowReduce::new(kind), kind, variant, input }));
    };
    reduce(
        "",
        ValueKind::Int64,
        "count, sum, extremes and squares of 64-bit integers, up to 4,096 cells with 64 rows each or more",
    );
    reduce(
        "decimal",
        ValueKind::Decimal128,
        "count, sum, extremes and squares of 128-bit decimals, up to 4,096 cells with 64 rows each or more",
    );
    reduce(
        "float",
        ValueKind::Float32,
        "count, sum (by one tree), extremes and squares of 32-bit floats, up to 4,096 cells with 64 rows each or more",
    );
}

impl Workload for Reduce {
    type Kernel = WindowReduce;
    type Columns = Rows;

    fn kernel(&self) -> &WindowReduce {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        many_keys(rows)
    }

    fn warm_rows(&self) -> usize {
        1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> Rows {
        let mut random = Random::new(seed);
        let slots = (0..rows).map(|_| random.below(key_count.max(1)) as u32).collect();
        let mut cents = || (random.next() >> 40) as i64 - (1 << 22);
        let values = match self.kind {
            ValueKind::Int64 => Values::Int64((0..rows).map(|_| cents()).collect()),
            ValueKind::Decimal128 => Values::Decimal128((0..rows).map(|_| i128::from(cents()) << 40).collect()),
            ValueKind::Float32 => Values::Float32((0..rows).map(|_| cents() as f32 / 100.0).collect()),
        };
        Rows { slots, cell_count: key_count.max(1), values }
    }

    fn batch(&self, rows: &Rows) -> Batch {
        Batch::gather(Arc::new(GroupedRows::group(&rows.slots, rows.cell_count)), &rows.values, &[])
    }

    fn traffic_bytes(&self, batch: &Batch) -> u64 {
        // A value in for each row; offsets, the state read and written, and the answer for each cell.
        let cell_words = self.kernel.state_shape().words_per_slot() as u64;
        let value_bytes = match self.kind {
            ValueKind::Int64 => 8,
            ValueKind::Decimal128 => 16,
            ValueKind::Float32 => 4,
        };
        batch.rows().row_count() as u64 * value_bytes + batch.rows().slots().len() as u64 * (8 + 12 * cell_words)
    }

    fn answer(&self, cells: Cells) -> Answer {
        let mut answer = Answer::default();
        let wide = |words: &mut Vec<u32>, value: i128| words.extend((0..4).map(|word| (value >> (32 * word)) as u32));
        for cell in 0..cells.len() {
            answer.words.extend([cells.count(cell) as u32, (cells.count(cell) >> 32) as u32]);
            match cells.sum(cell) {
                Sum::Integer(sum) => wide(&mut answer.words, sum),
                Sum::Float(sum) => answer.floats.push(sum),
                Sum::Overflow => answer.words.push(1),
            }
            for extreme in [cells.min(cell), cells.max(cell)] {
                match extreme {
                    Some(Value::Integer(value)) => wide(&mut answer.words, value),
                    Some(Value::Float(value)) => answer.words.push(value.to_bits()),
                    None => answer.words.push(0),
                }
            }
            answer.approximate.push(cells.sum_of_squares(cell));
        }
        answer
    }
}
