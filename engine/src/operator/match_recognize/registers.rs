//! Conditions on the match without looking back at it: what they read is kept in a few words that a partial match carries along.
//!
//! Each slot of each condition has its words ([`Register`]): the values of the last rows of some variables, a count, a running sum. A row
//! that is taken changes them, and the condition's [`Program`] reads them. So a condition costs the same however long the match is, and
//! partial matches that agree in their words become one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use eagre_patterns::{Conditions, PatternError, Trail, Variable, VariableSet};

use super::program::{Program, Word, WordKind, words_of};
use super::{MatchSpec, Slot};
use crate::aggregate::DoubleDouble;
use crate::error::Result;
use crate::expr::ExprRef;

/// More rows than this are not carried along.
const OFFSET_MAX: u64 = 8;

/// A value of rows that registers take in: `value`, so many rows on or back.
#[derive(Debug, Clone)]
pub(super) struct RowValue {
    pub(super) shift: i64,
    pub(super) value: ExprRef,
}

/// What some words hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    /// The values of the last `count` rows, the last one first: a word and whether it is there, each.
    Last { count: usize },
    /// The value of the first row but `offset`: how many rows came, a word, whether it is there.
    First { offset: u64 },
    /// How many rows, or values that are not null.
    Count { values: bool },
    /// Sum and count of integers.
    IntegerSum,
    /// Sum, its rounding errors, and count of doubles, or of integers as such, as a sum or as an average.
    FloatSum { average: bool, integers: bool },
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
            Self::IntegerSum | Self::Extreme { .. } => 2,
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
    /// The place of its first word.
    word: usize,
}

/// The conditions of a spec, where all of them can be run so.
#[derive(Debug, Clone)]
pub(super) struct Registers {
    /// The values of rows that are taken in.
    pub(super) inputs: Vec<RowValue>,
    places: Vec<Place>,
    words: usize,
    /// For each variable, its program and the place of its first slot.
    programs: Vec<Option<(Program, usize)>>,
}

impl Registers {
    /// `None`: some condition has no program, or reads what has no words.
    pub(super) fn of(spec: &MatchSpec) -> Option<Self> {
        let mut registers = Self { inputs: Vec::new(), places: Vec::new(), words: 0, programs: Vec::new() };
        for condition in &spec.conditions {
            let Some(run) = &condition.run else {
                registers.programs.push(None);
                continue;
            };
            let program = run.program.clone()?;
            registers.programs.push(Some((program, registers.places.len())));
            for slot in &run.slots {
                registers.add(spec, slot)?;
            }
        }
        // One word of a row tells which of its values are null.
        (registers.inputs.len() <= 64).then_some(registers)
    }

    fn add(&mut self, spec: &MatchSpec, slot: &Slot) -> Option<()> {
        let (register, variables, input) = match slot {
            Slot::Status => return None,
            Slot::MatchNumber => (Register::MatchNumber, VariableSet(0), 0),
            Slot::At { row, value } => {
                WordKind::of(value.field().data_type())?;
                let register = match row.first {
                    true => Register::First { offset: row.offset },
                    false if row.offset < OFFSET_MAX => Register::Last { count: row.offset as usize + 1 },
                    false => return None,
                };
                (register, row.variables, self.input(spec, row.shift, value)?)
            }
            Slot::Aggregate { function, args, filter: None, variables, .. } => {
                let kind = args.first().map(|arg| WordKind::of(arg.field().data_type()));
                let result = WordKind::of(function.return_field().data_type())?;
                let register = match (function.name(), kind) {
                    ("count", _) => Register::Count { values: !args.is_empty() },
                    ("sum", Some(Some(WordKind::Integer))) if result == WordKind::Integer => Register::IntegerSum,
                    ("sum" | "avg", Some(Some(kind @ (WordKind::Float | WordKind::Integer))))
                        if result == WordKind::Float =>
                    {
                        Register::FloatSum { average: function.name() == "avg", integers: kind == WordKind::Integer }
                    }
                    ("min" | "max", Some(Some(kind))) => Register::Extreme { kind, greatest: function.name() == "max" },
                    _ => return None,
                };
                let input = match args.as_slice() {
                    [] => 0,
                    [arg] => {
                        WordKind::of(arg.field().data_type())?;
                        self.input(spec, 0, arg)?
                    }
                    _ => return None,
                };
                (register, *variables, input)
            }
            Slot::Aggregate { .. } => return None,
        };
        self.places.push(Place { register, variables, input, word: self.words });
        self.words += register.words();
        Some(())
    }

