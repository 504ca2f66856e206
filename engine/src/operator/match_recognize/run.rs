//! Runs the matcher over the rows of many partitions: conditions for all of them at once, then each partition by itself.

use std::ops::Range;

use arrow::array::RecordBatch;
use eagre_patterns::{Conditions, Found, Key, Matcher, NoConditions, PatternError, Symbols};

use super::matches::{Evaluation, Matches};
use super::registers::{Registers, Running};
use super::rows::{NewRows, Places, RowAt, View, scatter, take_or_null};
use super::{Failure, Plan, Plans, matcher_error};
use crate::error::Result;
use crate::expr::StepContext;

/// A partition in work.
pub(super) struct Work<'a> {
    pub(super) key: Key,
    /// Its rows.
    pub(super) view: View<'a>,
    /// Those that are to be matched, from the key's position on, among the rows whose conditions are known.
    pub(super) rows: Range<usize>,
    /// A match that is not final leads nowhere: what lies behind it is not known yet.
    pub(super) stopped: bool,
}

/// How far time has come for the partitions in work.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Time {
    /// No further row has a time before this, in the unit of the bound.
    pub(super) expired: Option<i64>,
    /// No further row comes.
    pub(super) ended: bool,
    /// What is found may be another match yet, so that a skip which leads nowhere is no error.
    pub(super) provisional: bool,
}

/// What is used again from batch to batch.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) symbols: Symbols,
    pub(super) found: Found,
    /// Of one batch and pattern.
    pub(super) matches: Matches,
    /// Attempts given up, and skips that led nowhere, since the pipeline began.
    pub(super) dropped: u64,
    pub(super) bad_skips: u64,
}

