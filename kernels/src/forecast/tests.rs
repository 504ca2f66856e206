//! Laws of forecasts, and cases that can be worked out by hand.

use super::forecaster::mix;
use super::naive::Naive;
use super::state::Shape;
use super::*;
use crate::rows::GroupedRows;
use proptest::prelude::*;

const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];

fn parameters(season: Season, horizon: u32) -> Parameters {
    Parameters { season, season_max: 48, ..Parameters::new(horizon) }
}

fn forecaster(parameters: Parameters) -> Forecaster {
    let mut forecaster = Forecaster::new(parameters).expect("parameters are in range");
    forecaster.grow(1);
    forecaster
}

fn learnt(parameters: Parameters, values: impl IntoIterator<Item = f64>) -> Forecaster {
    let mut forecaster = forecaster(parameters);
    values.into_iter().for_each(|value| forecaster.learn_one(0, value));
    forecaster
}

/// The rows of quantiles, one for each step; none before there is a forecast.
fn forecast(forecaster: &mut Forecaster) -> Vec<[f64; 3]> {
    let mut quantiles = Vec::new();
    forecaster.forecast(0, &LEVELS, &mut quantiles);
    quantiles.chunks_exact(3).map(|step| step.try_into().expect("three levels")).collect()
}

/// About normal, of variance one.
fn noise(row: usize, salt: u32) -> f64 {
    (0..12).map(|index| f64::from(mix(row as u32, salt * 12 + index)) / f64::from(u32::MAX) - 0.5).sum()
}

fn close(one: f64, other: f64, within: f64) -> bool {
    (one - other).abs() <= within
}

/// A constant goes on as it is, without a doubt.
#[test]
fn a_constant_is_forecast_as_itself() {
    for method in Method::ALL {
        let parameters = Parameters { method, ..Parameters::new(8) };
        for constant in [0.0, 7.25, -1e9, 1e300, 1e-300] {
            let quantiles = forecast(&mut learnt(parameters.clone(), [constant; 100]));
            assert_eq!(quantiles, [[constant; 3]; 8], "{}", method.name());
        }
    }
}

/// A line goes on as a line.
#[test]
fn a_line_goes_on() {
    let mut forecaster = learnt(Parameters::new(12), (0..300).map(|row| 100.0 + 3.0 * f64::from(row)));
    for (index, [low, middle, high]) in forecast(&mut forecaster).into_iter().enumerate() {
        let expected = 100.0 + 3.0 * (300.0 + index as f64);
        assert!(close(middle, expected, 0.5), "step {index}: {middle}, not {expected}");
        assert!(high - low < 3.0, "step {index}: from {low} to {high}");
    }
}

/// A season is found without being told of, and repeats; exactly, but for what a network says of it.
#[test]
fn an_exact_season_repeats() {
    let shape = |row: u32| f64::from(row % 17 * row % 17);
    for method in Method::ALL {
        let (off, wide) = if method == Method::Conv { (2.0, 8.0) } else { (0.1, 1.0) };
        let mut forecaster = learnt(Parameters { method, ..Parameters::new(20) }, (0..400).map(shape));
        assert_eq!(forecaster.season(0), Some(17), "{}", method.name());
        for (step, [low, middle, high]) in (400..).zip(forecast(&mut forecaster)) {
            assert!(close(middle, shape(step), off), "{} row {step}: {middle}, not {}", method.name(), shape(step));
            assert!(high - low < wide, "{} row {step}: from {low} to {high}", method.name());
        }
    }
}

/// After a level shift forecasts are there where the series is, and not half way.
#[test]
fn a_level_shift_is_followed() {
    let values = (0..400).map(|row| if row < 300 { 10.0 } else { 60.0 } + noise(row, 1));
    for [low, middle, high] in forecast(&mut learnt(Parameters::new(6), values)) {
        assert!(close(middle, 60.0, 3.0) && low < high, "{low} {middle} {high}");
    }
}

