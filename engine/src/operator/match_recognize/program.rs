//! Conditions on the match as small programs over words: for expressions of numbers, times and booleans, which are most.
//!
//! Evaluating an expression for one row through columns costs a microsecond; this costs some nanoseconds. What it means is what the
//! expression means: SQL's three-valued logic, integers that wrap as DataFusion's do, doubles in arrow's total order.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use std::cmp::Ordering;

use crate::error::Result;

/// How a word is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// A signed integer, a date, a time, a timestamp or a duration; a decimal without its point.
    Integer,
    /// A double.
    Float,
    /// 0 or 1.
    Boolean,
}

impl WordKind {
    /// How values of a type become words; `None`: they do not fit.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Float32 | DataType::Float64 => Some(Self::Float),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(Self::Integer),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(Self::Integer),
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Duration(_) => {
                Some(Self::Integer)
            }
            DataType::Time32(_) | DataType::Time64(_) => Some(Self::Integer),
            DataType::Decimal128(precision, _) if *precision <= DECIMAL_DIGITS_MAX => Some(Self::Integer),
            _ => None,
        }
    }

    /// The same of what a register says, of which it is known that it fits (a sum of decimals has ten digits more, for whatever may come).
    pub fn of_slot(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Decimal128(..) => Some(Self::Integer),
            other => Self::of(other),
        }
    }
}

/// Decimals of so many digits fit a word.
const DECIMAL_DIGITS_MAX: u8 = 18;

/// A word, or null.
pub type Word = Option<u64>;

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// Arithmetic on two values of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/` of doubles.
    Divide,
}

/// A program; its value is a [`Word`] of a kind that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// The value of a slot.
    Slot(usize),
    /// A constant.
    Constant(Word),
    /// Two values of one kind beside each other.
    Compare(Comparison, WordKind, Box<Program>, Box<Program>),
    /// Arithmetic on integers or doubles.
    Calculate(Arithmetic, WordKind, Box<Program>, Box<Program>),
    /// An integer as a double.
    ToFloat(Box<Program>),
    /// `AND`.
    And(Box<Program>, Box<Program>),
    /// `OR`.
    Or(Box<Program>, Box<Program>),
    /// `NOT`.
    Not(Box<Program>),
    /// `IS NULL`.
    IsNull(Box<Program>),
}

impl Program {
    /// Its value, where `slot` gives those of slots.
    pub(super) fn evaluate(&self, slot: &impl Fn(usize) -> Word) -> Word {
        match self {
            Self::Slot(index) => slot(*index),
            Self::Constant(word) => *word,
            Self::Compare(comparison, kind, left, right) => {
                let (left, right) = (left.evaluate(slot)?, right.evaluate(slot)?);
                let ordering = match kind {
                    // -0.0 is 0.0, as in all conditions.
                    WordKind::Float => (f64::from_bits(left) + 0.0).total_cmp(&(f64::from_bits(right) + 0.0)),
                    WordKind::Integer => (left as i64).cmp(&(right as i64)),
                    WordKind::Boolean => left.cmp(&right),
                };
                Some(u64::from(comparison.holds(ordering)))
            }
            Self::Calculate(arithmetic, kind, left, right) => {
                let (left, right) = (left.evaluate(slot)?, right.evaluate(slot)?);
                Some(match kind {
                    WordKind::Float => {
                        let (left, right) = (f64::from_bits(left), f64::from_bits(right));
                        let value = match arithmetic {
                            Arithmetic::Add => left + right,
                            Arithmetic::Subtract => left - right,
                            Arithmetic::Multiply => left * right,
                            Arithmetic::Divide => left / right,
                        };
                        value.to_bits()
                    }
                    WordKind::Integer | WordKind::Boolean => match arithmetic {
                        Arithmetic::Add => left.wrapping_add(right),
                        Arithmetic::Subtract => left.wrapping_sub(right),
                        Arithmetic::Multiply => left.wrapping_mul(right),
                        // Integers divide by zero with an error, which a program has no word for.
                        Arithmetic::Divide => return None,
                    },
                })
            }
            Self::ToFloat(value) => Some((value.evaluate(slot)? as i64 as f64).to_bits()),
            Self::And(left, right) => match (left.evaluate(slot), right.evaluate(slot)) {
                (Some(0), _) | (_, Some(0)) => Some(0),
                (Some(_), Some(_)) => Some(1),
                _ => None,
            },
            Self::Or(left, right) => match (left.evaluate(slot), right.evaluate(slot)) {
                (Some(1), _) | (_, Some(1)) => Some(1),
                (Some(_), Some(_)) => Some(0),
                _ => None,
            },
            Self::Not(value) => Some(1 - value.evaluate(slot)?),
            Self::IsNull(value) => Some(u64::from(value.evaluate(slot).is_none())),
        }
    }
}

/// The words of a column of a type that has a [`WordKind`].
pub(super) fn words_of(column: &ArrayRef) -> Result<Vec<u64>> {
    Ok(match WordKind::of(column.data_type()) {
        Some(WordKind::Boolean) => column.as_boolean().values().iter().map(u64::from).collect(),
        Some(WordKind::Float) => {
            let floats = cast(column, &DataType::Float64)?;
            floats.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
        }
        _ if matches!(column.data_type(), DataType::Decimal128(..)) => {
            column.as_primitive::<Decimal128Type>().values().iter().map(|value| *value as u64).collect()
        }
        _ => {
            let narrow = match column.data_type() {
                DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
                _ => std::sync::Arc::clone(column),
            };
            let integers = cast(&narrow, &DataType::Int64)?;
            debug_assert_eq!(integers.null_count(), narrow.null_count(), "it fits");
            integers.as_primitive::<Int64Type>().values().iter().map(|value| *value as u64).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nulls are neither true nor false, and decide nothing that the other side decides.
    #[test]
    fn logic_has_three_values() {
        let slots = |index: usize| [Some(1), Some(0), None][index];
        let slot = |index| Box::new(Program::Slot(index));
        let of = |program: Program| program.evaluate(&slots);
        assert_eq!(of(Program::And(slot(1), slot(2))), Some(0));
        assert_eq!(of(Program::And(slot(0), slot(2))), None);
        assert_eq!(of(Program::Or(slot(2), slot(0))), Some(1));
        assert_eq!(of(Program::Or(slot(1), slot(2))), None);
        assert_eq!(of(Program::Not(slot(2))), None);
        assert_eq!(of(Program::IsNull(slot(2))), Some(1));
    }

    /// A negative integer is below a positive one, and so is a negative double.
    #[test]
    fn words_compare_as_their_kind() {
        let none = |_: usize| None;
        let compare = |kind, left: u64, right: u64| {
            let constant = |word| Box::new(Program::Constant(Some(word)));
            Program::Compare(Comparison::Less, kind, constant(left), constant(right)).evaluate(&none)
        };
        assert_eq!(compare(WordKind::Integer, -1i64 as u64, 1), Some(1));
        assert_eq!(compare(WordKind::Float, (-1.5f64).to_bits(), 1f64.to_bits()), Some(1));
        assert_eq!(compare(WordKind::Float, f64::NAN.to_bits(), 1f64.to_bits()), Some(0));
        assert_eq!(compare(WordKind::Float, (-0.0f64).to_bits(), 0f64.to_bits()), Some(0));
    }
}
