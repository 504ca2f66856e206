//! Conditions on the match without looking back at it: what they read is kept in a few words that a partial match carries along.
//!
//! Each slot of each condition has its words ([`Register`]): the values of the last rows of some variables, a count, a running sum. A row
//! that is taken changes them, and the condition's [`Program`] reads them. So a condition costs the same however long the match is, and
//! partial matches that agree in their words become one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use eagre_patterns::{Conditions, PatternError, Trail, Variable, VariableSet};

use super::pairs::{PAIR_WORDS, PairKind, Pairs};
use super::program::{Program, Word, WordKind, words_of};
use super::{Condition, Failure, MatchSpec, NAME, Slot, SlotProgram, condition_error};
use crate::aggregate::{DoubleDouble, VarianceEntry, VarianceKind};
use crate::error::{EngineError, Result};
use crate::expr::ExprRef;

/// Of decimals with so many digits a thousand of the greatest and more can be added.
const SUM_DIGITS_MAX: u8 = 16;
/// More rows than this are not carried along.
const OFFSET_MAX: u64 = 8;

/// A value of rows that registers take in: `value`, so many rows on or back.
#[derive(Debug, Clone)]
pub(super) struct RowValue {
    pub(super) shift: i64,
    pub(super) value: ExprRef,
}

/// What holds the sum or the average of decimals; `None`: a word may be too short for it.
fn decimals(function: &str, arg: &DataType, result: &DataType) -> Option<Register> {
    let (DataType::Decimal128(precision, scale), DataType::Decimal128(result_precision, result_scale)) = (arg, result)
    else {
        return None;
    };
    match function {
        "sum" => (*precision <= SUM_DIGITS_MAX && scale == result_scale).then_some(Register::IntegerSum),
        // An average has the digits of its values, and those that it has more behind the point.
        _ => {
            let digits = u32::try_from(result_scale - scale).ok()?;
            let fits = u32::from(*precision) + digits == u32::from(*result_precision) && WordKind::of(result).is_some();
            fits.then_some(Register::DecimalAverage { digits })
        }
    }
}

/// The kind of a function of deviations.
fn variance(function: &str) -> Option<VarianceKind> {
    let (sample, root) = match function {
        "var" => (true, false),
        "var_pop" => (false, false),
        "stddev" => (true, true),
        "stddev_pop" => (false, true),
        _ => return None,
    };
    Some(VarianceKind { sample, root })
}

/// Whether words of a type are read as doubles by functions of doubles.
fn is_real(data_type: &DataType) -> bool {
    WordKind::of(data_type).is_some() && (data_type.is_integer() || data_type.is_floating())
}

/// Marks the count of a variance: some value was not finite.
const SPECIAL: u64 = 1 << 63;

/// What some words hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    /// The values of the last `count` rows, the last one first: a word and whether it is there, each.
    Last { count: usize },
    /// The value of the first row but `offset`: how many rows came, a word, whether it is there.
    First { offset: u64 },
    /// How many rows, or values that are not null.
    Count { values: bool },
    /// Sum and count of integers, or of decimals without their point.
    IntegerSum,
    /// The same; their average with so many digits more, which are cut.
    DecimalAverage { digits: u32 },
    /// Sum, its rounding errors, and count of doubles, or of integers as such, as a sum or as an average.
    FloatSum { average: bool, integers: bool },
    /// Sum and sum of squares, each with its rounding errors, and count of doubles, or of integers as such; see [`SPECIAL`].
    Variance { kind: VarianceKind, integers: bool },
    /// See [`Pairs`]. Which of the two are integers.
    Pairs { kind: PairKind, integers: [bool; 2] },
    /// A value and whether it is there.
    Extreme { kind: WordKind, greatest: bool },
    /// The number of the match.
    MatchNumber,
}

impl Register {
    fn words(self) -> usize {
        match self {
            Self::Last { count } => 2 * count,
            Self::First { .. } | Self::FloatSum { .. } => 3,
            Self::Variance { .. } => 5,
            Self::Pairs { .. } => PAIR_WORDS,
            Self::IntegerSum | Self::DecimalAverage { .. } | Self::Extreme { .. } => 2,
            Self::Count { .. } | Self::MatchNumber => 1,
        }
    }
}

/// A slot of a condition.
#[derive(Debug, Clone)]
struct Place {
    register: Register,
    /// The rows that change it.
    variables: VariableSet,
    /// Which of the rows' values it takes in.
    input: usize,
    /// The second value of a pair.
    other: Option<usize>,
    /// Which of the values has to be true.
    filter: Option<usize>,
    /// The place of its first word.
    word: usize,
    /// Where it stands in the text.
    written: crate::error::Place,
}

