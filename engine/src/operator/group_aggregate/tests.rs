use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{GroupAggregateFactory, GroupEmit, GroupWindow};
use crate::aggregate::testing::{Pipeline, Row, calls, delta_of, input_schema, naive, show};
use crate::delta::Delta;
use crate::operator::SaveKind;
use crate::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};

fn factories(keys: &[usize], retracting: bool) -> (PartialAggregateFactory, GroupAggregateFactory) {
    let local = PartialAggregateFactory::new(input_schema(), keys.to_vec(), calls(retracting), PartialWindows::None)
        .expect("plans");
    let global =
        GroupAggregateFactory::new(local.output_schema(), keys.len(), calls(retracting), Some(0), None).expect("plans");
    (local, global)
}

/// The answer as changes build it up.
#[derive(Default)]
struct View(BTreeMap<String, i64>);

impl View {
    fn apply(&mut self, deltas: &[Delta]) {
        let mut changes = BTreeMap::<String, (i64, i64)>::new();
        for (row, weight) in show(deltas) {
            let change = changes.entry(row.clone()).or_default();
            change.0 += weight;
            change.1 += 1;
            let count = self.0.entry(row).or_default();
            *count += weight;
        }
        assert!(changes.values().all(|(net, count)| *net != 0 && *count == 1), "changes are consolidated: {changes:?}");
        self.0.retain(|_, count| *count != 0);
        assert!(self.0.values().all(|count| *count == 1), "a key has one row: {:?}", self.0);
    }

