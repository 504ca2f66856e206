//! Which rows conditions on the match look at, where that is all that decides them.
//!
//! A condition that is evaluated as measures are reads its match through navigations: so far from the first or the last row of some variables.
//! Two partial matches in one state of which these rows are the same, with the same labels where these are read, have the same future and
//! become one, whatever lies between: without that `(A | B)+ X` would have two to the power of its rows of them.

use eagre_patterns::{Variable, VariableSet};

use super::{MatchSpec, Navigation, Slot};

/// More rows than this are not carried along.
const ROWS_MAX: u64 = 16;

/// Rows of some variables that are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    /// The last `count` rows, the last one first.
    Last { count: usize },
    /// The first row but `offset`, behind the number of rows that came.
    First { offset: u64 },
    /// How many rows came.
    Count,
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

/// The rows that the conditions of a spec look at.
#[derive(Debug, Clone, Default)]
pub(super) struct References {
    references: Vec<Reference>,
    words: usize,
}

impl References {
    /// `None`: some condition reads more of its match than a few rows.
    pub(super) fn of(spec: &MatchSpec) -> Option<Self> {
        let mut references = Self::default();
        let conditions = spec.conditions.iter().filter_map(|condition| condition.run.as_ref());
        for slot in conditions.flat_map(|run| &run.slots) {
            references.add(spec, slot)?;
        }
        Some(references)
    }

    fn add(&mut self, spec: &MatchSpec, slot: &Slot) -> Option<()> {
        let (noted, variables, labelled) = match slot {
            Slot::MatchNumber => return Some(()),
            Slot::At { row, value } => {
                // Computed values may read the label: only plain columns are known not to.
                let labelled = value.as_column().is_none_or(|column| column >= spec.input.fields().len());
                (noted(row, labelled)?, row.variables, labelled)
            }
            Slot::Aggregate { function, args, filter: None, variables, .. }
                if function.name() == "count" && args.is_empty() =>
            {
                (Noted::Count, *variables, false)
            }
            Slot::Aggregate { .. } | Slot::Status => return None,
        };
        let same = |known: &Reference| (known.noted, known.variables, known.labelled) == (noted, variables, labelled);
        if !self.references.iter().any(same) {
            self.references.push(Reference { noted, variables, labelled, word: self.words });
            self.words += match noted {
                Noted::Last { count } => count,
                Noted::First { .. } => 2,
                Noted::Count => 1,
            };
        }
        Some(())
    }

    /// How many words a partial match carries for them.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// A row is taken.
    pub(super) fn take(&self, variable: Variable, row: u64, words: &mut [u64]) {
        for reference in self.references.iter().filter(|reference| reference.variables.contains(variable)) {
            let words = &mut words[reference.word..];
            // Never 0, which is no row.
            let label = if reference.labelled { u64::from(variable) } else { 0 };
            let word = (row + 1) << 8 | label;
            match reference.noted {
                Noted::Last { count } => {
                    words.copy_within(0..count - 1, 1);
                    words[0] = word;
                }
                Noted::First { offset } => {
                    if words[0] == offset {
                        words[1] = word;
                    }
                    words[0] = (words[0] + 1).min(offset + 1);
                }
                Noted::Count => words[0] += 1,
            }
        }
    }
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
