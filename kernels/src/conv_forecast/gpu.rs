//! The device side of `conv_forecast`: one workgroup for each window.

use super::{ConvForecast, FORECAST_NUMBERS, WINDOW_CANDIDATES, WINDOW_NUMBERS, Windows};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::kernel::KernelError;

/// See the shader's head.
pub(crate) static CONV_FORECAST: Program = Program {
    name: "conv_forecast",
    source: include_str!("conv_forecast.wgsl"),
    storage: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
};

/// So many windows are one dispatch: their numbers stay within what may be bound by the default limits.
const BLOCK: usize = 16_384;

pub(super) fn encode(
    kernel: &ConvForecast,
    batch: &Windows,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let weights =
        state.table("weights", || kernel.weights().numbers().iter().map(|number| number.to_bits()).collect())?;
    debug_assert_eq!(batch.numbers.len(), batch.len() * WINDOW_NUMBERS);
    debug_assert_eq!(batch.candidates.len(), batch.len() * WINDOW_CANDIDATES);
    let mut regions = Vec::new();
    let blocks = batch.numbers.chunks(BLOCK * WINDOW_NUMBERS).zip(batch.candidates.chunks(BLOCK * WINDOW_CANDIDATES));
    for (numbers, candidates) in blocks {
        let windows = numbers.len() / WINDOW_NUMBERS;
        let (numbers, candidates) = (wave.upload_f32(numbers), wave.upload_f32(candidates));
        let quantiles = wave.output(windows * FORECAST_NUMBERS);
        wave.dispatch(Dispatch {
            program: &CONV_FORECAST,
            entry: "conv_forecast",
            overrides: &[],
            params: &[windows as u32],
            bindings: &[
                Binding::Table(&weights),
                Binding::Region(&numbers),
                Binding::Region(&candidates),
                Binding::Region(&quantiles),
            ],
            workgroups: windows as u32,
        })?;
        regions.push(quantiles);
    }
    Ok(regions)
}

pub(super) fn decode(regions: &[Region], readback: &Readback) -> Vec<f32> {
    regions.iter().flat_map(|region| readback.f32s(region).iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{weights, windows};
    use super::super::*;
    use super::*;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::patient_device;

    #[test]
    fn the_shader_agrees_with_rust() {
        assert_registered(&CONV_FORECAST);
        let constants = [
            ("WORKGROUP_SIZE", HIDDEN),
            ("TOKENS", TOKENS),
            ("PATCH", PATCH),
            ("FEATURES", FEATURES),
            ("WIDTH", WIDTH),
            ("HIDDEN", HIDDEN),
            ("STEPS", STEPS),
            ("QUANTILES", QUANTILES),
            ("CANDIDATES", CANDIDATES),
            ("OUTPUTS", OUTPUTS),
            ("MEDIAN", QUANTILES / 2),
            ("QUADS", TOKENS / 4),
        ];
        assert_constants_agree(&CONV_FORECAST, &constants.map(|(name, value)| (name, value as f64)));
    }

    /// What the device says of windows, and the twin.
    fn agrees(weights: &Weights, windows: &Windows) {
        let Some(device) = patient_device() else { return };
        let kernel = ConvForecast::new(weights.clone());
        let mut state = ResidentPages::new(&device, kernel.state_shape());
        let mut wave = device.wave().expect("a wave");
        let regions = kernel.encode(windows, &mut state, &mut wave).expect("the windows are encoded");
        let readback = device.submit(wave).wait().expect("an answer");
        let ours = kernel.decode(windows, &regions, &readback);
        let twin = forecast(weights, windows);
        assert_eq!(ours.len(), twin.len());
        for (ours, twin) in ours.iter().zip(twin) {
            assert!((ours - twin).abs() <= TOLERANCE * (1.0 + twin.abs()), "{ours}, not {twin}");
        }
    }

    #[test]
    fn gpu_says_what_the_trained_network_says() {
        for count in [0, 1, 2, 63, 65, 300] {
            agrees(Weights::builtin(), &windows(count, count as u32));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// Any weights, any windows.
        #[test]
        fn gpu_agrees_with_twin(seed in 0u32..1000, count in 1usize..40) {
            agrees(&weights(seed), &windows(count, seed));
        }
    }
}