/// A stock falls, is filled up, and falls on: the row of the refill cannot be known, and after it, at the latest after the next one, forecasts
/// are where the stock is, whatever was best before. So with noise and without; and when it has happened a few times, at once.
#[test]
fn a_refill_is_followed_in_two_rows() {
    for (noisy, every, salt) in [(0.0, 96, 20), (0.0, 150, 21), (1.0, 120, 22), (2.0, 77, 23)] {
        let stock = |row: usize| 400.0 - 4.0 * (row % every) as f64 + noisy * noise(row, salt);
        let mut forecaster = forecaster(Parameters::new(4));
        let (mut off, mut refills) = (Vec::new(), Vec::new());
        for row in 0..500usize {
            if row >= 60 && !close(forecast(&mut forecaster)[0][1], stock(row), 25.0) {
                off.push(row);
            }
            if row > 0 && row.is_multiple_of(every) {
                refills.push(row);
            }
            forecaster.learn_one(0, stock(row));
        }
        let known: Vec<&usize> = refills.iter().filter(|row| !off.contains(row)).collect();
        assert!(known.is_empty(), "nothing says that the stock is filled up in {known:?}: off in {off:?}");
        let late: Vec<&usize> = off.iter().filter(|row| *row % every > 1).collect();
        assert!(late.is_empty(), "noise {noisy}, filled up in {refills:?}: off in {off:?}");
        let again: Vec<&usize> = off.iter().filter(|row| **row > 250 && *row % every > 0).collect();
        assert!(again.is_empty(), "noise {noisy}, filled up in {refills:?}: off in {off:?}");
    }
}

/// A single spike is no shift: the rows after it are forecast where they always were.
#[test]
fn a_spike_is_not_followed() {
    for salt in 30..34 {
        let value = |row: usize| noise(row, salt) + if row >= 200 && row % 50 == 7 { 60.0 } else { 0.0 };
        let mut forecaster = forecaster(parameters(Season::None, 6));
        let mut off = 0.0;
        let mut count = 0.0;
        for row in 0..1000usize {
            // In the row before came a spike; the first ones may be taken for a shift.
            if row > 400 && row % 50 == 8 {
                for [_, middle, _] in forecast(&mut forecaster) {
                    off += middle.abs();
                    count += 1.0;
                }
            }
            forecaster.learn_one(0, value(row));
        }
        assert!(off / count < 1.5, "{}", off / count);
    }
}

/// Groups of horizons share what errors look like, and not how great they are: each step's interval holds by itself.
#[test]
fn intervals_hold_at_each_step() {
    let mut level = 0.0;
    let mut inside = [0.0; 24];
    let mut forecasts = 0.0;
    let values: Vec<f64> = (0..6000)
        .map(|row| {
            level += noise(row, 40);
            level
        })
        .collect();
    let mut forecaster = forecaster(parameters(Season::None, 24));
    for (row, value) in values.iter().enumerate() {
        if row >= 500 && row.is_multiple_of(5) && row + 24 <= values.len() {
            forecasts += 1.0;
            for (step, [low, _, high]) in forecast(&mut forecaster).into_iter().enumerate() {
                inside[step] += f64::from(u8::from((low..=high).contains(&values[row + step])));
            }
        }
        forecaster.learn_one(0, *value);
    }
    for (step, inside) in inside.into_iter().enumerate() {
        assert!(close(inside / forecasts, 0.8, 0.06), "step {}: {}", step + 1, inside / forecasts);
    }
}

