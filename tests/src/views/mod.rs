//! Materialized views: what a reader sees while the stream goes on, after a restart, and while views are made, replaced and dropped.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use eagre::{InputHandle, Session};
use libtest_mimic::Trial;

use crate::value;

mod alike;
mod changing;
mod growing;
mod reading;
mod told;
mod watched;

use changing::{
    cascade, crash_in_a_change, failed_change, kept_state, new_views, no_history, random_changes, readers_of_replaced,
    resume,
};
use reading::{
    answers, batch_orders, batch_rules, complete, file, forecasts, lookup, one_step, restart, shared_work, slow_reader,
    subscription, subscription_words, wrong_uses,
};

type Outcome = Result<(), String>;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Outcome| Trial::test(format!("views::{name}"), move || Ok(test()?));
    vec![
        trial("a_view_answers_queries_while_it_changes", answers),
        trial("forecasts_of_a_view_are_made_at_once", forecasts),
        trial("views_read_together_are_of_one_step", one_step),
        trial("views_on_views_share_their_work", shared_work),
        trial("a_subscription_adds_up_to_the_view", subscription),
        trial("a_subscription_has_the_words_of_a_changelog", subscription_words),
        trial("a_slow_reader_keeps_its_step", slow_reader),
        trial("a_lookup_by_key_reads_no_other_rows", lookup),
        trial("views_come_back_after_a_restart", restart),
        trial("a_complete_view_is_read_after_a_restart", complete),
        trial("queries_over_views_do_not_repeat_faults_of_batch_rules", batch_rules),
        trial("queries_over_views_have_the_orders_and_frames_of_streams", batch_orders),
        trial("queries_over_views_have_the_keys_of_streams", alike::keys),
        trial("wrong_uses_are_told", wrong_uses),
        trial("views_in_a_file", file),
        trial("a_new_view_begins_with_what_was_read_and_goes_on_without_a_gap", new_views),
        trial("a_changed_view_keeps_the_state_of_what_did_not_change", kept_state),
        trial("a_view_that_gets_other_columns_takes_its_readers_along", readers_of_replaced),
        trial("a_view_over_rows_that_are_gone_begins_now_or_is_refused", no_history),
        trial("a_drop_takes_its_readers_along_only_if_told", cascade),
        trial("a_change_that_fails_changes_nothing", failed_change),
        trial("changed_views_come_back_after_a_restart", resume),
        trial("a_crash_anywhere_in_a_change_leaves_what_can_be_resumed", crash_in_a_change),
        trial("random_changes_equal_the_batch_answer_1", || random_changes("one")),
        trial("random_changes_equal_the_batch_answer_2", || random_changes("two")),
        trial("random_changes_equal_the_batch_answer_3", || random_changes("three")),
    ]
}

fn text(error: eagre::Error) -> String {
    format!("[{}] {error}", error.code())
}

fn session(shards: u64) -> Result<Session, String> {
    Session::builder().set("eagre.shards", shards.to_string()).set("eagre.step.rows_max", "7").build().map_err(text)
}

/// Runs statements that give no rows.
fn run(session: &Session, sql: &str) -> Outcome {
    session.execute(sql).map(drop).map_err(text)
}

/// The rows of a query over views, as texts, in order.
fn read(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    let execution = session.execute(sql).map_err(|error| format!("{sql}: {}", text(error)))?;
    let [rows] = execution.tables.as_slice() else {
        return Err(format!("{sql}: {} tables", execution.tables.len()));
    };
    Ok(lines(std::slice::from_ref(rows)))
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |row: value::Row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut lines: Vec<String> = value::rows(batches).into_iter().map(line).collect();
    lines.sort();
    lines
}

fn expect(what: &str, got: &[String], wanted: &[&str]) -> Outcome {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {got:?}, not {wanted:?}")),
    }
}

/// Waits until a query over views has these rows.
fn settle(session: &Session, sql: &str, wanted: &[&str]) -> Outcome {
    let mut got = Vec::new();
    for _ in 0..3_000 {
        got = read(session, sql)?;
        if got == wanted {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Err(format!("{sql}: {got:?}, not {wanted:?}"))
}

/// A table of pushed rows.
struct Input {
    handle: InputHandle,
    runtime: tokio::runtime::Runtime,
}

impl Input {
    fn of(session: &Session, table: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        Ok(Self { handle: session.input(table).map_err(text)?, runtime })
    }

    fn push(&self, columns: Vec<ArrayRef>) -> Outcome {
        let batch =
            RecordBatch::try_new(Arc::clone(self.handle.schema()), columns).map_err(|error| error.to_string())?;
        self.runtime.block_on(self.handle.push(batch)).map_err(text)
    }

    fn numbers(&self, keys: &[i64], values: &[i64]) -> Outcome {
        self.push(vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(Int64Array::from(values.to_vec()))])
    }
}

const NUMBERS: &str = "CREATE TABLE t (k BIGINT, n BIGINT) WITH ('connector' = 'push');";