    fn rows(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn oracle(rows: &[Row]) -> Vec<String> {
    let mut groups = BTreeMap::<Option<i64>, Vec<Row>>::new();
    rows.iter().for_each(|row| groups.entry(row.key).or_default().push(*row));
    let text = |(key, rows): (Option<i64>, Vec<Row>)| {
        let alive = rows.iter().map(|row| row.weight).sum::<i64>() > 0;
        alive.then(|| format!("{}|{}", key.map_or(String::new(), |key| key.to_string()), naive(&rows)))
    };
    let mut rows: Vec<String> = groups.into_iter().filter_map(text).collect();
    rows.sort();
    rows
}

/// Rows, some of which take back an earlier one.
fn changes() -> impl Strategy<Value = Vec<Row>> {
    let change = (proptest::option::weighted(0.9, 0_i64..5), proptest::option::weighted(0.8, -9_i64..9), 0.0..1.0_f64);
    proptest::collection::vec(change, 0..100).prop_map(|changes| {
        let (mut rows, mut alive): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
        for (ordinal, (key, value, choice)) in changes.into_iter().enumerate() {
            if choice < 0.4 && !alive.is_empty() {
                let index = (choice / 0.4 * alive.len() as f64) as usize;
                rows.push(Row { weight: -1, ..alive.swap_remove(index) });
            } else {
                rows.push(Row { ts: 0, key, value, weight: 1, ordinal: ordinal as u64 });
                alive.extend(rows.last());
            }
        }
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// After every step the changes add up to the answer over all rows so far, through saves and restarts at other shard counts.
    #[test]
    fn incremental_is_recomputed(
        rows in changes(),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4), 1..8),
    ) {
        let (local, global) = factories(&[1], true);
        let mut pipeline = Pipeline::new(&local, &global, vec![0], 2);
        let mut view = View::default();
        let mut done = 0;
        for (rows_now, event, shards) in steps.iter().cycle() {
            let end = (done + rows_now).min(rows.len());
            view.apply(&pipeline.step(&[delta_of(&rows[done..end], true)], 0));
            done = end;
            prop_assert_eq!(view.rows(), oracle(&rows[..done]));
            match event {
                1 => pipeline.save(SaveKind::Changes),
                2 => {
                    pipeline.save(SaveKind::Changes);
                    pipeline.restart(*shards);
                }
                3 => {
                    pipeline.save(SaveKind::Full);
                    pipeline.restart(*shards);
                }
                _ => {}
            }
            if done == rows.len() {
                break;
            }
        }
        // Insert then retract leaves nothing.
        let back: Vec<Row> = rows.iter().map(|row| Row { weight: -row.weight, ..*row }).collect();
        view.apply(&pipeline.step(&[delta_of(&back, true)], 0));
        prop_assert!(view.0.is_empty());
        prop_assert_eq!(pipeline.state_rows(), 0);
    }

    /// Over rows that are only inserted, the cheaper accumulators give the same answer.
    #[test]
    fn insert_only_agrees(rows in changes(), cut in 1_usize..50) {
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.weight > 0).collect();
        let (local, global) = factories(&[1], false);
        let mut pipeline = Pipeline::new(&local, &global, vec![0], 1);
        let mut view = View::default();
        rows.chunks(cut).for_each(|rows| view.apply(&pipeline.step(&[delta_of(rows, false)], 0)));
        prop_assert_eq!(view.rows(), oracle(&rows));
    }

    /// Groups with a window among the keys: shown when it closes, corrected within the lateness, then freed.
    #[test]
    fn windows_among_the_keys(
        times in proptest::collection::vec((0_i64..8, 0_i64..25, 0_i64..4), 0..80),
        cut in 1_usize..20,
        lateness_ms in 0_i64..30,
        every_step in any::<bool>(),
        restart in proptest::option::of(1_usize..4),
    ) {
        // The `ts` column is the window's end: a multiple of 10.
        let mut now = 0;
        let rows: Vec<Row> = times
            .iter()
            .enumerate()
            .map(|(ordinal, (forward, back, key))| {
                now += forward;
                let end = (now - back).div_euclid(10) * 10 + 10;
                Row { ts: end, key: Some(*key), value: Some(ordinal as i64), weight: 1, ordinal: ordinal as u64 }
            })
            .collect();
        let emit = if every_step { GroupEmit::EveryStep } else { GroupEmit::OnWindowClose };
        let windows = PartialWindows::Attached { end_key: 0, lateness_ms };
        let local = PartialAggregateFactory::new(input_schema(), vec![0, 1], calls(false), windows).expect("plans");
        let window = Some(GroupWindow { end_key: 0, emit, lateness_ms });
        let global = GroupAggregateFactory::new(local.output_schema(), 2, calls(false), Some(0), window).expect("plans");
        let mut pipeline = Pipeline::new(&local, &global, vec![0, 1], 2);
        let mut view = View::default();
        let (mut counted, mut watermark, mut greatest) = (Vec::<Row>::new(), i64::MIN, 0);
        for rows in rows.chunks(cut) {
            counted.extend(rows.iter().filter(|row| row.ts > watermark.saturating_sub(lateness_ms)));
            greatest = rows.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            watermark = greatest - 10;
            view.apply(&pipeline.step(&[delta_of(rows, false)], watermark));
            let shown: Vec<Row> = counted.iter().copied().filter(|row| every_step || row.ts <= watermark).collect();
            prop_assert_eq!(view.rows(), windowed_oracle(&shown));
            if let Some(shards) = restart {
                pipeline.save(SaveKind::Changes);
                pipeline.restart(shards);
            }
        }
        view.apply(&pipeline.step(&[], i64::MAX));
        prop_assert_eq!(view.rows(), windowed_oracle(&counted));
        prop_assert_eq!(pipeline.state_rows(), 0);
        let late: usize = pipeline.late.iter().map(|late| late.rows.num_rows()).sum();
        prop_assert_eq!(late + counted.len(), rows.len());
    }
}

fn windowed_oracle(rows: &[Row]) -> Vec<String> {
    let mut groups = BTreeMap::<(i64, Option<i64>), Vec<Row>>::new();
    rows.iter().for_each(|row| groups.entry((row.ts, row.key)).or_default().push(*row));
    let text = |((end, key), rows): (&(i64, Option<i64>), &Vec<Row>)| {
        format!("{end}|{}|{}", key.map_or(String::new(), |key| key.to_string()), naive(rows))
    };
    let mut rows: Vec<String> = groups.iter().map(text).collect();
    rows.sort();
    rows
}

/// `SELECT count(*), sum(x) FROM t` has one row before the first row of `t`, on one shard, and one after they are all taken back.
#[test]
fn without_keys_there_is_always_one_row() {
    let (local, global) = factories(&[], true);
    let mut pipeline = Pipeline::new(&local, &global, vec![], 3);
    let mut view = View::default();
    let empty = naive(&[]);
    view.apply(&pipeline.step(&[], 0));
    assert_eq!(view.rows(), std::slice::from_ref(&empty));
    let row = Row { ts: 0, key: Some(1), value: Some(5), weight: 1, ordinal: 0 };
    view.apply(&pipeline.step(&[delta_of(&[row], true)], 0));
    assert_eq!(view.rows(), [naive(&[row])]);
    pipeline.save(SaveKind::Changes);
    pipeline.restart(2);
    view.apply(&pipeline.step(&[delta_of(&[Row { weight: -1, ..row }], true)], 0));
    assert_eq!(view.rows(), [empty]);
}

/// `SELECT DISTINCT key` says each key once and needs no weights.
#[test]
fn distinct_is_append_only() {
    let local = PartialAggregateFactory::new(input_schema(), vec![1], vec![], PartialWindows::None).expect("plans");
    let global = GroupAggregateFactory::new(local.output_schema(), 1, vec![], None, None).expect("plans");
    assert!(!global.is_updating());
    let mut pipeline = Pipeline::new(&local, &global, vec![0], 2);
    let row = |key| Row { ts: 0, key, value: None, weight: 1, ordinal: 0 };
    let mut all = Vec::new();
    for rows in [[row(Some(1)), row(None)], [row(Some(1)), row(Some(2))], [row(None), row(Some(2))]] {
        let deltas = pipeline.step(&[delta_of(&rows, false)], 0);
        assert!(deltas.iter().all(|delta| delta.weights.is_none()));
        all.extend(show(&deltas).into_iter().map(|(row, _)| row));
    }
    all.sort();
    assert_eq!(all, ["", "1", "2"]);
}

/// However many groups a step changes, deltas have the usual size.
#[test]
fn large_changes_are_cut() {
    let (local, global) = factories(&[1], false);
    let mut pipeline = Pipeline::new(&local, &global, vec![0], 1);
    let rows: Vec<Row> = (0..20_000)
        .map(|key| Row { ts: 0, key: Some(key), value: Some(key), weight: 1, ordinal: key as u64 })
        .collect();
    assert_eq!(pipeline.step(&[delta_of(&rows, false)], 0).iter().map(Delta::rows).sum::<usize>(), 20_000);
    let changes = pipeline.step(&[delta_of(&rows, false)], 0);
    assert_eq!(changes.iter().map(Delta::rows).sum::<usize>(), 40_000);
    assert_eq!(changes.iter().flat_map(|delta| (0..delta.rows()).map(|row| delta.weight(row))).sum::<i64>(), 0);
}