/// The condition of a variable.
#[derive(Debug, Clone)]
struct ConditionProgram {
    program: Program,
    /// The place of its first slot.
    first: usize,
    /// Where it stands in the text.
    written: crate::error::Place,
}

/// The conditions of a spec, where all of them can be run so.
#[derive(Debug, Clone)]
pub(super) struct Registers {
    /// The values of rows that are taken in.
    pub(super) inputs: Vec<RowValue>,
    places: Vec<Place>,
    words: usize,
    /// For each variable.
    programs: Vec<Option<ConditionProgram>>,
}

impl Registers {
    /// `None`: some condition has no program, or reads what has no words.
    pub(super) fn of(spec: &MatchSpec) -> Option<Self> {
        Self::of_conditions(spec, &spec.conditions)
    }

    /// Whether a condition of a spec can be run so.
    pub(super) fn hold(spec: &MatchSpec, condition: &Condition) -> bool {
        Self::of_conditions(spec, std::slice::from_ref(condition)).is_some()
    }

    fn of_conditions(spec: &MatchSpec, conditions: &[Condition]) -> Option<Self> {
        let mut registers = Self { inputs: Vec::new(), places: Vec::new(), words: 0, programs: Vec::new() };
        for condition in conditions {
            let Some(run) = &condition.run else {
                registers.programs.push(None);
                continue;
            };
            let SlotProgram { slots, program } = run.program.as_ref()?;
            let (program, first, written) = (program.clone(), registers.places.len(), run.place.clone());
            registers.programs.push(Some(ConditionProgram { program, first, written }));
            for slot in slots {
                registers.add(spec, slot)?;
            }
        }
        Some(registers)
    }

    fn add(&mut self, spec: &MatchSpec, slot: &Slot) -> Option<()> {
        let written = match slot {
            Slot::Aggregate { place, .. } => place.clone(),
            Slot::At { .. } | Slot::MatchNumber | Slot::Status => crate::error::Place::default(),
        };
        let (register, variables, (input, other), filter) = match slot {
            Slot::Status => return None,
            Slot::MatchNumber => (Register::MatchNumber, VariableSet(0), (0, None), None),
            Slot::At { row, value } => {
                WordKind::of(value.field().data_type())?;
                let register = match row.first {
                    true => Register::First { offset: row.offset },
                    false if row.offset < OFFSET_MAX => Register::Last { count: row.offset as usize + 1 },
                    false => return None,
                };
                (register, row.variables, (self.input(spec, row.shift, value)?, None), None)
            }
            Slot::Aggregate { function, args, filter, variables, .. } => {
                let arg = args.first().map(|arg| arg.field().data_type().clone());
                let kind = arg.as_ref().map(WordKind::of);
                let result_type = function.return_field().data_type().clone();
                let result = WordKind::of_slot(&result_type)?;
                let register = match (function.name(), kind) {
                    ("count", _) => Register::Count { values: !args.is_empty() },
                    ("sum" | "avg", _) if arg.as_ref().is_some_and(|arg| matches!(arg, DataType::Decimal128(..))) => {
                        decimals(function.name(), &arg?, &result_type)?
                    }
                    ("sum", Some(Some(WordKind::Integer))) if result == WordKind::Integer => Register::IntegerSum,
                    ("sum" | "avg", Some(Some(kind @ (WordKind::Float | WordKind::Integer))))
                        if result == WordKind::Float =>
                    {
                        Register::FloatSum { average: function.name() == "avg", integers: kind == WordKind::Integer }
                    }
                    (name, _) if variance(name).is_some() && args.len() == 1 && is_real(arg.as_ref()?) => {
                        let integers = kind == Some(Some(WordKind::Integer));
                        Register::Variance { kind: variance(name)?, integers }
                    }
                    (name, _) if PairKind::of(name).is_some() => {
                        let [x, y] = args.as_slice() else { return None };
                        let types = [x.field().data_type(), y.field().data_type()];
                        types.into_iter().all(is_real).then_some(())?;
                        let integers = types.map(|kind| WordKind::of(kind) == Some(WordKind::Integer));
                        Register::Pairs { kind: PairKind::of(name)?, integers }
                    }
                    ("min" | "max", Some(Some(kind))) => Register::Extreme { kind, greatest: function.name() == "max" },
                    _ => return None,
                };
                let mut word = |arg: &ExprRef| {
                    WordKind::of(arg.field().data_type())?;
                    self.input(spec, 0, arg)
                };
                let inputs = match (args.as_slice(), register) {
                    ([], _) => (0, None),
                    ([arg], _) => (word(arg)?, None),
                    ([x, y], Register::Pairs { .. }) => (word(x)?, Some(word(y)?)),
                    _ => return None,
                };
                let filter = match filter {
                    Some(filter) => {
                        (WordKind::of(filter.field().data_type())? == WordKind::Boolean).then_some(())?;
                        Some(self.input(spec, 0, filter)?)
                    }
                    None => None,
                };
                (register, *variables, inputs, filter)
            }
        };
        self.places.push(Place { register, variables, input, other, filter, word: self.words, written });
        self.words += register.words();
        Some(())
    }

