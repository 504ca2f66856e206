use super::naive::Naive;
use super::*;
use proptest::prelude::*;

/// A row as it comes: its key, its predicate bits, its time.
pub(super) type Row = (u32, u32, i64);

pub(super) fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    proptest::collection::vec(pattern(), 1..4)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let bound = prop_oneof![2 => Just(None), 1 => (0u32..40).prop_map(Some), 1 => Just(Some(AGE_NEVER - 1))];
    let skip = prop_oneof![Just(Skip::PastLastRow), Just(Skip::Overlapping)];
    let any = (1usize..12).prop_flat_map(|count| {
        let sets = 0u32..1 << count;
        let state = (0u32..64, any::<u32>(), sets.clone()).prop_map(|(mask, value, follow)| State {
            mask: mask & 0b10_1101,
            value: value & mask & 0b10_1101,
            follow,
        });
        (proptest::collection::vec(state, count), sets.clone(), sets)
    });
    let any = any.prop_map(|(states, start, accept)| (states, start, accept));
    let chain = (1usize..6, 0u32..64).prop_map(|(length, repeats)| {
        let pattern = Pattern::sequence(length, repeats & ((1 << length) - 1));
        (pattern.states, pattern.start, pattern.accept)
    });
    let long = Just(Pattern::sequence(32, 0b1010)).prop_map(|mut pattern| {
        pattern
            .states
            .iter_mut()
            .enumerate()
            .for_each(|(index, state)| (state.mask, state.value) = (1 << (index % 6), 1 << (index % 6)));
        (pattern.states, pattern.start, pattern.accept | 1 << 9)
    });
    (prop_oneof![3 => any, 3 => chain, 1 => long], skip, bound)
        .prop_map(|((states, start, accept), skip, within)| Pattern { states, start, accept, skip, within })
}

/// Rows of hot and rare keys; predicates are mostly true, so that patterns get somewhere; time runs in jumps, some of them huge.
pub(super) fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let slot = prop_oneof![4 => 0u32..90, 2 => Just(7u32), 1 => 65_530u32..65_540];
    let bits = (any::<u32>(), any::<u32>()).prop_map(|(left, right)| left | right);
    let step = prop_oneof![8 => 0i64..8, 1 => Just(1i64 << 33)];
    proptest::collection::vec((slot, bits, step), 0..most).prop_map(|rows| {
        let mut now = -5;
        rows.into_iter()
            .map(|(slot, bits, step)| {
                (slot, bits, {
                    now += step;
                    now
                })
            })
            .collect()
    })
}

pub(super) fn batch_of(kernel: &PatternStep, rows: &[Row]) -> Batch {
    let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
    let grouped = Arc::new(GroupedRows::group(&slots, slots.iter().max().map_or(0, |&slot| slot as usize + 1)));
    let bitmaps: Vec<Vec<u32>> = (0..kernel.predicate_count())
        .map(|predicate| {
            let mut bitmap = vec![0; rows.len().div_ceil(32)];
            rows.iter()
                .enumerate()
                .for_each(|(row, &(_, bits, _))| bitmap[row / 32] |= (bits >> predicate & 1) << (row % 32));
            bitmap
        })
        .collect();
    let bitmaps: Vec<&[u32]> = bitmaps.iter().map(Vec::as_slice).collect();
    let times: Vec<i64> = if kernel.needs_times() { rows.iter().map(|row| row.2).collect() } else { Vec::new() };
    Batch::gather(grouped, &bitmaps, &times)
}

/// For each pattern, which rows match, as they came.
fn run(kernel: &PatternStep, state: &mut StatePages, rows: &[Row]) -> Vec<Vec<bool>> {
    let batch = batch_of(kernel, rows);
    state.grow(kernel.slot_count(&batch));
    let matches = kernel.run_twin(&batch, state);
    let mut matched = vec![vec![false; kernel.patterns().len()]; rows.len()];
    for (pattern, &count) in matches.counts.iter().enumerate() {
        assert_eq!(matches.rows(pattern).count() as u64, count);
        matches.rows(pattern).for_each(|row| matched[batch.rows().order()[row] as usize][pattern] = true);
    }
    matched
}