/// Levels that jump again and again are where the last value is, and a queue that is mostly empty is forecast as empty: what no
/// regression sees is said by the plainer experts.
#[test]
fn jumps_and_empty_queues_are_forecast_as_they_are() {
    let level = |row: usize| f64::from(mix(row as u32 / 40, 11) % 100);
    let mut forecaster = forecaster(parameters(Season::None, 6));
    let (mut off, mut off_by_last, mut last) = (0.0, 0.0, 0.0);
    for row in 0..2000usize {
        let value = level(row) + 0.2 * noise(row, 12);
        if row >= 400 {
            off += (forecast(&mut forecaster)[2][1] - value).abs();
            off_by_last += f64::abs(last - value);
        }
        forecaster.learn_one(0, value);
        last = value;
    }
    assert!(off < 4.0 * off_by_last, "{off}, one row ahead the last value is off by {off_by_last}");
    let burst = |row: usize| if mix(row as u32 / 5, 13).is_multiple_of(8) { 50.0 + 10.0 * noise(row, 14) } else { 0.0 };
    let mut forecaster = learnt(parameters(Season::None, 24), (0..1000).map(burst));
    let (mut off, mut off_by_zero) = (0.0, 0.0);
    for row in 1000..3000usize {
        forecaster.learn_one(0, burst(row));
        if row.is_multiple_of(24) {
            for (step, [_, middle, _]) in (row + 1..).zip(forecast(&mut forecaster)) {
                off += (middle - burst(step)).abs();
                off_by_zero += burst(step);
            }
        }
    }
    assert!(off < 1.2 * off_by_zero, "{off}, zero is off by {off_by_zero}");
}

/// With few rows there is no forecast, and then wide ones.
#[test]
fn intervals_are_wide_at_first() {
    let mut forecaster = forecaster(Parameters { min_training: 20, ..Parameters::new(4) });
    let mut widths = Vec::new();
    for row in 0..2000 {
        forecaster.learn_one(0, noise(row, 2));
        match forecast(&mut forecaster).first() {
            None => assert!(row < 19, "no forecast after {} rows", row + 1),
            Some([low, _, high]) => {
                assert!(row >= 19, "a forecast after {} rows", row + 1);
                widths.push(high - low);
            }
        }
    }
    let late = widths[widths.len() - 200..].iter().sum::<f64>() / 200.0;
    // The interval of 80 % of a standard normal distribution.
    assert!(close(late, 2.0 * 1.2816, 0.4), "{late}");
    assert!(widths[..20].iter().sum::<f64>() / 20.0 > late, "{:?}", &widths[..20]);
}

/// When the noise of a series trebles, intervals follow until they hold again.
#[test]
fn intervals_hold_under_drift() {
    let mut forecaster = forecaster(Parameters::new(3));
    let (mut inside, mut count) = (0, 0);
    for row in 0..6000usize {
        let value = noise(row, 3) * if row / 1500 % 2 == 0 { 1.0 } else { 3.0 };
        if let Some(Expectation { lower, upper, .. }) = forecaster.expect(0, 0.1, 0.9) {
            inside += u32::from((lower..=upper).contains(&value));
            count += 1;
        }
        forecaster.learn_one(0, value);
    }
    let share = f64::from(inside) / f64::from(count);
    assert!(close(share, 0.8, 0.03), "{share}");
}

/// Rows that are missing keep their place in time: the season goes on behind them.
#[test]
fn missing_rows_keep_the_phase() {
    let shape = |row: u32| f64::from(row % 12) * 10.0;
    let values = (0..420).map(|row| if row % 29 < 5 { f64::NAN } else { shape(row) });
    for (step, [_, middle, _]) in (420..).zip(forecast(&mut learnt(parameters(Season::Fixed(12), 12), values))) {
        assert!(close(middle, shape(step), 3.0), "row {step}: {middle}, not {}", shape(step));
    }
    assert!(forecast(&mut learnt(Parameters::new(2), [f64::NAN; 100])).is_empty());
}

