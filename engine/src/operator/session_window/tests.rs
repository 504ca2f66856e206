use std::collections::BTreeMap;

use proptest::prelude::*;

use super::SessionSpec;
use super::aggregate::SessionAggregateFactory;
use super::assign::SessionAssignFactory;
use crate::aggregate::testing::{Pipeline, Row, calls, delta_of, input_schema, naive, show};
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::group_aggregate::GroupEmit;
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind};

/// Hands its input on: what stands before the exchange here.
struct Pass;

impl OperatorFactory for Pass {
    fn name(&self) -> &'static str {
        "Pass"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Pass))
    }
}

impl Operator for Pass {
    fn name(&self) -> &'static str {
        "Pass"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        out.deltas = input.single().into_iter().filter(|delta| !delta.is_empty()).collect();
        Ok(Progress::Done)
    }

    keeps_nothing!();
}

fn spec(gap_ms: i64, emit: GroupEmit, lateness_ms: i64) -> SessionSpec {
    SessionSpec { time_column: 0, gap_ms, emit, lateness_ms, clock: crate::wall_clock::WallClock::default() }
}

/// Which operator is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Aggregate,
    Assign {
        retracting: bool,
    },
    /// As `Assign`, over rows that can be taken back; refuses late rows.
    Judge,
}

impl Way {
    fn factory(self, spec: SessionSpec) -> Box<dyn OperatorFactory> {
        match self {
            Way::Aggregate => {
                Box::new(SessionAggregateFactory::new(input_schema(), vec![1], calls(false), spec).expect("plans"))
            }
            Way::Assign { retracting } => {
                Box::new(SessionAssignFactory::new(input_schema(), vec![1], spec, retracting).expect("plans"))
            }
            Way::Judge => {
                let factory = SessionAssignFactory::new(input_schema(), vec![1], spec, true).expect("plans");
                Box::new(factory.judging(true))
            }
        }
    }

    fn is_retracting(self) -> bool {
        matches!(self, Way::Assign { retracting: true } | Way::Judge)
    }

    /// The answer, straight from the definition.
    fn oracle(self, gap_ms: i64, rows: &[Row]) -> Vec<String> {
        let mut alive: Vec<Row> = Vec::new();
        for row in rows {
            if row.weight > 0 {
                alive.push(*row);
            } else {
                let at = alive.iter().position(|other| Row { weight: -1, ..*other } == *row).expect("it was there");
                alive.remove(at);
            }
        }
        let mut by_key = BTreeMap::<Option<i64>, Vec<Row>>::new();
        alive.iter().for_each(|row| by_key.entry(row.key).or_default().push(*row));
        let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
        let mut results = Vec::new();
        for (key, mut rows) in by_key {
            rows.sort_by_key(|row| (row.ts, row.ordinal));
            for session in rows.chunk_by(|left, right| right.ts - left.ts <= gap_ms) {
                let (start, end) = (session[0].ts, session[session.len() - 1].ts + gap_ms);
                let window = format!("{start}|{end}|{}", end - 1);
                match self {
                    Way::Aggregate => results.push(format!("{}|{window}|{}", text(key), naive(session))),
                    Way::Assign { .. } | Way::Judge => results.extend(
                        session.iter().map(|row| format!("{}|{}|{}|{window}", row.ts, text(key), text(row.value))),
                    ),
                }
            }
        }
        results.sort();
        results
    }
}

/// The answer as changes build it up.
#[derive(Default)]
struct View(BTreeMap<String, i64>);

impl View {
    fn apply(&mut self, deltas: &[Delta]) {
        for (row, weight) in show(deltas) {
            assert_ne!(weight, 0);
            *self.0.entry(row).or_default() += weight;
        }
        self.0.retain(|_, count| *count != 0);
        assert!(self.0.values().all(|count| *count > 0), "taken back though never there: {:?}", self.0);
    }

    fn rows(&self) -> Vec<String> {
        self.0.iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count as usize)).collect()
    }
}

/// What happens after a step.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Save(SaveKind),
    /// The process dies after a save and comes back at another number of shards.
    Restart(SaveKind, usize),
}

