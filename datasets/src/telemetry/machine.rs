//! What a healthy machine shows.

use super::TelemetryConfig;
use crate::math::sine_of_turn;
use crate::random::{Draws, high, low, normal, unit};

/// The values of one reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sensors {
    pub(super) temperature_c: f64,
    pub(super) vibration_mm_s: f64,
    pub(super) pressure_bar: f64,
    pub(super) speed_rpm: f64,
    pub(super) power_kw: f64,
}

const DAY_MS: i64 = 86_400_000;
/// Slow noise is drawn once in so many readings, and runs in a straight line between them.
const SLOW_NOISE_READINGS: u64 = 64;

#[derive(Debug)]
pub(super) struct Machines {
    /// What belongs to a machine for good.
    character: Draws,
    noise: Draws,
}

impl Machines {
    pub(super) fn new(config: &TelemetryConfig) -> Self {
        Self {
            character: Draws::new(config.seed, "telemetry.character"),
            noise: Draws::new(config.seed, "telemetry.noise"),
        }
    }

    pub(super) fn healthy(&self, config: &TelemetryConfig, machine: u64, tick: u64) -> Sensors {
        let time_ms = config.event_time_ms(tick * config.machine_count + machine);
        let days = time_ms as f64 * (1.0 / DAY_MS as f64);
        let character = self.character.at(machine);
        let (build, shift) = (unit(high(character)), unit(low(character)));
        let noise = self.noise.of(machine);
        let fast = |sensor: u64| normal(noise.at(tick * 8 + sensor));
        // Load: two humps a working day, little at the weekend, and what the orders of the hour bring.
        let workday = if (time_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) < 5 { 1.0 } else { 0.35 };
        let hump = 0.5 + 0.5 * sine_of_turn(days * 2.0 + 0.1 * shift - 0.25);
        let load = ((0.35 + 0.5 * hump) * workday + 0.05 * slow(noise, tick, 5)).clamp(0.05, 1.0);
        let ambient_c = 21.0 + 4.0 * sine_of_turn(days - 0.4) + slow(noise, tick, 6);
        let speed_rpm = 1_450.0 + 60.0 * build + 350.0 * load + 6.0 * fast(0);
        Sensors {
            temperature_c: ambient_c + 24.0 + 6.0 * build + 22.0 * load + 0.3 * fast(1),
            vibration_mm_s: (1.1 + 0.5 * build + 0.0006 * (speed_rpm - 1_450.0) + 0.12 * fast(2)).max(0.05),
            pressure_bar: 6.0 + 0.4 * build + 1.5 * load + 0.06 * fast(3) + 0.05 * slow(noise, tick, 7),
            speed_rpm,
            power_kw: 4.0 + 18.0 * load * (0.9 + 0.2 * build) + 0.15 * fast(4),
        }
    }
}

/// Noise that wanders: straight lines between normal draws.
fn slow(noise: Draws, tick: u64, sensor: u64) -> f64 {
    // Above all ticks of the fast noise, so that no draw is used twice.
    const SLOW_POSITIONS: u64 = 1 << 63;
    let knot = |n: u64| normal(noise.at(SLOW_POSITIONS + n * 8 + sensor));
    let n = tick / SLOW_NOISE_READINGS;
    let part = (tick % SLOW_NOISE_READINGS) as f64 / SLOW_NOISE_READINGS as f64;
    knot(n) * (1.0 - part) + knot(n + 1) * part
}
