//! The planted faults: when a machine has one, and what it does to the readings.

use super::TelemetryConfig;
use super::machine::Sensors;
use crate::math::exp;
use crate::random::{Draws, below, high, low, unit};

/// How a machine fails. Each kind asks for another way of finding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// One sensor jumps far out for a few readings.
    Spike,
    /// Temperature or pressure creeps away, too slowly for a difference between neighbours to tell.
    Drift,
    /// One sensor repeats its last value, while the others go on.
    StuckSensor,
    /// Vibration grows exponentially, and warmth and power follow, until the service.
    BearingWear,
    /// The machine sends readings without values.
    Dropout,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Spike, Self::Drift, Self::StuckSensor, Self::BearingWear, Self::Dropout];

    /// The text in the column `fault_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Drift => "drift",
            Self::StuckSensor => "stuck_sensor",
            Self::BearingWear => "bearing_wear",
            Self::Dropout => "dropout",
        }
    }

    /// How many readings a fault lasts, in a service period of `period`.
    fn readings(self, bits: u32, period: u32) -> u32 {
        let between = |min: u32, max: u32| min + below(bits, max - min + 1);
        match self {
            Self::Spike => between(1, 4),
            Self::Drift => between(period / 5, period / 2),
            Self::StuckSensor => between(20, period / 4),
            Self::BearingWear => between(period / 3, period * 2 / 3),
            Self::Dropout => between(10, period / 10),
        }
    }
}

/// A fault that is on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) id: i64,
    pub(super) kind: FaultKind,
    pub(super) start_tick: u64,
    readings: u32,
    /// Decides which sensor it hits, and how hard.
    bits: u64,
}

#[derive(Debug)]
pub(super) struct Faults {
    draws: Draws,
}

impl Faults {
    pub(super) fn new(config: &TelemetryConfig) -> Self {
        Self { draws: Draws::new(config.seed, "telemetry.faults") }
    }

    /// The fault that the machine has at its reading number `tick`.
    pub(super) fn at(&self, config: &TelemetryConfig, machine: u64, tick: u64) -> Option<Fault> {
        let (period, place) = (tick / config.service_period_readings, tick % config.service_period_readings);
        let number = period * config.machine_count + machine;
        let what = self.draws.at(number * 4);
        if unit(high(what)) >= config.fault_share {
            return None;
        }
        let kind = FaultKind::ALL[below(low(what), FaultKind::ALL.len() as u32) as usize];
        let when = self.draws.at(number * 4 + 1);
        let period_readings = config.service_period_readings as u32;
        let readings = kind.readings(high(when), period_readings);
        let start = match kind {
            // Only the service ends it.
            FaultKind::BearingWear => period_readings - readings,
            _ => below(low(when), period_readings - readings),
        };
        let is_on = (u64::from(start)..u64::from(start + readings)).contains(&place);
        let start_tick = tick - place + u64::from(start);
        is_on.then(|| Fault { id: number as i64, kind, start_tick, readings, bits: self.draws.at(number * 4 + 2) })
    }
}

impl Fault {
    /// How far the fault has come at this reading, from 0 up to 1 at its last one.
    fn progress(&self, tick: u64) -> f64 {
        (tick - self.start_tick + 1) as f64 / f64::from(self.readings)
    }

    /// The readings under a fault that adds to them.
    pub(super) fn disturb(&self, mut sensors: Sensors, tick: u64) -> Sensors {
        let strength = 0.6 + 0.8 * unit(low(self.bits));
        let sign = if below(low(self.bits.rotate_left(7)), 2) == 0 { 1.0 } else { -1.0 };
        match self.kind {
            FaultKind::Spike => match below(high(self.bits), 4) {
                0 => sensors.temperature_c += 35.0 * strength,
                1 => sensors.vibration_mm_s += 9.0 * strength,
                2 => sensors.pressure_bar += sign * 4.0 * strength,
                _ => sensors.speed_rpm += sign * 600.0 * strength,
            },
            FaultKind::Drift => match below(high(self.bits), 2) {
                0 => sensors.temperature_c += 15.0 * strength * self.progress(tick),
                _ => sensors.pressure_bar += sign * 2.0 * strength * self.progress(tick),
            },
            FaultKind::BearingWear => {
                // Nearly nothing for half of the time, and then quickly more.
                let wear = strength * (exp(4.0 * self.progress(tick)) - 1.0) / 53.6;
                sensors.vibration_mm_s += 6.0 * wear;
                sensors.temperature_c += 9.0 * wear;
                sensors.power_kw += 1.5 * wear;
            }
            FaultKind::StuckSensor | FaultKind::Dropout => {}
        }
        sensors
    }

    /// The readings with one sensor stuck at what it showed at the start.
    pub(super) fn stick(&self, mut sensors: Sensors, at_start: Sensors) -> Sensors {
        match below(high(self.bits), 4) {
            0 => sensors.temperature_c = at_start.temperature_c,
            1 => sensors.vibration_mm_s = at_start.vibration_mm_s,
            2 => sensors.pressure_bar = at_start.pressure_bar,
            _ => sensors.speed_rpm = at_start.speed_rpm,
        }
        sensors
    }
}
