use proptest::prelude::*;

use super::naive::starts;
use super::*;

/// Rows of groups of these lengths, and predicates over them: mostly true, so that patterns get somewhere. What follows the last row is
/// noise.
fn batch(lengths: &[usize], predicates: usize, seed: u64) -> Batch {
    let rows: usize = lengths.iter().sum();
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let bitmaps = (0..predicates).map(|predicate| {
        let word = |_| if predicate % 3 == 2 { random() & random() } else { random() | random() | random() };
        (0..rows.div_ceil(64)).map(word).collect()
    });
    let bitmaps = Arc::new(bitmaps.collect());
    let mut ends = vec![0u64; rows.div_ceil(64)];
    let mut end = 0;
    for length in lengths {
        end += length;
        ends[(end - 1) / 64] |= 1 << ((end - 1) % 64);
    }
    Batch::new(rows, bitmaps, Arc::new(ends))
}

const PREDICATES: usize = 6;

fn pattern() -> impl Strategy<Value = Pattern> {
    let state = |count: usize| {
        let predicate = proptest::option::weighted(0.9, 0..PREDICATES as u32);
        // Sparse, so that not all lead to all.
        let next = (any::<u32>(), any::<u32>()).prop_map(move |(a, b)| a & b & (u32::MAX >> (32 - count)));
        (predicate, next, proptest::bool::weighted(0.1)).prop_map(|(predicate, next, free)| State {
            predicate,
            next,
            free,
        })
    };
    let small = (1usize..7).prop_flat_map(move |count| {
        (proptest::collection::vec(state(count), count), 1u32..1 << count)
            .prop_map(|(states, start)| Pattern { states, start })
    });
    // One after the other, some of which repeat.
    let chain = (1usize..33, any::<u32>()).prop_map(|(count, repeats)| Pattern {
        states: (0..count)
            .map(|place| State {
                predicate: Some((place % PREDICATES) as u32),
                next: if place + 1 < count { 2 << place } else { 0 } | repeats & 1 << place,
                free: place + 1 == count,
            })
            .collect(),
        start: 1,
    });
    prop_oneof![2 => small, 1 => chain]
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        proptest::collection::vec(1usize..6, 0..120),
        proptest::collection::vec(1usize..200, 0..6),
        proptest::collection::vec(Just(1usize), 0..140),
        proptest::collection::vec(
            prop_oneof![Just(31usize), Just(32), Just(33), Just(63), Just(64), Just(65), Just(128)],
            1..5
        ),
        (300usize..1500).prop_map(|rows| vec![rows]),
    ]
}

fn bits_of(words: &[u64], rows: usize) -> Vec<bool> {
    (0..rows).map(|row| words[row / 64] >> (row % 64) & 1 == 1).collect()
}

