//! Runs the matcher over the rows of many partitions: conditions for all of them at once, then each partition by itself.

use std::ops::Range;

use arrow::array::RecordBatch;
use eagre_patterns::{Conditions, Found, Key, Matcher, NoConditions, PatternError, Symbols};

use super::asked::Asked;
use super::conditions::{Fresh, bitmaps};
use super::matches::{Evaluation, Matches};
use super::registers::{Registers, Running};
use super::rows::{Places, RowAt, View, take_or_null};
use super::{Plan, matcher_error};
use crate::error::Result;
use crate::expr::StepContext;

/// A partition in work.
pub(super) struct Work<'a> {
    pub(super) key: &'a mut Key,
    /// Its rows, of which those from the key's position on are to be matched.
    pub(super) view: View<'a>,
    /// What conditions on the match read of its rows from the key's start on, as far as they were matched.
    pub(super) words: Vec<u64>,
}

/// How far time has come for the partitions in work.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Time {
    /// No further row has a time before this, in the unit of the bound.
    pub(super) expired: Option<i64>,
    /// No further row comes.
    pub(super) ended: bool,
}

/// What is used again from batch to batch.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Symbols,
    found: Found,
    /// Attempts given up, and skips that led nowhere, since the pipeline began.
    pub(super) dropped: u64,
    pub(super) bad_skips: u64,
}

