//! A column on its way through the kernel: what the kernel reads of it, and what it has answered.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, UInt64Type};
use eagre_kernels::convert::Bits;
use eagre_kernels::placed::{Placement, Runner, WaveGroup};
use eagre_kernels::placer::BatchShape;
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::window_reduce::{Batch, Cells, NAME, ValueKind, Values, WindowReduce};

use super::calls::{ColumnSpec, Reduction};
use crate::aggregate::RowInfo;
use crate::aggregate::select::{Selection, natives};
use crate::delta::Delta;
use crate::error::Result;

/// A float that is farther from the first of its cell is not for the kernel: so the squares of a cell's rows stay below the greatest
/// 32-bit float.
const BEYOND: f64 = (1u64 << 50) as f64;
/// The most rows of a cell.
pub(super) const CELL_ROWS_MAX: u32 = 1 << 16;
/// The most steps that bring a cell rows: their sums are added one after the other, and each addition rounds.
pub(super) const CELL_STEPS_MAX: u32 = 1 << 9;

/// The values of some rows.
pub(super) struct Numbers {
    values: NumberValues,
    /// Which rows have one that counts; without it all.
    valid: Option<BooleanBuffer>,
}

enum NumberValues {
    Integers(ScalarBuffer<i64>),
    Wide(ScalarBuffer<i128>),
    Floats(ScalarBuffer<f64>),
}

/// See the module.
pub(super) struct Column {
    spec: ColumnSpec,
    kind: ValueKind,
    runner: Runner<WindowReduce>,
    /// The rows of the step.
    values: Values,
    valid: BooleanBufferBuilder,
    all_valid: bool,
    /// What each cell holds, as the kernel last answered.
    words: Vec<u32>,
    /// From where the values of each cell are counted; NaN before the first.
    bases: Vec<f64>,
}

impl Column {
    pub(super) fn new(spec: ColumnSpec, placement: &Arc<Placement>) -> Self {
        let kind = match spec.reduction {
            Reduction::Integers | Reduction::Order => ValueKind::Int64,
            Reduction::Wide => ValueKind::Decimal128,
            Reduction::Moments => ValueKind::Float32,
        };
        Self {
            spec,
            kind,
            runner: Runner::new(WindowReduce::new(kind), placement),
            values: no_values(kind),
            valid: BooleanBufferBuilder::new(0),
            all_valid: true,
            words: Vec::new(),
            bases: Vec::new(),
        }
    }

    pub(super) fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    /// As figures show it: the kernel, and of what.
    pub(super) fn title(&self, name: &str) -> String {
        let of = match self.spec.reduction {
            Reduction::Integers | Reduction::Wide => "",
            Reduction::Order => " by order",
            Reduction::Moments => " as float",
        };
        format!("{NAME} of {name}{of}")
    }

    pub(super) fn runner(&self) -> &Runner<WindowReduce> {
        &self.runner
    }

    pub(super) fn runner_mut(&mut self) -> &mut Runner<WindowReduce> {
        &mut self.runner
    }

    /// The values of rows.
    pub(super) fn numbers(&self, delta: &Delta) -> Result<Numbers> {
        let columns = delta.batch.columns();
        let array = &columns[self.spec.column];
        let filter = self.spec.filter.map(|index| columns[index].as_boolean());
        let selection = Selection::of(std::slice::from_ref(array), RowInfo { filter, ..RowInfo::default() });
        let values = match self.spec.reduction {
            Reduction::Integers => NumberValues::Integers(natives(array, &DataType::Int64)?),
            Reduction::Wide => NumberValues::Wide(wide(array)?),
            Reduction::Order | Reduction::Moments => NumberValues::Floats(natives(array, &DataType::Float64)?),
        };
        Ok(Numbers { values, valid: selection.rows().cloned() })
    }

    /// Marks the rows of `cells` whose values are not for the kernel. The first value of a cell that is becomes its base.
    pub(super) fn mark_beyond(&mut self, numbers: &Numbers, cells: &[u32], beyond: &mut [bool]) {
        let NumberValues::Floats(values) = &numbers.values else { return };
        let centred = self.spec.reduction == Reduction::Moments;
        let mut look = |row: usize| {
            let value = values[row];
            if !value.is_finite() {
                beyond[row] = true;
            } else if centred {
                let base = &mut self.bases[cells[row] as usize];
                if base.is_nan() {
                    *base = value;
                }
                beyond[row] |= (value - *base).abs() > BEYOND;
            }
        };
        match &numbers.valid {
            None => (0..values.len()).for_each(look),
            Some(valid) => valid.set_indices().for_each(&mut look),
        }
    }