    /// The place of a value among the inputs; `None`: it is one that rows do not have by themselves.
    fn input(&mut self, spec: &MatchSpec, shift: i64, value: &ExprRef) -> Option<usize> {
        let column = value.as_column();
        if column.is_some_and(|column| column >= spec.input.fields().len()) {
            return None;
        }
        let same_value = |known: &ExprRef| match column {
            Some(_) => known.as_column() == column,
            None => known.as_column().is_none() && format!("{known:?}") == format!("{value:?}"),
        };
        let same = |input: &RowValue| input.shift == shift && same_value(&input.value);
        if let Some(known) = self.inputs.iter().position(same) {
            return Some(known);
        }
        self.inputs.push(RowValue { shift, value: Arc::clone(value) });
        Some(self.inputs.len() - 1)
    }

    /// How many halves of words a row has: two for each value, and a bit for each that tells whether it is there.
    pub(super) fn stride(&self) -> usize {
        2 * self.inputs.len() + self.inputs.len().div_ceil(32)
    }

    /// The halves of words of rows, given the columns of their values.
    pub(super) fn halves(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let stride = self.stride();
        let mut halves = vec![0u32; rows * stride];
        for (input, column) in columns.iter().enumerate() {
            let bits = 2 * self.inputs.len() + input / 32;
            for (row, (halves, word)) in halves.chunks_exact_mut(stride).zip(words_of(column)?).enumerate() {
                halves[2 * input..2 * input + 2].copy_from_slice(&[(word >> 32) as u32, word as u32]);
                halves[bits] |= u32::from(column.is_valid(row)) << (input % 32);
            }
        }
        Ok(halves)
    }

    /// What [`halves`](Self::halves) has of a row: a value's word, and whether it is there.
    #[inline]
    fn value(&self, halves: &[u32], input: usize) -> (u64, bool) {
        // Who only counts rows reads none.
        let Some(&[high, low]) = halves.get(2 * input..2 * input + 2) else { return (0, false) };
        let there = halves[2 * self.inputs.len() + input / 32] >> (input % 32) & 1 == 1;
        (u64::from(high) << 32 | u64::from(low), there)
    }
}

/// What conditions read of rows, for the matcher, which keeps it with the rows.
pub(super) struct Running<'a> {
    pub(super) registers: &'a Registers,
    pub(super) failure: &'a Failure,
}

impl Conditions for Running<'_> {
    fn register_count(&self) -> usize {
        self.registers.words
    }

    /// All that a condition reads is in the registers.
    fn forgets(&self) -> bool {
        true
    }

    fn begin(&mut self, _first: u64, number: u64, registers: &mut [u64]) {
        registers.fill(0);
        for place in &self.registers.places {
            if place.register == Register::MatchNumber {
                registers[place.word] = number;
            }
        }
    }

    fn take(
        &mut self,
        variable: Variable,
        _row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> std::result::Result<bool, PatternError> {
        let plan = self.registers;
        for place in &plan.places {
            let passes = |filter| plan.value(trail.values(), filter) == (1, true);
            if place.variables.contains(variable) && place.filter.is_none_or(passes) {
                let (word, there) = plan.value(trail.values(), place.input);
                let (other, both) = match place.other {
                    Some(other) => plan.value(trail.values(), other),
                    None => (0, true),
                };
                take_in(place, [word, other], there && both, &mut registers[place.word..])
                    .map_err(|error| condition_error(self.failure, error.or_at(&place.written)))?;
            }
        }
        let Some(ConditionProgram { program, first, written }) = &plan.programs[variable as usize] else {
            return Ok(true);
        };
        let slot = |index: usize| read(&plan.places[first + index], registers);
        let holds = program.evaluate(&slot);
        let holds = holds.map_err(|fault| EngineError::evaluate(NAME, fault).or_at(written));
        Ok(holds.map_err(|error| condition_error(self.failure, error))? == Some(1))
    }
}

