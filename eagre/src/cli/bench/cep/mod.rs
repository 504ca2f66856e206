//! `eagre bench cep`: patterns over a stream of events in memory, by number of keys and of patterns.
//!
//! What a figure holds is all that a pattern costs end to end: rows read, put in order of their event time behind a watermark, their
//! conditions, the matching, the measures, and the sink. The answer over the first events is compared with that of a plain loop over sorted
//! rows ([`plain`]), which shares no line with parser, planner and operator.

mod args;
mod events;
mod plain;
mod query;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::planner::Job;

pub(super) use self::args::CepArgs;
use self::events::{Stream, WATERMARK_DELAY};
use self::query::Query;
use super::args::SinkKind;
use super::figure::{Figure, Subject};
use super::peers::Peers;
use super::report::{self, Report};
use super::run::Planned;
use super::verify;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::memory::MemorySource;

/// What other engines reach.
pub(super) const PEERS: &str = include_str!("../../../../../benches/cep/peers.json");

/// Answers are checked with steps of so many rows, and at more than one shard.
const VERIFY_ROWS_PER_STEP: u64 = 10_000;
const VERIFY_SHARDS: u64 = 2;

/// Checks and measures all queries asked for.
pub(super) fn run(args: &CepArgs) -> Result<()> {
    let (queries, keys, shards, rows_per_step) = (args.queries()?, args.keys()?, args.shards()?, args.rows_per_step()?);
    let reports = args.reports()?;
    let mut report = Report::new(&report::cep::LAYOUT, args.seed, Peers::stored(PEERS)?);
    report.begin();
    for keys in keys {
        let bench = Bench { args, stream: args.stream(keys) };
        // Made when the first query is right, and gone before others are made.
        let mut batches = None;
        for query in &queries {
            for shards in &shards {
                for rows_per_step in &rows_per_step {
                    match bench.measure(query, *shards, *rows_per_step, &mut batches) {
                        Ok(mut figure) => {
                            figure.times_peer = report.peers.times(&figure.label(), figure.events_per_cpu_s);
                            report.add(figure);
                        }
                        Err(error) => report.refuse(query.name(), &error),
                    }
                }
            }
        }
    }
    report.end(&reports)
}

/// Queries over one stream.
struct Bench<'a> {
    args: &'a CepArgs,
    stream: Stream,
}

impl Bench<'_> {
    fn measure(
        &self,
        query: &Query,
        shards: u64,
        rows_per_step: Option<u64>,
        batches: &mut Option<Arc<[RecordBatch]>>,
    ) -> Result<Figure> {
        let answer = self.answer(query)?;
        let batches = match batches {
            Some(batches) => Arc::clone(batches),
            None => Arc::clone(batches.insert(self.stream.batches(self.args.events)?.into())),
        };
        let (session, job) = self.plan(query, shards, rows_per_step, &batches)?;
        let mut planned = Planned::new(session, job, None);
        planned.measure_results(self.args.sink == SinkKind::Hash);
        let run = planned.run(None)?;
        let subject = Subject {
            query: query.name().to_owned(),
            source: "memory",
            sink: self.args.sink.name(),
            shards,
            rows_per_step,
            events: self.args.events,
            event_time_rate: Some(self.stream.events_per_s()),
        };
        let mut figure = Figure::of(subject, &run);
        figure.keys = Some(self.stream.keys);
        figure.patterns = Some(query.patterns());
        figure.answer = answer;
        Ok(figure)
    }

    fn plan(
        &self,
        query: &Query,
        shards: u64,
        rows_per_step: Option<u64>,
        batches: &Arc<[RecordBatch]>,
    ) -> Result<(Session, Job)> {
        let mut builder = Session::builder().set("eagre.shards", shards.to_string());
        if let Some(rows) = rows_per_step {
            builder = builder.set("eagre.step.rows_max", rows.to_string());
        }
        if let Some(device) = &self.args.device {
            builder = builder.set("eagre.device", device);
        }
        let session = builder.build()?;
        let schema = events::schema();
        let table = TableDefinition::from_schema("event", &schema)
            .with_watermark("ts", Some(&format!("ts - {WATERMARK_DELAY}")))?;
        session.register_source(table, Arc::new(MemorySource::new("event", schema, batches.to_vec())))?;
        let job = session.prepare(&query.text(&self.stream))?.job;
        let job = job.ok_or_else(|| Error::usage("the text holds no query"))?;
        Ok((session, job))
    }

    /// Whether the answer over the first events is right.
    fn answer(&self, query: &Query) -> Result<String> {
        let events = self.args.events.min(self.args.verified_events());
        if events == 0 {
            return Ok("unchecked".to_owned());
        }
        let batches: Arc<[RecordBatch]> = self.stream.batches(events)?.into();
        let (session, job) = self.plan(query, VERIFY_SHARDS, Some(VERIFY_ROWS_PER_STEP), &batches)?;
        let (streamed, rows_late) = verify::rows_of(&session, job)?;
        if rows_late > 0 {
            return Ok(format!("WRONG: {rows_late} rows came late"));
        }
        verify::verdict(&streamed, &plain::answer(query, &self.stream, &batches)?, "plain Rust")
    }
}
