use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::WindowAggregateFactory;
use crate::aggregate::testing::{Pipeline, Row, calls, delta_of, input_schema, naive, show, time_type};
use crate::operator::SaveKind;
use crate::operator::partial_aggregate::{PaneEmit, PartialAggregateFactory, PartialWindows};
use crate::operator::window::{WindowKind, WindowSpec};

fn factories(spec: WindowSpec) -> (PartialAggregateFactory, WindowAggregateFactory) {
    let windows = PartialWindows::Panes { spec, time_column: 0, emit: PaneEmit::OnClose, lateness_ms: 0 };
    let local = PartialAggregateFactory::new(input_schema(), vec![1], calls(false), windows).expect("plans");
    let global =
        WindowAggregateFactory::new(spec, time_type(), local.output_schema(), 1, calls(false), None).expect("plans");
    (local, global)
}

/// What happens between steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Save(SaveKind),
    /// The process dies after a save and comes back at another number of shards.
    Restart(SaveKind, usize),
}

/// Runs rows in steps of the given sizes; the watermark stays `delay` behind. Returns the results, sorted.
fn run(spec: WindowSpec, rows: &[Row], delay: i64, steps: &[usize], shards: usize, events: &[Event]) -> Vec<String> {
    let (local, global) = factories(spec);
    let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
    let (mut results, mut rest, mut greatest) = (Vec::new(), rows, i64::MIN);
    let mut step = 0;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(steps[step % steps.len()].clamp(1, rest.len()));
        rest = later;
        greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
        results.extend(show(&pipeline.step(&[delta_of(now, false)], greatest.saturating_sub(delay))));
        match events.get(step).copied().unwrap_or(Event::Nothing) {
            Event::Nothing => {}
            Event::Save(kind) => pipeline.save(kind),
            Event::Restart(kind, shards) => {
                pipeline.save(kind);
                pipeline.restart(shards);
            }
        }
        step += 1;
    }
    results.extend(show(&pipeline.step(&[], i64::MAX)));
    assert_eq!(pipeline.state_rows(), 0, "the end of the input frees everything");
    assert!(pipeline.late.is_empty(), "nothing was late");
    assert!(results.iter().all(|(_, weight)| *weight == 1));
    let mut results: Vec<String> = results.into_iter().map(|(row, _)| row).collect();
    results.sort();
    results
}

/// Windows straight from their definition, without panes.
fn windows_by_definition(spec: WindowSpec, ts: i64) -> Vec<(i64, i64)> {
    let WindowSpec { kind, offset_ms } = spec;
    let floor = |time: i64, step: i64| (time - offset_ms).div_euclid(step) * step + offset_ms;
    match kind {
        WindowKind::Tumble { size_ms } => vec![(floor(ts, size_ms), floor(ts, size_ms) + size_ms)],
        WindowKind::Hop { slide_ms, size_ms } => {
            let mut start = floor(ts, slide_ms);
            let mut windows = Vec::new();
            while start + size_ms > ts {
                windows.push((start, start + size_ms));
                start -= slide_ms;
            }
            windows.reverse();
            windows
        }
        WindowKind::Cumulate { step_ms, size_ms } => {
            let start = floor(ts, size_ms);
            (1..=size_ms / step_ms).map(|n| (start, start + n * step_ms)).filter(|(_, end)| *end > ts).collect()
        }
    }
}

fn oracle(spec: WindowSpec, rows: &[Row]) -> Vec<String> {
    let mut groups = BTreeMap::<(i64, i64, Option<i64>), Vec<Row>>::new();
    for row in rows {
        for (start, end) in windows_by_definition(spec, row.ts) {
            groups.entry((start, end, row.key)).or_default().push(*row);
        }
    }
    let text = |((start, end, key), rows): (&(i64, i64, Option<i64>), &Vec<Row>)| {
        let key = key.map_or(String::new(), |key| key.to_string());
        format!("{key}|{start}|{end}|{}|{}", end - 1, naive(rows))
    };
    let mut results: Vec<String> = groups.iter().map(text).collect();
    results.sort();
    results
}