fn run_twin(kernel: &PatternStarts, batch: &Batch) -> Starts {
    kernel.run_twin(batch, &mut StatePages::new(kernel.state_shape()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A row that is left out is a match that nobody is told of.
    #[test]
    fn twin_agrees_with_naive(
        patterns in proptest::collection::vec(pattern(), 1..5),
        before in lengths(),
        lengths in lengths(),
        seed in any::<u64>(),
    ) {
        let kernel = PatternStarts::new(patterns.clone()).expect("they are well formed");
        // What is written over does not show.
        kernel.give_back(run_twin(&kernel, &batch(&before, PREDICATES, seed ^ 1)));
        let batch = batch(&lengths, PREDICATES, seed);
        let found = run_twin(&kernel, &batch);
        for (index, pattern) in patterns.iter().enumerate() {
            prop_assert_eq!(bits_of(found.of(index), batch.row_count()), starts(pattern, &batch), "{:?}", pattern);
            let behind = found.of(index).last().map_or(0, |word| word & !batch.last_mask());
            prop_assert_eq!(behind, 0, "nothing is told behind the last row");
        }
    }
}

/// `A{2,} B` in two groups, by hand: a run of `A` that the group's end cuts off may go on, one that neither `A` nor `B` follows does not.
#[test]
fn a_run_that_ends_without_its_hit_begins_nothing() {
    let state = |predicate, next, free| State { predicate: Some(predicate), next, free };
    let pattern =
        Pattern { states: vec![state(0, 0b010, false), state(0, 0b110, false), state(1, 0, true)], start: 0b001 };
    // Row      0  1  2  3  4  5  6  7  8 | 9 10 11
    // A        1  1  1  0  1  1  0  1  1 | 1  0  1
    // B        0  0  0  1  0  0  0  0  0 | 0  1  0
    let (a, b) = (0b1011_1011_0111, 0b0100_0000_1000);
    let batch = Batch::new(12, Arc::new(vec![vec![a], vec![b]]), Arc::new(vec![0b1001_0000_0000]));
    let found = run_twin(&PatternStarts::new(vec![pattern.clone()]).expect("it is well formed"), &batch);
    let rows: Vec<usize> = (0..12).filter(|row| bits_of(found.of(0), 12)[*row]).collect();
    assert_eq!(rows, [0, 1, 7, 8, 11]);
    assert_eq!(bits_of(found.of(0), 12), starts(&pattern, &batch));
}

#[test]
fn patterns_out_of_range_are_named() {
    let state = State { predicate: Some(0), next: 0, free: true };
    let refuse = |states: Vec<State>, start| PatternStarts::new(vec![Pattern { states, start }]).map(drop);
    let text = |refused: Result<(), KernelError>| refused.expect_err("it is refused").to_string();
    assert_eq!(
        text(refuse(vec![state], 2)),
        "`pattern_starts`: start must be a set of the pattern's 1 states, not 0b10"
    );
    assert!(text(refuse(vec![State { next: 4, ..state }; 2], 1)).contains("next must be a set of the pattern's 2"));
    assert!(text(refuse(vec![], 0)).contains("states must be between 1 and 32"));
    assert!(text(refuse(vec![state; 33], 1)).contains("not 33"));
    assert!(PatternStarts::new(vec![]).is_err());
    assert!(refuse(vec![State { next: u32::MAX, ..state }; 32], u32::MAX).is_ok());
}

#[cfg(feature = "gpu")]
mod device {
    use super::*;
    use crate::device::ResidentPages;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::patient_device;
    use crate::pattern_starts::gpu;

    #[test]
    fn the_shader_agrees_with_rust() {
        assert_registered(&gpu::PATTERN_STARTS);
        let constants = [
            ("WORKGROUP_SIZE", f64::from(gpu::WORKGROUP_SIZE)),
            ("STATES_MAX", STATES_MAX as f64),
            ("HEADER_WORDS", gpu::HEADER_WORDS as f64),
            ("STATE_WORDS", gpu::STATE_WORDS as f64),
            ("FLAG_FREE", f64::from(gpu::FLAG_FREE)),
            ("FLAG_REPEATS", f64::from(gpu::FLAG_REPEATS)),
            ("PREDICATE_ANY", f64::from(gpu::PREDICATE_ANY)),
        ];
        assert_constants_agree(&gpu::PATTERN_STARTS, &constants);
    }

    /// What the device says of batches, and the twin, to the bit.
    fn assert_same(patterns: &[Pattern], batches: &[Batch]) {
        let Some(device) = patient_device() else { return };
        let kernel = PatternStarts::new(patterns.to_vec()).expect("they are well formed");
        let mut state = ResidentPages::new(&device, kernel.state_shape());
        for batch in batches {
            let mut wave = device.wave().expect("a wave");
            let regions = kernel.encode(batch, &mut state, &mut wave).expect("the batch is encoded");
            let readback = device.submit(wave).wait().expect("an answer");
            let found = kernel.decode(batch, &regions, &readback);
            assert!(found == run_twin(&kernel, batch), "{patterns:?}, {} rows", batch.row_count());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Matches are the same wherever rows are looked at.
        #[test]
        fn device_agrees_with_twin(
            patterns in proptest::collection::vec(pattern(), 1..5),
            lengths in proptest::collection::vec(lengths(), 1..3),
            seed in any::<u64>(),
        ) {
            let batches: Vec<Batch> = lengths.iter().map(|lengths| batch(lengths, PREDICATES, seed)).collect();
            assert_same(&patterns, &batches);
        }
    }

    /// Sizes around words, segments and workgroups; one group, many, skew; more patterns than predicates.
    #[test]
    fn sizes_at_the_edges_agree() {
        let state = |predicate, next, free| State { predicate: Some(predicate), next, free };
        let rule = |index: u32| Pattern {
            states: vec![state(index % 5, 0b010, false), state(index % 5, 0b110, false), state(5, 0, true)],
            start: 1,
        };
        // Two states that lead to each other.
        let cycle =
            Pattern { states: vec![state(0, 0b110, false), state(1, 0b001, false), state(2, 0, true)], start: 1 };
        let patterns: Vec<Pattern> = (0..70).map(rule).chain([cycle]).collect();
        let mut batches = Vec::new();
        for rows in [0usize, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 4_095, 4_096, 4_097, 16_385] {
            let one = if rows == 0 { vec![] } else { vec![rows] };
            let skewed = if rows > 100 { [vec![1; 50], vec![rows - 100], vec![1; 50]].concat() } else { vec![1; rows] };
            for lengths in [one, vec![1; rows], skewed] {
                batches.push(batch(&lengths, PREDICATES, rows as u64 + 7));
            }
        }
        assert_same(&patterns, &batches);
    }
}