fn after_step(pipeline: &mut Pipeline<'_>, event: Event) {
    match event {
        Event::Nothing => {}
        Event::Save(kind) => pipeline.save(kind),
        Event::Restart(kind, shards) => {
            pipeline.save(kind);
            pipeline.restart(shards);
        }
    }
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let kind = || prop_oneof![Just(SaveKind::Full), Just(SaveKind::Changes)];
    let event = prop_oneof![
        3 => Just(Event::Nothing),
        1 => kind().prop_map(Event::Save),
        2 => (kind(), 1_usize..4).prop_map(|(kind, shards)| Event::Restart(kind, shards)),
    ];
    proptest::collection::vec((1_usize..12, event), 1..8)
}

/// Rows whose time goes forward but for `delay`, with an occasional jump; pauses are often the gap exactly.
fn rows(delay: i64) -> impl Strategy<Value = Vec<Row>> {
    let row =
        (0..=delay, 0_i64..5, proptest::option::weighted(0.9, 0_i64..3), proptest::option::weighted(0.8, -9_i64..9));
    let jump = proptest::bool::weighted(0.05);
    (-50_i64..50, proptest::collection::vec((row, jump), 0..80)).prop_map(|(start, rows)| {
        let mut time = start;
        rows.into_iter()
            .enumerate()
            .map(|(ordinal, ((back, forward, key, value), jump))| {
                time += forward + if jump { 40 } else { 0 };
                Row { ts: time - back, key, value, weight: 1, ordinal: ordinal as u64 }
            })
            .collect()
    })
}

/// The same rows, some of which are taken back while they are still within the delay.
fn changes(delay: i64) -> impl Strategy<Value = Vec<Row>> {
    (rows(delay), proptest::collection::vec((0.0..1.0_f64, 0_usize..20), 80)).prop_map(move |(rows, choices)| {
        let mut changes: Vec<Row> = Vec::new();
        let mut alive: Vec<Row> = Vec::new();
        let mut greatest = i64::MIN;
        for (row, (choice, back)) in rows.into_iter().zip(choices) {
            greatest = greatest.max(row.ts);
            changes.push(row);
            alive.push(row);
            alive.retain(|row| row.ts >= greatest - delay);
            if choice < 0.4 {
                let index = alive.len().saturating_sub(1 + back);
                if index < alive.len() {
                    changes.push(Row { weight: -1, ..alive.remove(index) });
                }
            }
        }
        changes
    })
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Aggregate),
        Just(Way::Assign { retracting: false }),
        Just(Way::Assign { retracting: true }),
        Just(Way::Judge)
    ]
}

