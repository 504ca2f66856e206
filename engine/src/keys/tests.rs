use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, StringArray, TimestampMillisecondArray};
use proptest::prelude::*;

use super::*;

/// One column of each store: word, bytes, row of words, arrow's rows.
fn columns(kind: usize, keys: &[Option<i64>]) -> Vec<ArrayRef> {
    let ints = || Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef;
    let times = || Arc::new(TimestampMillisecondArray::from(keys.to_vec())) as ArrayRef;
    let text =
        || Arc::new(keys.iter().map(|key| key.map(|key| format!("key {key}"))).collect::<StringArray>()) as ArrayRef;
    let halves = || Arc::new(keys.iter().map(|key| key.map(|key| key / 2)).collect::<Int64Array>()) as ArrayRef;
    let flags = || Arc::new(keys.iter().map(|key| key.map(|key| key % 2 == 0)).collect::<BooleanArray>()) as ArrayRef;
    match kind {
        0 => vec![times()],
        1 => vec![text()],
        2 => vec![halves(), flags()],
        _ => vec![ints(), text()],
    }
}

fn table(kind: usize) -> GroupKeys {
    let types = columns(kind, &[]).iter().map(|column| column.data_type().clone()).collect();
    GroupKeys::new(types).expect("comparable")
}

proptest! {
    /// A key keeps its slot until it is removed, comes back as it went in, and draining leaves a table as good as new.
    #[test]
    fn slots_follow_a_map(
        kind in 0_usize..4,
        rounds in proptest::collection::vec(
            (proptest::collection::vec(proptest::option::weighted(0.95, 0_i64..300), 0..200), any::<u8>()),
            1..12,
        ),
    ) {
        let mut keys = table(kind);
        let mut model = BTreeMap::<Option<i64>, u32>::new();
        let mut slots = Vec::new();
        for (batch, action) in rounds {
            keys.intern(&columns(kind, &batch), batch.len(), &mut slots).expect("interns");
            let mut new: Vec<u32> = Vec::new();
            for (key, slot) in batch.iter().zip(&slots) {
                if !model.contains_key(key) {
                    new.push(*slot);
                }
                prop_assert_eq!(*model.entry(*key).or_insert(*slot), *slot);
            }
            prop_assert_eq!(keys.fresh(), new.as_slice());
            prop_assert_eq!(keys.len(), model.len());
            let mut live: Vec<u32> = model.values().copied().collect();
            live.sort_unstable();
            prop_assert_eq!(keys.live_slots(), live.clone());
            let order: Vec<Option<i64>> =
                live.iter().map(|slot| *model.iter().find(|(_, found)| *found == slot).expect("live").0).collect();
            prop_assert_eq!(keys.columns(Slots::Some(&live)).expect("reads"), columns(kind, &order));
            if action < 40 {
                keys.clear();
                model.clear();
            } else if action < 150 {
                let gone: Vec<u32> = live.into_iter().filter(|slot| slot % 3 != 0).collect();
                keys.remove(&gone);
                model.retain(|_, slot| !gone.contains(slot));
            }
        }
    }
}

proptest! {
    /// Whatever a table held in times gone by, keys get their slots in the order in which they come first.
    #[test]
    fn slots_are_in_order_of_first_rows(
        rounds in proptest::collection::vec((proptest::collection::vec(0_i64..150, 1..400), any::<bool>()), 2..6),
    ) {
        let mut keys = table(0);
        let (mut slots, mut model) = (Vec::new(), BTreeMap::new());
        for (batch, goes_on) in rounds {
            let column: ArrayRef = Arc::new(TimestampMillisecondArray::from(batch.clone()));
            keys.intern(&[column], batch.len(), &mut slots).expect("interns");
            for (key, slot) in batch.iter().zip(&slots) {
                let next = model.len() as u32;
                prop_assert_eq!(*model.entry(*key).or_insert(next), *slot);
            }
            if !goes_on {
                keys.clear();
                model.clear();
            }
        }
    }
}

/// A table that was large once is drained in proportion to what is in it now; no key is left behind.
#[test]
fn draining_few_keys_of_a_large_table_leaves_none() {
    for kind in 0..4 {
        let mut keys = table(kind);
        let mut slots = Vec::new();
        let many: Vec<Option<i64>> = (0..10_000).map(Some).collect();
        keys.intern(&columns(kind, &many), many.len(), &mut slots).expect("interns");
        keys.take_all().expect("drains");
        for round in 0..100 {
            let few: Vec<Option<i64>> = (0..50).map(|key| Some(key * 7 + round)).chain([None]).collect();
            keys.intern(&columns(kind, &few), few.len(), &mut slots).expect("interns");
            assert_eq!(slots, (0..51).collect::<Vec<u32>>());
            assert_eq!(keys.take_all().expect("drains"), columns(kind, &few));
        }
    }
}

/// What keys of other times have left in a table makes it no larger than those at hand need, whether they come back or not.
#[test]
fn keys_that_never_come_back_take_no_room() {
    for (round_keys, overlap) in [(10, 0), (1_000, 0), (1_000, 900), (1_000, 400)] {
        let mut keys = table(0);
        let mut slots = Vec::new();
        let mut most = 0;
        for round in 0..300 {
            let first = round * (round_keys - overlap);
            let batch: Vec<Option<i64>> = (first..first + round_keys).map(Some).collect();
            keys.intern(&columns(0, &batch), batch.len(), &mut slots).expect("interns");
            assert_eq!(slots, (0..round_keys as u32).collect::<Vec<_>>());
            assert_eq!(keys.take_all().expect("drains"), columns(0, &batch));
            if round == 0 {
                most = keys.bytes();
            }
            // Half as much again as is used, rounded up to a power of two.
            assert!(keys.bytes() <= most.max(2 * 1_024) * 5 / 2, "{} bytes after {most}", keys.bytes());
        }
    }
}

/// Zeros of both signs are one group, and so are NaNs of any bits; alone and beside another key.
/// Of millions of keys a key's words have a quarter as much room beside them at most, and not as much again.
#[test]
fn many_keys_leave_little_room_unused() {
    let count = 45_000;
    let some: Vec<Option<i64>> = (0..count).map(Some).collect();
    let room = |kind: usize| {
        let mut keys = table(kind);
        // A few at a time, as steps bring them.
        for some in some.chunks(100) {
            keys.intern(&columns(kind, some), some.len(), &mut Vec::new()).expect("interns");
        }
        match &keys.store {
            Store::Word(store) => store.words.capacity() as f64 / store.words.len() as f64,
            Store::Row(store) => store.words.capacity() as f64 / store.words.len() as f64,
            _ => panic!("another store"),
        }
    };
    assert!(room(0) < 1.26, "{}", room(0));
    assert!(room(2) < 1.26, "{}", room(2));
}

#[test]
fn floats_group_as_they_compare() {
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![-0.0, 0.0, f64::NAN, -f64::NAN, 1.0]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"; 5]));
    for columns in [vec![Arc::clone(&floats)], vec![Arc::clone(&floats), Arc::clone(&floats)], vec![floats, text]] {
        let mut keys = GroupKeys::new(columns.iter().map(|column| column.data_type().clone()).collect()).expect("keys");
        let mut slots = Vec::new();
        keys.intern(&columns, 5, &mut slots).expect("interns");
        assert_eq!(slots, [0, 0, 1, 1, 2]);
    }
}
