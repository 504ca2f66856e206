//! Runs a folded automaton over the rows of a partition, and reads the matches off its states.

use crate::dense::{Counts, DenseAttempt, DenseRun, Rows};
use crate::determinise::NEW;
use crate::fold::{ACCEPTS, BEGINS, Fold, IDLE, TURNS};
use crate::matcher::{Found, Match, Overflow, Status};
use crate::pattern::PatternError;
use crate::short::{SHORT_ROWS, Short};

impl DenseRun<'_> {
    /// As [`run`](Self::run). Rows from `start` on that have come before have their states already.
    pub(crate) fn run_folded(
        &mut self,
        fold: &Fold,
        rows: &mut Rows<'_>,
        start: &mut usize,
        attempt: &mut DenseAttempt,
        counts: &mut Counts<'_>,
    ) -> Result<(), PatternError> {
        let count = rows.classes.len();
        let mut done = *start + attempt.taken;
        let (mut state, mut turned) = (attempt.state, attempt.turned);
        if rows.base == 0 && done == 0 {
            state = fold.first;
        }
        while done < count {
            // No further than where the attempt at `start` would be too long.
            let end = count.min(start.saturating_add(self.spec.max_partial).saturating_add(1));
            state = fold.fill(state, &rows.classes[done..end], &mut rows.states[done..end]);
            self.read(fold, rows, start, done..end, &mut turned, counts);
            done = end;
            if done - *start > self.spec.max_partial {
                if self.spec.overflow == Overflow::Error {
                    return Err(PatternError::TooManyPartial { max: self.spec.max_partial });
                }
                self.found.dropped += 1;
                self.no_match(rows.base + *start as u64, counts);
                *start += 1;
                (done, state, turned) = (*start, IDLE, false);
            }
        }
        *attempt = DenseAttempt::default();
        (attempt.state, attempt.taken, attempt.turned) = (state, count - *start, turned);
        if self.until.ended && *start < count {
            // What is open at the end of the partition is decided one attempt after the other.
            *attempt = DenseAttempt::default();
            self.run(rows, start, attempt, counts)?;
        }
        Ok(())
    }

    /// Tells the matches that new rows have decided, and moves `start` to the first row of the first attempt that is alive. `turned`:
    /// whether a row from there on [`TURNS`].
    fn read(
        &mut self,
        fold: &Fold,
        rows: &Rows<'_>,
        start: &mut usize,
        new: std::ops::Range<usize>,
        turned: &mut bool,
        counts: &mut Counts<'_>,
    ) {
        let Some(last) = new.clone().next_back() else { return };
        let mut told = *start;
        // What the last row with it is, and where there is none among the new ones, what is known of those before.
        let mut accept = None;
        let mut begin = *start;
        let mut turn = turned.then_some(new.start);
        for chunk in new.clone().step_by(64) {
            let happened = fold.happened(&rows.states[chunk..new.end.min(chunk + 64)]);
            // The last of these rows of the chunk that is not after a row of the chunk.
            let last_of = |bits: u64, row: usize| {
                let bits = bits & (u64::MAX >> (63 - (row - chunk)));
                (bits != 0).then(|| chunk + 63 - bits.leading_zeros() as usize)
            };
            let direct_from = |row: usize| {
                let begin = last_of(happened.begins, row).unwrap_or(begin);
                let turn = last_of(happened.turns, row).or(turn);
                turn.is_none_or(|turn| turn < begin).then_some(begin)
            };
            let mut emits = happened.emits;
            while emits != 0 {
                let row = chunk + emits.trailing_zeros() as usize;
                emits &= emits - 1;
                let detail = fold.detail(rows.states[row]);
                if detail.emits_earlier {
                    let in_chunk = if row > chunk { last_of(happened.accepts, row - 1) } else { None };
                    let end = in_chunk.or(accept).unwrap_or_else(|| accepted_before(fold, rows, *start, new.start));
                    let first = if end >= chunk {
                        direct_from(end)
                    } else {
                        turn.is_none_or(|turn| turn < begin).then_some(begin).filter(|begin| *begin <= end)
                    };
                    told = self.tell(fold, rows, (told, first, end), counts);
                }
                if detail.emits_now {
                    told = self.tell(fold, rows, (told, direct_from(row), row), counts);
                }
            }
            accept = last_of(happened.accepts, chunk + 63).or(accept);
            begin = last_of(happened.begins, chunk + 63).unwrap_or(begin);
            turn = last_of(happened.turns, chunk + 63).or(turn);
        }
        *start = if fold.detail(rows.states[last]).idle {
            last + 1
        } else if turn.is_none_or(|turn| turn < begin) {
            begin
        } else {
            way(fold, rows, *start, last, 0, |_, _| {})
        };
        *turned = turn.is_some_and(|turn| turn >= *start);
        if self.spec.unmatched {
            self.found.unmatched.extend((told..*start).map(|row| rows.base + row as u64));
        }
    }

    /// Tells a match and the rows before it that are in none, which begin with `told`; gives the row after it. `direct`: the match's first
    /// row, where its way is that of the first attempt's most preferred partial match.
    #[inline]
    fn tell(
        &mut self,
        fold: &Fold,
        rows: &Rows<'_>,
        (told, direct, end): (usize, Option<usize>, usize),
        counts: &mut Counts<'_>,
    ) -> usize {
        let labels = &mut self.found.labels;
        let begin = labels.len();
        let first = if let Some(first) = direct {
            if self.labels {
                labels.extend(rows.states[first..=end].iter().map(|state| fold.first_labels[usize::from(*state)]));
            }
            first
        } else {
            let last = fold.detail(rows.states[end]).first_count - 1;
            let names = self.labels;
            let first = way(fold, rows, told, end, last, |row, member| {
                if names {
                    labels.push(fold.detail(rows.states[row]).labels[usize::from(member)]);
                }
            });
            labels[begin..].reverse();
            first
        };
        if self.spec.unmatched {
            self.found.unmatched.extend((told..first).map(|row| rows.base + row as u64));
        }
        *counts.number += 1;
        *counts.matched_until = rows.base + end as u64 + 1;
        self.found.matches.push(Match {
            first: rows.base + first as u64,
            number: *counts.number,
            labels: begin..begin + (end + 1 - first),
            status: Status::Complete,
        });
        end + 1
    }
}