/// One glitch of a meter that stands still leaves no trace in its forecasts; what lasts is followed, and what comes again is known to.
#[test]
fn a_glitch_of_a_constant_leaves_no_trace() {
    for (method, glitch) in
        [(Method::Flair, 1e9), (Method::Flair, 100.0), (Method::Flair, 1e300), (Method::HoltWinters, 1e9)]
    {
        for rows in [201, 202, 205, 230] {
            let parameters = Parameters { method, ..Parameters::new(4) };
            let value = |row: usize| if row == 200 { glitch } else { 7.0 };
            let quantiles = forecast(&mut learnt(parameters, (0..rows).map(value)));
            assert_eq!(quantiles, [[7.0; 3]; 4], "{}: {glitch}, {rows} rows", method.name());
        }
    }
    for level in [8.0, 1e9, -1e-9] {
        let value = |row: usize| if row >= 200 { level } else { 7.0 };
        for [_, middle, _] in forecast(&mut learnt(Parameters::new(4), (0..210).map(value))) {
            assert!(close(middle, level, 1e-3 * (level - 7.0).abs()), "{middle}, not {level}");
        }
    }
    let errors = |row: usize| if row >= 200 && row.is_multiple_of(10) { 3.0 } else { 0.0 };
    let [_, _, high] = forecast(&mut learnt(Parameters::new(4), (0..400).map(errors)))[0];
    assert!(high > 1.0, "one in ten: {high}");
}

/// A level far from zero keeps its digits, and a series that jumps by powers of ten is followed.
#[test]
fn huge_values_keep_their_digits() {
    let far = |row: usize| 1e12 + 5.0 * noise(row, 4);
    for [low, middle, high] in forecast(&mut learnt(Parameters::new(4), (0..500).map(far))) {
        assert!(close(middle, 1e12, 5.0) && high - low < 40.0, "{low} {middle} {high}");
    }
    let jump = |row: usize| if row == 0 { 0.0 } else { far(row) };
    for [low, middle, high] in forecast(&mut learnt(Parameters::new(4), (0..500).map(jump))) {
        assert!(close(middle, 1e12, 1e8) && low.is_finite() && high.is_finite(), "{low} {middle} {high}");
    }
    let jump = |row: usize| if row < 200 { 1e-9 * noise(row, 5) } else { 1e250 * (1.0 + 0.01 * noise(row, 6)) };
    for [low, middle, high] in forecast(&mut learnt(Parameters::new(4), (0..500).map(jump))) {
        assert!(close(middle / 1e250, 1.0, 0.1) && low.is_finite() && high.is_finite(), "{low} {middle} {high}");
    }
}

/// What cannot be is refused with what can.
#[test]
fn parameters_out_of_range_are_refused() {
    let refused = |parameters: Parameters| Forecaster::new(parameters).expect_err("it is refused").to_string();
    assert_eq!(refused(Parameters::new(0)), "`forecast`: horizon must be from 1 to 1024 steps, not 0");
    let fixed = Parameters { season: Season::Fixed(200), ..Parameters::new(1) };
    assert_eq!(refused(fixed), "`forecast`: seasonality must be from 2 to 168 rows, not 200");
    assert_eq!(Parameters::calendar(300_000), (vec![12, 288], 288));
    assert_eq!(Parameters::calendar(3_600_000), (vec![24, 168], 168));
}

/// Beyond the steps that the network says at once, it goes on from its own medians, and does not get surer.
#[test]
fn the_network_goes_on_from_its_medians() {
    let parameters = Parameters { method: Method::Conv, ..parameters(Season::Fixed(12), 70) };
    let value = |row: usize| 20.0 + 5.0 * (row as f64 * std::f64::consts::TAU / 12.0).sin() + 0.5 * noise(row, 9);
    let quantiles = forecast(&mut learnt(parameters, (0..260).map(value)));
    assert_eq!(quantiles.len(), 70);
    for (row, [_, middle, _]) in (260..).zip(&quantiles) {
        let expected = 20.0 + 5.0 * (f64::from(row) * std::f64::consts::TAU / 12.0).sin();
        assert!(close(*middle, expected, 3.0), "row {row}: {middle}, not {expected}");
    }
    let width = |step: usize| quantiles[step][2] - quantiles[step][0];
    assert!(
        width(32) >= 0.99 * width(31) && width(69) >= 0.99 * width(31),
        "{} {} {}",
        width(31),
        width(32),
        width(69)
    );
}