fn expect(patterns: &[Pattern], rows: &[Row]) -> Vec<Vec<bool>> {
    let mut naive = Naive::new(patterns.to_vec());
    rows.iter().map(|&(slot, bits, time)| naive.step(slot, bits, time)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A match that the sets lose, or one that is none, is a wrong alarm.
    #[test]
    fn twin_agrees_with_naive(patterns in patterns(), rows in rows(900)) {
        let kernel = PatternStep::new(patterns.clone()).unwrap();
        let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
        prop_assert_eq!(matched, expect(&patterns, &rows));
    }

    /// Matches go across steps, and the state is the same words however rows were cut.
    #[test]
    fn matches_do_not_depend_on_batching(patterns in patterns(), rows in rows(600), batch_rows in 1usize..200) {
        let kernel = PatternStep::new(patterns.clone()).unwrap();
        let (mut whole, mut cut) = (StatePages::new(kernel.state_shape()), StatePages::new(kernel.state_shape()));
        let expected = run(&kernel, &mut whole, &rows);
        let matched: Vec<Vec<bool>> = rows.chunks(batch_rows).flat_map(|rows| run(&kernel, &mut cut, rows)).collect();
        prop_assert_eq!(matched, expected);
        for &(slot, ..) in &rows {
            prop_assert_eq!(whole.slot(slot), cut.slot(slot));
        }
    }
}

/// A rising run, then a fall: the words of an example, not of another implementation.
#[test]
fn a_sequence_matches_at_its_last_row() {
    let kernel = PatternStep::new(vec![Pattern::sequence(3, 0b010)]).unwrap(); // A B+ C
    let (a, b, c) = (1, 2, 4);
    let bits = [a, b, b, c, c, a, c, b, a, b, a, b, c];
    let rows: Vec<Row> = bits.iter().map(|&bits| (0, bits, 0)).collect();
    let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    let at: Vec<usize> = (0..rows.len()).filter(|&row| matched[row][0]).collect();
    assert_eq!(at, [3, 12]);
}

/// After a match that skips past its last row nothing that overlaps it is reported.
#[test]
fn skipping_drops_what_overlaps() {
    let mut pattern = Pattern::sequence(2, 0); // A A
    pattern.states[1].mask = 1;
    pattern.states[1].value = 1;
    let rows: Vec<Row> = [1, 1, 1, 1, 1].map(|bits| (0, bits, 0)).to_vec();
    let overlapping = Pattern { skip: Skip::Overlapping, ..pattern.clone() };
    let kernel = PatternStep::new(vec![pattern, overlapping]).unwrap();
    let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    let at = |pattern: usize| (0..5).filter(|&row| matched[row][pattern]).collect::<Vec<_>>();
    assert_eq!((at(0), at(1)), (vec![1, 3], vec![1, 2, 3, 4]));
}

/// A bound in time counts from the match's first row, and the youngest of several partial matches decides.
#[test]
fn a_bound_holds_from_the_first_row() {
    let pattern = Pattern { within: Some(10), ..Pattern::sequence(3, 0b010) };
    let kernel = PatternStep::new(vec![pattern]).unwrap();
    let late = [(0, 1, 100), (0, 2, 105), (0, 4, 111)];
    let just = [(0, 1, 200), (0, 2, 205), (0, 4, 210)];
    let restarted = [(0, 1, 300), (0, 3, 309), (0, 2, 312), (0, 4, 319)];
    let rows: Vec<Row> = [&late[..], &just, &restarted].concat();
    let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    let at: Vec<usize> = (0..rows.len()).filter(|&row| matched[row][0]).collect();
    assert_eq!(at, [5, 9]);
}

/// Sizes around the words that rows are packed in.
#[test]
fn sizes_around_words_are_right() {
    let pattern = Pattern { skip: Skip::Overlapping, ..Pattern::sequence(2, 0b01) };
    let kernel = PatternStep::new(vec![pattern.clone()]).unwrap();
    for count in [0usize, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257] {
        for keys in [1u32, 3, 64, 65] {
            let rows: Vec<Row> =
                (0..count as u32 * keys).map(|row| (row % keys, row.wrapping_mul(2_654_435_761) >> 20, 0)).collect();
            let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
            assert_eq!(matched, expect(std::slice::from_ref(&pattern), &rows), "{count} rows of {keys} keys");
        }
    }
}

/// The last key has no rows left while others go on, and its rows end with a word: nothing is read behind the bitmap.
#[test]
fn a_last_key_that_ends_early_is_right() {
    let pattern = Pattern { skip: Skip::Overlapping, ..Pattern::sequence(2, 0b01) };
    let kernel = PatternStep::new(vec![pattern.clone()]).unwrap();
    let rows: Vec<Row> = (0..64u32 * 100)
        .filter(|row| row % 64 < 63 || row / 64 < 60)
        .chain((0..8).map(|row| row * 64))
        .map(|row| (row % 64, row.wrapping_mul(2_654_435_761) >> 20, 0))
        .collect();
    assert!(rows.len().is_multiple_of(32));
    let matched = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    assert_eq!(matched, expect(std::slice::from_ref(&pattern), &rows));
}

#[test]
fn patterns_out_of_range_are_named() {
    let refuse = |pattern: Pattern| PatternStep::new(vec![pattern]).unwrap_err().to_string();
    let good = Pattern::sequence(3, 0);
    assert_eq!(
        refuse(Pattern { accept: 0b1000, ..good.clone() }),
        "`pattern_step`: accept must be a set of the pattern's 3 states, not 0b1000"
    );
    assert!(refuse(Pattern { states: Vec::new(), ..good.clone() }).contains("states must be between 1 and 32"));
    assert!(refuse(Pattern { within: Some(u32::MAX), ..good }).contains("within must be below 2147483647"));
    assert!(PatternStep::new(Vec::new()).is_err());
    assert!(PatternStep::new(vec![Pattern::sequence(32, 0)]).is_ok());
}

#[cfg(feature = "gpu")]
mod device {
    use super::*;
    use crate::device::testing::{shared_test_device, test_options};
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::device::{DeviceOptions, SharedDevice};
    use crate::pattern_step::gpu;
    use crate::placed::{Placed, PlacedOptions};
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

    /// Runs steps on both sides and compares answers and states, to the bit.
    fn assert_same(patterns: &[Pattern], chunk_rows: usize, steps: &[&[Row]]) {
        let Some(device) = device() else { return };
        let mut kernel = PatternStep::new(patterns.to_vec()).unwrap();
        kernel.chunk_rows = chunk_rows;
        let mut state = StatePages::new(kernel.state_shape());
        let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
        placed.move_to_device(device).expect("a device");
        for rows in steps {
            let batch = Arc::new(batch_of(&kernel, rows));
            state.grow(kernel.slot_count(&batch));
            assert_eq!(placed.run(batch.clone()), kernel.run_twin(&batch, &mut state));
        }
        assert_eq!(
            (placed.metrics().device_batches, placed.metrics().twin_batches),
            (steps.len() as u64, 0),
            "ran on the device"
        );
        placed.sync();
        // As a device has it, which gets whole pages.
        state.fill();
        for page in 0..state.page_count() {
            assert!(placed.state().page(page) == state.page(page), "page {page}");
        }
    }

    #[test]
    fn shader_and_rust_agree_on_constants() {
        let constants = [
            ("WORKGROUP_SIZE", f64::from(gpu::WORKGROUP_SIZE)),
            ("AGE_NEVER", f64::from(AGE_NEVER)),
            ("STATES_MAX", STATES_MAX as f64),
            ("CHUNK_WORDS", gpu::CHUNK_WORDS as f64),
            ("CARRY_WORDS", gpu::CARRY_WORDS as f64),
            ("CARRY_SIZE", f64::from(gpu::CARRY_SIZE)),
            ("SCRATCH_WORDS", STATES_MAX as f64),
            ("HEADER_WORDS", gpu::HEADER_WORDS as f64),
            ("CONDITION_WORDS", gpu::CONDITION_WORDS as f64),
            ("NARROW_STATES_MAX", gpu::NARROW_STATES_MAX as f64),
            ("FLAG_FIRST", f64::from(gpu::FLAG_FIRST)),
            ("FLAG_LAST", f64::from(gpu::FLAG_LAST)),
        ];
        assert_constants_agree(&gpu::PATTERN_STEP, &constants);
        assert_registered(&gpu::PATTERN_STEP);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// A query gives the same matches wherever it runs, keys cut into chunks or not.
        #[test]
        fn device_agrees_with_twin(patterns in patterns(), rows in rows(900), chunk_rows in 1usize..100, batch_rows in 100usize..900) {
            assert_same(&patterns, chunk_rows, &rows.chunks(batch_rows).collect::<Vec<_>>());
        }
    }

    /// The usual patterns are small automata, so that their keys are cut into chunks; a long one is not.
    #[test]
    fn usual_patterns_compose() {
        let kernel = PatternStep::new(vec![Pattern::sequence(3, 0b010), Pattern::sequence(32, 0)]).unwrap();
        let sets: Vec<_> =
            kernel.compiled.iter().map(|compiled| compiled.deterministic.as_ref().map(|map| map.sets.len())).collect();
        assert_eq!(sets, [Some(8 - 4), None]);
    }

    fn spread(count: usize, keys: u32) -> Vec<Row> {
        let row = |row: u32| {
            (
                row.wrapping_mul(7919) % keys,
                row.wrapping_mul(2_654_435_761) >> 13 | row.wrapping_mul(40_503) >> 4,
                i64::from(row / 3),
            )
        };
        (0..count as u32).map(row).collect()
    }

    /// Sizes around words, workgroups and pages; one key, many keys, skew.
    #[test]
    fn sizes_at_the_edges_agree() {
        let bounded = Pattern { within: Some(3), skip: Skip::Overlapping, ..Pattern::sequence(2, 0b01) };
        let patterns = [Pattern::sequence(3, 0b010), bounded];
        for count in [0, 1, 63, 64, 65, 255, 256, 257, 65_535, 65_536, 65_537] {
            for keys in [1, 3, 70_000] {
                assert_same(&patterns, gpu::CHUNK_ROWS, &[&spread(count, keys), &spread(count.min(500), keys)]);
            }
        }
        let skewed: Vec<Row> = spread(30_000, 1000)
            .into_iter()
            .map(|(slot, bits, time)| (if slot > 100 { 65_535 } else { slot }, bits, time))
            .collect();
        assert_same(&patterns, 64, &[&skewed]);
    }

    /// Maps between more sets than one word of nibbles holds, of a pattern that never forgets: a ring of ten states that one row
    /// starts, and that each row without it moves on. (Most patterns forget within a few rows, and then any map will do.)
    #[test]
    fn large_maps_compose() {
        let ring = (1..=10).map(|state| State { mask: 1, value: 0, follow: if state < 10 { 2 << state } else { 2 } });
        let states = std::iter::once(State { mask: 1, value: 1, follow: 2 }).chain(ring).collect();
        let pattern = Pattern { states, start: 1, accept: 1 << 10, skip: Skip::Overlapping, within: None };
        let kernel = PatternStep::new(vec![pattern.clone()]).unwrap();
        assert_eq!(kernel.compiled[0].deterministic.as_ref().map(|map| map.sets.len()), Some(12));
        let rows: Vec<Row> = (0..3000).map(|row| (0, u32::from(row % 1009 == 0), 0)).collect();
        for chunk_rows in [1, 64, 101] {
            assert_same(std::slice::from_ref(&pattern), chunk_rows, &[&rows, &rows[1..]]);
        }
    }

    /// No predicate is ever true, or all are: nothing, or everything, matches.
    #[test]
    fn all_or_nothing_agrees() {
        let overlapping = Pattern { skip: Skip::Overlapping, ..Pattern::sequence(3, 0b111) };
        for bits in [0, u32::MAX] {
            let rows: Vec<Row> = spread(1000, 5).into_iter().map(|(slot, _, time)| (slot, bits, time)).collect();
            assert_same(&[overlapping.clone(), Pattern::sequence(1, 0)], 32, &[&rows, &rows]);
        }
    }
}