    /// The place of a value among the inputs; `None`: it is one that rows do not have by themselves.
    fn input(&mut self, spec: &MatchSpec, shift: i64, value: &ExprRef) -> Option<usize> {
        let width = spec.input.fields().len();
        // Computed values may read the label: only plain columns are known not to.
        value.as_column().filter(|column| *column < width)?;
        let same = |input: &RowValue| input.shift == shift && input.value.as_column() == value.as_column();
        if let Some(known) = self.inputs.iter().position(same) {
            return Some(known);
        }
        self.inputs.push(RowValue { shift, value: Arc::clone(value) });
        Some(self.inputs.len() - 1)
    }

    /// How many words a row has: one for each value, and one that tells which are there.
    pub(super) fn stride(&self) -> usize {
        self.inputs.len() + 1
    }

    /// Adds the words of rows, given the columns of their values.
    pub(super) fn words(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let stride = self.stride();
        let mut words = vec![0u64; rows * stride];
        for (input, column) in columns.iter().enumerate() {
            for (row, word) in words_of(column)?.into_iter().enumerate() {
                words[row * stride + input] = word;
                words[row * stride + stride - 1] |= u64::from(column.is_valid(row)) << input;
            }
        }
        Ok(words)
    }
}

/// The rows of one partition as words, for the matcher.
pub(super) struct Running<'a> {
    pub(super) registers: &'a Registers,
    /// The position of the first row.
    pub(super) first: u64,
    /// The words of rows that came before,
    pub(super) words: &'a [u64],
    /// and those of the rows behind them.
    pub(super) new: &'a [u64],
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
        row: u64,
        _trail: Trail<'_>,
        registers: &mut [u64],
    ) -> std::result::Result<bool, PatternError> {
        let plan = self.registers;
        let stride = plan.stride();
        let start = (row - self.first) as usize * stride;
        let words = match self.words.get(start..start + stride) {
            Some(words) => words,
            None => &self.new[start - self.words.len()..][..stride],
        };
        for place in &plan.places {
            if place.variables.contains(variable) {
                let there = words[stride - 1] >> place.input & 1 == 1;
                take_in(place, words[place.input], there, &mut registers[place.word..])?;
            }
        }
        let Some((program, first)) = &plan.programs[variable as usize] else { return Ok(true) };
        let slot = |index: usize| read(&plan.places[first + index], registers);
        Ok(program.evaluate(&slot) == Some(1))
    }
}

/// A row's value becomes a part of a register.
fn take_in(place: &Place, word: u64, there: bool, registers: &mut [u64]) -> std::result::Result<(), PatternError> {
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
        Register::IntegerSum if there => {
            let sum = (registers[0] as i64).checked_add(word as i64);
            let overflow = || {
                PatternError::Condition(
                    "the sum of a condition is beyond BIGINT; cast its argument to DOUBLE or DECIMAL".into(),
                )
            };
            registers[0] = sum.ok_or_else(overflow)? as u64;
            registers[1] += 1;
        }
        Register::FloatSum { integers, .. } if there => {
            let mut sum = DoubleDouble::of_parts(f64::from_bits(registers[0]), f64::from_bits(registers[1]));
            sum.add(if integers { word as i64 as f64 } else { f64::from_bits(word) });
            let (high, low) = sum.parts();
            (registers[0], registers[1]) = (high.to_bits(), low.to_bits());
            registers[2] += 1;
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
        Register::IntegerSum | Register::FloatSum { .. } | Register::Extreme { .. } | Register::MatchNumber => {}
    }
    Ok(())
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
        Register::FloatSum { average, .. } => {
            let sum = DoubleDouble::of_parts(f64::from_bits(words[0]), f64::from_bits(words[1])).value();
            let value = if average { sum / words[2] as f64 } else { sum };
            if_there(value.to_bits(), words[2])
        }
    }
}
