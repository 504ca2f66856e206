//! Runs a folded automaton over the rows of a partition, and reads the matches off its states.

use crate::dense::{Counts, DenseAttempt, DenseRun, Rows};
use crate::determinise::NEW;
use crate::fold::{ACCEPTS, Fold, IDLE, happened};
use crate::matcher::{Match, Overflow, Status};
use crate::pattern::PatternError;

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
        let mut state = attempt.state;
        if rows.base == 0 && done == 0 {
            state = fold.first;
        }
        while done < count {
            // No further than where the attempt at `start` would be too long.
            let end = count.min(start.saturating_add(self.spec.max_partial).saturating_add(1));
            state = fold.fill(state, &rows.classes[done..end], &mut rows.states[done..end]);
            self.read(fold, rows, start, done..end, counts);
            done = end;
            if done - *start > self.spec.max_partial {
                if self.spec.overflow == Overflow::Error {
                    return Err(PatternError::TooManyPartial { max: self.spec.max_partial });
                }
                self.found.dropped += 1;
                self.no_match(rows.base + *start as u64, counts);
                *start += 1;
                (done, state) = (*start, IDLE);
            }
        }
        *attempt = DenseAttempt::default();
        (attempt.state, attempt.taken) = (state, count - *start);
        if self.until.ended && *start < count {
            // What is open at the end of the partition is decided one attempt after the other.
            *attempt = DenseAttempt::default();
            self.run(rows, start, attempt, counts)?;
        }
        Ok(())
    }

    /// Tells the matches that new rows have decided, and moves `start` to the first row of the first attempt that is alive.
    fn read(
        &mut self,
        fold: &Fold,
        rows: &Rows<'_>,
        start: &mut usize,
        new: std::ops::Range<usize>,
        counts: &mut Counts<'_>,
    ) {
        let Some(last) = new.clone().next_back() else { return };
        // Rows from here on are in no match yet.
        let mut told = *start;
        let (mut last_begin, mut last_accept) = (*start, None);
        for chunk in new.clone().step_by(64) {
            let chunk_end = new.end.min(chunk + 64);
            let (accepts, begins, mut emits) = happened(&rows.states[chunk..chunk_end]);
            // The last row of some in the chunk that is not after a row.
            let last_of = |bits: u64, row: usize| {
                let bits = bits & (u64::MAX >> (63 - (row - chunk)));
                (bits != 0).then(|| chunk + 63 - bits.leading_zeros() as usize)
            };
            while emits != 0 {
                let row = chunk + emits.trailing_zeros() as usize;
                emits &= emits - 1;
                let detail = &fold.details[usize::from(rows.states[row])];
                if detail.emits_earlier {
                    let in_chunk = if row > chunk { last_of(accepts, row - 1) } else { None };
                    let end = in_chunk.or(last_accept).unwrap_or_else(|| accepted_before(rows, *start, new.start));
                    let first = last_of(begins, end.max(chunk)).filter(|_| end >= chunk).unwrap_or(last_begin);
                    told = self.tell(fold, rows, (told, first, end), counts);
                }
                if detail.emits_now {
                    let first = last_of(begins, row).unwrap_or(last_begin);
                    told = self.tell(fold, rows, (told, first, row), counts);
                }
            }
            last_begin = last_of(begins, chunk + 63).unwrap_or(last_begin);
            last_accept = last_of(accepts, chunk + 63).or(last_accept);
        }
        let idle = fold.details[usize::from(rows.states[last])].idle;
        *start = match (idle, fold.direct) {
            (true, _) => last + 1,
            (false, true) => last_begin,
            (false, false) => way(fold, rows, *start, last, 0, |_, _| {}),
        };
        if self.spec.unmatched {
            self.found.unmatched.extend((told..*start).map(|row| rows.base + row as u64));
        }
    }

    /// Tells a match and the rows before it; gives the row after it. `first` is right where the automaton is direct.
    fn tell(
        &mut self,
        fold: &Fold,
        rows: &Rows<'_>,
        (told, first, end): (usize, usize, usize),
        counts: &mut Counts<'_>,
    ) -> usize {
        let labels = &mut self.found.labels;
        let begin = labels.len();
        let first = if fold.direct {
            if self.labels {
                labels.extend(rows.states[first..=end].iter().map(|state| fold.first_labels[usize::from(*state)]));
            }
            first
        } else {
            let last = fold.details[usize::from(rows.states[end])].first_count - 1;
            let names = self.labels;
            let first = way(fold, rows, told, end, last, |row, member| {
                if names {
                    labels.push(fold.details[usize::from(rows.states[row])].labels[usize::from(member)]);
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

/// The last row before `row` at which the first attempt, which began at `start`, was complete.
fn accepted_before(rows: &Rows<'_>, start: usize, row: usize) -> usize {
    let accepted = rows.states[start..row].iter().rposition(|state| state & ACCEPTS != 0);
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
        member = fold.transitions.origin(rows.states[row - 1], rows.classes[row], member);
        if member == NEW {
            return row;
        }
        row -= 1;
    }
}
