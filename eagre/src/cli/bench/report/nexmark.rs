//! What a report of Nexmark shows.

use super::{Cell, Layout, RESOURCES, short, times};
use crate::cli::bench::figure::Figure;

/// See the module.
pub(in crate::cli::bench) const LAYOUT: Layout = Layout {
    title: "Nexmark",
    header: HEADER,
    line,
    meaning: "Events of all three tables count, whether or not the query reads them. `memory`: made before the clock starts; `generator`: \
              all columns of all tables are made while it runs; `generator-pushdown`: only what the query reads is made. A multiple above 1 \
              is in favour of eagre.",
    throughput: THROUGHPUT,
    resources: RESOURCES,
};

/// Names over [`line`]'s columns.
const HEADER: &str = "query      source             sink      shards rows/step       events  seconds     events/s    cpu_s events/cpu_s \
                                 cores   p50_ms   p99_ms   max_ms  rss_mib state_mib ckpts ckpt_cost late_p50 late_p99 late_p999  flink   dbsp  batch datafusion/s answer";

/// One run.
fn line(figure: &Figure) -> String {
    let optional =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    let times =
        |peer: &str| figure.times_peer.get(peer).map_or_else(|| "-".to_owned(), |times| format!("{}x", short(*times)));
    let checkpoints = figure.checkpoints.as_ref();
    let cost = checkpoints.and_then(|checkpoints| checkpoints.cost);
    let late = figure.latency.as_ref().map(|at_rate| &at_rate.latency);
    format!(
        "{:<10} {:<18} {:<9} {:>6} {:>9} {:>12} {:>8.2} {:>12.0} {:>8.2} {:>12.0} {:>5.2} {:>8.3} {:>8.3} {:>8.3} {:>8.0} {:>9.1} {:>5} {:>9} {:>8} {:>8} {:>9} {:>6} {:>6} {:>6} {:>12} {}",
        figure.query,
        figure.source,
        figure.sink,
        figure.shards,
        figure.rows_per_step(),
        figure.events,
        figure.seconds,
        figure.events_per_s,
        figure.cpu_seconds,
        figure.events_per_cpu_s,
        figure.cores,
        figure.step_ms_p50,
        figure.step_ms_p99,
        figure.step_ms_max,
        figure.rss_mib_max,
        figure.state_mib_max,
        checkpoints.map_or(0, |checkpoints| checkpoints.count),
        cost.map_or_else(|| "-".to_owned(), |cost| format!("{:+.1}%", cost * 100.0)),
        optional(late.map(|late| late.ms_p50), 2),
        optional(late.map(|late| late.ms_p99), 2),
        optional(late.map(|late| late.ms_p999), 2),
        times("Flink"),
        times("DBSP"),
        times("best batch"),
        optional(figure.datafusion_events_per_s, 0),
        figure.answer,
    )
}

const THROUGHPUT: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("sink", |figure| figure.sink.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("events", |figure| figure.events.to_string()),
    ("event time, events/s", |figure| figure.event_time_rate.map_or_else(|| "–".to_owned(), |rate| rate.to_string())),
    ("k events/s", |figure| format!("{:.0}", figure.events_per_s / 1e3)),
    ("k events/CPU-s", |figure| format!("{:.0}", figure.events_per_cpu_s / 1e3)),
    ("cores", |figure| format!("{:.2}", figure.cores)),
    ("× Flink", |figure| times(figure, "Flink")),
    ("× DBSP", |figure| times(figure, "DBSP")),
    ("× best batch", |figure| times(figure, "best batch")),
    ("answer", |figure| figure.answer.clone()),
];
