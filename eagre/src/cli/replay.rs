//! `eagre replay`: the steps of a state folder again, row for row.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use clap::Args;
use eagre_engine::checkpoint::{self, CheckpointStore, read_manifest};
use eagre_engine::graph::NodeKind;
use eagre_engine::log::read_log;
use eagre_engine::settings::DEVICE;
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, EngineError, Result as EngineResult};
use eagre_sql::planner::FinalSort;

use super::print::json_writer;
use super::text::note;
use crate::error::{Error, Result};
use crate::job::RunningJob;
use crate::session::Session;
use crate::sink::results::{Materialized, changelog};
use crate::state::JobObject;

/// Options of `eagre replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The state folder (or object store URL) of the pipeline.
    #[arg(long, value_name = "DIR")]
    state: String,
    /// The first step to show.
    #[arg(long, value_name = "N", default_value_t = 1)]
    from_step: u64,
    /// The last step to show (default: the last that is logged).
    #[arg(long, value_name = "M")]
    until_step: Option<u64>,
    /// Where kernels run that ran on a GPU then: auto or gpu, which takes a software one too [default: auto].
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

pub(super) fn run(args: ReplayArgs) -> Result<()> {
    let store: Arc<dyn CheckpointStore> = Arc::new(super::checkpoint::open(&args.state)?);
    let object = JobObject::read(store.as_ref())?.ok_or_else(|| {
        Error::usage(format!("`{}` does not say what ran there; was it written by `eagre run --state`?", args.state))
    })?;
    let newest = checkpoint::read_latest(store.as_ref())?.ok_or_else(|| Error::usage("there is no checkpoint"))?;
    let until = args.until_step.unwrap_or(newest.step);
    if args.from_step > until || until > newest.step {
        return Err(Error::usage(format!(
            "steps {} to {until} cannot be shown: the log of `{}` ends with step {}",
            args.from_step, args.state, newest.step
        )));
    }
    let mut builder = Session::builder().store(Arc::clone(&store)).replay();
    builder = builder
        .device_log(|line| note(format_args!("device: {line}")))
        .progress_log(|line| note(format_args!("{line}")));
    if let Some(device) = args.device {
        builder = builder.set(DEVICE, device);
    }
    let session = builder.build()?;
    let prepared = session.prepare(&object.text)?;
    let mut job = prepared.job.ok_or_else(|| Error::usage("the statements of the state folder run no pipeline"))?;
    // The newest state before the first step to show saves the most work; without one all is run from the beginning, and so it is where a
    // result is ordered or cut once all of its rows are there.
    let mut start = None;
    if !job.outputs.iter().any(|output| output.final_sort.is_some()) {
        for id in checkpoint::list(store.as_ref())? {
            let manifest = read_manifest(store.as_ref(), id)?;
            if manifest.step < args.from_step {
                start = Some(manifest);
            }
        }
    }
    let after = start.as_ref().map_or(0, |manifest| manifest.step);
    let mut records = read_log(store.as_ref(), newest.log.clone())?;
    records.retain(|record| after < record.step && record.step <= until);
    let lines = Arc::new(Lines { from_step: args.from_step, by_step: Mutex::default() });
    let mut wholes = Vec::new();
    let sinks = job.graph.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Sink(_))).count();
    for (index, node) in job.graph.nodes.iter_mut().enumerate() {
        if let NodeKind::Sink(sink) = &mut node.kind {
            let output = job.outputs.iter().find(|output| output.node == index);
            let key = output.and_then(|output| output.key.clone());
            let (table, lines) = (sink.table.clone(), Arc::clone(&lines));
            let whole = output.and_then(|output| Some((output.final_sort.clone()?, Arc::clone(&output.schema))));
            let whole =
                whole.map(|(sort, schema)| Whole { sort, table: Arc::new(Mutex::new(Materialized::new(schema))) });
            if let Some(whole) = &whole {
                wholes.push((table.clone(), index, whole.clone()));
            }
            sink.factory = Arc::new(ReplaySink { table, index, key, whole, at_once: sinks == 1, lines });
        }
    }
    if sinks == 0 {
        return Err(Error::usage(
            "there are no rows to show: what ran there keeps materialized views and writes into no table; an `INSERT` of that text would \
             be shown",
        ));
    }
    let (shards, seed) = (newest.shards, newest.seed);
    let restore = start.map(|manifest| (manifest, Arc::clone(&store)));
    RunningJob::replay(&session, job, shards, seed, restore, records)?.wait_blocking()?;
    for (table, index, whole) in wholes {
        let mut text = Vec::new();
        let rows = whole.rows()?;
        format_rows(&table, until, &vec!["+I"; rows.num_rows()], &rows, &mut text)?;
        let mut by_step = lines.by_step.lock().unwrap_or_else(PoisonError::into_inner);
        by_step.entry((until, index)).or_default().extend(text);
    }
    lines.print()
}

