//! The answers by plain loops over each key's rows, in order of time.
//!
//! Written for being obviously right: what a pattern means is said by hand, row by row, without any automaton. Rows of one key and one
//! time are in the order in which they came.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};

use super::events::Stream;
use super::query::Query;
use super::rules::{Rule, book};
use crate::cli::bench::plain::Table;
use crate::error::{Error, Result};

const MINUTE: i64 = 60_000;

/// An event.
#[derive(Debug, Clone, Copy)]
struct Event<'a> {
    ts: i64,
    k: i64,
    action: &'a str,
    amount: i64,
}

/// Adds a match that begins with the first of the rows to the answer and says how many rows it has; `None`: none begins there.
///
/// The row before the first one, if the key has one, is given too.
type Begins<'a> = dyn Fn(Option<&Event<'_>>, &[Event<'_>], &mut Table) -> Option<usize> + 'a;

/// The answer over these batches.
///
/// # Errors
/// A query without a plain program.
pub(super) fn answer(query: &Query, stream: &Stream, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let keys = by_key(batches);
    let all = |width: usize, begins: &Begins<'_>| {
        let mut out = Table::of(width);
        matches(&keys, begins, &mut out);
        out
    };
    let out = match query.name() {
        "v" => all(6, &v_shape),
        "fraud" => all(5, &fraud),
        "login" => all(5, &login),
        "funnel2" => all(4, &funnel2),
        "funnel3" => all(5, &funnel3),
        "sessionize" => {
            let gap = stream.session_gap_ms() as i64;
            all(4, &|_, rows, out| session(gap, rows, out))
        }
        "streak" => all(4, &streak),
        "sum" => all(5, &sum),
        "avg" => all(5, &avg),
        "rules" => {
            let mut out = Table::of(5);
            for rule in book(query.patterns()) {
                matches(&keys, &|_, rows, out| of_rule(&rule, rows, out), &mut out);
            }
            out
        }
        name => return Err(Error::usage(format!("`{name}` has no plain program"))),
    };
    out.into_batch()
}

fn by_key(batches: &[RecordBatch]) -> BTreeMap<i64, Vec<Event<'_>>> {
    let mut keys: BTreeMap<i64, Vec<Event<'_>>> = BTreeMap::new();
    for batch in batches {
        let ts = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let (k, amount) = (batch.column(1).as_primitive::<Int64Type>(), batch.column(3).as_primitive::<Int64Type>());
        let action = batch.column(2).as_string_view();
        for row in 0..batch.num_rows() {
            let event =
                Event { ts: ts.value(row), k: k.value(row), action: action.value(row), amount: amount.value(row) };
            keys.entry(event.k).or_default().push(event);
        }
    }
    // A stable sort: rows of one time stay as they came.
    keys.values_mut().for_each(|rows| rows.sort_by_key(|event| event.ts));
    keys
}

/// Looks for matches from each row on, and after one behind its last row.
fn matches(keys: &BTreeMap<i64, Vec<Event<'_>>>, begins: &Begins<'_>, out: &mut Table) {
    for rows in keys.values() {
        let mut at = 0;
        while at < rows.len() {
            let before = at.checked_sub(1).map(|before| &rows[before]);
            at += begins(before, &rows[at..], out).unwrap_or(1);
        }
    }
}

/// How many of the rows from `from` on have the property, one after the other.
fn run(rows: &[Event<'_>], from: usize, holds: impl Fn(&Event<'_>) -> bool) -> usize {
    rows.iter().skip(from).take_while(|event| holds(event)).count()
}

/// The first row from `from` on that has the property.
fn first(rows: &[Event<'_>], from: usize, holds: impl Fn(&Event<'_>) -> bool) -> Option<usize> {
    (from..rows.len()).find(|row| holds(&rows[*row]))
}

/// (k, began, turned, ended, first_amount, lowest)
fn v_shape(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let mut bottom = 0;
    while bottom + 1 < rows.len() && rows[bottom + 1].amount < rows[bottom].amount {
        bottom += 1;
    }
    let mut top = bottom;
    while top + 1 < rows.len() && rows[top + 1].amount > rows[top].amount {
        top += 1;
    }
    if bottom == 0 || top == bottom {
        return None;
    }
    out.int(rows[0].k).time(rows[0].ts).time(rows[bottom].ts).time(rows[top].ts);
    out.int(rows[0].amount).int(rows[bottom].amount);
    Some(top + 1)
}

