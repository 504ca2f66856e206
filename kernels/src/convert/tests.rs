//! Every form against one that does a row at a time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Bits, Column, SpanTooLong};
use crate::rows::GroupedRows;

/// Bytes with the bits from `offset` on, and other bits around them that must not leak in.
fn packed(bits: &[bool], offset: usize, around: bool) -> Vec<u8> {
    let mut bytes = vec![if around { 0xff } else { 0 }; (offset + bits.len()).div_ceil(8) + 3];
    for (index, &bit) in bits.iter().enumerate() {
        let place = offset + index;
        bytes[place / 8] = bytes[place / 8] & !(1 << (place % 8)) | u8::from(bit) << (place % 8);
    }
    bytes
}

/// Rows with nulls, an order that names some of them, and where the bits begin.
#[derive(Debug, Clone)]
struct Rows<T> {
    values: Vec<T>,
    valid: Vec<bool>,
    order: Vec<u32>,
    offset: usize,
    around: bool,
}

impl<T: Copy> Rows<T> {
    fn check(
        &self,
        null: T,
        run: impl Fn(Column<'_, T>, &[u32]) -> (Vec<u32>, Vec<u32>),
        expected: impl Fn(T) -> Vec<u32>,
        null_words: &[u32],
    ) {
        let bytes = packed(&self.valid, self.offset, self.around);
        // What lies under a null is anything.
        let values: Vec<T> =
            self.values.iter().zip(&self.valid).map(|(&value, &valid)| if valid { value } else { null }).collect();
        let column = Column::with_validity(&values, Bits::new(&bytes, self.offset, values.len()));
        let (all, gathered) = run(column, &self.order);
        let row = |row: usize| if self.valid[row] { expected(values[row]) } else { null_words.to_vec() };
        assert_eq!(all, (0..values.len()).flat_map(row).collect::<Vec<_>>());
        assert_eq!(gathered, self.order.iter().flat_map(|&place| row(place as usize)).collect::<Vec<_>>());
        let (all, gathered) = run(Column::new(&values), &self.order);
        assert_eq!(all, values.iter().flat_map(|&value| expected(value)).collect::<Vec<_>>());
        assert_eq!(gathered, self.order.iter().flat_map(|&place| expected(values[place as usize])).collect::<Vec<_>>());
    }
}

/// Columns around the sizes of blocks, from all valid to all null.
fn rows<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Rows<T>> {
    (
        prop_oneof![0usize..4, 60usize..70, 120usize..135, 0usize..400],
        0usize..70,
        any::<bool>(),
        prop_oneof![Just(1.0), Just(0.0), 0.0..1.0f64],
    )
        .prop_flat_map(move |(len, offset, around, share)| {
            let order = if len == 0 { vec(0..1u32, 0).boxed() } else { vec(0..len as u32, 0..300).boxed() };
            (vec(value.clone(), len), vec(proptest::bool::weighted(share), len), order)
                .prop_map(move |(values, valid, order)| Rows { values, valid, order, offset, around })
        })
}

fn fill(words: usize, write: impl FnOnce(&mut [u32])) -> Vec<u32> {
    let mut out = vec![0xdead_beef; words];
    write(&mut out);
    out
}

proptest! {
    /// A bit that slips by one in a sliced column would make another row null.
    #[test]
    fn bits_come_out_as_words_from_any_offset(input in rows(any::<bool>())) {
        let bytes = packed(&input.values, input.offset, input.around);
        let bits = Bits::new(&bytes, input.offset, input.values.len());
        let word = |bits: &[bool]| bits.iter().enumerate().fold(0u32, |word, (index, &bit)| word | u32::from(bit) << index);
        let expected: Vec<u32> = input.values.chunks(32).map(word).collect();
        prop_assert_eq!(fill(bits.word_count(), |out| bits.words(out)), expected);
        let gathered: Vec<bool> = input.order.iter().map(|&row| input.values[row as usize]).collect();
        let expected: Vec<u32> = gathered.chunks(32).map(word).collect();
        prop_assert_eq!(fill(expected.len(), |out| bits.gather_words(&input.order, out)), expected);
        // The same without a byte to spare at the end.
        let exact = &bytes[..(input.offset + input.values.len()).div_ceil(8)];
        let bits = Bits::new(exact, input.offset, input.values.len());
        prop_assert_eq!(fill(bits.word_count(), |out| bits.words(out)), input.values.chunks(32).map(word).collect::<Vec<_>>());
    }

    #[test]
    fn floats_are_centred(input in rows(prop_oneof![any::<f64>(), -10.0..10.0f64, Just(f64::NAN), Just(f64::NEG_INFINITY)]), base in -1e3..1e3f64) {
        let run = |column: Column<'_, f64>, order: &[u32]| {
            (fill(column.len(), |out| column.centred(base, out)), fill(order.len(), |out| column.gather_centred(order, base, out)))
        };
        // NaN has many bits and which of them come out of a subtraction is the machine's choice, so any NaN is one here.
        let one_nan = |words: Vec<u32>| words.into_iter().map(|word| if f32::from_bits(word).is_nan() { 0x7fc0_0000 } else { word }).collect();
        let run = |column: Column<'_, f64>, order: &[u32]| { let (all, gathered) = run(column, order); (one_nan(all), one_nan(gathered)) };
        input.check(f64::MAX, run, |value| one_nan(vec![((value - base) as f32).to_bits()]), &[0x7fc0_0000]);
    }