/// What the sinks wrote, by step and sink: several sinks run beside each other, and their lines must come in one order.
struct Lines {
    from_step: u64,
    by_step: Mutex<BTreeMap<(u64, usize), Vec<u8>>>,
}

impl Lines {
    fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let by_step = self.by_step.lock().unwrap_or_else(PoisonError::into_inner);
        let written = by_step.values().try_for_each(|lines| out.write_all(lines)).and_then(|()| out.flush());
        written.map_err(|error| Error::File { path: "standard output".to_owned(), error })
    }
}

/// A result whose `ORDER BY` and `LIMIT` are of all of its rows.
#[derive(Clone)]
struct Whole {
    sort: FinalSort,
    table: Arc<Mutex<Materialized>>,
}

impl Whole {
    /// What is shown of the rows that came.
    fn rows(&self) -> Result<RecordBatch> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = Arc::clone(table.schema());
        let rows = std::mem::replace(&mut *table, Materialized::new(Arc::clone(&schema))).finish()?;
        let rows = arrow::compute::concat_batches(&schema, &rows).map_err(EngineError::from)?;
        Ok(self.sort.apply(&rows)?)
    }
}

#[derive(Clone)]
struct ReplaySink {
    table: String,
    index: usize,
    key: Option<Vec<usize>>,
    /// The result is shown at the end.
    whole: Option<Whole>,
    /// There is no other sink whose lines could come between: nothing need be held.
    at_once: bool,
    lines: Arc<Lines>,
}

impl SinkFactory for ReplaySink {
    fn describe(&self) -> String {
        "replay".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> EngineResult<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for ReplaySink {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> EngineResult<()> {
        if let Some(whole) = &self.whole {
            let mut table = whole.table.lock().unwrap_or_else(PoisonError::into_inner);
            return deltas.iter().try_for_each(|delta| table.apply(&delta.batch, delta.weights.as_ref()));
        }
        if step < self.lines.from_step {
            return Ok(());
        }
        let mut text = Vec::new();
        for delta in deltas {
            let (words, rows) = changelog(&delta.batch, delta.weights.as_ref(), self.key.as_deref())?;
            format_rows(&self.table, step, &words, &rows, &mut text)?;
        }
        if self.at_once {
            let error = |error: std::io::Error| EngineError::Sink {
                table: self.table.clone(),
                message: format!("cannot write to standard output: {error}"),
            };
            return std::io::stdout().lock().write_all(&text).map_err(error);
        }
        let mut by_step = self.lines.by_step.lock().unwrap_or_else(PoisonError::into_inner);
        by_step.entry((step, self.index)).or_default().extend(text);
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> EngineResult<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> EngineResult<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> EngineResult<()> {
        Ok(())
    }

    fn finish(&mut self) -> EngineResult<()> {
        Ok(())
    }
}

/// A line for each row: the step, the table, what became of the row, and the row.
fn format_rows(table: &str, step: u64, words: &[&str], rows: &RecordBatch, text: &mut Vec<u8>) -> EngineResult<()> {
    let mut json = Vec::new();
    let builder = json_writer();
    let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(&mut json);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    let table = serde_json::Value::from(table);
    for (word, row) in words.iter().zip(json.split(|byte| *byte == b'\n')) {
        text.extend(format!("{{\"step\":{step},\"table\":{table},\"op\":\"{word}\",\"row\":").bytes());
        text.extend(row);
        text.extend(b"}\n");
    }
    Ok(())
}