    /// Takes rows into the step's batch.
    pub(super) fn push(&mut self, numbers: &Numbers, cells: &[u32]) {
        let bases = &self.bases;
        match (&numbers.values, &mut self.values) {
            (NumberValues::Integers(new), Values::Int64(values)) => values.extend_from_slice(new),
            (NumberValues::Wide(new), Values::Decimal128(values)) => values.extend_from_slice(new),
            (NumberValues::Floats(new), Values::Int64(values)) => values.extend(new.iter().map(|v| order_of_float(*v))),
            (NumberValues::Floats(new), Values::Float32(values)) => {
                // Where there is no value, there may be no base.
                values.extend(new.iter().zip(cells).map(|(value, cell)| (value - bases[*cell as usize]) as f32));
            }
            _ => unreachable!("the values are of the column's kind"),
        }
        match &numbers.valid {
            None => self.valid.append_n(cells.len(), true),
            Some(valid) => {
                self.all_valid = false;
                self.valid.append_buffer(valid);
            }
        }
    }

    /// Makes room for cells.
    pub(super) fn grow(&mut self, cells: usize) {
        let initial = self.kind.initial();
        let there = self.words.len() / initial.len();
        self.words.reserve((cells - there) * initial.len());
        (there..cells).for_each(|_| self.words.extend_from_slice(&initial));
        if self.spec.reduction == Reduction::Moments {
            self.bases.resize(cells, f64::NAN);
        }
    }

    /// Starts to reduce the rows that were pushed.
    pub(super) fn start(&mut self, grouped: &Arc<GroupedRows>, group: &mut WaveGroup) {
        let values = std::mem::replace(&mut self.values, no_values(self.kind));
        let valid = self.valid.finish();
        let mut words = Vec::new();
        if !std::mem::replace(&mut self.all_valid, true) {
            let bits = Bits::new(valid.inner().as_slice(), valid.offset(), valid.len());
            words.resize(bits.word_count(), 0);
            bits.words(&mut words);
        }
        let rows = grouped.row_count() as u64;
        let (value_bytes, cell_bytes) = match self.kind {
            ValueKind::Float32 => (4, self.kind.cell_words() * 4),
            ValueKind::Int64 => (8, self.kind.cell_words() * 4),
            ValueKind::Decimal128 => (16, self.kind.cell_words() * 4),
        };
        let shape = BatchShape {
            readback_bytes: (grouped.slots().len() * cell_bytes) as u64,
            // 64-bit integers are what is calibrated.
            work: f64::max(value_bytes as f64 / 8.0, 1.0),
            ..BatchShape::of_rows(rows, value_bytes + 4, 0)
        };
        self.runner.start(Batch::gather(Arc::clone(grouped), &values, &words), shape, group);
    }

    /// Takes in what the kernel answers.
    pub(super) fn finish(&mut self, grouped: &GroupedRows) {
        let answer = self.runner.finish();
        let width = self.kind.cell_words();
        for (cell, words) in grouped.slots().iter().zip(answer.words().chunks_exact(width)) {
            self.words[*cell as usize * width..][..width].copy_from_slice(words);
        }
    }

    /// What cells hold.
    pub(super) fn read(&self, cells: &[u32]) -> Cells {
        let width = self.kind.cell_words();
        let words = cells.iter().flat_map(|cell| &self.words[*cell as usize * width..][..width]);
        Cells::from_words(self.kind, words.copied().collect())
    }

    /// From where the values of a cell are counted.
    pub(super) fn base(&self, cell: u32) -> f64 {
        let base = self.bases[cell as usize];
        if base.is_nan() { 0.0 } else { base }
    }

    /// Forgets all cells.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.bases.clear();
        self.runner.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * 4 + self.bases.capacity() * 8 + self.runner.bytes()
    }
}

fn no_values(kind: ValueKind) -> Values {
    match kind {
        ValueKind::Int64 => Values::Int64(Vec::new()),
        ValueKind::Decimal128 => Values::Decimal128(Vec::new()),
        ValueKind::Float32 => Values::Float32(Vec::new()),
    }
}

fn wide(array: &ArrayRef) -> Result<ScalarBuffer<i128>> {
    match array.data_type() {
        DataType::UInt64 => {
            Ok(array.as_primitive::<UInt64Type>().values().iter().map(|value| i128::from(*value)).collect())
        }
        decimal => natives(array, decimal),
    }
}

/// An integer that is ordered as floats are by their total order.
fn order_of_float(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The float of such an integer.
pub(super) fn float_of_order(order: i64) -> f64 {
    f64::from_bits((order ^ ((order >> 63) as u64 >> 1) as i64) as u64)
}