/// Long calm, and bursts a hundred thousand times as high: what the network is off by in a calm window, counted in its widths, must not be asked
/// for in a window full of bursts. Forecasts stay among the values that were, and are no worse than the value of a day ago.
#[test]
fn bursts_do_not_make_the_network_say_what_never_was() {
    const HIGHEST: f64 = 8e6;
    let value = |row: usize| {
        let calm = 42.0 + 26.0 * f64::from(mix(row as u32, 21) % 4);
        let hour = mix(row as u32 / 12, 22);
        match hour % 16 {
            0 => HIGHEST / f64::from(1 + mix(row as u32, 23) % 8),
            1..3 => calm + f64::from(mix(row as u32, 24) % 6000),
            _ => calm,
        }
    };
    let mut forecaster = forecaster(Parameters { method: Method::Conv, ..parameters(Season::None, 12) });
    let (mut off, mut off_by_day) = (0.0, 0.0);
    for row in 0..2400usize {
        forecaster.learn_one(0, value(row));
        if row >= 600 && row.is_multiple_of(12) {
            for (step, [low, middle, high]) in (row + 1..).zip(forecast(&mut forecaster)) {
                assert!(
                    (-HIGHEST..=HIGHEST).contains(&middle) && high - low <= 8.0 * HIGHEST,
                    "row {step}: {low} {middle} {high}"
                );
                off += (middle - value(step)).abs();
                off_by_day += (value(step - 24) - value(step)).abs();
            }
        }
    }
    assert!(off < 1.05 * off_by_day, "{off}, the value of a day ago is off by {off_by_day}");
}

/// The default's state is a few hundred words.
#[test]
fn the_state_of_the_default_is_small() {
    let words = forecaster(Parameters::new(24)).state_shape().words_per_slot();
    assert_eq!(words, 938, "the documentation says so");
    let conv = Parameters { method: Method::Conv, ..Parameters::new(24) };
    assert_eq!(forecaster(conv).state_shape().words_per_slot(), 1382, "the documentation says so");
}

fn groups(horizon: usize, season_max: usize) -> Vec<(usize, usize)> {
    Shape::new(horizon, season_max, 0, None).groups
}

