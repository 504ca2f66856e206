//! Rows against a plain list of rows: whatever is put in, taken out and freed, an id gives the row that it was given for.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Int16Array,
    Int64Array, RecordBatch, StringViewArray, UInt8Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;

use super::{RowChange, RowLog, Rows};
use crate::checkpoint::{Compression, decode_chunks, encode_chunks};
use crate::delta::Delta;
use crate::hash::HashGroups;
use crate::operator::{SaveKind, SavedChunk, StateReader, StateWriter};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("number", DataType::Int64, false),
        Field::new("text", DataType::Utf8View, true),
    ]))
}

fn text_of(number: i64) -> Option<String> {
    (number % 5 != 0).then(|| format!("the text of row {number}"))
}

fn batch(numbers: &[i64]) -> RecordBatch {
    let texts: StringViewArray = numbers.iter().map(|number| text_of(*number)).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(numbers.to_vec())), Arc::new(texts)])
        .expect("it works")
}

fn check(rows: &Rows, model: &BTreeMap<u32, i64>) {
    assert_eq!(rows.live_ids(), model.keys().copied().collect::<Vec<_>>());
    assert_eq!(rows.len(), model.len());
    let pieces = rows.live_pieces();
    assert_eq!(pieces.concat(), rows.live_ids());
    for ids in &pieces {
        let numbers: Vec<i64> = ids.iter().map(|id| model[id]).collect();
        assert_eq!(rows.take(ids, &[0]).expect("it works")[0].as_primitive::<Int64Type>().values(), numbers.as_slice());
    }
    let ids: Vec<u32> = model.keys().rev().copied().collect();
    let taken = rows.take(&ids, &[1, 0]).expect("it works");
    for (row, id) in ids.iter().enumerate() {
        assert_eq!(taken[1].as_primitive::<Int64Type>().value(row), model[id]);
        let texts = taken[0].as_string_view();
        assert_eq!(
            (!arrow::array::Array::is_null(texts, row)).then(|| texts.value(row).to_owned()),
            text_of(model[id])
        );
    }
}

/// Rows one by one, of all forms that values have.
fn wide_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("number", DataType::Int64, false),
        Field::new("small", DataType::Int16, true),
        Field::new("half", DataType::Float32, true),
        Field::new("price", DataType::Decimal128(30, 2), true),
        Field::new("large", DataType::Decimal256(60, 2), true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("bytes", DataType::BinaryView, true),
        Field::new("byte", DataType::UInt8, true),
    ]))
}