    /// Each key has its own base, in arrival order and grouped.
    #[test]
    fn floats_are_centred_by_key(input in rows(-1e6..1e6f64), seed in any::<u32>()) {
        let slots: Vec<u32> = (0..input.values.len() as u32).map(|row| (row ^ seed).wrapping_mul(0x9e37_79b9) >> 28).collect();
        let bases: Vec<f64> = (0..16).map(|slot| f64::from(slot) * 1e5).collect();
        let bytes = packed(&input.valid, input.offset, input.around);
        let grouped = GroupedRows::group(&slots, 16);
        let group_bases: Vec<f64> = grouped.slots().iter().map(|&slot| bases[slot as usize]).collect();
        let whole = Column::new(&input.values);
        for (column, nulls) in [(whole, false), (Column::with_validity(&input.values, Bits::new(&bytes, input.offset, slots.len())), true)] {
            let expected = |row: usize| match nulls && !input.valid[row] {
                true => 0x7fc0_0000,
                false => ((input.values[row] - bases[slots[row] as usize]) as f32).to_bits(),
            };
            prop_assert_eq!(
                fill(slots.len(), |out| column.centred_by_key(&slots, &bases, out)),
                (0..slots.len()).map(expected).collect::<Vec<_>>()
            );
            prop_assert_eq!(
                fill(slots.len(), |out| column.gather_centred_by_key(&grouped, &group_bases, out)),
                grouped.order().iter().map(|&row| expected(row as usize)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn integers_are_split_into_words(int in rows(any::<i32>()), long in rows(any::<i64>()), wide in rows(any::<i128>()), id in rows(any::<u32>())) {
        int.check(7, |column, order| (fill(column.len(), |out| column.words(out)), fill(order.len(), |out| column.gather_words(order, out))),
            |value| vec![value as u32], &[0]);
        id.check(7, |column, order| (fill(column.len(), |out| column.words(out)), fill(order.len(), |out| column.gather_words(order, out))),
            |value| vec![value], &[0]);
        long.check(7, |column, order| (fill(column.len() * 2, |out| column.words(out)), fill(order.len() * 2, |out| column.gather_words(order, out))),
            |value| vec![value as u32, (value >> 32) as u32], &[0, 0]);
        wide.check(7, |column, order| (fill(column.len() * 4, |out| column.words(out)), fill(order.len() * 4, |out| column.gather_words(order, out))),
            |value| value.to_le_bytes().chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four"))).collect(), &[0; 4]);
    }

    /// A delta that wraps would put an event into another window. Values near both ends of `i64` are where differences overflow.
    #[test]
    fn timestamps_are_a_base_and_deltas(
        start in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0)],
        input in rows(prop_oneof![-2000i64..2000, Just(i64::from(u32::MAX)), Just(1i64 << 31), Just(-(1i64 << 31)), Just(1 << 33), Just(i64::MAX)]),
    ) {
        let values: Vec<i64> = input.values.iter().map(|&delta| start.saturating_add(delta)).collect();
        let bytes = packed(&input.valid, input.offset, input.around);
        let column = Column::with_validity(&values, Bits::new(&bytes, input.offset, values.len()));
        let valid = |row: &usize| input.valid[*row];
        let fits = |rows: &mut dyn Iterator<Item = usize>| {
            let values: Vec<i128> = rows.filter(valid).map(|row| i128::from(values[row])).collect();
            values.iter().max().is_none_or(|max| max - values.iter().min().expect("not empty") < 1 << 32)
        };
        let (len, order) = (values.len(), &input.order);
        let restored = |base: i64, row: usize, delta: u32| if valid(&row) { base.wrapping_add(i64::from(delta)) == values[row] } else { delta == 0 };
        let mut out = vec![1; len];
        match column.deltas(&mut out) {
            Ok(base) => prop_assert!((0..len).all(|row| restored(base, row, out[row]))),
            Err(error) => {
                prop_assert!(!fits(&mut (0..len)));
                prop_assert!(error.rows_that_fit > 0 && fits(&mut (0..error.rows_that_fit)) && !fits(&mut (0..=error.rows_that_fit)));
            }
        }
        prop_assert_eq!(column.deltas(&mut out).is_ok(), fits(&mut (0..len)));
        let mut out = vec![1; order.len()];
        let gathered = column.gather_deltas(order, &mut out);
        prop_assert_eq!(gathered.is_ok(), fits(&mut order.iter().map(|&row| row as usize)));
        if let Ok(base) = gathered {
            prop_assert!(order.iter().zip(&out).all(|(&row, &delta)| restored(base, row as usize, delta)));
        }
        // The cuts cover all rows, in order, and each is as long as it can be.
        let spans = column.spans();
        prop_assert_eq!(spans.iter().flat_map(|span| span.clone()).collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        prop_assert!(spans.iter().all(|span| fits(&mut span.clone())));
        prop_assert!(spans.iter().take(spans.len().saturating_sub(1)).all(|span| !fits(&mut (span.start..=span.end))));
        // A base that is given is kept.
        let mut out = vec![1; len];
        let inside = (0..len).filter(valid).all(|row| (0..1 << 32).contains(&(i128::from(values[row]) - i128::from(start))));
        let given = column.deltas_from(start, &mut out);
        prop_assert_eq!(given.is_ok(), inside);
        match given {
            Ok(()) => prop_assert!((0..len).all(|row| restored(start, row, out[row]))),
            Err(error) => prop_assert_eq!(
                error.rows_that_fit,
                (0..len).position(|row| valid(&row) && !(0..1i128 << 32).contains(&(i128::from(values[row]) - i128::from(start)))).expect("one is outside")
            ),
        }
    }
}

/// Values of 1e9 that differ by 1 would all be the same `f32`; centred they keep their differences.
#[test]
fn large_values_keep_their_small_differences() {
    let values: Vec<f64> = (0..1000).map(|row| 1e9 + f64::from(row % 7) * 0.125).collect();
    let mut out = vec![0; values.len()];
    Column::new(&values).centred(1e9, &mut out);
    assert!(out.iter().enumerate().all(|(row, &word)| f32::from_bits(word) == (row % 7) as f32 * 0.125));
}

#[test]
fn a_span_that_is_too_long_says_where_to_cut() {
    let values = [1_700_000_000_000, 1_700_000_000_500, 0, 5];
    let error = Column::new(&values).deltas(&mut [0; 4]).expect_err("54 years in ms");
    assert_eq!(error, SpanTooLong { base: None, min: 0, max: 1_700_000_000_500, rows_that_fit: 2 });
    assert_eq!(Column::new(&values).spans(), [0..2, 2..4]);
    assert!(error.to_string().contains("the first 2 rows fit"), "{error}");
}

/// Nothing but nulls has no first value to take as the base.
#[test]
fn a_column_of_nulls_has_deltas_of_zero() {
    let values = [i64::MAX, i64::MIN];
    let mut out = [9; 2];
    assert_eq!(Column::with_validity(&values, Bits::new(&[0], 3, 2)).deltas(&mut out), Ok(0));
    assert_eq!(out, [0, 0]);
    assert_eq!(Column::new(&[]).deltas(&mut []), Ok(0));
}
