//! A few rows under way, in the key itself.
//!
//! Where there are many partitions, what a row costs is how many places in memory it is looked for in. Most partitions that have rows under way
//! have few. Of these the key keeps the classes and times, and the state after the last row: a further row that decides nothing is a look-up
//! and is written behind them. When a row decides something, an attempt over all of them is made anew, as after a restart
//! ([`Matcher::resume`](crate::Matcher::resume)), which costs less than fetching from elsewhere how each row was.

use crate::determinise::Attempts;
use crate::fold::{BEGINS, EMITS, Fold, IDLE, TURNS};
use crate::matcher::MatcherSpec;

/// As many rows fit.
pub(crate) const SHORT_ROWS: usize = 7;

/// No bound in time.
pub(crate) const NO_DEADLINE: i64 = i64::MAX;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short {
    /// The first row under way.
    pub(crate) start: u64,
    /// Until when rows may join it.
    deadline: i64,
    /// The times of rows, counted from the first one's.
    gaps: [u32; SHORT_ROWS],
    classes: [u8; SHORT_ROWS],
    rows: u8,
    /// After the last row: of the attempt, or of the folded automaton.
    state: u8,
}

/// Why no further row was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is none.
    OutOfRows,
    /// Nothing is under way any more.
    Idle,
    /// The next one decides something, or there is no room for it.
    Decides,
    /// The last one has decided a match, which was told.
    Decided,
}

impl Short {
    /// Rows from `start` on, with their times if there is a bound, and the state after them. `None`: they do not fit.
    #[inline]
    pub(crate) fn of(start: u64, classes: &[u8], times: &[i64], within: Option<i64>, state: u8) -> Option<Self> {
        let rows = classes.len();
        let mut short = Self::begin(start, times.first().copied(), within, state)?;
        short.classes.get_mut(..rows)?.copy_from_slice(classes);
        short.rows = rows as u8;
        for (gap, time) in short.gaps.iter_mut().zip(times) {
            *gap = gap_of(times[0], *time)?;
        }
        Some(short)
    }

    /// No row yet; the next one will be at `start` and has this time, if there is a bound. `None`: no deadline can be told of it.
    #[inline]
    pub(crate) fn begin(start: u64, time: Option<i64>, within: Option<i64>, state: u8) -> Option<Self> {
        let deadline = match (within, time) {
            (Some(within), Some(time)) => deadline_of(time, within)?,
            _ => NO_DEADLINE,
        };
        Some(Self { start, deadline, gaps: [0; SHORT_ROWS], classes: [0; SHORT_ROWS], rows: 0, state })
    }

    /// Takes the next rows as long as none of them decides anything; gives how many it has taken.
    #[inline]
    pub(crate) fn take(
        &mut self,
        attempts: &Attempts,
        spec: &MatcherSpec,
        classes: &[u8],
        times: &[i64],
    ) -> (usize, Stop) {
        let rows_max = SHORT_ROWS.min(spec.max_partial);
        for (taken, class) in classes.iter().enumerate() {
            let rows = usize::from(self.rows);
            let Some((state, _)) = attempts.undecided(self.state, *class).filter(|_| rows < rows_max) else {
                return (taken, Stop::Decides);
            };
            if let Some(within) = spec.within {
                let gap = gap_of(self.deadline - within, times[taken]).filter(|_| times[taken] <= self.deadline);
                let Some(gap) = gap else { return (taken, Stop::Decides) };
                self.gaps[rows] = gap;
            }
            self.push(*class, state);
        }
        (classes.len(), Stop::OutOfRows)
    }

    /// The same where all attempts are one automaton: a row at which no match is decided, and that leaves no doubt where the first attempt
    /// that is alive began.
    #[inline]
    pub(crate) fn take_folded(&mut self, fold: &Fold, spec: &MatcherSpec, classes: &[u8]) -> (usize, Stop) {
        let rows_max = SHORT_ROWS.min(spec.max_partial);
        for (taken, class) in classes.iter().enumerate() {
            let state = fold.next(self.state, *class);
            let flags = fold.flags(state);
            if state == IDLE {
                self.rows = 0;
                return (taken + 1, Stop::Idle);
            }
            if flags & (EMITS | TURNS) != 0 {
                return (taken, Stop::Decides);
            }
            if flags & BEGINS != 0 {
                self.start += u64::from(self.rows);
                self.rows = 0;
            }
            if usize::from(self.rows) >= rows_max {
                return (taken, Stop::Decides);
            }
            self.push(*class, state);
        }
        (classes.len(), Stop::OutOfRows)
    }

    /// A further row comes, before which the rows before `rest` go; in all they fit.
    #[inline]
    pub(crate) fn go_on_from(&mut self, rest: usize, class: u8, state: u8) {
        let rows = usize::from(self.rows);
        debug_assert!(rest <= rows + 1 && rows + 1 - rest <= SHORT_ROWS, "the rows fit");
        self.start += rest as u64;
        if rest > rows {
            self.rows = 0;
            return;
        }
        self.classes.copy_within(rest..rows, 0);
        self.rows -= rest as u8;
        self.push(class, state);
    }

    #[inline]
    fn push(&mut self, class: u8, state: u8) {
        self.classes[usize::from(self.rows)] = class;
        self.rows += 1;
        self.state = state;
    }

    /// How many rows there are, and their classes.
    #[inline]
    pub(crate) fn packed(&self) -> u64 {
        let mut bytes = [self.rows; 1 + SHORT_ROWS];
        bytes[1..].copy_from_slice(&self.classes);
        u64::from_le_bytes(bytes)
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<i64> {
        (self.deadline != NO_DEADLINE).then_some(self.deadline)
    }

    #[inline]
    pub(crate) fn classes(&self) -> &[u8] {
        &self.classes[..self.rows.into()]
    }

    /// The times of the rows, where there is a bound.
    pub(crate) fn times(&self, within: Option<i64>) -> impl Iterator<Item = i64> + '_ {
        let first = within.map_or(0, |within| self.deadline - within);
        let rows = if within.is_some() { self.rows.into() } else { 0 };
        self.gaps[..rows].iter().map(move |gap| first + i64::from(*gap))
    }
}

/// Until when rows may join a first one of this time; `None`: beyond all times.
#[inline]
pub(crate) fn deadline_of(first: i64, within: i64) -> Option<i64> {
    first.checked_add(within).filter(|deadline| *deadline != NO_DEADLINE)
}

/// A time, counted from the first row's; `None`: it does not fit.
#[inline]
pub(crate) fn gap_of(first: i64, time: i64) -> Option<u32> {
    u32::try_from(time.checked_sub(first)?).ok()
}
