//! A rule book: many patterns over one stream, partitioned and ordered alike.
//!
//! Each rule wants some small amounts, done in one way, and then a big one within its time; no two of the first thousand are the same.

use super::events::ACTIONS;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub number: u64,
    /// What is done with the small amounts.
    pub action: &'static str,
    /// They are below this,
    pub small_below: i64,
    /// at least so many of them,
    pub least: usize,
    /// and then comes one that is at least this,
    pub big_from: i64,
    /// within so many minutes.
    pub minutes: i64,
}

/// The first rules of the book.
pub(super) fn book(patterns: u64) -> impl Iterator<Item = Rule> {
    (0..patterns).map(|number| Rule {
        number,
        action: ACTIONS[(number % 3) as usize].0,
        small_below: 200 + (number * 37 % 500) as i64,
        least: 2 + (number / 3 % 3) as usize,
        big_from: 900 + (number * 7 % 100) as i64,
        minutes: 1 + (number * 11 % 30) as i64,
    })
}

/// The text that looks for the first rules of the book.
pub(super) fn text(patterns: u64) -> String {
    let queries: Vec<String> = book(patterns).map(|rule| rule.text()).collect();
    queries.join(";\n")
}

impl Rule {
    fn text(&self) -> String {
        let Self { number, action, small_below, least, big_from, minutes } = self;
        format!(
            "SELECT {number} AS rule, k, began, ended, probes FROM event MATCH_RECOGNIZE (
               PARTITION BY k ORDER BY ts
               MEASURES FIRST(PROBE.ts) AS began, HIT.ts AS ended, COUNT(PROBE.*) AS probes
               ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
               PATTERN (PROBE{{{least},}} HIT) WITHIN INTERVAL '{minutes}' MINUTE
               DEFINE PROBE AS action = '{action}' AND amount < {small_below}, HIT AS amount >= {big_from}
             )"
        )
    }
}
