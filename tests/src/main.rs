//! One test binary for all that is tested from outside: statements in, rows or a message out.
//!
//! A trial is one case, so that the runner shows it by name and runs many at once. Most go through the crate [`eagre`] in this process;
//! those of the command start `eagre-under-test`, which this package builds from the command's own `main.rs`.
//!
//! | module | what would break for a user |
//! |---|---|
//! | [`streaming_sql`] | other engines' cases give other answers, or something unsupported gives any |
//! | [`slt`] | a query's answer depends on steps, shards or crashes, or is not DataFusion's |
//! | [`laws`] | the same, for windows and groups and rows that nobody thought of |
//! | [`lookup`] | a table outside is asked wrongly, or a replay gives what it says today |
//! | [`processing_time`] | what goes by the order of processing time waits for the end of the input |
//! | [`match_recognize`] | a pattern finds other matches than the standard says |
//! | [`models`] | a model answers otherwise than the one that was asked, or its training is done twice |
//! | [`ordering`] | what is shown or leaves does not stand in the order that is asked for |
//! | [`online_models`] | what a model has learnt is lost, learnt twice, or shows how steps were cut |
//! | [`random_queries`] | the same, for queries of many operators that nobody thought of |
//! | [`nab`] | a detector looks ahead |
//! | [`scores`] | a score depends on where it is computed |
//! | [`changelog`] | changes that were written do not read back to the same rows |
//! | [`crash`] | `kill -9` loses or doubles a row |
//! | [`bad_input`], [`command`] | a mistake is not told, or not so that one can mend it |
//! | [`guide`] | what the documentation shows does not run, or shows something else |
//! | [`examples`] | a worked example prints something else than the guide, or finds less |
//! | [`backtest`] | figures of alarms on history are not those of the labels |
//! | [`state_folder`] | a state folder is taken for another's, or going on from an older checkpoint doubles rows |
//! | [`state_ttl`] | state is forgotten too early, or never |
//! | [`statements`] | a statement changes what one before it means |
//! | [`views`] | materialized views show a mix of steps, lose rows, or keep memory |
//! | [`no_execution_plan`] | a source is read around the step engine |
//!
//! Environment: `EAGRE_TESTS_SEED` gives the seed of everything random (printed with every failure), `EAGRE_TESTS_REWRITE=1` writes the
//! results of `cases/slt` anew, to be read in the diff, `EAGRE_RANDOM_SECONDS` has random queries go on for that long.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod approximate;
mod backtest;
mod bad_input;
mod bench_command;
mod changelog;
mod command;
mod crash;
mod examples;
mod forecasts;
mod guide;
mod harness;
mod laws;
mod lookup;
mod match_recognize;
mod models;
mod nab;
mod no_execution_plan;
mod online_models;
mod ordering;
mod process;
mod processing_time;
mod random_queries;
mod scores;
mod slt;
mod source;
mod state_folder;
mod state_ttl;
mod statements;
mod streaming_sql;
mod value;
mod views;

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(streaming_sql::trials());
    trials.extend(slt::trials());
    trials.extend(laws::trials());
    trials.extend(lookup::trials());
    trials.extend(processing_time::trials());
    trials.extend(ordering::trials());
    trials.extend(match_recognize::trials());
    trials.extend(models::trials());
    trials.extend(online_models::trials());
    trials.extend(guide::trials());
    trials.extend(examples::trials());
    trials.extend(random_queries::trials());
    trials.extend(nab::trials());
    trials.extend(forecasts::trials());
    trials.extend(scores::trials());
    trials.extend(approximate::trials());
    trials.extend(changelog::trials());
    trials.extend(crash::trials());
    trials.extend(bad_input::trials());
    trials.extend(bench_command::trials());
    trials.extend(command::trials());
    trials.extend(backtest::trials());
    trials.extend(state_folder::trials());
    trials.extend(state_ttl::trials());
    trials.extend(statements::trials());
    trials.extend(views::trials());
    trials.extend(no_execution_plan::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