/// (k, began, ended, probes, taken)
fn fraud(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let probes = run(rows, 0, |event| event.amount < 300);
    let big = rows.get(probes).filter(|event| event.amount >= 950)?;
    if probes < 3 || big.ts - rows[0].ts > 10 * MINUTE {
        return None;
    }
    out.int(big.k).time(rows[0].ts).time(big.ts).int(probes as i64).int(big.amount);
    Some(probes + 1)
}

/// (k, began, changed, ended, taken)
fn login(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    if rows[0].action != "login" {
        return None;
    }
    let change = first(rows, 1, |event| event.action == "change")?;
    let transfer = first(rows, change + 1, |event| event.action == "transfer" && event.amount >= 800)?;
    let last = &rows[transfer];
    if last.ts - rows[0].ts > 10 * MINUTE {
        return None;
    }
    out.int(last.k).time(rows[0].ts).time(rows[change].ts).time(last.ts).int(last.amount);
    Some(transfer + 1)
}

/// (k, began, ended, clicks)
fn funnel2(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    if rows[0].action != "view" {
        return None;
    }
    let buy = first(rows, 1, |event| event.action == "buy")?;
    if rows[buy].ts - rows[0].ts > 10 * MINUTE {
        return None;
    }
    out.int(rows[0].k).time(rows[0].ts).time(rows[buy].ts).int(buy as i64 + 1);
    Some(buy + 1)
}

/// (k, began, put, ended, clicks)
fn funnel3(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    if rows[0].action != "view" {
        return None;
    }
    let cart = first(rows, 1, |event| event.action == "cart")?;
    let buy = first(rows, cart + 1, |event| event.action == "buy")?;
    if rows[buy].ts - rows[0].ts > 10 * MINUTE {
        return None;
    }
    out.int(rows[0].k).time(rows[0].ts).time(rows[cart].ts).time(rows[buy].ts).int(buy as i64 + 1);
    Some(buy + 1)
}

/// (k, began, ended, events)
fn session(gap: i64, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let more = rows.windows(2).take_while(|pair| pair[1].ts <= pair[0].ts + gap).count();
    out.int(rows[0].k).time(rows[0].ts).time(rows[more].ts).int(more as i64 + 1);
    Some(more + 1)
}

/// (k, began, ended, rises)
fn streak(before: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let mut last = before?.amount;
    let mut rises = 0;
    while rises < rows.len() && rows[rises].amount > last {
        last = rows[rises].amount;
        rises += 1;
    }
    if rises < 5 {
        return None;
    }
    out.int(rows[0].k).time(rows[0].ts).time(rows[rises - 1].ts).int(rises as i64);
    Some(rises)
}

/// (k, began, ended, total, events)
fn sum(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let mut total = 0;
    let mut events = rows
        .iter()
        .take_while(|event| {
            total += event.amount;
            total < 3_000
        })
        .count();
    if events == rows.len() {
        // The last row of all is the one that comes after.
        events -= 1;
    }
    if events == 0 {
        return None;
    }
    let total = rows[..events].iter().map(|event| event.amount).sum();
    out.int(rows[0].k).time(rows[0].ts).time(rows[events].ts).int(total).int(events as i64);
    Some(events + 1)
}

/// (k, began, ended, mean, events)
fn avg(_: Option<&Event<'_>>, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let mean = |events: usize| rows[..events].iter().map(|event| event.amount).sum::<i64>() as f64 / events as f64;
    let mut low = 0;
    while low < rows.len() && mean(low + 1) < 400.0 {
        low += 1;
    }
    // As many as possible before a high one.
    let events = (1..=low).rev().find(|events| rows.get(*events).is_some_and(|event| event.amount >= 900))?;
    out.int(rows[0].k).time(rows[0].ts).time(rows[events].ts).double(mean(events)).int(events as i64);
    Some(events + 1)
}

/// (rule, k, began, ended, probes)
fn of_rule(rule: &Rule, rows: &[Event<'_>], out: &mut Table) -> Option<usize> {
    let probes = run(rows, 0, |event| event.action == rule.action && event.amount < rule.small_below);
    let hit = rows.get(probes).filter(|event| event.amount >= rule.big_from)?;
    if probes < rule.least || hit.ts - rows[0].ts > rule.minutes * MINUTE {
        return None;
    }
    out.int(rule.number as i64).int(hit.k).time(rows[0].ts).time(hit.ts).int(probes as i64);
    Some(probes + 1)
}