proptest! {
    // The twin works everything out anew for each row.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Groups of horizons have all steps ahead, each once.
    #[test]
    fn groups_have_each_step(horizon in 1usize..=1024) {
        let groups = groups(horizon, 24);
        prop_assert_eq!(groups[0], (1, 1));
        prop_assert!(groups.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0 && pair[1].0 <= pair[1].1));
        prop_assert_eq!(groups[groups.len() - 1].1, horizon);
    }

    /// What is kept in a few words says what the whole history says.
    #[test]
    fn words_say_what_the_history_says(
        season in prop_oneof![Just(0usize), 2usize..20],
        horizon in 1usize..30,
        rows in 60usize..260,
        salt in 0u32..1000,
        slope in -0.5f64..0.5,
    ) {
        let value = |row: usize| {
            let wave = if season > 0 { 8.0 * (row as f64 * std::f64::consts::TAU / season as f64).sin() } else { 0.0 };
            100.0 + slope * row as f64 + wave + noise(row, salt)
        };
        let told = if season > 0 { Season::Fixed(season as u32) } else { Season::None };
        let parameters = Parameters { season_max: 24, ..parameters(told, horizon as u32) };
        let mut forecaster = learnt(parameters, (0..rows).map(value));
        let mut naive = Naive::new(season, 24, &groups(horizon, 24));
        (0..rows).for_each(|row| naive.push(value(row)));
        for (step, (kept, whole)) in forecaster.points(0).into_iter().zip(naive.points()).enumerate() {
            prop_assert!(close(kept, whole, 0.02), "step {}: {} of {}", step + 1, kept, whole);
        }
    }

    /// How rows are cut into batches, and a checkpoint between two of them, does not show, to the bit.
    #[test]
    fn batches_and_restarts_do_not_show(
        values in proptest::collection::vec(prop_oneof![9 => -1e3f64..1e3, 1 => Just(f64::NAN)], 1..200),
        keys in 1usize..4,
        cut in 0usize..200,
        method in prop::sample::select(&Method::ALL[..]),
    ) {
        let parameters = Parameters { method, min_training: 8, season_max: 24, ..Parameters::new(5) };
        let slots: Vec<u32> = (0..values.len()).map(|row| (row % keys) as u32).collect();
        let cut = cut.min(values.len());
        let mut whole = Forecaster::new(parameters.clone()).expect("in range");
        whole.learn(&GroupedRows::group(&slots, keys), &values);
        let mut first = Forecaster::new(parameters.clone()).expect("in range");
        first.grow(keys);
        first.learn(&GroupedRows::group(&slots[..cut], keys), &values[..cut]);
        let mut second = Forecaster::new(parameters).expect("in range");
        let saved: Vec<u32> = (0..keys as u32).rev().collect();
        let mut words = Vec::new();
        saved.iter().for_each(|slot| first.read_slot(*slot, &mut words));
        second.load(&saved, &words);
        for row in cut..values.len() {
            second.learn(&GroupedRows::group(&slots[row..=row], keys), &values[row..=row]);
        }
        whole.grow(keys);
        for slot in 0..keys as u32 {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            whole.forecast(slot, &LEVELS, &mut one);
            second.forecast(slot, &LEVELS, &mut two);
            prop_assert_eq!(one, two);
        }
    }

    /// Forecasts that are asked for together are those of each moment, although keys have gone on since: to the bit.
    #[test]
    fn asked_together_is_one_by_one(
        values in proptest::collection::vec(prop_oneof![9 => -1e3f64..1e3, 1 => Just(f64::NAN)], 1..160),
        keys in 1usize..5,
        every in 1usize..4,
        method in prop::sample::select(&Method::ALL[..]),
        horizon in prop_oneof![1u32..8, 30u32..70],
    ) {
        let parameters = Parameters { method, min_training: 8, season_max: 24, ..Parameters::new(horizon) };
        let mut single = Forecaster::new(parameters.clone()).expect("in range");
        let mut many = Forecaster::new(parameters).expect("in range");
        single.grow(keys);
        many.grow(keys);
        let mut asked = many.asking(&LEVELS);
        let mut expected: Vec<Vec<f64>> = Vec::new();
        for (row, value) in values.iter().enumerate() {
            let slot = (row % keys) as u32;
            single.learn_one(slot, *value);
            if slot == 0 {
                many.settle();
            }
            many.learn_later(slot, *value);
            if row % every == 0 {
                let mut quantiles = Vec::new();
                let there = single.forecast(slot, &LEVELS, &mut quantiles);
                prop_assert_eq!(many.ask(slot, &mut asked), there);
                expected.extend(there.then_some(quantiles));
            }
        }
        many.settle();
        asked.settle(crate::conv_forecast::Weights::builtin());
        prop_assert_eq!(asked.len(), expected.len());
        for (index, expected) in expected.iter().enumerate() {
            prop_assert_eq!(asked.quantiles(index), expected.as_slice());
        }
        let words = |forecaster: &Forecaster| {
            let mut words = Vec::new();
            (0..keys as u32).for_each(|slot| forecaster.read_slot(slot, &mut words));
            words
        };
        prop_assert_eq!(words(&single), words(&many));
    }

    /// In another unit, or from another zero, the forecasts are the same ones. Powers of two are no rounding.
    #[test]
    fn units_do_not_show(salt in 0u32..1000, exponent in -60i32..60, shift in -1000i32..1000, rows in 40usize..200) {
        let value = |row: usize| (16.0 * (noise(row, salt) + (row as f64 / 3.0).sin())).round() / 16.0;
        let unit = f64::from(exponent).exp2();
        let plain = forecast(&mut learnt(parameters(Season::Auto(vec![]), 6), (0..rows).map(value)));
        let other = forecast(&mut learnt(
            parameters(Season::Auto(vec![]), 6),
            (0..rows).map(|row| (value(row) + f64::from(shift)) * unit),
        ));
        for (plain, other) in plain.iter().flatten().zip(other.iter().flatten()) {
            prop_assert!(close(*plain, other / unit - f64::from(shift), 1e-3), "{} {}", plain, other / unit);
        }
    }

    /// Whatever comes, what is said is finite, and a higher level lies no lower.
    #[test]
    fn forecasts_are_finite_and_ordered(
        values in proptest::collection::vec(
            prop_oneof![
                4 => -1e3f64..1e3,
                1 => Just(f64::NAN),
                1 => Just(f64::INFINITY),
                1 => Just(0.0),
                1 => any::<f64>(),
            ],
            0..300,
        ),
        method in prop::sample::select(&Method::ALL[..]),
        season_max in 2u32..40,
        horizon in prop_oneof![1u32..10, 60u32..80],
    ) {
        let levels = [0.001, 0.05, 0.3, 0.5, 0.77, 0.999];
        let mut forecaster = learnt(Parameters { method, min_training: 5, season_max, ..Parameters::new(horizon) }, values);
        let mut quantiles = Vec::new();
        if forecaster.forecast(0, &levels, &mut quantiles) {
            prop_assert_eq!(quantiles.len(), horizon as usize * levels.len());
        }
        prop_assert!(quantiles.iter().all(|quantile| quantile.is_finite()), "{:?}", quantiles);
        prop_assert!(quantiles.chunks(levels.len()).all(|step| step.is_sorted()), "{:?}", quantiles);
    }
}

