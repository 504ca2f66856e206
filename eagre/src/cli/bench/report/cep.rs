//! What a report of patterns shows.

use super::{Cell, Layout, short, times};
use crate::cli::bench::figure::{Figure, short_count};

/// See the module.
pub(in crate::cli::bench) const LAYOUT: Layout = Layout {
    title: "Patterns",
    header: HEADER,
    line,
    meaning: "Rows come from memory, are put in order of event time behind the watermark and matched. A multiple above 1 is in favour of eagre.",
    throughput: THROUGHPUT,
    resources: RESOURCES,
};

const HEADER: &str = "query         keys patterns shards sink           events  seconds     events/s    cpu_s events/cpu_s cores      matches  rss_mib state_mib  flink answer";

fn line(figure: &Figure) -> String {
    format!(
        "{:<11} {:>6} {:>8} {:>6} {:<9} {:>11} {:>8.2} {:>12.0} {:>8.2} {:>12.0} {:>5.2} {:>12} {:>8.0} {:>9.1} {:>6} {}",
        figure.query,
        keys(figure),
        patterns(figure),
        figure.shards,
        figure.sink,
        figure.events,
        figure.seconds,
        figure.events_per_s,
        figure.cpu_seconds,
        figure.events_per_cpu_s,
        figure.cores,
        figure.rows_out,
        figure.rss_mib_max,
        figure.state_mib_max,
        figure.times_peer.get("Flink").map_or_else(|| "-".to_owned(), |times| format!("{}x", short(*times))),
        figure.answer,
    )
}

fn keys(figure: &Figure) -> String {
    figure.keys.map_or_else(String::new, short_count)
}

fn patterns(figure: &Figure) -> String {
    figure.patterns.map_or_else(String::new, |patterns| patterns.to_string())
}

const THROUGHPUT: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("keys", keys),
    ("patterns", patterns),
    ("shards", |figure| figure.shards.to_string()),
    ("sink", |figure| figure.sink.clone()),
    ("events", |figure| figure.events.to_string()),
    ("event time, events/s", |figure| figure.event_time_rate.map_or_else(|| "–".to_owned(), |rate| rate.to_string())),
    ("k events/s", |figure| format!("{:.0}", figure.events_per_s / 1e3)),
    ("k events/CPU-s", |figure| format!("{:.0}", figure.events_per_cpu_s / 1e3)),
    ("cores", |figure| format!("{:.2}", figure.cores)),
    ("matches", |figure| figure.rows_out.to_string()),
    ("× Flink", |figure| times(figure, "Flink")),
    ("answer", |figure| figure.answer.clone()),
];

const RESOURCES: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("keys", keys),
    ("patterns", patterns),
    ("shards", |figure| figure.shards.to_string()),
    ("rows/step", Figure::rows_per_step),
    ("step p50 ms", |figure| format!("{:.3}", figure.step_ms_p50)),
    ("p99 ms", |figure| format!("{:.3}", figure.step_ms_p99)),
    ("max ms", |figure| format!("{:.3}", figure.step_ms_max)),
    ("memory before MiB", |figure| format!("{:.0}", figure.rss_mib_start)),
    ("peak MiB", |figure| format!("{:.0}", figure.rss_mib_max)),
    ("state MiB", |figure| format!("{:.1}", figure.state_mib_max)),
    ("state rows", |figure| figure.state_rows_max.to_string()),
];
