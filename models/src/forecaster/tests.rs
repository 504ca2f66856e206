//! A short training, and candle against the kernel.

use eagre_datasets::mixtures;
use eagre_kernels::conv_forecast::{BUILTIN_FILE, FORECAST_NUMBERS, TOLERANCE, Weights, forecast};

use super::*;

fn source(number: u64, rows: usize) -> TrainingSeries {
    let series = mixtures::series(1, number, rows);
    let seasons = Seasons { season: series.season as usize, long: series.long_season as usize };
    TrainingSeries { values: series.values, seasons }
}

fn windows(count: u64) -> Windows {
    let mut windows = Windows::new();
    for number in 0..count {
        let series = source(1_000_000 + number, 60 + 17 * number as usize);
        windows.push(&series.values, series.seasons);
    }
    windows
}

/// candle and the kernel say the same of these weights, in units of the window's scale or of what is said, whichever is more.
fn agrees(bytes: &[u8], windows: &Windows) {
    let candle = CandleForecaster::read(bytes).expect("the file is whole").forecast(windows).expect("candle runs");
    let twin = forecast(&Weights::read(bytes).expect("the file is whole"), windows);
    assert_eq!((candle.len(), twin.len()), (twin.len(), windows.len() * FORECAST_NUMBERS));
    for (candle, twin) in candle.iter().zip(&twin) {
        assert!((candle - twin).abs() <= TOLERANCE * (1.0 + twin.abs()), "candle says {candle}, the kernel {twin}");
    }
}

/// What queries are answered with is what candle would answer from the same file.
#[test]
fn candle_and_the_kernel_agree_on_the_trained_network() {
    agrees(BUILTIN_FILE, &windows(60));
    assert!(
        CandleForecaster::read(BUILTIN_FILE).expect("whole").forecast(&Windows::new()).expect("nothing").is_empty()
    );
}

/// A short training learns, its file can be used at once, and it is the same file each time.
#[test]
fn a_training_learns_and_can_be_repeated() {
    let settings = ForecasterSettings {
        steps: 12,
        batch_windows: 16,
        points: 4,
        held_out_windows: 64,
        ..ForecasterSettings::default()
    };
    let run = |settings: &ForecasterSettings| {
        let mut told = Vec::new();
        let trained = train_forecaster(settings, &source, &mut |point| told.push(point)).expect("it is trained");
        assert_eq!(told, trained.curve, "each point is told");
        trained
    };
    let trained = run(&settings);
    let losses: Vec<f64> = trained.curve.iter().map(|point| point.held_out_loss).collect();
    assert_eq!(trained.curve.iter().map(|point| point.step).collect::<Vec<_>>(), [0, 3, 6, 9, 12]);
    assert!(losses[4] < 0.95 * losses[0], "{losses:?}");
    agrees(&trained.bytes, &windows(20));
    assert_eq!(trained, run(&settings), "the same seed gives the same bytes");
    assert_ne!(trained.bytes, run(&ForecasterSettings { seed: 2, ..settings }).bytes);
}

/// The curve that is committed is one that a training writes.
#[test]
fn curves_are_shown() {
    let point = |step: usize, loss: f64| CurvePoint { step, steps: 10, loss, held_out_loss: loss + 0.1 };
    let curve = [point(0, 1.0), point(5, 0.5), point(10, 0.25)];
    assert_eq!(
        curve_csv(&curve),
        "step,loss,held_out_loss\n0,1.000000,1.100000\n5,0.500000,0.600000\n10,0.250000,0.350000\n"
    );
    let svg = curve_svg("conv", &curve);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 2, "{svg}");
}
