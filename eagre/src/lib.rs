//! eagre: streaming SQL over real events, exact for the events seen so far, replayable, unharmed by a crash; to embed, and behind the
//! command `eagre`.
//!
//! A [`Session`] runs statements. Definitions take effect at once; all `INSERT`s and `SELECT`s of a text become one pipeline, in which
//! each table is read once. Results arrive as [changes](sink::results::Change) or, for input that ends, as final rows:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
//! let mut execution = session.execute(
//!     "CREATE TABLE reading (machine STRING, ts TIMESTAMP(3), celsius DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
//!      INSERT INTO reading VALUES ('a', TIMESTAMP '2026-01-01 00:00:01', 20.0), ('a', TIMESTAMP '2026-01-01 00:00:14', 24.0);
//!      SELECT window_start, machine, max(celsius) AS hottest
//!      FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(ts), INTERVAL '10' SECOND))
//!      GROUP BY window_start, window_end, machine ORDER BY window_start",
//! )?;
//! let mut job = execution.job.take().expect("there is a query");
//! let rows = job.take_results().remove(0).collect_blocking()?;
//! assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
//! job.wait_blocking()?;
//! # Ok(())
//! # }
//! ```
//!
//! Rows can be pushed from code, and output handed to a function:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use arrow::array::{ArrayRef, Int64Array, RecordBatch};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
//! let seen = Arc::new(Mutex::new(0));
//! let counter = Arc::clone(&seen);
//! session.register_callback("alerts", Box::new(move |_step, rows, _weights| {
//!     *counter.lock().expect("no thread panicked") += rows.num_rows();
//!     Ok(())
//! }));
//! session.sql("CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'push');
//!              CREATE TABLE alerts (n BIGINT) WITH ('connector' = 'callback')").await?;
//! let input = session.input("numbers")?;
//! let job = session.sql("INSERT INTO alerts SELECT n FROM numbers WHERE n > 2").await?.job.expect("a pipeline");
//! let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
//! input.push(RecordBatch::try_new(Arc::clone(input.schema()), vec![column])?).await?;
//! input.close();
//! job.wait().await?;
//! assert_eq!(*seen.lock().expect("no thread panicked"), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Materialized views keep their rows; queries over them are answered at one step, while the stream goes on:
//!
//! ```
//! # use std::sync::Arc;
//! # use arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
//! session.sql("CREATE TABLE numbers (k BIGINT, n BIGINT) WITH ('connector' = 'push');
//!              CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS total FROM numbers GROUP BY k").await?;
//! let input = session.input("numbers")?;
//! let mut changes = session.subscribe("sums")?;
//! let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
//! input.push(RecordBatch::try_new(Arc::clone(input.schema()), vec![column(vec![1, 2]), column(vec![7, 8])])?).await?;
//! let change = changes.next().await?.expect("the views are running");
//! assert_eq!(change.batch.num_rows(), 2);
//! let snapshot = session.snapshot()?;
//! assert!(snapshot.step() >= change.step);
//! let mut answer = snapshot.query("SELECT total FROM sums WHERE k = 2")?;
//! assert_eq!(answer.next().await?.expect("one row").num_rows(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! With the cargo feature `polars` a frame is a table (`Session::register_frame`), a result a frame (`Execution::into_frame`), and labelled
//! history tells which method and threshold to take (`backtest::Backtest`).

#[cfg(feature = "polars")]
pub mod backtest {
    //! `eagre backtest` from code: over a frame.
    pub use crate::cli::backtest::frame::{Backtest, BacktestReport};
}
pub mod cli;
pub mod clock;
pub mod config;
mod describe;
mod device;
pub mod error;
#[cfg(feature = "polars")]
pub mod frame;
pub mod job;
mod models;
mod provider;
pub mod session;
pub mod sink;
pub mod source;
mod state;
mod views;

pub use device::DeviceLog;
pub use error::{Error, Result};
pub use job::{QueryResult, ResultInfo, RunningJob};
pub use session::{Execution, Prepared, Session, SessionBuilder};
pub use sink::results::{Change, Materialized, ResultStream, changelog};
pub use source::memory::MemorySource;
pub use source::push::InputHandle;
pub use views::read::{Answer, Snapshot, ViewChanges};

// What appears in this crate's signatures.
#[cfg(feature = "polars")]
pub use eagre_frames::polars;
pub use {
    arrow, datafusion, eagre_connectors as connectors, eagre_datasets as datasets, eagre_engine as engine,
    eagre_sql as sql,
};

// Its examples run, and say what they say.
#[cfg(all(doctest, feature = "polars"))]
#[doc = include_str!("../../docs/frames.md")]
struct FramesPage;