fn specs() -> impl Strategy<Value = WindowSpec> {
    let kind = prop_oneof![
        (1_i64..40).prop_map(|size_ms| WindowKind::Tumble { size_ms }),
        (1_i64..20, 1_i64..60).prop_map(|(slide_ms, size_ms)| WindowKind::Hop { slide_ms, size_ms }),
        (1_i64..3, 30_i64..90).prop_map(|(slide_ms, size_ms)| WindowKind::Hop { slide_ms, size_ms }),
        (1_i64..15, 1_i64..30).prop_map(|(step_ms, n)| WindowKind::Cumulate { step_ms, size_ms: step_ms * n }),
    ];
    (kind, -50_i64..50).prop_map(|(kind, offset_ms)| WindowSpec::new(kind, offset_ms).expect("valid"))
}

/// Rows whose time goes forward but for `delay`, with an occasional jump.
fn rows(delay: i64) -> impl Strategy<Value = Vec<Row>> {
    let row =
        (0..=delay, 0_i64..6, proptest::option::weighted(0.9, 0_i64..5), proptest::option::weighted(0.8, -9_i64..9));
    let jump = proptest::bool::weighted(0.02);
    (-100_i64..100, proptest::collection::vec((row, jump), 0..70)).prop_map(|(start, rows)| {
        let mut time = start;
        rows.into_iter()
            .enumerate()
            .map(|(ordinal, ((back, forward, key, value), jump))| {
                time += forward + if jump { 1_000 } else { 0 };
                Row { ts: time - back, key, value, weight: 1, ordinal: ordinal as u64 }
            })
            .collect()
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = || prop_oneof![Just(SaveKind::Full), Just(SaveKind::Changes)];
    proptest::collection::vec(
        prop_oneof![
            Just(Event::Nothing),
            kind().prop_map(Event::Save),
            (kind(), 1_usize..5).prop_map(|(kind, shards)| Event::Restart(kind, shards)),
        ],
        0..40,
    )
}

/// `(delay, rows)`.
fn stream() -> impl Strategy<Value = (i64, Vec<Row>)> {
    (0_i64..30).prop_flat_map(|delay| (Just(delay), rows(delay)))
}

/// How many rows each step takes, over and over.
fn steps() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..30, 1..8)
}