impl Short {
    /// Takes a row that decides a match, where the way of that match is the first attempt's most preferred partial match throughout, as it is
    /// of most: what [`DenseRun::run_folded`] does, without a pass over memory of its own. `false`: it is not, and nothing was done.
    pub(crate) fn decide_folded(
        &mut self,
        fold: &Fold,
        (rows_max, names): (usize, bool),
        class: u8,
        (number, matched_until): (&mut u64, &mut u64),
        found: &mut Found,
    ) -> bool {
        let last = self.classes().len();
        let mut states = [IDLE; SHORT_ROWS + 1];
        let mut state = if self.start == 0 { fold.first } else { IDLE };
        let mut happened = 0;
        for (after, class) in states.iter_mut().zip(self.classes().iter().chain([&class])) {
            state = fold.next(state, *class);
            *after = state;
            happened |= fold.flags(state);
        }
        let has = |row: &usize, flag: u8| fold.flags(states[*row]) & flag != 0;
        let begin_of = |row: usize| (0..=row).rev().find(|row| has(row, BEGINS)).unwrap_or(0);
        let detail = fold.detail(state);
        let earlier = if detail.emits_earlier { (0..last).rev().find(|row| has(row, ACCEPTS)) } else { None };
        let rest = if detail.idle { last + 1 } else { begin_of(last) };
        // A match that is decided by what comes behind it ends with a row that was complete.
        let is_decided = earlier.is_some() == detail.emits_earlier && (detail.emits_earlier || detail.emits_now);
        if happened & TURNS != 0 || !is_decided || last + 1 - rest > rows_max {
            return false;
        }
        for end in earlier.into_iter().chain(detail.emits_now.then_some(last)) {
            let (first, begin) = (begin_of(end), found.labels.len());
            if names {
                found.labels.extend(states[first..=end].iter().map(|state| fold.first_labels[usize::from(*state)]));
            }
            *number += 1;
            *matched_until = self.start + end as u64 + 1;
            found.matches.push(Match {
                first: self.start + first as u64,
                number: *number,
                labels: begin..begin + (end + 1 - first),
                status: Status::Complete,
            });
        }
        self.go_on_from(rest, class, state);
        true
    }
}

/// The last row before `row` at which the first attempt, which began at `start`, was complete.
fn accepted_before(fold: &Fold, rows: &Rows<'_>, start: usize, row: usize) -> usize {
    let accepted = rows.states[start..row].iter().rposition(|state| fold.flags(*state) & ACCEPTS != 0);
    start + accepted.unwrap_or(0)
}

/// Goes back over the way of a partial match, to its first row; no attempt that is alive began before `start`.
fn way(fold: &Fold, rows: &Rows<'_>, start: usize, row: usize, member: u8, mut each: impl FnMut(usize, u8)) -> usize {
    let (mut row, mut member) = (row, member);
    loop {
        each(row, member);
        if row == start {
            return row;
        }
        member = fold.origin(rows.states[row - 1], rows.classes[row], member);
        if member == NEW {
            return row;
        }
        row -= 1;
    }
}