/// A row's value becomes a part of a register.
fn take_in(place: &Place, [word, other]: [u64; 2], there: bool, registers: &mut [u64]) -> Result<()> {
    match place.register {
        Register::Last { count } => {
            registers.copy_within(0..2 * (count - 1), 2);
            // What is there but null is told from what never came, though both read as null.
            (registers[0], registers[1]) = (if there { word } else { 0 }, u64::from(there));
        }
        Register::First { offset } => {
            if registers[0] == offset {
                (registers[1], registers[2]) = (if there { word } else { 0 }, u64::from(there));
            }
            registers[0] = (registers[0] + 1).min(offset + 1);
        }
        Register::Count { values } => registers[0] += u64::from(!values || there),
        Register::IntegerSum | Register::DecimalAverage { .. } if there => {
            let sum = (registers[0] as i64).checked_add(word as i64);
            let overflow = || {
                EngineError::evaluate(
                    NAME,
                    "the sum of a condition is beyond 19 digits; cast its argument to DOUBLE or DECIMAL(38, ..)",
                )
            };
            registers[0] = sum.ok_or_else(overflow)? as u64;
            registers[1] += 1;
        }
        Register::FloatSum { integers, .. } if there => {
            let mut sum = DoubleDouble::of_parts(f64::from_bits(registers[0]), f64::from_bits(registers[1]));
            sum.add(real(word, integers));
            let (high, low) = sum.parts();
            (registers[0], registers[1]) = (high.to_bits(), low.to_bits());
            registers[2] += 1;
        }
        Register::Variance { integers, .. } if there => {
            let value = real(word, integers);
            registers[4] += 1;
            if value.is_finite() {
                let mut entry = variance_of(registers);
                entry.add(value);
                let ((sum, sum_low), (squares, squares_low)) = (entry.sum.parts(), entry.squares.parts());
                registers[..4].copy_from_slice(&[sum, sum_low, squares, squares_low].map(f64::to_bits));
            } else {
                registers[4] |= SPECIAL;
            }
        }
        Register::Pairs { integers: [x, y], .. } if there => {
            let mut pairs = Pairs::of_words(registers);
            pairs.add(real(word, x), real(other, y));
            registers[..PAIR_WORDS].copy_from_slice(&pairs.words());
        }
        Register::Extreme { kind, greatest } if there => {
            let is_beyond = match kind {
                WordKind::Integer => (word as i64) > (registers[0] as i64),
                WordKind::Boolean => word > registers[0],
                WordKind::Float => f64::from_bits(word).total_cmp(&f64::from_bits(registers[0])).is_gt(),
            };
            let is_equal = word == registers[0];
            if registers[1] == 0 || (!is_equal && is_beyond == greatest) {
                (registers[0], registers[1]) = (word, 1);
            }
        }
        Register::IntegerSum
        | Register::DecimalAverage { .. }
        | Register::FloatSum { .. }
        | Register::Variance { .. }
        | Register::Pairs { .. }
        | Register::Extreme { .. }
        | Register::MatchNumber => {}
    }
    Ok(())
}

/// The number that a word is.
fn real(word: u64, integer: bool) -> f64 {
    if integer { word as i64 as f64 } else { f64::from_bits(word) }
}

fn variance_of(registers: &[u64]) -> VarianceEntry {
    let sum =
        |place: usize| DoubleDouble::of_parts(f64::from_bits(registers[place]), f64::from_bits(registers[place + 1]));
    VarianceEntry { sum: sum(0), squares: sum(2), count: (registers[4] & !SPECIAL) as i64 }
}

/// What a register says.
fn read(place: &Place, registers: &[u64]) -> Word {
    let words = &registers[place.word..];
    let if_there = |word: u64, there: u64| (there > 0).then_some(word);
    match place.register {
        Register::Last { count } => if_there(words[2 * count - 2], words[2 * count - 1]),
        Register::First { .. } => if_there(words[1], words[2]),
        Register::Count { .. } | Register::MatchNumber => Some(words[0]),
        Register::IntegerSum | Register::Extreme { .. } => if_there(words[0], words[1]),
        Register::DecimalAverage { digits } => {
            let sum = i128::from(words[0] as i64) * 10i128.pow(digits);
            if_there((sum / i128::from(words[1].max(1))) as u64, words[1])
        }
        Register::FloatSum { average, .. } => {
            let sum = DoubleDouble::of_parts(f64::from_bits(words[0]), f64::from_bits(words[1])).value();
            let value = if average { sum / words[2] as f64 } else { sum };
            if_there(value.to_bits(), words[2])
        }
        Register::Variance { kind, .. } => {
            let entry = variance_of(words);
            let value = if words[4] & SPECIAL == 0 { entry.finish(kind) } else { f64::NAN };
            (entry.count > i64::from(kind.sample)).then(|| value.to_bits())
        }
        Register::Pairs { kind, .. } => Pairs::of_words(words).value(kind).map(f64::to_bits),
    }
}