impl Scratch {
    /// What no row tells: for [`Operator::incidents`](crate::operator::Operator::incidents).
    pub(super) fn incidents(&self) -> Vec<(&'static str, u64)> {
        let all = [("partial_matches_dropped", self.dropped), ("skips_to_nowhere", self.bad_skips)];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// Rows whose conditions are known.
#[derive(Default)]
pub(super) struct Known<'a> {
    pub(super) rows: usize,
    /// Of each variable, in the order of the plan's.
    pub(super) bitmaps: Vec<&'a [u64]>,
    /// In the unit of the bound, where there is one.
    pub(super) times: &'a [i64],
    /// Where matches may begin, if the matcher does not see that by itself.
    pub(super) starts: &'a [u64],
}

/// Matches the rows of all works; what is found is added to `matches`.
pub(super) fn run(
    (plans, plan): (&Plans, &Plan),
    works: &mut [Work<'_>],
    known: &Known<'_>,
    (places, context): (Places<'_>, &StepContext),
    time: Time,
    scratch: &mut Scratch,
    matches: &mut Matches,
) -> Result<()> {
    let spec = &plan.spec;
    let in_place = symbols_of(plan, works, known, &mut scratch.symbols);
    if let Some(registers) = &plan.registers {
        let rows = || works.iter().map(|work| (work.view, work.key.position(), work.rows.len()));
        let count = rows().map(|(.., rows)| rows).sum();
        scratch.symbols.set_values(row_values(registers, rows(), count, places, context)?, registers.stride());
    }
    let expired = time.expired.filter(|_| spec.within.is_some());
    let waits = works.iter().map(|work| work.view.at(work.key.position() + work.rows.len() as u64));
    let waiting = times_of_waiting(plans, waits, places, expired)?;
    let evaluation = Evaluation { spec, places, context };
    let failure = Failure::default();
    let found = &mut scratch.found;
    let mut start = 0;
    for (index, work) in works.iter_mut().enumerate() {
        let times = match spec.within {
            Some(_) if !work.rows.is_empty() => &known.times[work.rows.clone()],
            _ => &[],
        };
        let rows = if in_place { work.rows.clone() } else { start..start + work.rows.len() };
        start += work.rows.len();
        found.clear();
        let waits_from = waiting.get(index).copied().flatten();
        let expired = expired.map(|time| waits_from.map_or(time, |first| time.min(first)));
        let fed = Fed { matcher: &plan.matcher, symbols: &scratch.symbols, rows, times, ended: time.ended, expired };
        let key = &mut work.key;
        let result = match (&plan.registers, plan.asks) {
            (Some(registers), _) => fed.feed(key, &mut Running { registers, failure: &failure }, found),
            (None, true) => {
                let mut asked = plan.asked(evaluation, work.view, &failure);
                fed.feed(key, &mut asked, found)
            }
            (None, false) => fed.feed(key, &mut NoConditions, found),
        };
        match result {
            Err(error) if time.provisional && error.is_bad_skip() => work.stopped = true,
            result => result.map_err(|error| matcher_error(spec, error, &failure))?,
        }
        matches.add(spec, found, work.view, plan.margin);
    }
    scratch.dropped += std::mem::take(&mut found.dropped);
    scratch.bad_skips += std::mem::take(&mut found.bad_skips);
    Ok(())
}

/// For each partition the time of its first row that waits for rows behind it, where time decides anything: the matcher has not seen that
/// row yet, so for it time has come no further.
pub(super) fn times_of_waiting(
    plans: &Plans,
    rows: impl Iterator<Item = Option<RowAt>>,
    places: Places<'_>,
    expired: Option<i64>,
) -> Result<Vec<Option<i64>>> {
    // Where no condition looks ahead, no row waits.
    if expired.is_none() || plans.lookahead == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<Option<RowAt>> = rows.collect();
    let there: Vec<RowAt> = rows.iter().copied().flatten().collect();
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let mut times = plans.times_of(&there, places)?.into_iter();
    Ok(rows.into_iter().map(|row| row.and_then(|_| times.next())).collect())
}

/// The symbols of the rows of all works. `true`: of all rows that are known; else of those of the works, one after the other.
fn symbols_of(plan: &Plan, works: &[Work<'_>], known: &Known<'_>, symbols: &mut Symbols) -> bool {
    let rows: usize = works.iter().map(|work| work.rows.len()).sum();
    // Whose rows are none has a place among those of others, which may be those of another pattern's works.
    if rows == 0 {
        return false;
    }
    // Few of many are picked out first, and those that have values, which are read for the works alone.
    if rows * 2 > known.rows && plan.registers.is_none() {
        plan.matcher.symbols_with(&known.bitmaps, known.starts, known.rows, symbols);
        return true;
    }
    let pick = |bitmap: &[u64]| {
        let mut bits = Bits::default();
        works.iter().for_each(|work| bits.extend(bitmap, work.rows.clone()));
        bits.words
    };
    let picked: Vec<Vec<u64>> = known.bitmaps.iter().map(|bitmap| pick(bitmap)).collect();
    let picked: Vec<&[u64]> = picked.iter().map(Vec::as_slice).collect();
    let starts = if known.starts.is_empty() { Vec::new() } else { pick(known.starts) };
    plan.matcher.symbols_with(&picked, &starts, rows, symbols);
    false
}

/// Bits that are put one behind the other.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    /// Adds the bits `range` of `bitmap`.
    fn extend(&mut self, bitmap: &[u64], range: Range<usize>) {
        let mut from = range.start;
        while from < range.end {
            let (word, shift) = (from / 64, from % 64);
            let count = (64 - shift).min(range.end - from);
            let mask = if count == 64 { u64::MAX } else { (1 << count) - 1 };
            self.push(bitmap[word] >> shift & mask, count);
            from += count;
        }
    }

    fn push(&mut self, bits: u64, count: usize) {
        let shift = self.count % 64;
        if shift == 0 {
            self.words.push(bits);
        } else {
            *self.words.last_mut().expect("it is begun") |= bits << shift;
            if shift + count > 64 {
                self.words.push(bits >> (64 - shift));
            }
        }
        self.count += count;
    }
}

/// What the matcher is given for one partition.
pub(super) struct Fed<'a> {
    pub(super) matcher: &'a Matcher,
    pub(super) symbols: &'a Symbols,
    pub(super) rows: Range<usize>,
    pub(super) times: &'a [i64],
    pub(super) ended: bool,
    pub(super) expired: Option<i64>,
}

impl Fed<'_> {
    pub(super) fn feed(
        &self,
        key: &mut Key,
        conditions: &mut impl Conditions,
        found: &mut Found,
    ) -> std::result::Result<(), PatternError> {
        self.matcher.feed(key, self.symbols, self.rows.clone(), self.times, self.ended, conditions, found)?;
        match self.expired {
            Some(time) => self.matcher.expire(key, time, conditions, found),
            None => Ok(()),
        }
    }
}

/// What conditions on the match read of `count` rows: of each partition its rows, and where and how many they are.
pub(super) fn row_values<'a>(
    registers: &Registers,
    rows: impl Iterator<Item = (View<'a>, u64, usize)>,
    count: usize,
    places: Places<'_>,
    context: &StepContext,
) -> Result<Vec<u32>> {
    let mut targets: Vec<Vec<Option<RowAt>>> = registers.inputs.iter().map(|_| Vec::with_capacity(count)).collect();
    for (view, from, rows) in rows {
        for (input, targets) in registers.inputs.iter().zip(&mut targets) {
            let at = |position: u64| position.checked_add_signed(input.shift).and_then(|position| view.at(position));
            targets.extend((from..from + rows as u64).map(at));
        }
    }
    // Rows that several computed values are of are fetched once.
    let mut fetched: Vec<(i64, RecordBatch)> = Vec::new();
    let columns = registers.inputs.iter().zip(&targets).map(|(input, targets)| {
        if let Some(column) = input.value.as_column() {
            return take_or_null(targets, column, places);
        }
        let known = fetched.iter().position(|(shift, _)| *shift == input.shift);
        let place = match known {
            Some(place) => place,
            None => {
                let rows: Vec<RowAt> = targets.iter().copied().flatten().collect();
                fetched.push((input.shift, places.take_batch(&rows)?));
                fetched.len() - 1
            }
        };
        scatter(input.value.evaluate(&fetched[place].1, context, None)?, targets)
    });
    registers.halves(&columns.collect::<Result<Vec<_>>>()?, count)
}

/// The first row of a partition that is still needed for its match under way: what measures and conditions look back at, too. After a
/// restart the rows from the key's start on are matched again, so conditions look back from there and not from its position: also where few
/// rows are under way, which are not, because more may come until then.
pub(super) fn needed_from(plans: &Plans, key: &Key) -> u64 {
    key.start().saturating_sub(plans.lookback)
}

/// The rows of the batch from a position on, where the first one is at `new_at`.
pub(super) fn new_from(new: NewRows, new_at: u64, position: u64) -> Range<u32> {
    let end = new.first + new.count;
    let skipped = position.saturating_sub(new_at).min(u64::from(new.count));
    new.first + skipped as u32..end
}

#[cfg(test)]
mod tests {
    use super::Bits;
    use proptest::prelude::*;

    proptest! {
        /// Bits that are picked out keep their order, across the borders of words.
        #[test]
        fn bits_are_put_one_behind_the_other(
            words in proptest::collection::vec(any::<u64>(), 4),
            cuts in proptest::collection::vec(0usize..257, 0..12),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut bits, mut expected) = (Bits::default(), Vec::new());
            for pair in cuts.chunks_exact(2) {
                let range = pair[0].min(256)..pair[1].min(256);
                bits.extend(&words, range.clone());
                expected.extend(range.map(|bit| words[bit / 64] >> (bit % 64) & 1));
            }
            let got: Vec<u64> = (0..bits.count).map(|bit| bits.words[bit / 64] >> (bit % 64) & 1).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
