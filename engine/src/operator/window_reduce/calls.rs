//! Which aggregates the kernel has, what columns it reduces for them, and how its cells become partial rows.
//!
//! The partial rows are those of [`super::super::partial_aggregate`], so that whoever merges and evaluates them is the same: what is kept
//! as a sum in two doubles there is one here too, around the first value of its cell.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Schema};
use eagre_kernels::window_reduce::{Cells, Value};

use super::column::{Column, float_of_order};
use crate::aggregate::select::counts as counts_column;
use crate::aggregate::{Accumulators, AggregateCall, Count, DoubleDouble, Slots, sums_around};
use crate::error::Result;
use crate::hash::native_column;

/// As what the kernel takes a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    /// 64-bit integers.
    Integers,
    /// 128-bit integers: decimals without their point, and `u64`.
    Wide,
    /// Floats, as 64-bit integers that have the same order: least and greatest are values of the column, to the bit.
    Order,
    /// 32-bit floats, of what values are beyond the first of their cell: sums and sums of squares.
    Moments,
}

/// A column that is reduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnSpec {
    pub(super) column: usize,
    pub(super) filter: Option<usize>,
    pub(super) reduction: Reduction,
}

/// What the state of a call is made of; columns and counts by their places in [`CallPlan`].
#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// How many rows, counted beside the kernel: it has nothing to reduce there.
    Rows(usize),
    /// How many values of a column.
    Count(usize),
    /// A sum of integers, as this type.
    IntegerSum(usize, DataType),
    /// A sum in two doubles.
    FloatSum(usize),
    /// That, and one of squares.
    Variance(usize),
    /// The least or the greatest value, of this type.
    Extreme { column: usize, data_type: DataType, max: bool },
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct CallPlan {
    /// What the kernel reduces.
    pub(super) columns: Vec<ColumnSpec>,
    /// What is counted beside it.
    pub(super) counts: Vec<AggregateCall>,
    parts: Vec<Part>,
}

impl CallPlan {
    /// How the kernel does `calls` over `input`.
    ///
    /// # Errors
    /// Why it does not, as a clause: which call it does not have, or that there is nothing but counts.
    pub(super) fn new(input: &Schema, calls: &[AggregateCall]) -> Result<Self, String> {
        let mut plan = Self::default();
        for call in calls {
            let part = plan
                .part(input, call)
                .ok_or_else(|| format!("the kernel has no {} of such values", call.function.name()))?;
            plan.parts.push(part);
        }
        if plan.columns.is_empty() {
            return Err("there is nothing to reduce but to count".to_string());
        }
        // Values that are reduced are counted with that.
        let of_column = |call: &AggregateCall| {
            let [arg] = call.args.as_slice() else { return None };
            plan.columns.iter().position(|column| column.column == *arg && column.filter == call.filter)
        };
        let mut kept = Vec::new();
        for part in &mut plan.parts {
            let Part::Rows(place) = part else { continue };
            match of_column(&plan.counts[*place]) {
                Some(column) => *part = Part::Count(column),
                None => {
                    kept.push(plan.counts[*place].clone());
                    *place = kept.len() - 1;
                }
            }
        }
        plan.counts = kept;
        Ok(plan)
    }

    fn part(&mut self, input: &Schema, call: &AggregateCall) -> Option<Part> {
        use DataType::{Decimal128, Float32, Float64, Int64, UInt64};
        let state = call.function.state_fields();
        let names: Vec<&str> = state.iter().map(|field| field.name().as_str()).collect();
        let (name, state_type) = (call.function.name(), state.first()?.data_type());
        if (name, names.as_slice()) == ("count", &["count"]) {
            self.counts.push(call.clone());
            return Some(Part::Rows(self.counts.len() - 1));
        }
        let [arg] = call.args.as_slice() else { return None };
        let data_type = input.field(*arg).data_type();
        let mut add = |reduction| {
            let spec = ColumnSpec { column: *arg, filter: call.filter, reduction };
            self.columns.iter().position(|column| *column == spec).unwrap_or_else(|| {
                self.columns.push(spec);
                self.columns.len() - 1
            })
        };
        let integers = |data_type: &DataType| match data_type {
            UInt64 | Decimal128(..) => Some(Reduction::Wide),
            other => other.is_integer().then_some(Reduction::Integers),
        };
        Some(match (name, names.as_slice()) {
            ("sum" | "avg", ["sum", "count"]) => match (data_type, state_type) {
                (argument, Int64 | UInt64) if argument.is_integer() => {
                    Part::IntegerSum(add(integers(argument)?), state_type.clone())
                }
                (Decimal128(_, scale), Decimal128(_, same)) if scale == same => {
                    Part::IntegerSum(add(Reduction::Wide), state_type.clone())
                }
                _ => return None,
            },
            ("sum" | "avg", ["sum", "sum_low", "count", "specials"]) => match data_type {
                argument if argument.is_integer() => Part::FloatSum(add(integers(argument)?)),
                Float32 | Float64 | Decimal128(..) => Part::FloatSum(add(Reduction::Moments)),
                _ => return None,
            },
            (
                "var" | "var_pop" | "stddev" | "stddev_pop",
                ["sum", "sum_low", "squares", "squares_low", "count", "specials"],
            ) => match data_type {
                Float32 | Float64 | Decimal128(..) => Part::Variance(add(Reduction::Moments)),
                argument if argument.is_integer() => Part::Variance(add(Reduction::Moments)),
                _ => return None,
            },
            ("min" | "max", ["value"]) if data_type == state_type => {
                let reduction = match data_type {
                    Float32 | Float64 => Reduction::Order,
                    other => integers(other)?,
                };
                Part::Extreme { column: add(reduction), data_type: data_type.clone(), max: name == "max" }
            }
            _ => return None,
        })
    }