/// A run: rows in steps, the watermark `delay` behind. Each step's view is shown to `check` with the number of rows so far.
fn run(
    way: Way,
    spec: SessionSpec,
    rows: &[Row],
    delay: i64,
    steps: &[(usize, Event)],
    mut check: impl FnMut(&View, usize),
) -> (Vec<String>, usize) {
    let factory = way.factory(spec);
    let mut pipeline = Pipeline::new(&Pass, &*factory, vec![1], 2);
    let mut view = View::default();
    let (mut done, mut greatest) = (0, i64::MIN);
    for (count, event) in steps.iter().cycle() {
        if done == rows.len() {
            break;
        }
        let end = (done + count).min(rows.len());
        greatest = rows[done..end].iter().fold(greatest, |greatest, row| greatest.max(row.ts));
        let watermark = if delay == i64::MAX { i64::MIN } else { greatest.saturating_sub(delay) };
        view.apply(&pipeline.step(&[delta_of(&rows[done..end], way.is_retracting())], watermark));
        done = end;
        check(&view, done);
        after_step(&mut pipeline, *event);
    }
    view.apply(&pipeline.step(&[], i64::MAX));
    assert_eq!(pipeline.state_rows(), 0, "the end of the input frees everything");
    let late = pipeline.late.iter().map(|late| late.rows.num_rows()).sum();
    (view.rows(), late)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Sessions that close: cuts, shards, disorder within the delay and restarts do not show.
    #[test]
    fn sessions_close_with_the_answer(way in ways(), gap in 1_i64..8, rows in rows(9), steps in events()) {
        let (found, late) = run(way, spec(gap, GroupEmit::OnWindowClose, 0), &rows, 9, &steps, |_, _| {});
        prop_assert_eq!(found, way.oracle(gap, &rows));
        prop_assert_eq!(late, 0);
    }

    /// A retraction before a session is final cancels, and may split it.
    #[test]
    fn retractions_before_the_close_leave_nothing(
        gap in 1_i64..8, rows in changes(9), steps in events(), judging in any::<bool>(),
    ) {
        let way = if judging { Way::Judge } else { Way::Assign { retracting: true } };
        let (found, late) = run(way, spec(gap, GroupEmit::OnWindowClose, 0), &rows, 9, &steps, |_, _| {});
        prop_assert_eq!(found, way.oracle(gap, &rows));
        prop_assert_eq!(late, 0);
    }

    /// Results that are shown each step are, after each step, those of all rows so far.
    #[test]
    fn early_results_are_recomputed(
        way in ways(), gap in 1_i64..8, rows in changes(9), steps in events(), closes in any::<bool>(),
    ) {
        let rows: Vec<Row> = rows.into_iter().filter(|row| way.is_retracting() || row.weight > 0).collect();
        let delay = if closes { 9 } else { i64::MAX };
        let lateness = if closes { 0 } else { i64::MAX / 4 };
        let check = |view: &View, done: usize| assert_eq!(view.rows(), way.oracle(gap, &rows[..done]));
        let (found, late) = run(way, spec(gap, GroupEmit::EveryStep, lateness), &rows, delay, &steps, check);
        prop_assert_eq!(found, way.oracle(gap, &rows));
        prop_assert_eq!(late, 0);
    }

    /// Within the allowed lateness closed sessions are corrected: extended, merged, opened again, split.
    #[test]
    fn lateness_corrects_what_was_closed(
        way in ways(), gap in 1_i64..8, rows in changes(9), steps in events(), early in any::<bool>(),
    ) {
        let rows: Vec<Row> = rows.into_iter().filter(|row| way.is_retracting() || row.weight > 0).collect();
        let emit = if early { GroupEmit::EveryStep } else { GroupEmit::OnWindowClose };
        let (found, late) = run(way, spec(gap, emit, 12), &rows, 0, &steps, |_, _| {});
        prop_assert_eq!(found, way.oracle(gap, &rows));
        prop_assert_eq!(late, 0);
    }

    /// With too little delay every row counts in some session or is told late.
    #[test]
    fn every_row_counts_or_is_told(gap in 1_i64..6, rows in rows(20), steps in events(), lateness in 0_i64..6) {
        let spec = spec(gap, GroupEmit::OnWindowClose, lateness);
        let (found, late) = run(Way::Aggregate, spec.clone(), &rows, 2, &steps, |_, _| {});
        let counted: i64 = found.iter().map(|row| row.split('|').nth(4).expect("a count").parse::<i64>().expect("a number")).sum();
        prop_assert_eq!(counted as usize + late, rows.len());
        // A window function alone drops nothing.
        let (found, late) = run(Way::Assign { retracting: false }, spec.clone(), &rows, 2, &steps, |_, _| {});
        prop_assert_eq!((found.len(), late), (rows.len(), 0));
    }

    /// Who aggregates and who assigns and judges call the same rows late, and make the same sessions of the others.
    #[test]
    fn rows_are_judged_as_they_are_aggregated(
        gap in 1_i64..6, rows in rows(20), steps in events(), lateness in 0_i64..6, early in any::<bool>(),
    ) {
        let spec = spec(gap, if early { GroupEmit::EveryStep } else { GroupEmit::OnWindowClose }, lateness);
        let (aggregated, late) = run(Way::Aggregate, spec.clone(), &rows, 2, &steps, |_, _| {});
        let (assigned, refused) = run(Way::Judge, spec, &rows, 2, &steps, |_, _| {});
        prop_assert_eq!(refused, late);
        let counts = |rows: &[String], key: usize, start: usize, count: Option<usize>| {
            let mut sessions = BTreeMap::<Vec<String>, i64>::new();
            for row in rows {
                let fields: Vec<&str> = row.split('|').collect();
                let session = [fields[key], fields[start], fields[start + 1]].map(str::to_owned).to_vec();
                *sessions.entry(session).or_default() += count.map_or(1, |count| fields[count].parse().expect("a number"));
            }
            sessions
        };
        prop_assert_eq!(counts(&assigned, 1, 3, None), counts(&aggregated, 0, 1, Some(4)));
    }
}

