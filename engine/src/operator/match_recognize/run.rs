//! Runs the matcher over the rows of many partitions: conditions for all of them at once, then each partition by itself.

use arrow::array::RecordBatch;
use eagre_patterns::{Found, Key, NoConditions, Symbols};

use super::asked::Asked;
use super::conditions::{Fresh, bitmaps};
use super::matches::{Evaluation, Matches};
use super::rows::{Places, View};
use super::{Plan, matcher_error};
use crate::error::Result;
use crate::expr::StepContext;

/// A partition in work.
pub(super) struct Work<'a> {
    pub(super) key: &'a mut Key,
    /// Its rows, of which those from the key's position on are to be matched.
    pub(super) view: View<'a>,
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
    let evaluation = Evaluation { spec, places, context };
    let found = &mut scratch.found;
    let mut start = 0;
    for (work, end) in works.iter_mut().zip(ends) {
        let rows = start..end;
        start = end;
        let times = if times.is_empty() { &[] } else { &times[rows.clone()] };
        found.clear();
        let expired = time.expired.filter(|_| spec.within.is_some());
        let result = match plan.asks {
            false => {
                let feed =
                    plan.matcher.feed(work.key, &scratch.symbols, rows, times, time.ended, &mut NoConditions, found);
                feed.and_then(|()| match expired {
                    Some(time) => plan.matcher.expire(work.key, time, &mut NoConditions, found),
                    None => Ok(()),
                })
            }
            true => {
                let mut asked = Asked { evaluation, view: work.view, margin: plan.run_margin };
                let feed = plan.matcher.feed(work.key, &scratch.symbols, rows, times, time.ended, &mut asked, found);
                feed.and_then(|()| match expired {
                    Some(time) => plan.matcher.expire(work.key, time, &mut asked, found),
                    None => Ok(()),
                })
            }
        };
        result.map_err(matcher_error)?;
        matches.add(spec, found, work.view, plan.margin);
    }
    scratch.dropped += std::mem::take(&mut found.dropped);
    scratch.bad_skips += std::mem::take(&mut found.bad_skips);
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

/// The first row of a partition that is still needed.
pub(super) fn needed_from(plan: &Plan, key: &Key) -> u64 {
    let around = plan.margin.before.max(plan.run_margin.before);
    key.start().saturating_sub(around).min(key.position().saturating_sub(plan.lookback))
}

/// Rows of the batch by their positions, from one on.
pub(super) fn fresh_from<'a>(view: View<'a>, position: u64) -> &'a [u32] {
    let skipped = position.saturating_sub(view.first + view.kept.len() as u64);
    &view.fresh[(skipped as usize).min(view.fresh.len())..]
}
