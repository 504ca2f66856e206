use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::changelog_normalize::tests::{Change, Shards, changes_of, delta_of, judge, mixed, schema};
use super::*;
use crate::operator::Unfounded;

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (proptest::option::weighted(0.9, 0_i64..3), proptest::option::of("[ab]{0,1}"), -2_i64..3);
    proptest::collection::vec(change, 0..120).prop_map(|changes| {
        let number = |(ordinal, (key, value, weight)): (usize, (Option<i64>, Option<String>, i64))| Change {
            key,
            value,
            weight: if weight == 0 { 1 } else { weight },
            ordinal: ordinal as u64 + 10,
        };
        changes.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What is taken back and not there is kept out and told, all else passes; whatever the order of rows in a step, through saves and
    /// restarts at other shard counts.
    #[test]
    fn only_rows_that_are_there_go(
        changes in changes(),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4, any::<u64>()), 1..8),
        by_key in any::<bool>(),
    ) {
        let route = if by_key { vec![1] } else { vec![] };
        let factory = RetractionCheckFactory::new(&schema(), route.clone(), judge(Unfounded::Tell)).expect("plans");
        let mut shards = Shards::new(&factory, route, 2);
        let mut model: BTreeMap<(Option<i64>, Option<String>), i64> = BTreeMap::new();
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        let mut done = 0;
        for (rows_now, event, count, seed) in steps.iter().cycle() {
            let end = (done + rows_now).min(changes.len());
            for change in &changes[done..end] {
                let held = model.entry((change.key, change.value.clone())).or_default();
                if *held + change.weight < 0 {
                    refused.push(change.ordinal);
                } else {
                    *held += change.weight;
                    passed.push(change.clone());
                }
            }
            model.retain(|_, held| *held != 0);
            out.extend(changes_of(&shards.step(&mixed(&changes[done..end], *seed))));
            prop_assert_eq!(shards.state_rows(), model.len());
            done = end;
            match event {
                1 => shards.save(SaveKind::Changes),
                2 => {
                    shards.save(SaveKind::Changes);
                    shards.restart(*count);
                }
                3 => {
                    shards.save(SaveKind::Full);
                    shards.restart(*count);
                }
                _ => {}
            }
            if done == changes.len() {
                break;
            }
        }
        out.sort_by_key(|change| change.ordinal);
        prop_assert_eq!(out, passed);
        let mut told: Vec<u64> = shards.bad.iter().map(|(ordinal, _)| *ordinal).collect();
        told.sort_unstable();
        prop_assert_eq!(told, refused);
    }
}

/// A step without a retraction that is unfounded passes as it is, buffers and all.
#[test]
fn what_is_founded_is_not_copied() {
    let factory = RetractionCheckFactory::new(&schema(), vec![1], judge(Unfounded::Tell)).expect("plans");
    let mut operator = factory.create().expect("creates");
    let change = |weight, ordinal| Change { key: Some(1), value: Some("a".into()), weight, ordinal };
    let delta = delta_of(&[change(1, 1), change(-1, 2)]);
    let context = crate::expr::StepContext { step: 1, clock_ms: 0, seed: 0 };
    let mut out = Output::default();
    let watermarks = crate::time::Watermarks::NONE;
    operator.step(Input { ports: vec![vec![delta.clone()]], context: &context, watermarks }, &mut out).expect("steps");
    let address = |delta: &Delta| delta.batch.column(1).to_data().buffers()[0].as_ptr();
    assert_eq!(address(&out.deltas[0]), address(&delta));
    assert_eq!(operator.state_rows(), 0);
}
