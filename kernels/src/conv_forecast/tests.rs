//! The twin against the definition, windows against theirs, and files that are none.

use proptest::prelude::*;

use super::*;

/// About normal, of variance one.
fn noise(row: usize, salt: u32) -> f64 {
    let draw = |index: u32| {
        let mut word = (row as u32).wrapping_mul(0x9e37_79b9) ^ (salt * 4 + index).wrapping_mul(0x85eb_ca6b);
        word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
        word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
        f64::from(word ^ word >> 16) / f64::from(u32::MAX)
    };
    ((0..4).map(draw).sum::<f64>() - 2.0) * 3f64.sqrt()
}

/// Weights as a training begins with, from a seed.
pub(super) fn weights(seed: u32) -> Weights {
    let mut tensors = Vec::new();
    for (index, layer) in LAYERS.iter().enumerate() {
        let bound = 1.5 / (layer.inputs as f32).sqrt();
        let number = |at: usize| (noise(at, seed * 64 + 2 * index as u32) * f64::from(bound)) as f32;
        let weight: Vec<f32> = (0..layer.inputs * layer.outputs).map(number).collect();
        let bias: Vec<f32> = (0..layer.outputs).map(|at| 0.1 * number(at + 1_000_000)).collect();
        tensors.push((format!("{}.weight", layer.name), vec![layer.outputs, layer.inputs], weight));
        tensors.push((format!("{}.bias", layer.name), vec![layer.outputs], bias));
    }
    Weights::read(&file(&tensors)).expect("the file is whole")
}

fn file(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, numbers)| numbers.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape is the numbers'"))
    });
    safetensors::serialize(views, None).expect("it is a file")
}

/// Series of some lengths with seasons that they have or do not have.
pub(super) fn windows(count: usize, salt: u32) -> Windows {
    let mut windows = Windows::new();
    for key in 0..count {
        let length = [1, 7, 15, 16, 40, 224, 300, 700][(key + salt as usize) % 8];
        let season = [0, 0, 5, 24, 33, 100][(key / 2 + salt as usize) % 6];
        let long = if season == 24 && key % 2 == 0 { 168 } else { 0 };
        let scale = 10f64.powi(key as i32 % 9 - 4);
        let value =
            |row: usize| (scale * (3.0 * (row as f64 / 4.0).sin() + noise(row, salt + key as u32) + 20.0)) as f32;
        let values: Vec<f32> = (0..length).map(value).collect();
        windows.push(&values, Seasons { season, long });
    }
    windows
}

#[test]
fn the_weights_of_the_repository_can_be_read() {
    let numbers = Weights::builtin().numbers();
    assert_eq!(numbers.len(), Weights::COUNT);
    assert!((85_000..=300_000).contains(&Weights::COUNT) && BUILTIN_FILE.len() <= 1_200_000, "{}", Weights::COUNT);
}

/// A file that is another network's says what is missing.
#[test]
fn other_files_are_refused() {
    let refused = |bytes: &[u8]| Weights::read(bytes).expect_err("it is no network").to_string();
    assert!(
        refused(b"nothing")
            .starts_with("`conv_forecast`: weights must be a safetensors file, not 7 bytes that are none")
    );
    let one = |shape: Vec<usize>, number: f32| {
        let count = shape.iter().product();
        file(&[("embed.weight".into(), shape, vec![number; count])])
    };
    assert!(refused(&one(vec![64, 51], 0.0)).ends_with("not of F32 and shape [64, 51]"));
    assert!(refused(&one(vec![64, 52], f32::NAN)).ends_with("not one with NaN"));
    assert!(refused(&one(vec![64, 52], 0.0)).contains("a tensor `embed.bias` of finite F32 and shape [64]"));
}

/// A constant goes on without a doubt, whatever the network says.
#[test]
fn a_constant_window_has_no_unit() {
    let mut windows = Windows::new();
    windows.push(&[7.25; 100], Seasons { season: 10, long: 0 });
    assert_eq!(windows.scales[0], Scale { level: 7.25, unit: 0.0 });
    assert!(windows.candidates.iter().all(|candidate| *candidate == 0.0));
    let quantiles = forecast(&weights(1), &windows);
    assert!(quantiles.iter().all(|quantile| windows.scales[0].unscaled(*quantile) == 7.25));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Leaving out the tokens that nobody looks at changes nothing.
    #[test]
    fn the_twin_is_the_whole_network(seed in 0u32..100, count in 1usize..20) {
        let (weights, windows) = (weights(seed), windows(count, seed));
        let twin = forecast(&weights, &windows);
        for (twin, naive) in twin.iter().zip(naive::forecast(&weights, &windows)) {
            prop_assert!((f64::from(*twin) - naive).abs() <= f64::from(TOLERANCE) * (1.0 + naive.abs()), "{} {}", twin, naive);
        }
    }

    /// Which other keys are asked about does not show, to the bit.
    #[test]
    fn batches_do_not_show(seed in 0u32..100, count in 1usize..40, one in 0usize..40) {
        let weights = weights(seed);
        let all = windows(count, seed);
        let one = one % count;
        let alone = Windows {
            numbers: all.numbers[one * WINDOW_NUMBERS..][..WINDOW_NUMBERS].to_vec(),
            candidates: all.candidates[one * WINDOW_CANDIDATES..][..WINDOW_CANDIDATES].to_vec(),
            scales: vec![all.scales[one]],
        };
        let of_all = forecast(&weights, &all);
        prop_assert_eq!(&of_all[one * FORECAST_NUMBERS..][..FORECAST_NUMBERS], &forecast(&weights, &alone)[..]);
    }

    /// Quantiles never cross.
    #[test]
    fn quantiles_ascend(seed in 0u32..1000) {
        let quantiles = forecast(&weights(seed), &windows(8, seed));
        prop_assert!(quantiles.iter().all(|quantile| quantile.is_finite()));
        prop_assert!(quantiles.chunks_exact(QUANTILES).all(|step| step.is_sorted()));
    }

    /// Each place shows the value that it is said to show, and only what the window is said to depend on.
    #[test]
    fn windows_show_the_past(
        length in 1usize..900,
        season in prop_oneof![Just(0usize), 2usize..200],
        long in any::<bool>(),
        salt in 0u32..100,
    ) {
        let long = if long && (2..=48).contains(&season) { 7 * season } else { 0 };
        let seasons = Seasons { season, long };
        let values: Vec<f32> = (0..length).map(|row| noise(row, salt) as f32).collect();
        let mut windows = Windows::new();
        windows.push(&values, seasons);
        let scale = windows.scales[0];
        let shown = naive::shown(&values, seasons);
        for (numbers, shown) in windows.numbers.chunks_exact(FEATURES).zip(shown) {
            for (number, shown) in numbers.iter().zip(shown.iter().flatten()) {
                let scaled = shown.map_or(0.0, |value| scale.scaled(value));
                prop_assert!((number - scaled / (1.0 + scaled.abs() / 8.0)).abs() < 1e-5, "{} {:?}", number, shown);
            }
        }
        let mut recent = Windows::new();
        recent.push(&values[length.saturating_sub(seasons.rows_seen())..], seasons);
        prop_assert_eq!(windows, recent);
    }
}