    /// The states of all calls for `cells`, in order.
    pub(super) fn states(&self, cells: &[u32], columns: &[Column], counts: &mut [Count]) -> Result<Vec<ArrayRef>> {
        let read: Vec<Cells> = columns.iter().map(|column| column.read(cells)).collect();
        let mut states: Vec<ArrayRef> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Rows(count) => states.extend(counts[*count].state(Slots::Some(cells))?),
                Part::Count(column) => states.push(count_of(&read[*column])),
                Part::IntegerSum(column, data_type) => {
                    let of = &read[*column];
                    let sums = (0..of.len()).map(|cell| of.wrapped_sum(cell));
                    // Sums wrap, as those of the accumulators do.
                    states.push(match data_type {
                        DataType::Int64 => native_column(data_type, sums.map(|sum| sum as i64).collect(), None),
                        DataType::UInt64 => native_column(data_type, sums.map(|sum| sum as u64).collect(), None),
                        _ => native_column(data_type, sums.collect::<Vec<i128>>(), None),
                    });
                    states.push(count_of(of));
                }
                Part::FloatSum(column) => {
                    let (sums, _) = doubles(&columns[*column], &read[*column], cells);
                    push_doubles(&mut states, &sums);
                    push_count(&mut states, &read[*column]);
                }
                Part::Variance(column) => {
                    let (sums, squares) = doubles(&columns[*column], &read[*column], cells);
                    push_doubles(&mut states, &sums);
                    push_doubles(&mut states, &squares);
                    push_count(&mut states, &read[*column]);
                }
                Part::Extreme { column, data_type, max } => {
                    states.push(extremes(&columns[*column], &read[*column], data_type, *max));
                }
            }
        }
        Ok(states)
    }
}

fn count_of(of: &Cells) -> ArrayRef {
    counts_column((0..of.len()).map(|cell| of.count(cell) as i64).collect())
}

/// The count, and that there are no special floats: rows that have one are not given to the kernel.
fn push_count(states: &mut Vec<ArrayRef>, of: &Cells) {
    states.push(count_of(of));
    states.push(Arc::new(BinaryArray::from(new_null_array(&DataType::Binary, of.len()).to_data())));
}

fn push_doubles(states: &mut Vec<ArrayRef>, sums: &[DoubleDouble]) {
    states.push(Arc::new(sums.iter().map(|sum| sum.parts().0).collect::<Float64Array>()));
    states.push(Arc::new(sums.iter().map(|sum| sum.parts().1).collect::<Float64Array>()));
}

/// Sums of a column, and of its squares where those are asked for, for each cell.
fn doubles(column: &Column, of: &Cells, cells: &[u32]) -> (Vec<DoubleDouble>, Vec<DoubleDouble>) {
    let of_cell = |(place, cell): (usize, &u32)| match column.spec().reduction {
        Reduction::Moments => {
            let base = column.base(*cell);
            let sum = match of.sum(place) {
                eagre_kernels::window_reduce::Sum::Float(sum) => f64::from(sum),
                _ => 0.0,
            };
            sums_around(base, of.count(place), sum, f64::from(of.sum_of_squares(place)))
        }
        _ => (DoubleDouble::of_integer(of.wrapped_sum(place)), DoubleDouble::default()),
    };
    cells.iter().enumerate().map(of_cell).unzip()
}

fn extremes(column: &Column, of: &Cells, data_type: &DataType, max: bool) -> ArrayRef {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, UInt8, UInt16, UInt32, UInt64};
    let found = (0..of.len()).map(|cell| if max { of.max(cell) } else { of.min(cell) });
    let valid: Vec<bool> = found.clone().map(|value| value.is_some()).collect();
    let nulls = (!valid.iter().all(|valid| *valid)).then(|| NullBuffer::from(valid));
    let integers = found.map(|value| match value {
        Some(Value::Integer(value)) => value,
        _ => 0,
    });
    macro_rules! integers {
        ($native:ty) => {
            native_column(data_type, integers.map(|value| value as $native).collect(), nulls)
        };
    }
    let floats = |value: i128| float_of_order(value as i64);
    debug_assert!(matches!(data_type, Float32 | Float64) == (column.spec().reduction == Reduction::Order));
    match data_type {
        Float64 => native_column(data_type, integers.map(floats).collect::<Vec<f64>>(), nulls),
        Float32 => native_column(data_type, integers.map(|value| floats(value) as f32).collect::<Vec<f32>>(), nulls),
        Int8 => integers!(i8),
        Int16 => integers!(i16),
        Int32 => integers!(i32),
        UInt8 => integers!(u8),
        UInt16 => integers!(u16),
        UInt32 => integers!(u32),
        UInt64 => integers!(u64),
        Decimal128(..) => integers!(i128),
        _ => integers!(i64),
    }
}
