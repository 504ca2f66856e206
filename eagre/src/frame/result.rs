//! Results as frames.

use arrow::array::RecordBatch;
use eagre_engine::runtime::Summary;
use eagre_frames::polars::prelude::DataFrame;
use eagre_frames::{FrameError, frame};

use crate::error::{Error, Result};
use crate::job::{QueryResult, RunningJob};
use crate::session::Execution;
use crate::views::read::Answer;

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::Frame(Box::new(error))
    }
}

impl QueryResult {
    /// The final result of input that ends, as [`collect`](Self::collect) gives it, as one frame.
    ///
    /// ```
    /// use eagre::polars::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
    /// session.register_frame("number", df!("n" => [1i64, 2, 3, 4])?)?;
    /// let mut job = session.sql("SELECT n FROM number WHERE n > 2; SELECT sum(n) AS total FROM number").await?.job.expect("queries");
    /// // Of two results each is read while the other one is, or the pipeline would wait for its reader.
    /// let mut results = job.take_results().into_iter().map(|result| tokio::spawn(result.into_frame()));
    /// let large = results.next().expect("the first query").await??;
    /// let total = results.next().expect("the second query").await??;
    /// job.wait().await?;
    /// assert_eq!(large.height(), 2);
    /// assert_eq!(total.column("total")?.i64()?.get(0), Some(10));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The input does not end; a column of a type that polars does not have, or two of one name; as [`collect`](Self::collect).
    pub async fn into_frame(self) -> Result<DataFrame> {
        check_bounded(&self)?;
        let schema = self.schema().clone();
        Ok(frame(&schema, &self.collect().await?)?)
    }

    /// As [`into_frame`](Self::into_frame), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`into_frame`](Self::into_frame).
    pub fn into_frame_blocking(self) -> Result<DataFrame> {
        check_bounded(&self)?;
        let schema = self.schema().clone();
        Ok(frame(&schema, &self.collect_blocking()?)?)
    }
}

fn check_bounded(result: &QueryResult) -> Result<()> {
    match result.info().bounded {
        true => Ok(()),
        false => Err(Error::usage(
            "the result of this query grows and changes for as long as its input goes on, and a frame is what it comes to in the end; keep \
             it by `CREATE MATERIALIZED VIEW v AS SELECT ..`, and have frames of it as it is now: \
             `session.snapshot()?.query(\"SELECT * FROM v\")?.into_frame()`",
        )),
    }
}

impl Execution {
    /// The final result of the text's one query, when all of its input is read and everything else in the text has run.
    ///
    /// # Errors
    /// There is no query with a result, or more than one ([`QueryResult::into_frame`] has each as a frame); what ended the pipeline; as
    /// [`QueryResult::into_frame`].
    pub async fn into_frame(self) -> Result<DataFrame> {
        let (job, found) = match self.only_result()? {
            Only::Rows(rows) => return Ok(frame(rows.schema_ref(), std::slice::from_ref(&rows))?),
            Only::Result(job) => *job,
        };
        let frame = found.into_frame().await;
        if frame.is_ok() {
            check_finished(&job.wait().await?)?;
        }
        frame
    }

    /// As [`into_frame`](Self::into_frame), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`into_frame`](Self::into_frame).
    pub fn into_frame_blocking(self) -> Result<DataFrame> {
        let (job, found) = match self.only_result()? {
            Only::Rows(rows) => return Ok(frame(rows.schema_ref(), std::slice::from_ref(&rows))?),
            Only::Result(job) => *job,
        };
        let frame = found.into_frame_blocking();
        if frame.is_ok() {
            check_finished(&job.wait_blocking()?)?;
        }
        frame
    }
}

/// A pipeline that fails or is stopped ends its results as well, so that what they came to is not the whole.
fn check_finished(summary: &Summary) -> Result<()> {
    match summary.finished {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "the pipeline was stopped after step {}, before the end of its input; there is no final result",
            summary.steps
        ))),
    }
}

/// What a text came to.
enum Only {
    /// Rows that are there: of a query over materialized views, or of `SHOW` and its kin.
    Rows(RecordBatch),
    /// The result of a pipeline.
    Result(Box<(RunningJob, QueryResult)>),
}

impl Execution {
    fn only_result(self) -> Result<Only> {
        let mut job = self.job;
        let mut results = job.as_mut().map(RunningJob::take_results).unwrap_or_default();
        let mut tables = self.tables;
        match (results.len(), tables.len(), job) {
            (0, 1, None) => Ok(Only::Rows(tables.remove(0))),
            (1, 0, Some(job)) => Ok(Only::Result(Box::new((job, results.remove(0))))),
            (0, 0, _) => Err(Error::usage("the text has no query whose rows could be a frame; it needs a `SELECT`")),
            (streamed, there, _) => Err(Error::usage(format!(
                "the text has {} results and a frame has the rows of one; run it with one query, or take each result of the job as a frame \
                 (`job.take_results()`, `QueryResult::into_frame`)",
                streamed + there
            ))),
        }
    }
}

impl Answer {
    /// All rows as one frame.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
    /// session.register_frame("number", eagre::polars::df!("k" => ["a", "b", "a"], "n" => [1i64, 2, 3])?)?;
    /// let job = session.sql("CREATE MATERIALIZED VIEW total AS SELECT k, sum(n) AS n FROM number GROUP BY k").await?.job.expect("views");
    /// job.wait().await?;
    /// let frame = session.snapshot()?.query("SELECT k, n FROM total ORDER BY k")?.into_frame().await?;
    /// assert_eq!(frame.column("n")?.i64()?.to_vec(), [Some(4), Some(2)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next); a column of a type that polars does not have, or two of one name.
    pub async fn into_frame(mut self) -> Result<DataFrame> {
        let mut batches = Vec::new();
        while let Some(rows) = self.next().await? {
            batches.push(rows);
        }
        Ok(frame(self.schema(), &batches)?)
    }

    /// As [`into_frame`](Self::into_frame), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`into_frame`](Self::into_frame).
    pub fn into_frame_blocking(self) -> Result<DataFrame> {
        let rows = self.collect_blocking()?;
        Ok(frame(rows.schema_ref(), std::slice::from_ref(&rows))?)
    }
}
