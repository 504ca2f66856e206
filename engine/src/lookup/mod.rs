//! Lookups: rows of a table outside, asked for by key while the pipeline runs.
//!
//! A [`LookupTable`] is what `JOIN t FOR SYSTEM_TIME AS OF a.proctime` asks: a file, later a database or a service. It may block and may fail,
//! so it is asked on a thread of its own ([`LookupWorker`]), with all the keys of a step at once, while the operator's shard runs what else is
//! ready. What it answers depends on when it was asked, so answers are written to the step log, and a replay asks the log.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{EngineError, Result};
use crate::operator::{Redeemer, Ticket};
use crate::thread::start_detached;

mod scanned;

pub use self::scanned::ScannedTable;

/// A table outside that is asked for the rows of keys. Which columns are the keys is settled when it is made.
pub trait LookupTable: Send + Sync {
    /// For EXPLAIN and errors, for example `filesystem(path=rates.csv, format=csv)`.
    fn describe(&self) -> String;

    /// The columns of an answer.
    fn schema(&self) -> SchemaRef;

    /// All rows of each of the `count` keys that are the rows of `keys` (distinct, none null), as the table is now. May block.
    ///
    /// # Errors
    /// The table cannot be asked now. It is asked again as often as `'lookup.max-retries'` says.
    fn lookup(&self, keys: &[ArrayRef], count: usize) -> Result<LookupAnswer>;
}

/// What a table answers.
#[derive(Debug, Clone)]
pub struct LookupAnswer {
    /// Rows with the columns of [`LookupTable::schema`], those of a key together.
    pub rows: RecordBatch,
    /// For each of them the key that it answers, ascending.
    pub keys: Vec<u32>,
}

/// How long answers are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupCache {
    /// `'lookup.partial-cache.max-rows'`: beyond it the answers that were asked for first are dropped. A key without rows counts as one.
    pub rows_max: Option<u64>,
    /// `'lookup.partial-cache.expire-after-write'`: an answer is asked for again when it is so old, in processing time.
    pub expire_ms: Option<i64>,
}

/// Asks a table on a thread of its own. The thread ends with the worker.
pub(crate) struct LookupWorker {
    requests: Sender<Request>,
    answers: Receiver<Result<LookupAnswer>>,
}

struct Request {
    keys: Vec<ArrayRef>,
    count: usize,
    redeemer: Redeemer,
}

impl LookupWorker {
    /// `retries`: how often a request that failed is made again.
    pub(crate) fn start(name: &str, table: Arc<dyn LookupTable>, retries: u32) -> Result<Self> {
        let (requests, inbox) = bounded::<Request>(1);
        let (outbox, answers) = bounded(1);
        let name = name.to_owned();
        let work = move || {
            for Request { keys, count, redeemer } in inbox {
                let answer = ask(&name, table.as_ref(), &keys, count, retries);
                if outbox.send(answer).is_err() {
                    return;
                }
                redeemer.redeem();
            }
        };
        start_detached("eagre-lookup", work)?;
        Ok(Self { requests, answers })
    }

    /// Asks for the rows of keys; the answer is there when the ticket is redeemed.
    pub(crate) fn ask(&self, keys: Vec<ArrayRef>, count: usize) -> Result<Ticket> {
        let (redeemer, ticket) = Ticket::new();
        let sent = self.requests.send(Request { keys, count, redeemer });
        sent.map_err(|_| EngineError::bug("the thread of a lookup is gone"))?;
        Ok(ticket)
    }

    pub(crate) fn answer(&self) -> Result<LookupAnswer> {
        self.answers.recv().map_err(|_| EngineError::bug("the thread of a lookup is gone"))?
    }
}

fn ask(name: &str, table: &dyn LookupTable, keys: &[ArrayRef], count: usize, retries: u32) -> Result<LookupAnswer> {
    let mut attempt = 0;
    loop {
        let error = match table.lookup(keys, count) {
            Ok(answer) if answer.keys.len() == answer.rows.num_rows() && answer.keys.is_sorted() => return Ok(answer),
            Ok(_) => return Err(EngineError::bug(format!("{} answered rows without their keys", table.describe()))),
            Err(error) => error,
        };
        if attempt == retries {
            return Err(EngineError::Lookup {
                table: name.to_owned(),
                message: format!(
                    "{} did not answer, also when asked {retries} times again ('lookup.max-retries'): {error}",
                    table.describe()
                ),
            });
        }
        attempt += 1;
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A table whose rows a test changes, and which fails as often as it is told to.

    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

    use super::{LookupAnswer, LookupTable};
    use crate::error::{EngineError, Result};

    /// Values by key.
    pub(crate) type Contents = BTreeMap<i64, Vec<i64>>;

    #[derive(Default)]
    pub(crate) struct TestTable {
        pub(crate) contents: Mutex<Contents>,
        /// How many requests fail from now on.
        pub(crate) failures: Mutex<u32>,
        /// The keys of each request so far.
        pub(crate) asked: Mutex<Vec<Vec<i64>>>,
    }

    impl LookupTable for TestTable {
        fn describe(&self) -> String {
            "test()".into()
        }

        fn schema(&self) -> SchemaRef {
            let field = |name| Field::new(name, DataType::Int64, false);
            Arc::new(Schema::new(vec![field("id"), field("text")]))
        }

        fn lookup(&self, keys: &[ArrayRef], count: usize) -> Result<LookupAnswer> {
            let mut failures = self.failures.lock().expect("no panic");
            if *failures > 0 {
                *failures -= 1;
                return Err(EngineError::bug("the line is cut"));
            }
            assert_eq!((keys[0].len(), keys[0].null_count()), (count, 0));
            let asked: Vec<i64> = keys[0].as_primitive::<Int64Type>().values().to_vec();
            let contents = self.contents.lock().expect("no panic");
            let (mut of, mut ids, mut values) = (vec![], vec![], vec![]);
            for (place, key) in asked.iter().enumerate() {
                for value in contents.get(key).into_iter().flatten() {
                    of.push(place as u32);
                    ids.push(*key);
                    values.push(*value);
                }
            }
            self.asked.lock().expect("no panic").push(asked);
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(Int64Array::from(values))];
            Ok(LookupAnswer { rows: RecordBatch::try_new(self.schema(), columns)?, keys: of })
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::testing::TestTable;
    use super::*;

    /// A table that fails now and then is asked again; one that goes on failing is told, with its name and the option.
    #[test]
    fn failures_are_retried_then_told() {
        let table = Arc::new(TestTable::default());
        let worker = LookupWorker::start("rates", Arc::clone(&table) as Arc<dyn LookupTable>, 2).expect("starts");
        let ask = |failures: u32| {
            *table.failures.lock().expect("no panic") = failures;
            let ticket = worker.ask(vec![Arc::new(Int64Array::from(vec![1]))], 1).expect("asks");
            let _ = ticket.receiver().recv();
            worker.answer()
        };
        assert!(ask(2).is_ok());
        let error = ask(3).expect_err("it fails three times").to_string();
        assert_eq!(
            error,
            "table `rates`: test() did not answer, also when asked 2 times again ('lookup.max-retries'): a bug in eagre: the line is \
             cut; please report it with the query"
        );
    }
}