/// A value that a broken meter wrote moves neither the forecasts after it nor their intervals, and a level that shifts as far is followed.
#[test]
fn one_glitch_is_not_forecast_on_and_a_shift_is() {
    const AT: usize = 400;
    for method in Method::ALL {
        for far in [999_999.0, -1e12] {
            let usual = |row: usize| 5.0 + noise(row, 3);
            let mut glitch = learnt(
                Parameters { method, ..Parameters::new(6) },
                (0..AT + 6).map(|row| if row == AT { far } else { usual(row) }),
            );
            for [low, middle, high] in forecast(&mut glitch) {
                assert!(close(middle, 5.0, 4.0) && high - low < 30.0, "{}: {low} {middle} {high}", method.name());
            }
            let shift = (0..AT + 6).map(|row| usual(row) + if row >= AT { far } else { 0.0 });
            let mut shift = learnt(Parameters { method, season: Season::None, ..Parameters::new(6) }, shift);
            let middle = forecast(&mut shift)[0][1];
            assert!(
                method == Method::HoltWinters || close(middle, far, 0.3 * far.abs()),
                "{}: {middle}",
                method.name()
            );
        }
    }
}

/// A peak that comes each day at the same hour belongs to the series, however far it is from all other rows.
#[test]
fn a_daily_peak_is_no_glitch() {
    let peaks = |row: usize| if row % 24 == 12 { 1000.0 } else { 5.0 + noise(row, 4) };
    let mut forecaster = learnt(Parameters { season: Season::Fixed(24), ..Parameters::new(24) }, (0..360).map(peaks));
    let steps = forecast(&mut forecaster);
    assert!(close(steps[12][1], 1000.0, 10.0), "{:?}", steps[12]);
    assert!(close(steps[11][1], 5.0, 3.0) && close(steps[13][1], 5.0, 3.0), "{:?} {:?}", steps[11], steps[13]);
}
