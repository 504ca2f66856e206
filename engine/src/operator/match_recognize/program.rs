//! Conditions on the match as small programs over words: for expressions of numbers, times and booleans, which are most.
//!
//! Evaluating an expression for one row through columns costs a microsecond; this costs some nanoseconds. What it means is what the
//! expression means: SQL's three-valued logic, integers that wrap as DataFusion's do, doubles in arrow's total order.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use std::cmp::Ordering;

use crate::error;

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
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// Why a program has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Integers are divided by zero.
    DivisionByZero,
    /// A value is beyond its type.
    Overflow,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DivisionByZero => "Divide by zero error",
            Self::Overflow => "Arithmetic overflow",
        })
    }
}

impl Arithmetic {
    fn of_floats(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
        }
    }

    /// Sums and products wrap.
    fn of_integers(self, left: i64, right: i64) -> Result<i64, Fault> {
        Ok(match self {
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide | Self::Remainder if right == 0 => return Err(Fault::DivisionByZero),
            Self::Divide => left.checked_div(right).ok_or(Fault::Overflow)?,
            Self::Remainder => left.wrapping_rem(right),
        })
    }

    fn of_wide(self, left: i128, right: i128) -> Result<i128, Fault> {
        let value = match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide | Self::Remainder if right == 0 => return Err(Fault::DivisionByZero),
            Self::Divide => left.checked_div(right),
            Self::Remainder => left.checked_rem(right),
        };
        value.ok_or(Fault::Overflow)
    }
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
    /// Two integers that a word may be too short for.
    CompareWide(Comparison, Box<Wide>, Box<Wide>),
    /// Arithmetic on integers or doubles.
    Calculate(Arithmetic, WordKind, Box<Program>, Box<Program>),
    /// An integer of so many bits: what was calculated wraps.
    Wrapped(u32, Box<Program>),
    /// A double without its sign.
    AbsoluteFloat(Box<Program>),
    /// An integer of so many bits without its sign.
    AbsoluteInteger(u32, Box<Program>),
    /// An integer as a double.
    ToFloat(Box<Program>),
    /// A decimal as a double: with so many digits behind the point.
    DecimalToFloat(i8, Box<Wide>),
    /// `AND`.
    And(Box<Program>, Box<Program>),
    /// `OR`.
    Or(Box<Program>, Box<Program>),
    /// `NOT`.
    Not(Box<Program>),
    /// `IS NULL`.
    IsNull(Box<Program>),
    /// The value behind the first condition that is true, else the last one.
    Case(Vec<(Program, Program)>, Box<Program>),
}

/// An integer of 128 bits: a decimal without its point, a time or a difference of times in some unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Wide {
    /// That of a word.
    Of(Program),
    /// A constant.
    Constant(Option<i128>),
    /// So many times as much: digits behind the point, or another unit.
    Scaled(i128, Box<Wide>),
    /// Without its sign.
    Absolute(Box<Wide>),
    /// Arithmetic.
    Calculate(Arithmetic, Box<Wide>, Box<Wide>),
}

