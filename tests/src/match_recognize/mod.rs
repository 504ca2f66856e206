//! `MATCH_RECOGNIZE`: other engines' cases, random queries and many rows against a naive evaluator, what is told of how a pattern is
//! looked for, what leaves after each row, patterns that must not blow up, and clauses that cannot be.

use libtest_mimic::Trial;

mod bad_input;
mod cases;
mod explained;
mod generate;
mod large;
mod naive;
mod no_blow_up;
mod oracle;
mod query;
mod random;
mod rule_book;
mod stepwise;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = cases::trials();
    trials.extend(random::trials());
    trials.extend(oracle::trials());
    trials.extend(large::trials());
    trials.extend(no_blow_up::trials());
    trials.extend(bad_input::trials());
    trials.extend(stepwise::trials());
    trials.extend(explained::trials());
    trials.extend(rule_book::trials());
    trials
}