fn key_of(row: &str) -> &str {
    &row[..row.match_indices('|').nth(3).expect("keys and window").0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The streamed answer is the answer over all rows at once, whatever the windows.
    #[test]
    fn incremental_is_recomputed(spec in specs(), (delay, rows) in stream(), steps in steps()) {
        let found = run(spec, &rows, delay, &steps, 1, &[]);
        let fired: BTreeSet<&str> = found.iter().map(|row| key_of(row)).collect();
        prop_assert_eq!(fired.len(), found.len(), "a window fires once");
        prop_assert_eq!(found, oracle(spec, &rows));
    }

    /// How rows are cut into steps, how many shards there are, and where they die and come back never shows.
    #[test]
    fn shards_steps_and_crashes_do_not_show(
        spec in specs(),
        (delay, rows) in stream(),
        steps in steps(),
        shards in 1_usize..5,
        events in events(),
    ) {
        prop_assert_eq!(run(spec, &rows, delay, &steps, shards, &events), run(spec, &rows, delay, &[1_000], 1, &[]));
    }

    /// Disorder within the delay never shows (first and last follow arrival, so rows keep their arrival numbers).
    #[test]
    fn disorder_within_the_delay_does_not_show(spec in specs(), (delay, rows) in stream(), steps in steps()) {
        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| row.ts);
        prop_assert_eq!(run(spec, &rows, delay, &steps, 1, &[]), run(spec, &sorted, 0, &[7], 2, &[]));
    }

    /// Keys that come into use and fall out of it, many more than are there at once.
    #[test]
    fn keys_move_on(
        spec in specs(),
        (delay, rows) in stream(),
        pace in 1_i64..30,
        steps in steps(),
        shards in 1_usize..4,
        events in events(),
    ) {
        let key = |row: &Row| row.key.map(|key| row.ts.div_euclid(pace) + key);
        let rows: Vec<Row> = rows.iter().map(|row| Row { key: key(row), ..*row }).collect();
        prop_assert_eq!(run(spec, &rows, delay, &steps, shards, &events), oracle(spec, &rows));
    }

    /// Panes are a partition of time, and their windows are those of the definition.
    #[test]
    fn panes_agree_with_the_definition(spec in specs(), ts in -1_000_i64..1_000) {
        let pane = spec.pane_of(ts);
        prop_assert!(spec.pane_start(pane) <= ts && ts < spec.pane_end(pane));
        let expected = windows_by_definition(spec, ts);
        prop_assert_eq!(spec.windows_of(ts).collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(spec.last_window_end(pane), expected.last().map(|(_, end)| *end));
        for (start, end) in &expected {
            let (first, last) = spec.panes_of_window(*start, *end);
            prop_assert!(first <= pane && pane <= last);
            prop_assert_eq!((spec.pane_start(first), spec.pane_end(last)), (*start, *end));
        }
        for bound in -200_i64..200 {
            let open: Vec<_> = spec.windows_of_pane(pane).ending_after(ts + bound).collect();
            prop_assert_eq!(open, expected.iter().copied().filter(|(_, end)| *end > ts + bound).collect::<Vec<_>>());
        }
    }
}

/// A window that is read over and over remembers the keys of those that are open, not all that there ever were.
#[test]
fn keys_of_the_past_are_forgotten() {
    let spec = WindowSpec::new(WindowKind::Hop { slide_ms: 10, size_ms: 50 }, 0).expect("valid");
    let (local, global) = factories(spec);
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 2);
    let mut bytes = Vec::new();
    for pane in 0..200_i64 {
        let row =
            |n: i64| Row { ts: pane * 10, key: Some(pane * 100 + n), value: Some(n), weight: 1, ordinal: n as u64 };
        let rows: Vec<Row> = (0..100).map(row).collect();
        let shown = show(&pipeline.step(&[delta_of(&rows, false)], pane * 10));
        assert_eq!(shown.len(), 100 * pane.min(5) as usize);
        bytes.push(pipeline.state_bytes());
    }
    let most = bytes[20..40].iter().max().expect("there are some");
    // Capacities differ; the keys of all panes would be several times as much.
    assert!(bytes[40..].iter().all(|now| *now <= most * 5 / 4), "{bytes:?}");
}

fn row(ts: i64, value: i64, ordinal: u64) -> Row {
    Row { ts, key: Some(1), value: Some(value), weight: 1, ordinal }
}

/// A row that comes after some of its windows closed counts in the others, and is reported.
#[test]
fn late_rows_are_reported_and_count_where_they_can() {
    let spec = WindowSpec::new(WindowKind::Hop { slide_ms: 10, size_ms: 30 }, 0).expect("valid");
    let (local, global) = factories(spec);
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let mut ends = Vec::new();
    let mut step = |rows: &[Row], watermark: i64, pipeline: &mut Pipeline<'_>| {
        for (row, _) in show(&pipeline.step(&[delta_of(rows, false)], watermark)) {
            let fields: Vec<&str> = row.split('|').collect();
            ends.push((fields[2].to_owned(), fields[4].to_owned()));
        }
    };
    step(&[row(25, 1, 0)], 31, &mut pipeline);
    // The window that ended at 30 is closed; those until 40 and 50 are open.
    step(&[row(25, 2, 1), row(0, 3, 2)], 45, &mut pipeline);
    step(&[], i64::MAX, &mut pipeline);
    let text =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(ends, text(&[("30", "1"), ("40", "2"), ("50", "2")]));
    let late: Vec<(i64, u32)> = pipeline
        .late
        .iter()
        .flat_map(|late| late.event_times.iter().copied().zip(late.windows_missed.iter().copied()))
        .collect();
    assert_eq!(late, [(0, 3), (25, 1)]);
}

/// The watermark of an ended input is far away: only windows that hold data may cost anything.
#[test]
fn empty_time_is_skipped() {
    let spec = WindowSpec::new(WindowKind::Hop { slide_ms: 1, size_ms: 5 }, 0).expect("valid");
    let (local, global) = factories(spec);
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let rows = [row(0, 1, 0), row(4_000_000_000_000, 1, 1)];
    assert_eq!(pipeline.step(&[delta_of(&rows, false)], i64::MAX).iter().map(|delta| delta.rows()).sum::<usize>(), 10);
}