fn wide_batch(numbers: &[i64]) -> RecordBatch {
    let there = |number: i64, every: i64| (number % every != 0).then_some(number);
    // Shorter and longer than a view.
    let text = |number: i64| there(number, 5).map(|number| "x".repeat((number % 23) as usize) + &number.to_string());
    let numbers = || numbers.iter().copied();
    let large = |number: i64| arrow::datatypes::i256::from_parts(number as u128, -i128::from(number));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers())),
        Arc::new(numbers().map(|number| there(number, 3).map(|number| -number as i16)).collect::<Int16Array>()),
        // Minus zero stays what it is.
        Arc::new(numbers().map(|number| there(number, 4).map(|number| -0.0 * number as f32)).collect::<Float32Array>()),
        Arc::new(
            Decimal128Array::from_iter(
                numbers().map(|number| there(number, 7).map(|number| i128::from(number) << 70 | 5)),
            )
            .with_precision_and_scale(30, 2)
            .expect("it fits"),
        ),
        Arc::new(
            Decimal256Array::from_iter(numbers().map(|number| there(number, 6).map(large)))
                .with_precision_and_scale(60, 2)
                .expect("it fits"),
        ),
        Arc::new(numbers().map(|number| there(number, 9).map(|number| number % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(numbers().map(text).collect::<StringViewArray>()),
        Arc::new(numbers().map(|number| text(number + 1).map(String::into_bytes)).collect::<BinaryViewArray>()),
        Arc::new(numbers().map(|number| there(number, 2).map(|number| number as u8)).collect::<UInt8Array>()),
    ];
    RecordBatch::try_new(wide_schema(), columns).expect("it works")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Places are given out, emptied and written over; no id ever shows another row, and no bytes are left behind.
    #[test]
    fn a_place_gives_its_row(rounds in proptest::collection::vec((0usize..400, 0u32..100), 1..14)) {
        let mut rows = Rows::single(&wide_schema());
        prop_assert!(rows.reader(0).is_some() && rows.reader(1).is_none());
        let mut model = BTreeMap::new();
        let mut next = 0i64;
        for (count, keep_percent) in rounds {
            let numbers: Vec<i64> = (next..next + count as i64).collect();
            next += count as i64;
            // Of every third row there is nothing to be kept.
            let some: Vec<u32> = (0..count as u32).filter(|row| row % 3 != 0).collect();
            let mut ids = Vec::new();
            rows.append_some(&wide_batch(&numbers), &some, &mut ids).expect("it works");
            for (id, row) in ids.iter().zip(&some) {
                prop_assert!((*id as usize) < rows.id_bound());
                prop_assert!(model.insert(*id, numbers[*row as usize]).is_none(), "the place was free");
            }
            let gone: Vec<u32> =
                model.iter().filter(|(_, number)| (**number * 7_919 % 100) as u32 >= keep_percent).map(|(id, _)| *id).collect();
            rows.remove(&gone).expect("it works");
            gone.iter().for_each(|id| { model.remove(id); });
            prop_assert_eq!(rows.live_ids(), model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(rows.len(), model.len());
            let ids: Vec<u32> = model.keys().rev().copied().collect();
            let numbers: Vec<i64> = model.values().rev().copied().collect();
            let reader = rows.reader(0).expect("it has eight bytes");
            for (id, number) in ids.iter().zip(&numbers) {
                prop_assert_eq!(reader.value(*id), (*number as u64, true));
            }
            prop_assert_eq!(rows.take_batch(&ids).expect("it works"), wide_batch(&numbers));
        }
        let all: Vec<u32> = model.keys().copied().collect();
        rows.remove(&all).expect("it works");
        prop_assert_eq!((rows.len(), rows.bytes()), (0, 0));
    }
}

/// What waits in few places does not keep the memory of what once was.
#[test]
fn places_of_a_flood_are_given_back() {
    let mut rows = Rows::single(&schema());
    let numbers: Vec<i64> = (0..4_000).collect();
    let mut ids = Vec::new();
    rows.append(&batch(&numbers), &mut ids).expect("it works");
    let full = rows.bytes();
    rows.remove(&ids[100..]).expect("it works");
    assert!(rows.bytes() < full / 8, "{} of {full} bytes", rows.bytes());
    // The next rows go where there is room first.
    let bound = rows.id_bound();
    for round in 0..50 {
        let mut ids = Vec::new();
        rows.append(&batch(&numbers[round..round + 50]), &mut ids).expect("it works");
        rows.remove(&ids).expect("it works");
    }
    assert_eq!(rows.id_bound(), bound);
    assert!(rows.bytes() < full / 8, "{} of {full} bytes", rows.bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pages fill, empty, are squeezed and used again; no id ever shows another row.
    #[test]
    fn an_id_gives_its_row(rounds in proptest::collection::vec((0usize..6_000, 0u32..100), 1..14)) {
        let mut rows = Rows::new(&schema(), false).expect("it works");
        let mut model = BTreeMap::new();
        let mut next = 0i64;
        for (count, keep_percent) in rounds {
            let numbers: Vec<i64> = (next..next + count as i64).collect();
            next += count as i64;
            let mut changes = Vec::new();
            rows.apply(&Delta::insert(batch(&numbers)), &mut changes).expect("it works");
            for (change, number) in changes.iter().zip(&numbers) {
                prop_assert_eq!((change.before, change.after), (0, 1));
                prop_assert!(model.insert(change.id, *number).is_none());
            }
            let gone: Vec<u32> =
                model.iter().filter(|(_, number)| (**number * 7_919 % 100) as u32 >= keep_percent).map(|(id, _)| *id).collect();
            rows.remove(&gone).expect("it works");
            gone.iter().for_each(|id| { model.remove(id); });
            check(&rows, &model);
        }
        let all: Vec<u32> = model.keys().copied().collect();
        rows.remove(&all).expect("it works");
        prop_assert_eq!((rows.len(), rows.bytes()), (0, 0));
    }

    /// Equal rows are one row with a weight; saves and a restore bring back the same weights, and no row is written that came and went since
    /// the save before.
    #[test]
    fn equal_rows_are_counted(
        changes in proptest::collection::vec((0i64..20, -2i64..3), 0..200),
        parts_a_save in 1_usize..6,
        named in any::<bool>(),
        swept in any::<bool>(),
    ) {
        let changes: Vec<_> = changes.into_iter().filter(|(_, weight)| *weight != 0).collect();
        let mut rows = Rows::new(&schema(), true).expect("it works");
        let mut model: BTreeMap<i64, i64> = BTreeMap::new();
        let mut log = RowLog::new("rows", &schema());
        let mut chunks = Vec::new();
        // What was noted of each row that is there since the last save, and of those that it knew and that are gone.
        let (mut notes, mut parting) = (BTreeMap::<i64, (bool, usize)>::new(), 0);
        let parts = changes.chunks(7).len();
        for (number_of_part, part) in changes.chunks(7).enumerate() {
            let numbers: Vec<i64> = part.iter().map(|(number, _)| *number).collect();
            let weights: Int64Array = part.iter().map(|(_, weight)| Some(*weight)).collect();
            let delta = Delta::weighted(batch(&numbers), weights);
            let mut told = Vec::new();
            rows.apply(&delta, &mut told).expect("it works");
            let ids: Vec<u32> = told.iter().map(|change| change.id).collect();
            match named {
                true => log.push_rows(&delta, &ids, |row| told[row].before == 0).expect("it works"),
                false => log.push(&delta).expect("it works"),
            }
            for ((number, weight), RowChange { id, before, after }) in part.iter().zip(&told) {
                let entry = model.entry(*number).or_default();
                prop_assert_eq!((*before, *after), (*entry, *entry + weight));
                *entry += weight;
                notes.entry(*number).or_insert((*before != 0, 0)).1 += 1;
                let shown = rows.take(&[*id], &[0]).expect("it works");
                prop_assert_eq!(shown[0].as_primitive::<Int64Type>().value(0), *number);
            }
            let zero: std::collections::BTreeSet<u32> =
                told.iter().filter(|change| rows.weight(change.id) == 0).map(|change| change.id).collect();
            let zero = zero.into_iter().collect::<Vec<_>>();
            log.remove(&zero).expect("it works");
            rows.remove(&zero).expect("it works");
            for (number, _) in model.iter().filter(|(_, weight)| **weight == 0) {
                parting += notes.remove(number).filter(|(known, _)| *known).map_or(0, |(_, count)| count);
            }
            model.retain(|_, weight| *weight != 0);
            if swept {
                log.retain(|rows| BooleanArray::from(vec![true; rows.num_rows()])).expect("it works");
            }
            if number_of_part % parts_a_save > 0 && number_of_part + 1 < parts {
                continue;
            }
            let mut state = StateWriter::default();
            // The first save hands over all, the others what changed.
            let is_first = !log.is_active();
            let all = || {
                assert!(chunks.is_empty());
                let ids = rows.live_ids();
                let weights = ids.iter().map(|id| rows.weight(*id)).collect::<Vec<_>>();
                Ok(vec![Delta::weighted(rows.take_batch(&ids)?, weights.into())])
            };
            log.save(SaveKind::Changes, &mut state, all).expect("it works");
            let saved: usize = state.chunks.iter().map(SavedChunk::row_count).sum();
            if !is_first && named {
                prop_assert_eq!(saved, parting + notes.values().map(|(_, count)| count).sum::<usize>());
            }
            (notes, parting) = (BTreeMap::new(), 0);
            chunks.extend(state.saved().expect("it works"));
        }
        let mut restored = Rows::new(&schema(), true).expect("it works");
        for owned in [HashGroups::of_shard(0, 2), HashGroups::of_shard(1, 2)] {
            let state = StateReader { chunks: &chunks, metas: &[], owned };
            for delta in log.restore("test", &state, &[0]).expect("it works") {
                restored.apply(&delta, &mut Vec::new()).expect("it works");
            }
        }
        let ids = restored.live_ids();
        let numbers = restored.take(&ids, &[0]).expect("it works");
        let back: BTreeMap<i64, i64> = ids.iter().enumerate()
            .map(|(row, id)| (numbers[0].as_primitive::<Int64Type>().value(row), restored.weight(*id)))
            .filter(|(_, weight)| *weight != 0)
            .collect();
        prop_assert_eq!(back, model);
    }
}

/// A full save of rows of which none is gone copies none of them.
#[test]
fn rows_that_lie_together_are_shared() {
    let mut rows = Rows::new(&schema(), false).expect("it works");
    let numbers: Vec<i64> = (0..20_000).collect();
    rows.apply(&Delta::insert(batch(&numbers)), &mut Vec::new()).expect("it works");
    let address =
        |ids: &[u32]| rows.take(ids, &[0]).expect("it works")[0].as_primitive::<Int64Type>().values().as_ptr();
    let pieces = rows.live_pieces();
    assert_eq!(pieces.len(), 3);
    for ids in &pieces {
        assert_eq!(address(&ids[1..]), address(ids).wrapping_add(1));
    }
}

/// A row that comes in a chunk of two and is taken back in one of forty leaves both, though hardly any of the second goes: half of it would be
/// a row that is taken back and never came.
#[test]
fn what_is_noted_of_a_row_goes_from_all_chunks() {
    let mut rows = Rows::new(&schema(), true).expect("it works");
    let mut log = RowLog::new("rows", &schema());
    let mut file = Vec::new();
    let mut save = |log: &mut RowLog| {
        let mut state = StateWriter::default();
        log.save(SaveKind::Changes, &mut state, || Ok(Vec::new())).expect("saves");
        encode_chunks(&state.chunks, Compression::None, &mut file).expect("encodes");
        let chunks = decode_chunks(&file).expect("decodes");
        chunks.iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>()
    };
    assert_eq!(save(&mut log), 0);
    let mut apply = |numbers: &[i64], weights: Vec<i64>| {
        let delta = Delta::weighted(batch(numbers), weights.into());
        let mut told = Vec::new();
        rows.apply(&delta, &mut told).expect("applies");
        let ids: Vec<u32> = told.iter().map(|change| change.id).collect();
        log.push_rows(&delta, &ids, |row| told[row].before == 0).expect("notes");
        let zero: Vec<u32> = told.iter().filter(|change| change.after == 0).map(|change| change.id).collect();
        log.remove(&zero).expect("removes");
        rows.remove(&zero).expect("removes");
    };
    apply(&[1, 2], vec![1, 1]);
    let many: Vec<i64> = (2..42).collect();
    let weights = many.iter().map(|number| if *number == 2 { -1 } else { 1 }).collect();
    apply(&many, weights);
    assert_eq!(save(&mut log), 1 + 39);
}