/// Matches what is there to be matched; what is found is added to `matches`.
pub(super) fn run(
    plan: &Plan,
    works: &mut [Work<'_>],
    places: Places<'_>,
    context: &StepContext,
    time: Time,
    scratch: &mut Scratch,
    matches: &mut Matches,
) -> Result<()> {
    let spec = &plan.spec;
    let lookahead = if time.ended { 0 } else { plan.lookahead };
    let mut fresh = Fresh { rows: Vec::new(), shifted: vec![Vec::new(); plan.shifts.len()] };
    let mut ends = Vec::with_capacity(works.len());
    for work in works.iter() {
        let end = work.view.end().saturating_sub(lookahead);
        for position in work.key.position()..end {
            fresh.rows.extend(work.view.at(position));
            for (by, shifted) in plan.shifts.iter().zip(&mut fresh.shifted) {
                shifted.push(position.checked_add_signed(*by).and_then(|position| work.view.at(position)));
            }
        }
        ends.push(fresh.rows.len());
    }
    if !fresh.rows.is_empty() {
        let bits = bitmaps(spec, &plan.shifts, &fresh, places, context)?;
        let bits: Vec<&[u64]> = bits.iter().map(Vec::as_slice).collect();
        plan.matcher.symbols(&bits, fresh.rows.len(), &mut scratch.symbols);
    }
    let times = match spec.within {
        Some(within) if !fresh.rows.is_empty() => {
            let column = places.take(&fresh.rows, &[within.column])?.pop().expect("a column was asked for");
            plan.times(&column)?.values().to_vec()
        }
        _ => Vec::new(),
    };
    if let Some(registers) = &plan.registers {
        read_words(registers, works, lookahead, places)?;
    }
    let waiting = times_of_waiting(plan, works, places, time, lookahead)?;
    let evaluation = Evaluation { spec, places, context };
    let found = &mut scratch.found;
    let mut start = 0;
    for (index, (work, end)) in works.iter_mut().zip(ends).enumerate() {
        let rows = start..end;
        start = end;
        let times = if times.is_empty() { &[] } else { &times[rows.clone()] };
        found.clear();
        let waits_from = waiting.get(index).copied().flatten();
        let expired = time.expired.filter(|_| spec.within.is_some());
        let expired = expired.map(|time| waits_from.map_or(time, |first| time.min(first)));
        let mut fed =
            Fed { matcher: &plan.matcher, symbols: &scratch.symbols, rows, times, ended: time.ended, expired };
        let first = work.key.start();
        let result = match (&plan.registers, plan.asks) {
            (Some(registers), _) => {
                let mut running = Running { registers, first, words: &work.words };
                fed.feed(work.key, &mut running, found)
            }
            (None, true) => {
                let mut asked = Asked { evaluation, view: work.view, margin: plan.run_margin };
                fed.feed(work.key, &mut asked, found)
            }
            (None, false) => fed.feed(work.key, &mut NoConditions, found),
        };
        result.map_err(matcher_error)?;
        if let Some(registers) = &plan.registers {
            let gone = (work.key.start() - first) as usize * registers.stride();
            work.words.drain(..gone.min(work.words.len()));
        }
        matches.add(spec, found, work.view, plan.margin);
    }
    scratch.dropped += std::mem::take(&mut found.dropped);
    scratch.bad_skips += std::mem::take(&mut found.bad_skips);
    Ok(())
}

/// For each partition the time of its first row that waits for rows behind it, where time decides anything: the matcher has not seen that
/// row yet, so for it time has come no further.
fn times_of_waiting(
    plan: &Plan,
    works: &[Work<'_>],
    places: Places<'_>,
    time: Time,
    lookahead: u64,
) -> Result<Vec<Option<i64>>> {
    let Some(within) = plan.spec.within.filter(|_| time.expired.is_some() && lookahead > 0) else {
        return Ok(Vec::new());
    };
    let first = |work: &Work<'_>| work.view.at(work.view.end().saturating_sub(lookahead).max(work.key.position()));
    let rows: Vec<Option<RowAt>> = works.iter().map(first).collect();
    let there: Vec<RowAt> = rows.iter().copied().flatten().collect();
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let column = places.take(&there, &[within.column])?.pop().expect("a column was asked for");
    let mut times = plan.times(&column)?.values().to_vec().into_iter();
    Ok(rows.into_iter().map(|row| row.and_then(|_| times.next())).collect())
}

/// What the matcher is given for one partition.
struct Fed<'a> {
    matcher: &'a Matcher,
    symbols: &'a Symbols,
    rows: Range<usize>,
    times: &'a [i64],
    ended: bool,
    expired: Option<i64>,
}

impl Fed<'_> {
    fn feed(
        &mut self,
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

/// Reads what conditions on the match look at, for the rows of which it was not read before.
fn read_words(registers: &Registers, works: &mut [Work<'_>], lookahead: u64, places: Places<'_>) -> Result<()> {
    let stride = registers.stride();
    let mut targets: Vec<Vec<Option<RowAt>>> = vec![Vec::new(); registers.inputs.len()];
    let mut ends = Vec::with_capacity(works.len());
    let mut count = 0;
    for work in works.iter() {
        let start = work.key.start() + (work.words.len() / stride) as u64;
        for position in start..work.view.end().saturating_sub(lookahead).max(start) {
            for (input, targets) in registers.inputs.iter().zip(&mut targets) {
                targets.push(position.checked_add_signed(input.shift).and_then(|position| work.view.at(position)));
            }
            count += 1;
        }
        ends.push(count);
    }
    let columns = registers.inputs.iter().zip(&targets).map(|(input, targets)| {
        let column = input.value.as_column().expect("registers take in plain columns");
        take_or_null(targets, column, places)
    });
    let words = registers.words(&columns.collect::<Result<Vec<_>>>()?, count)?;
    let mut start = 0;
    for (work, end) in works.iter_mut().zip(ends) {
        work.words.extend_from_slice(&words[start * stride..end * stride]);
        start = end;
    }
    Ok(())
}

/// The rows that leave for these matches, if there are any.
pub(super) fn leaving(
    plan: &Plan,
    matches: &Matches,
    places: Places<'_>,
    context: &StepContext,
) -> Result<Option<RecordBatch>> {
    match matches.is_empty() {
        true => Ok(None),
        false => Ok(Some(matches.output(Evaluation { spec: &plan.spec, places, context })?)),
    }
}

/// The first row of a partition that is still needed. After a restart the rows from the key's start on are matched again, so what their
/// conditions look back at is needed too, though the rows up to the key's position have been looked at.
pub(super) fn needed_from(plan: &Plan, key: &Key) -> u64 {
    let around = plan.margin.before.max(plan.run_margin.before);
    key.start().saturating_sub(around.max(plan.lookback))
}

/// Rows of the batch by their positions, from one on.
pub(super) fn fresh_from<'a>(view: View<'a>, position: u64) -> &'a [u32] {
    let skipped = position.saturating_sub(view.first + view.kept.len() as u64);
    &view.fresh[(skipped as usize).min(view.fresh.len())..]
}