/// The value of a program or an integer, or nothing comes of nothing.
macro_rules! known {
    ($program:expr, $slot:expr) => {
        match $program.evaluate($slot)? {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

impl Program {
    /// Its value, where `slot` gives those of slots.
    ///
    /// # Errors
    /// What DataFusion's expression fails with, too.
    pub fn evaluate(&self, slot: &impl Fn(usize) -> Word) -> Result<Word, Fault> {
        Ok(match self {
            Self::Slot(index) => slot(*index),
            Self::Constant(word) => *word,
            Self::Compare(comparison, kind, left, right) => {
                let (left, right) = (known!(left, slot), known!(right, slot));
                let ordering = match kind {
                    // -0.0 is 0.0, as in all conditions.
                    WordKind::Float => (f64::from_bits(left) + 0.0).total_cmp(&(f64::from_bits(right) + 0.0)),
                    WordKind::Integer => (left as i64).cmp(&(right as i64)),
                    WordKind::Boolean => left.cmp(&right),
                };
                Some(u64::from(comparison.holds(ordering)))
            }
            Self::CompareWide(comparison, left, right) => {
                Some(u64::from(comparison.holds(known!(left, slot).cmp(&known!(right, slot)))))
            }
            Self::Calculate(arithmetic, WordKind::Float, left, right) => {
                let (left, right) = (f64::from_bits(known!(left, slot)), f64::from_bits(known!(right, slot)));
                Some(arithmetic.of_floats(left, right).to_bits())
            }
            Self::Calculate(arithmetic, WordKind::Integer | WordKind::Boolean, left, right) => {
                Some(arithmetic.of_integers(known!(left, slot) as i64, known!(right, slot) as i64)? as u64)
            }
            Self::Wrapped(bits, value) => {
                let shift = u64::BITS - bits;
                Some(((known!(value, slot) as i64) << shift >> shift) as u64)
            }
            Self::AbsoluteFloat(value) => Some(f64::from_bits(known!(value, slot)).abs().to_bits()),
            Self::AbsoluteInteger(bits, value) => {
                let value = (known!(value, slot) as i64).unsigned_abs();
                if value >> (bits - 1) != 0 {
                    return Err(Fault::Overflow);
                }
                Some(value)
            }
            Self::ToFloat(value) => Some((known!(value, slot) as i64 as f64).to_bits()),
            Self::DecimalToFloat(scale, value) => {
                Some((known!(value, slot) as f64 / 10f64.powi(i32::from(*scale))).to_bits())
            }
            // What is decided asks no further, as what is behind it may fail.
            Self::And(left, right) => match left.evaluate(slot)? {
                Some(0) => Some(0),
                left => match (left, right.evaluate(slot)?) {
                    (_, Some(0)) => Some(0),
                    (Some(_), Some(_)) => Some(1),
                    _ => None,
                },
            },
            Self::Or(left, right) => match left.evaluate(slot)? {
                Some(1) => Some(1),
                left => match (left, right.evaluate(slot)?) {
                    (_, Some(1)) => Some(1),
                    (Some(_), Some(_)) => Some(0),
                    _ => None,
                },
            },
            Self::Not(value) => Some(1 - known!(value, slot)),
            Self::IsNull(value) => Some(u64::from(value.evaluate(slot)?.is_none())),
            Self::Case(branches, otherwise) => {
                for (condition, value) in branches {
                    if condition.evaluate(slot)? == Some(1) {
                        return value.evaluate(slot);
                    }
                }
                return otherwise.evaluate(slot);
            }
        })
    }
}

impl Wide {
    fn evaluate(&self, slot: &impl Fn(usize) -> Word) -> Result<Option<i128>, Fault> {
        Ok(match self {
            Self::Of(program) => program.evaluate(slot)?.map(|word| i128::from(word as i64)),
            Self::Constant(value) => *value,
            Self::Scaled(factor, value) => Some(Arithmetic::Multiply.of_wide(known!(value, slot), *factor)?),
            Self::Absolute(value) => Some(known!(value, slot).checked_abs().ok_or(Fault::Overflow)?),
            Self::Calculate(arithmetic, left, right) => {
                Some(arithmetic.of_wide(known!(left, slot), known!(right, slot))?)
            }
        })
    }
}

/// The words of a column of a type that has a [`WordKind`].
pub(super) fn words_of(column: &ArrayRef) -> error::Result<Vec<u64>> {
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
        assert_eq!(of(Program::And(slot(1), slot(2))), Ok(Some(0)));
        assert_eq!(of(Program::And(slot(0), slot(2))), Ok(None));
        assert_eq!(of(Program::Or(slot(2), slot(0))), Ok(Some(1)));
        assert_eq!(of(Program::Or(slot(1), slot(2))), Ok(None));
        assert_eq!(of(Program::Not(slot(2))), Ok(None));
        assert_eq!(of(Program::IsNull(slot(2))), Ok(Some(1)));
        let case = |condition: usize| of(Program::Case(vec![(Program::Slot(condition), Program::Slot(0))], slot(2)));
        assert_eq!((case(0), case(1), case(2)), (Ok(Some(1)), Ok(None), Ok(None)));
    }

    /// A negative integer is below a positive one, and so is a negative double.
    #[test]
    fn words_compare_as_their_kind() {
        let none = |_: usize| None;
        let compare = |kind, left: u64, right: u64| {
            let constant = |word| Box::new(Program::Constant(Some(word)));
            Program::Compare(Comparison::Less, kind, constant(left), constant(right)).evaluate(&none).expect("no fault")
        };
        assert_eq!(compare(WordKind::Integer, -1i64 as u64, 1), Some(1));
        assert_eq!(compare(WordKind::Float, (-1.5f64).to_bits(), 1f64.to_bits()), Some(1));
        assert_eq!(compare(WordKind::Float, f64::NAN.to_bits(), 1f64.to_bits()), Some(0));
        assert_eq!(compare(WordKind::Float, (-0.0f64).to_bits(), 0f64.to_bits()), Some(0));
    }

    /// What DataFusion refuses is refused, unless what stands before it decides.
    #[test]
    fn faults_are_told() {
        let none = |_: usize| None;
        let constant = |value: i64| Box::new(Program::Constant(Some(value as u64)));
        let integers = |arithmetic, left, right| {
            Program::Calculate(arithmetic, WordKind::Integer, constant(left), constant(right))
        };
        let by_zero = integers(Arithmetic::Divide, 1, 0);
        assert_eq!(by_zero.evaluate(&none), Err(Fault::DivisionByZero));
        assert_eq!(integers(Arithmetic::Remainder, 1, 0).evaluate(&none), Err(Fault::DivisionByZero));
        assert_eq!(integers(Arithmetic::Divide, i64::MIN, -1).evaluate(&none), Err(Fault::Overflow));
        assert_eq!(integers(Arithmetic::Remainder, i64::MIN, -1).evaluate(&none), Ok(Some(0)));
        let absolute = |bits, value| Program::AbsoluteInteger(bits, constant(value)).evaluate(&none);
        assert_eq!(absolute(64, i64::MIN), Err(Fault::Overflow));
        assert_eq!(absolute(32, i64::from(i32::MIN)), Err(Fault::Overflow));
        assert_eq!(absolute(32, -7), Ok(Some(7)));
        assert_eq!(Program::And(constant(0), Box::new(by_zero.clone())).evaluate(&none), Ok(Some(0)));
        assert_eq!(Program::Or(constant(1), Box::new(by_zero)).evaluate(&none), Ok(Some(1)));
        let wraps = Program::Wrapped(32, Box::new(integers(Arithmetic::Add, i64::from(i32::MAX), 1)));
        assert_eq!(wraps.evaluate(&none), Ok(Some(i64::from(i32::MIN) as u64)));
        let wide = |value| Box::new(Wide::Constant(Some(value)));
        let too_much = Wide::Calculate(Arithmetic::Multiply, wide(i128::MAX), wide(2));
        assert_eq!(too_much.evaluate(&none), Err(Fault::Overflow));
        let product = Wide::Calculate(Arithmetic::Multiply, wide(i128::from(i64::MAX)), wide(4));
        let compared = Program::CompareWide(Comparison::Greater, Box::new(product), wide(i128::from(i64::MAX)));
        assert_eq!(compared.evaluate(&none), Ok(Some(1)));
    }
}
