use super::naive::{NaiveCell, reduce};
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Rows as they come: cell, value, whether it is there.
type Rows = (Vec<u32>, Values, Vec<bool>);

fn slots(count: usize) -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![3 => 0u32..20, 2 => Just(3u32), 1 => 65_530u32..65_540], count)
}

pub(super) fn rows(most: usize) -> impl Strategy<Value = Rows> {
    (0..most).prop_flat_map(|count| {
        let small = prop_oneof![4 => -1000i64..1000, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
        let decimal = prop_oneof![2 => any::<i128>(), 1 => -1000i128..1000, 1 => Just(i128::MIN), 1 => Just(i128::MAX)];
        let float = prop_oneof![8 => -1000f32..1000.0, 1 => Just(-0.0f32), 1 => Just(1e-40f32)];
        let values = prop_oneof![
            proptest::collection::vec(small, count).prop_map(Values::Int64),
            proptest::collection::vec(decimal, count).prop_map(Values::Decimal128),
            proptest::collection::vec(float, count).prop_map(Values::Float32),
        ];
        let valid = prop_oneof![
            Just(vec![true; count]),
            proptest::collection::vec(any::<bool>(), count),
            Just(vec![false; count])
        ];
        (slots(count), values, valid)
    })
}

fn bitmap(valid: &[bool]) -> Vec<u32> {
    if valid.iter().all(|&valid| valid) {
        return Vec::new();
    }
    valid
        .chunks(32)
        .map(|bits| bits.iter().enumerate().fold(0, |word, (bit, &valid)| word | u32::from(valid) << bit))
        .collect()
}

pub(super) fn batch_of((slots, values, valid): &Rows) -> Batch {
    let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
    Batch::gather(Arc::new(GroupedRows::group(slots, slot_count)), values, &bitmap(valid))
}

fn run(kernel: &WindowReduce, state: &mut StatePages, batch: &Batch) -> Cells {
    state.grow(kernel.slot_count(batch));
    kernel.run_twin(batch, state)
}

fn part((slots, values, valid): &Rows, range: std::ops::Range<usize>) -> Rows {
    let order: Vec<u32> = range.clone().map(|row| row as u32).collect();
    (slots[range.clone()].to_vec(), values.gather(&order), valid[range].to_vec())
}

fn agrees(cells: &Cells, index: usize, expected: &NaiveCell) -> Result<(), TestCaseError> {
    prop_assert_eq!(cells.count(index), expected.count);
    match cells.sum(index) {
        Sum::Integer(sum) => prop_assert_eq!(Some(sum), expected.sum),
        Sum::Overflow => prop_assert_eq!(None, expected.sum),
        Sum::Float(sum) => {
            let (exact, magnitude) = expected.float_sum;
            prop_assert!((f64::from(sum) - exact).abs() <= 1e-5 * magnitude, "{sum} for {exact}");
        }
    }
    match (cells.min(index), cells.max(index)) {
        (Some(Value::Integer(min)), Some(Value::Integer(max))) => prop_assert_eq!(Some((min, max)), expected.integers),
        (Some(Value::Float(min)), Some(Value::Float(max))) => {
            let bits = |(min, max): (f32, f32)| (min.to_bits(), max.to_bits());
            prop_assert_eq!(Some(bits((min, max))), expected.floats.map(bits));
        }
        (min, max) => prop_assert!(expected.count == 0 && min.is_none() && max.is_none()),
    }
    let squares = f64::from(cells.sum_of_squares(index));
    prop_assert!(
        (squares - expected.squares).abs() <= 1e-5 * expected.squares + 1e-36 || expected.squares > 3e38,
        "{squares} for {}",
        expected.squares
    );
    Ok(())
}

proptest! {
    /// What users see of a window: nothing lost, nothing doubled, nothing overflowed, over several steps.
    #[test]
    fn twin_agrees_with_naive(rows in rows(400), batch_rows in 1usize..200) {
        let kernel = WindowReduce::new(rows.1.kind());
        let (mut state, mut expected) = (StatePages::new(kernel.state_shape()), HashMap::new());
        let count = rows.0.len();
        for first in (0..count).step_by(batch_rows) {
            let batch = batch_of(&part(&rows, first..(first + batch_rows).min(count)));
            let cells = run(&kernel, &mut state, &batch);
            reduce(&batch, &mut expected);
            prop_assert_eq!(cells.len(), batch.rows().slots().len());
            for (index, slot) in batch.rows().slots().iter().enumerate() {
                // A sum that was beyond 128 bits for a while is right again later, which the oracle does not know.
                if expected[slot].sum.is_some() {
                    agrees(&cells, index, &expected[slot])?;
                }
                prop_assert_eq!(cells.cell(index), state.slot(*slot));
            }
        }
    }

    /// The tree, written down as it is told: the sum is that one to the bit.
    #[test]
    fn floats_are_added_by_the_fixed_tree(values in floats(3 * PIECE_ROWS)) {
        let kernel = WindowReduce::new(ValueKind::Float32);
        let (count, expected) = (values.len(), tree(&values));
        let batch = batch_of(&(vec![0; count], Values::Float32(values), vec![true; count]));
        let cells = run(&kernel, &mut StatePages::new(kernel.state_shape()), &batch);
        if count > 0 {
            prop_assert_eq!(cells.sum(0), Sum::Float(0.0 + expected));
        }
    }
}

/// Up to so many floats of one seed.
fn floats(most: usize) -> impl Strategy<Value = Vec<f32>> {
    (0..most, any::<u32>()).prop_map(|(count, seed)| {
        (0..count as u32).map(|row| (row.wrapping_mul(2_654_435_761) ^ seed) as f32 / 1e3 - 2e6).collect()
    })
}

/// Lane by lane, lanes by halves, pieces by pieces.
fn tree(values: &[f32]) -> f32 {
    fn halves(lanes: &[f32]) -> f32 {
        if let [sum] = lanes {
            return *sum;
        }
        let (low, high) = lanes.split_at(lanes.len() / 2);
        halves(&low.iter().zip(high).map(|(low, high)| low + high).collect::<Vec<_>>())
    }
    let piece = |piece: &[f32]| {
        let lane = |lane: usize| piece.iter().skip(lane).step_by(LANES).fold(0.0, |sum: f32, value| sum + value);
        halves(&(0..LANES).map(lane).collect::<Vec<_>>())
    };
    let sums: Vec<f32> = values.chunks(PIECE_ROWS).map(piece).collect();
    match sums[..] {
        [] => 0.0,
        [sum] => sum,
        _ => tree(&sums),
    }
}

/// A cell with more pieces than one piece has lanes: the pieces of pieces too.
#[test]
fn a_hot_cell_is_added_by_the_fixed_tree() {
    let kernel = WindowReduce::new(ValueKind::Float32);
    let count = PIECE_ROWS * (PIECE_ROWS + 3) + 17;
    let values: Vec<f32> = (0..count as u32).map(|row| row.wrapping_mul(2_654_435_761) as f32 / 1e3 - 2e6).collect();
    let expected = tree(&values);
    let rows = Arc::new(GroupedRows::from_parts(vec![0], vec![0, count as u32]));
    let cells = run(
        &kernel,
        &mut StatePages::new(kernel.state_shape()),
        &Batch::new(rows, Values::Float32(values), Vec::new()),
    );
    assert_eq!(cells.sum(0), Sum::Float(expected));
}

/// An overflow of 128 bits is told, not wrapped; and a sum that comes back into range is right.
#[test]
fn decimals_carry_beyond_their_width() {
    let kernel = WindowReduce::new(ValueKind::Decimal128);
    let mut state = StatePages::new(kernel.state_shape());
    let mut add = |values: Vec<i128>| {
        let count = values.len();
        run(&kernel, &mut state, &batch_of(&(vec![0; count], Values::Decimal128(values), vec![true; count]))).sum(0)
    };
    assert_eq!(add(vec![i128::MAX; 70]), Sum::Overflow);
    assert_eq!(add(vec![-i128::MAX; 69]), Sum::Integer(i128::MAX));
    assert_eq!(add(vec![1]), Sum::Overflow);
    assert_eq!(add(vec![i128::MIN, -7]), Sum::Integer(-7));
}

/// NaN is the greatest value and makes a sum NaN; infinities are values like others.
#[test]
fn floats_go_by_their_total_order() {
    let kernel = WindowReduce::new(ValueKind::Float32);
    let reduce = |values: &[f32]| {
        let rows = (vec![0; values.len()], Values::Float32(values.to_vec()), vec![true; values.len()]);
        run(&kernel, &mut StatePages::new(kernel.state_shape()), &batch_of(&rows))
    };
    let cells = reduce(&[1.0, f32::NAN, f32::NEG_INFINITY]);
    assert_eq!(cells.min(0), Some(Value::Float(f32::NEG_INFINITY)));
    assert!(matches!(cells.max(0), Some(Value::Float(max)) if max.is_nan()));
    assert!(matches!(cells.sum(0), Sum::Float(sum) if sum.is_nan()));
    let zeros = reduce(&[0.0, -0.0]);
    assert!(matches!(zeros.min(0), Some(Value::Float(min)) if min.to_bits() == 0x8000_0000));
}

#[cfg(feature = "gpu")]
mod device {
    use super::*;
    use crate::device::testing::{shared_test_device, test_options};
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::device::{DeviceOptions, SharedDevice};
    use crate::placed::{Placed, PlacedOptions};
    use crate::window_reduce::gpu;
    use std::sync::OnceLock;
    use std::time::Duration;

    /// Why a test did not run on the device is in its output.
    fn loud() -> PlacedOptions {
        PlacedOptions { on_event: Arc::new(|event| println!("{event}")), ..PlacedOptions::default() }
    }

    fn device() -> Option<&'static SharedDevice> {
        static DEVICE: OnceLock<Option<SharedDevice>> = OnceLock::new();
        // Many waves of several tests may wait for one another where a CPU computes them.
        let options = DeviceOptions { timeout: Duration::from_secs(120), ..test_options() };
        DEVICE.get_or_init(|| shared_test_device(&options)).as_ref()
    }

    /// Runs steps on both sides; all is equal to the bit but what may be fused or flushed, which is close.
    fn assert_same(steps: &[Rows]) {
        let Some(device) = device() else { return };
        let kernel = WindowReduce::new(steps[0].1.kind());
        let mut state = StatePages::new(kernel.state_shape());
        let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
        placed.move_to_device(device).expect("a device");
        for rows in steps {
            let batch = Arc::new(batch_of(rows));
            let (cells, expected) = (placed.run(batch.clone()), run(&kernel, &mut state, &batch));
            assert_eq!(cells.len(), expected.len());
            for index in 0..cells.len() {
                assert_same_cell(kernel.kind, cells.cell(index), expected.cell(index));
            }
        }
        assert_eq!(placed.metrics().device_batches, steps.len() as u64, "ran on the device");
        placed.sync();
        for &slot in &steps[0].0 {
            assert_same_cell(kernel.kind, &placed.state().slot(slot), &state.slot(slot));
        }
    }

    fn assert_same_cell(kind: ValueKind, words: &[u32], expected: &[u32]) {
        let floats = match kind {
            ValueKind::Float32 => vec![2, words.len() - 1],
            _ => vec![words.len() - 1],
        };
        for (word, (&value, &expected)) in words.iter().zip(expected).enumerate() {
            if floats.contains(&word) {
                let (value, expected) = (f32::from_bits(value), f32::from_bits(expected));
                let close = (value.is_nan() && expected.is_nan())
                    || value == expected
                    || (value - expected).abs() <= 1e-6 * expected.abs() + 1e-30;
                assert!(close, "{kind:?} word {word}: {value} for {expected}");
            } else {
                assert_eq!(value, expected, "{kind:?} word {word}");
            }
        }
    }

    #[test]
    fn shader_and_rust_agree_on_constants() {
        for kind in [ValueKind::Int64, ValueKind::Decimal128, ValueKind::Float32] {
            let constants = [
                ("LANES", LANES as f64),
                ("WORKGROUP_SIZE", gpu::WORKGROUP_SIZE as f64),
                ("TO_PARTIAL", f64::from(gpu::TO_PARTIAL)),
                ("VALUE_WORDS", kind.value_words() as f64),
                ("SUM_WORDS", kind.sum_words() as f64),
                ("CELL_WORDS", kind.cell_words() as f64),
                ("SUM_AT", 2.0),
                ("MIN_AT", (2 + kind.sum_words()) as f64),
                ("MAX_AT", (2 + kind.sum_words() + kind.value_words()) as f64),
                ("SQUARES_AT", (kind.cell_words() - 1) as f64),
                ("WORD_RANGE", 4_294_967_296.0),
            ];
            let constants = &constants[..constants.len() - usize::from(kind == ValueKind::Float32)];
            assert_constants_agree(gpu::program(kind), constants);
            assert_registered(gpu::program(kind));
            assert!(kind.cell_words() <= LANES / 4, "each member has a word of the cell at most");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// A window holds the same wherever it was computed.
        #[test]
        fn device_agrees_with_twin(rows in rows(400), batch_rows in 50usize..400) {
            let count = rows.0.len();
            let steps: Vec<Rows> = (0..count).step_by(batch_rows).map(|first| part(&rows, first..(first + batch_rows).min(count))).collect();
            if !steps.is_empty() {
                assert_same(&steps);
            }
        }
    }

    /// Sizes around chunks, words and pages; one cell, many cells, skew; all missing.
    #[test]
    fn sizes_at_the_edges_agree() {
        let integer = |row: usize| i64::from((row as u32).wrapping_mul(2_654_435_761)) - 1_000_000_000;
        for count in [0usize, 1, 63, 64, 65, 255, 256, 257, 65_535, 65_536, 65_537] {
            for cells in [1u32, 3, 100_000] {
                // Many workgroups, each with one row: slow where they are computed by a CPU.
                let count = if cells == 100_000 { count.min(3000) } else { count };
                let slots: Vec<u32> = (0..count as u32).map(|row| row.wrapping_mul(7919) % cells).collect();
                let all = vec![true; count];
                assert_same(&[(slots.clone(), Values::Int64((0..count).map(integer).collect()), all.clone())]);
                assert_same(&[(slots, Values::Float32((0..count).map(|row| integer(row) as f32).collect()), all)]);
            }
        }
        let skewed: Vec<u32> = (0..5000).map(|row| if row % 5 < 4 { 65_535 } else { row % 70 }).collect();
        let decimals = (0..5000).map(|row| (i128::MAX / 3 - row) * if row % 2 == 0 { 1 } else { -1 }).collect();
        assert_same(&[(skewed.clone(), Values::Decimal128(decimals), vec![true; 5000])]);
        assert_same(&[(skewed, Values::Int64(vec![i64::MIN; 5000]), vec![false; 5000])]);
    }

    /// NaN, infinities, denormals.
    #[test]
    fn extreme_floats_agree() {
        let extreme = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -0.0, 0.0, f32::MAX, f32::MIN, 1.0];
        for first in 0..extreme.len() {
            let values: Vec<f32> = extreme[first..].to_vec();
            let count = values.len();
            assert_same(&[(vec![0; count], Values::Float32(values), vec![true; count])]);
        }
    }
}
