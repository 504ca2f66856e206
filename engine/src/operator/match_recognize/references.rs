//! Which rows conditions on the match look at, where that is all that decides them.
//!
//! A condition that is evaluated as measures are reads its match through navigations, so far from the first or the last row of some
//! variables, and through aggregates over the rows of some. Two partial matches in one state of which these rows are the same, with the
//! same labels where these are read, have the same future and become one, whatever lies between: without that `(A | B)+ X` would have two
//! to the power of its rows of them. Of an aggregate's rows, which may be many, a sum of hashes is noted ([`RowsKey`]).

use eagre_patterns::{Variable, VariableSet};
use xxhash_rust::xxh3::xxh3_128;

use super::{MatchSpec, Navigation, Slot};
use crate::expr::ExprRef;

/// More rows than this are not carried along.
const ROWS_MAX: u64 = 16;

/// Which rows of a partial match an aggregate takes in: the sum of a hash of each, of 128 bits. That two different choices of rows
/// have the same is less likely than that the machine errs; and rows may be taken away again, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowsKey(u128);

impl RowsKey {
    fn of_words(words: &[u64]) -> Self {
        Self(u128::from(words[1]) << 64 | u128::from(words[0]))
    }

    fn words(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn with(self, row: TakenRow) -> Self {
        Self(self.0.wrapping_add(row.hash()))
    }

    pub(super) fn without(self, row: TakenRow) -> Self {
        Self(self.0.wrapping_sub(row.hash()))
    }
}

/// A row of a match as a word, never 0: its position, and its label where that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenRow(u64);

impl TakenRow {
    pub(super) fn new(row: u64, variable: Variable, labelled: bool) -> Self {
        Self((row + 1) << 8 | if labelled { u64::from(variable) } else { 0 })
    }

    /// `None`: there was none yet.
    fn of_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    pub(super) fn row(self) -> u64 {
        (self.0 >> 8) - 1
    }

    /// What it says only where labels are noted.
    pub(super) fn variable(self) -> Variable {
        self.0 as Variable
    }

    fn hash(self) -> u128 {
        xxh3_128(&self.0.to_le_bytes())
    }
}

/// Rows of some variables that are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    /// The last `count` rows, the last one first.
    Last { count: usize },
    /// The first row but `offset`, behind the number of rows that came.
    First { offset: u64 },
    /// How many rows came.
    Count,
    /// Which rows came.
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference {
    noted: Noted,
    variables: VariableSet,
    /// With their labels.
    labelled: bool,
    /// The place of its first word.
    word: usize,
}

/// How a slot of a condition is read; words are places among those noted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Read {
    /// `MATCH_NUMBER()`.
    Number,
    /// How many rows.
    Count { word: usize },
    /// The row in `word`, or the one `shift` from it, whose label is in `label`.
    Row { word: usize, label: usize, shift: i64 },
    /// An aggregate over the rows of the key in `word`, the one in this place among all.
    Aggregate { word: usize, place: usize },
}

/// An aggregate of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregated {
    /// The variable of the condition, and which of its slots it is.
    pub(super) condition: usize,
    pub(super) slot: usize,
    pub(super) variables: VariableSet,
    pub(super) labelled: bool,
}

/// The rows that the conditions of a spec look at.
#[derive(Debug, Clone, Default)]
pub(super) struct References {
    references: Vec<Reference>,
    words: usize,
    /// For each variable how the slots of its condition are read.
    reads: Vec<Vec<Read>>,
    pub(super) aggregates: Vec<Aggregated>,
}

impl References {
    /// `None`: some condition reads more of its match than can be noted.
    pub(super) fn of(spec: &MatchSpec) -> Option<Self> {
        let mut references = Self::default();
        for (condition, of) in spec.conditions.iter().enumerate() {
            let slots = of.run.iter().flat_map(|run| &run.slots).enumerate();
            let reads = slots.map(|(place, slot)| references.read(spec, slot, (condition, place)));
            let reads = reads.collect::<Option<Vec<_>>>()?;
            references.reads.push(reads);
        }
        Some(references)
    }