fn row(ts: i64, key: i64, value: i64) -> Row {
    Row { ts, key: Some(key), value: Some(value), weight: 1, ordinal: value as u64 }
}

/// A row that comes when the watermark stands at the end of a session still joins it: a gap hit exactly merges.
#[test]
fn a_session_is_open_at_its_end() {
    let factory = Way::Assign { retracting: false }.factory(spec(10, GroupEmit::OnWindowClose, 0));
    let mut pipeline = Pipeline::new(&Pass, &*factory, vec![1], 1);
    assert!(show(&pipeline.step(&[delta_of(&[row(0, 1, 1)], false)], 10)).is_empty());
    assert!(show(&pipeline.step(&[delta_of(&[row(10, 1, 2)], false)], 20)).is_empty());
    let closed = show(&pipeline.step(&[], 21));
    assert_eq!(closed, [("0|1|1|0|20|19".to_owned(), 1), ("10|1|2|0|20|19".to_owned(), 1)]);
}

/// A late row joins an open session that it reaches, also one that rows of its own step make; else it is told.
#[test]
fn late_rows_join_what_is_open() {
    let factory = Way::Aggregate.factory(spec(10, GroupEmit::OnWindowClose, 0));
    let mut pipeline = Pipeline::new(&Pass, &*factory, vec![1], 1);
    pipeline.step(&[], 30);
    // 15 is late alone but 22 is not, and 15 and 8 hang on it; 8 of another key hangs on nothing.
    pipeline.step(&[delta_of(&[row(8, 1, 1), row(8, 2, 2), row(15, 1, 3), row(22, 1, 4)], false)], 30);
    assert_eq!(pipeline.late.len(), 1);
    assert_eq!(pipeline.late[0].event_times, [8]);
    assert_eq!(pipeline.late[0].windows_missed, [1]);
    let closed = show(&pipeline.step(&[], i64::MAX));
    assert_eq!(closed.len(), 1);
    assert!(closed[0].0.starts_with("1|8|32|31|3|"), "{closed:?}");
    assert_eq!(pipeline.state_rows(), 0);
}

/// What a retraction leaves of an open session may end before the watermark: it is shown, and none of its rows is late. A row that finds no
/// open session is.
#[test]
fn what_is_left_of_a_split_session_is_not_late() {
    let factory = Way::Judge.factory(spec(3, GroupEmit::OnWindowClose, 0));
    let mut pipeline = Pipeline::new(&Pass, &*factory, vec![1], 1);
    for time in [1, 4, 7] {
        assert!(show(&pipeline.step(&[delta_of(&[row(time, 1, time)], true)], time)).is_empty());
    }
    let taken_back = Row { weight: -1, ..row(4, 1, 4) };
    let split = show(&pipeline.step(&[delta_of(&[taken_back, row(1, 2, 8)], true)], 7));
    assert_eq!(split, [("1|1|1|1|4|3".to_owned(), 1)]);
    let late: Vec<i64> = pipeline.late.iter().flat_map(|late| late.event_times.clone()).collect();
    assert_eq!(late, [1]);
    assert_eq!(show(&pipeline.step(&[], i64::MAX)), [("7|1|7|7|10|9".to_owned(), 1)]);
    assert_eq!(pipeline.state_rows(), 0);
}

/// A retraction for a session that is final is told, and so is one of a row that was never there.
#[test]
fn retractions_after_the_close_are_told() {
    let factory = Way::Assign { retracting: true }.factory(spec(10, GroupEmit::OnWindowClose, 0));
    let mut pipeline = Pipeline::new(&Pass, &*factory, vec![1], 1);
    pipeline.step(&[delta_of(&[row(0, 1, 1), row(100, 2, 2)], true)], 50);
    let taken_back = Row { weight: -1, ..row(0, 1, 1) };
    assert!(show(&pipeline.step(&[delta_of(&[taken_back, Row { weight: -1, ..row(90, 3, 3) }], true)], 60)).is_empty());
    assert_eq!(pipeline.late.len(), 1);
    pipeline.step(&[], i64::MAX);
    assert_eq!(pipeline.late.len(), 2);
    assert_eq!(pipeline.state_rows(), 0);
}
