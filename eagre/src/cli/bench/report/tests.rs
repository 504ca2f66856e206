use std::collections::BTreeMap;

use super::super::figure::{AtRate, Checkpoints};
use super::super::latency::Latency;
use super::*;

fn figure(query: &str, answer: &str) -> Figure {
    let latency = Latency {
        events: 10,
        ms_p50: 0.5,
        ms_p99: 2.0,
        ms_p999: 3.0,
        ms_max: 4.0,
        curve: vec![(0.0, 0.1), (0.5, 0.5), (0.99, 2.0), (1.0, 4.0)],
    };
    Figure {
        query: query.to_owned(),
        keys: None,
        patterns: None,
        source: "memory".to_owned(),
        sink: "hash".to_owned(),
        shards: 1,
        rows_per_step: Some(65_536),
        events: 1_000_000,
        event_time_rate: Some(100_000),
        rows: 920_000,
        rows_out: 5,
        seconds: 0.5,
        events_per_s: 2e6,
        cpu_seconds: 0.25,
        events_per_cpu_s: 4e6,
        cores: 0.5,
        steps: 10,
        step_ms_p50: 1.0,
        step_ms_p99: 2.0,
        step_ms_max: 3.0,
        rss_mib_start: 10.0,
        rss_mib_max: 20.0,
        state_mib_max: 1.5,
        state_rows_max: 7,
        rows_late: 0,
        checkpoints: Some(Checkpoints {
            count: 3,
            mib: 1.0,
            mib_per_s: 2.0,
            save_ms: 1.0,
            save_ms_max: 0.5,
            cost: Some(0.031),
        }),
        datafusion_events_per_s: None,
        times_peer: BTreeMap::from([("Flink".to_owned(), 20.94), ("DBSP".to_owned(), 2.985)]),
        answer: answer.to_owned(),
        latency: Some(AtRate { events_per_s: 200_000, checkpoints: 2, step_ms_max: 1.0, cores: 0.3, latency }),
    }
}

fn report() -> Report {
    Report {
        layout: &nexmark::LAYOUT,
        version: "1".to_owned(),
        machine: "2 cores".to_owned(),
        command: "eagre bench nexmark --queries q4,<q6>".to_owned(),
        seed: 42,
        figures: vec![figure("q4", "ok"), figure("q5", "WRONG against DataFusion: 1 | 2")],
        refused: vec![Refused { query: "q6".to_owned(), reason: "`OVER` & more".to_owned() }],
        peers: Peers::stored(super::super::peers::NEXMARK).expect("the file is well-formed"),
    }
}

/// A page that asks for something from elsewhere shows nothing offline, and one with open tags shows it wrong.
#[test]
fn html_stands_alone() {
    let page = html::text(&report());
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("), "asks for something");
    assert!(!page.contains("<script"), "runs something");
    for tag in ["svg", "table", "tr", "td", "th", "p", "ul", "li", "h2", "polyline", "circle>", "title"] {
        let name = tag.trim_end_matches('>');
        let opened = page.matches(&format!("<{name}>")).count() + page.matches(&format!("<{name} ")).count();
        let closed = page.matches(&format!("</{name}>")).count()
            + if name == "circle" { page.matches("/><text").count() } else { 0 };
        assert!(closed >= 1 && opened >= closed.min(opened), "{tag}: {opened} opened, {closed} closed");
        if name != "circle" {
            assert_eq!(opened, closed, "<{name}>");
        }
    }
    assert!(page.contains("q4,&lt;q6&gt;") && page.contains("`OVER` &amp; more"), "text is no markup");
    assert!(page.contains("class=\"wrong\""));
    // Four dots in q4's row: this run's, Flink's, DBSP's, the best batch engine's.
    assert_eq!(page.matches("<title>q4 ").count(), 4);
}

#[test]
fn markdown_has_every_table() {
    let text = markdown::text(&report());
    for line in [
        "| q4 | memory | hash | 1 | 1000000 | 100000 | 2000 | 4000 | 0.50 | 20.9 | 2.98 | – | ok |",
        "| q4 | memory | 1 | 3 | 1.0 | 2.0 | 1.0 | 0.50 | +3.1 % |",
        "| q4 | memory | 1 | 200000 | 10 | 0.50 | 2.00 | 3.00 | 4.00 | 1.00 | 0.30 | 2 |",
        "- q6: `OVER` & more",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
    }
    assert!(text.contains("WRONG against DataFusion: 1 \\| 2"), "a bar would be a column");
}

/// The line under a name says what the name does.
#[test]
fn lines_fit_their_header() {
    for layout in [&nexmark::LAYOUT, &cep::LAYOUT] {
        let figure = Figure { keys: Some(1_000), patterns: Some(1), ..figure("q4", "ok") };
        let line = (layout.line)(&figure);
        assert_eq!(layout.header.split_whitespace().count(), line.split_whitespace().count(), "{}", layout.title);
    }
    assert!((nexmark::LAYOUT.line)(&figure("q4", "ok")).contains(" +3.1% "));
}

#[test]
fn the_form_is_in_the_name() {
    assert_eq!(Form::of(Path::new("a/b.html")).ok(), Some(Form::Html));
    let error = Form::of(Path::new("out.txt")).expect_err("no form");
    assert!(error.to_string().contains("`out.txt` ends in none of .json, .md and .html"));
}

/// Figures of one query with few and with many keys would be one row of the plot, and Flink's beside it those of others.
#[test]
fn figures_of_patterns_are_told_apart_by_their_keys() {
    let few = Figure { keys: Some(1_000), ..figure("fraud", "ok") };
    let many = Figure { keys: Some(100_000), ..few.clone() };
    let book = Figure { patterns: Some(32), ..few.clone() };
    assert_eq!([few.label(), many.label(), book.label()], ["fraud/1k", "fraud/100k", "fraud:32/1k"]);
    let peers = Peers::stored(super::super::cep::PEERS).expect("the file is well-formed");
    let report = Report { layout: &cep::LAYOUT, peers, figures: vec![few, many], ..report() };
    let page = html::text(&report);
    assert_eq!(page.matches("<title>fraud/1k ").count(), 2, "this run's dot and Flink's");
    assert!(page.contains("<title>Patterns on eagre</title>"));
    assert!(markdown::text(&report).contains("| fraud | 100k |  | 1 | hash |"));
}