    fn read(&mut self, spec: &MatchSpec, slot: &Slot, (condition, place): (usize, usize)) -> Option<Read> {
        // Computed values may read the label: only plain columns are known not to.
        let may_read_label =
            |value: &ExprRef| value.as_column().is_none_or(|column| column >= spec.input.fields().len());
        Some(match slot {
            Slot::MatchNumber => Read::Number,
            Slot::Status => return None,
            Slot::At { row, value } => {
                let labelled = may_read_label(value);
                let noted = noted(row, labelled)?;
                let word = self.note(noted, row.variables, labelled);
                let back = if labelled { row.shift.unsigned_abs() as usize } else { 0 };
                match noted {
                    Noted::First { .. } => Read::Row { word: word + 1, label: word + 1, shift: row.shift },
                    _ => {
                        let word = word + row.offset as usize;
                        Read::Row { word, label: word + back, shift: row.shift }
                    }
                }
            }
            Slot::Aggregate { function, args, filter: None, variables, .. }
                if function.name() == "count" && args.is_empty() =>
            {
                Read::Count { word: self.note(Noted::Count, *variables, false) }
            }
            Slot::Aggregate { args, filter, variables, .. } => {
                let labelled = args.iter().chain(filter).any(may_read_label);
                self.aggregates.push(Aggregated { condition, slot: place, variables: *variables, labelled });
                let word = self.note(Noted::Rows, *variables, labelled);
                Read::Aggregate { word, place: self.aggregates.len() - 1 }
            }
        })
    }

    /// The place of the first word of what is noted.
    fn note(&mut self, noted: Noted, variables: VariableSet, labelled: bool) -> usize {
        let same = |known: &&Reference| (known.noted, known.variables, known.labelled) == (noted, variables, labelled);
        if let Some(known) = self.references.iter().find(same) {
            return known.word;
        }
        let word = self.words;
        self.references.push(Reference { noted, variables, labelled, word });
        self.words += match noted {
            Noted::Last { count } => count,
            Noted::First { .. } | Noted::Rows => 2,
            Noted::Count => 1,
        };
        word
    }

    /// How many words a partial match carries for them.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// How the slots of the condition of a variable are read.
    pub(super) fn reads(&self, variable: Variable) -> &[Read] {
        &self.reads[usize::from(variable)]
    }

    /// A row is taken.
    pub(super) fn take(&self, variable: Variable, row: u64, words: &mut [u64]) {
        for reference in self.references.iter().filter(|reference| reference.variables.contains(variable)) {
            let words = &mut words[reference.word..];
            let taken = TakenRow::new(row, variable, reference.labelled);
            match reference.noted {
                Noted::Last { count } => {
                    words.copy_within(0..count - 1, 1);
                    words[0] = taken.0;
                }
                Noted::First { offset } => {
                    if words[0] == offset {
                        words[1] = taken.0;
                    }
                    words[0] = (words[0] + 1).min(offset + 1);
                }
                Noted::Count => words[0] += 1,
                Noted::Rows => {
                    let key = RowsKey::of_words(words).with(taken);
                    words[..2].copy_from_slice(&key.words());
                }
            }
        }
    }
}

/// The row that a word is.
pub(super) fn row_in(words: &[u64], word: usize) -> Option<TakenRow> {
    TakenRow::of_word(words[word])
}

/// The rows of an aggregate.
pub(super) fn rows_in(words: &[u64], word: usize) -> RowsKey {
    RowsKey::of_words(&words[word..])
}

/// What there is to note for one navigation; `None`: too much.
fn noted(row: &Navigation, labelled: bool) -> Option<Noted> {
    let back = match (labelled, row.shift) {
        (false, _) | (true, 0) => 0,
        // The label of another row than the one it goes to first, which is so far back if there are no rows between.
        (true, ..0) if !row.first && row.variables == VariableSet::ALL => row.shift.unsigned_abs(),
        (true, _) => return None,
    };
    match row.first {
        true => Some(Noted::First { offset: row.offset }),
        false => {
            let count = row.offset.checked_add(back).filter(|rows| *rows < ROWS_MAX)? + 1;
            Some(Noted::Last { count: count as usize })
        }
    }
}
