//! The memory of one operator's placement.

use std::sync::Arc;

use super::figures::Prediction;
use super::{BatchShape, Calibration, Decision, DeviceChoice, PlacerSettings, Reason, Side, Switch};

/// What is known of the device for one kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceFitness {
    /// There is none.
    Absent,
    /// It failed what this kernel needs of its self-test.
    Unfit(String),
    /// It can run the kernel.
    Fit,
}

/// Decides for one operator, step by step.
///
/// A caller asks [`decide`](Self::decide) before each batch, runs it there, and tells [`observe`](Self::observe) how long it took.
#[derive(Debug, Clone)]
pub struct OperatorPlacer {
    kernel: String,
    settings: PlacerSettings,
    fitness: DeviceFitness,
    calibration: Option<Arc<Calibration>>,
    side: Side,
    step: u64,
    /// What the other side would have saved since the last move, beyond the margin and never below 0, in ns.
    saved_ns: f64,
    /// The step of the last move.
    moved_at: Option<u64>,
    cpu: Observed,
    gpu: Observed,
    shadow: Shadow,
    break_even_rows: Option<u64>,
    failures: u32,
    /// Batches that the device did since it last failed or was forgiven.
    done_since: u32,
    /// The device is not tried before this step.
    back_at: u64,
    switches: Vec<Switch>,
    /// The recorded moves that are repeated, where this is a replay.
    replayed: Option<Vec<Switch>>,
}

/// What was observed of one side.
#[derive(Debug, Clone, Copy)]
struct Observed {
    /// Observed as a multiple of predicted, a moving average.
    correction: f64,
    /// A moving average, for people.
    ns_per_event: Option<f64>,
}

/// When the other side is asked.
#[derive(Debug, Clone, Copy, Default)]
struct Shadow {
    /// Time earned for shadow runs, in ns.
    credit_ns: f64,
    last_step: Option<u64>,
}

/// One observation moves the correction by at most this factor: a batch that lost its core for a while says little.
const OUTLIER_FACTOR: f64 = 8.0;
/// The break-even is for people and takes a search, so it is looked for now and then.
const BREAK_EVEN_STEPS: u64 = 16;
/// After so many batches on the device one failure is forgiven, so that a fault a day does not keep a device away for good.
const FORGIVEN_AFTER_BATCHES: u32 = 1024;

impl OperatorPlacer {
    /// Starts on the CPU, or on the device where that is forced.
    pub fn new(
        kernel: &str,
        settings: PlacerSettings,
        fitness: DeviceFitness,
        calibration: Option<Arc<Calibration>>,
    ) -> Self {
        let fresh = Observed { correction: 1.0, ns_per_event: None };
        OperatorPlacer {
            kernel: kernel.to_owned(),
            settings,
            fitness,
            calibration,
            side: Side::Cpu,
            step: 0,
            saved_ns: 0.0,
            moved_at: None,
            cpu: fresh,
            gpu: fresh,
            shadow: Shadow::default(),
            break_even_rows: None,
            failures: 0,
            done_since: 0,
            back_at: 0,
            switches: Vec::new(),
            replayed: None,
        }
    }

    /// Repeats the moves of a recorded run from its step 0 on; figures are only shown then.
    pub fn replaying(mut self, switches: Vec<Switch>) -> Self {
        self.replayed = Some(switches);
        self
    }

    /// Goes on where a run stood that was restored from a checkpoint: after that many steps, on that side. State is restored there.
    pub fn resuming(mut self, step: u64, side: Side) -> Self {
        (self.step, self.side) = (step, side);
        self
    }

    /// Adds recorded moves to those that are repeated, in order; from the first call on figures are only shown.
    pub fn replay(&mut self, switches: &[Switch]) {
        let replayed = self.replayed.get_or_insert_default();
        // Of what lies behind only the last counts, and that is where the operator is.
        if let Some(last) = replayed.last().copied().filter(|last| last.step < self.step) {
            replayed.clear();
            replayed.push(last);
        }
        replayed.extend_from_slice(switches);
    }

    /// What was observed so far on the CPU and on the device, in ns per event.
    pub fn observed(&self) -> (Option<f64>, Option<f64>) {
        (self.cpu.ns_per_event, self.gpu.ns_per_event)
    }

    /// How many batches were placed.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The moves since the last call, to be kept with the steps they belong to.
    pub fn take_switches(&mut self) -> Vec<Switch> {
        std::mem::take(&mut self.switches)
    }

    /// Where the operator is now.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Changes who chooses (`SET 'eagre.device'`) and the other settings, from the next step on.
    pub fn set(&mut self, settings: PlacerSettings) {
        self.settings = settings;
    }

    /// Chooses for the next batch.
    pub fn decide(&mut self, batch: &BatchShape) -> Decision {
        let predicted =
            self.calibration.as_ref().and_then(|calibration| calibration.predict(&self.kernel, batch)).map(|raw| {
                Prediction {
                    twin_ns: raw.twin_ns * self.cpu.correction,
                    device_ns: raw.device_ns * self.gpu.correction,
                }
            });
        let (side, reason) = self.choose(batch, predicted);
        let moved = side != self.side;
        if moved {
            self.switches.push(Switch { step: self.step, side });
            (self.side, self.moved_at, self.saved_ns) = (side, Some(self.step), 0.0);
        }
        let shadow = predicted.filter(|_| batch.rows > 0).and_then(|predicted| self.explore(predicted));
        if moved || self.step.is_multiple_of(BREAK_EVEN_STEPS) {
            self.break_even_rows = self.calibration.as_ref().and_then(|calibration| {
                calibration.break_even_rows(&self.kernel, batch, self.cpu.correction, self.gpu.correction)
            });
        }
        let per_event = |ns: f64| ns / batch.rows.max(1) as f64;
        let decision = Decision {
            step: self.step,
            side,
            moved,
            shadow,
            reason,
            cpu_predicted_ns_per_event: predicted.map(|predicted| per_event(predicted.twin_ns)),
            gpu_predicted_ns_per_event: predicted.map(|predicted| per_event(predicted.device_ns)),
            cpu_observed_ns_per_event: self.cpu.ns_per_event,
            gpu_observed_ns_per_event: self.gpu.ns_per_event,
            break_even_rows: self.break_even_rows,
        };
        self.step += 1;
        decision
    }

    /// Takes in how long a batch took on a side, from handing it over to having its answer, in ns; shadow runs too.
    pub fn observe(&mut self, side: Side, batch: &BatchShape, duration_ns: u64) {
        if batch.rows == 0 {
            return;
        }
        if side == Side::Device {
            self.done_since += 1;
            if self.done_since >= FORGIVEN_AFTER_BATCHES {
                (self.failures, self.done_since) = (self.failures.saturating_sub(1), 0);
            }
        }
        let predicted = self.calibration.as_ref().and_then(|calibration| calibration.predict(&self.kernel, batch));
        let weight = self.settings.observation_weight.clamp(0.0, 1.0);
        let observed = match side {
            Side::Cpu => &mut self.cpu,
            Side::Device => &mut self.gpu,
        };
        let ns = duration_ns.max(1) as f64;
        let per_event = ns / batch.rows as f64;
        observed.ns_per_event =
            Some(observed.ns_per_event.map_or(per_event, |average| average + weight * (per_event - average)));
        if let Some(predicted) = predicted {
            let predicted = match side {
                Side::Cpu => predicted.twin_ns,
                Side::Device => predicted.device_ns,
            };
            let ratio = (ns / predicted.max(1.0))
                .clamp(observed.correction / OUTLIER_FACTOR, observed.correction * OUTLIER_FACTOR);
            observed.correction += weight * (ratio - observed.correction);
        }
    }

    /// The device failed, and the twin has done the batches from `step` on: the operator is on the CPU now, for a while.
    pub fn device_failed(&mut self, step: u64) {
        let wait = self.settings.backoff_steps.saturating_mul(1 << self.failures.min(6));
        (self.failures, self.done_since) = (self.failures.saturating_add(1), 0);
        self.back_at = self.step.saturating_add(wait);
        if self.side == Side::Device {
            self.switches.push(Switch { step, side: Side::Cpu });
            (self.side, self.moved_at, self.saved_ns) = (Side::Cpu, Some(self.step), 0.0);
        }
    }

    /// The rules, in order of precedence; also counts what the other side would have saved.
    fn choose(&mut self, batch: &BatchShape, predicted: Option<Prediction>) -> (Side, Reason) {
        if let Some(replayed) = &self.replayed {
            // The last that was recorded, not the one of the greatest step: a failure is recorded late, for steps decided before.
            let recorded =
                replayed.iter().rfind(|switch| switch.step <= self.step).map_or(self.side, |switch| switch.side);
            return match self.fitness {
                DeviceFitness::Fit => (recorded, Reason::Replayed),
                _ if recorded == Side::Cpu => (Side::Cpu, Reason::Replayed),
                _ => (Side::Cpu, Reason::ReplayedWithoutDevice),
            };
        }
        if self.settings.device == DeviceChoice::Cpu {
            return (Side::Cpu, Reason::Forced);
        }
        match &self.fitness {
            DeviceFitness::Absent => return (Side::Cpu, Reason::NoDevice),
            DeviceFitness::Unfit(reason) => return (Side::Cpu, Reason::Unfit { reason: reason.clone() }),
            DeviceFitness::Fit => {}
        }
        if self.step < self.back_at {
            return (Side::Cpu, Reason::BackingOff { steps_left: self.back_at - self.step });
        }
        if self.settings.device == DeviceChoice::Gpu {
            return (Side::Device, Reason::Forced);
        }
        let (Some(calibration), Some(predicted)) = (self.calibration.clone(), predicted) else {
            return (Side::Cpu, Reason::NotCalibrated);
        };
        if calibration.software {
            return (Side::Cpu, Reason::SoftwareAdapter);
        }
        if batch.rows == 0 {
            return (self.side, Reason::Empty);
        }
        self.weigh(batch, predicted, &calibration)
    }

    /// The choice that figures make: the latency bound first, then what has been saved against what a move costs.
    fn weigh(&mut self, batch: &BatchShape, predicted: Prediction, calibration: &Calibration) -> (Side, Reason) {
        let (move_in, move_out) =
            (calibration.move_in_ns(batch.state_bytes), calibration.move_out_ns(batch.state_bytes));
        let here = self.side;
        let other = here.other();
        let (here_ns, other_ns, move_ns) = match here {
            Side::Cpu => (predicted.twin_ns, predicted.device_ns, move_in),
            Side::Device => (predicted.device_ns, predicted.twin_ns, move_out),
        };
        let dwell_left =
            self.moved_at.map_or(0, |moved_at| (moved_at + self.settings.dwell_steps).saturating_sub(self.step));
        self.saved_ns =
            (self.saved_ns + here_ns * (1.0 - self.settings.hysteresis.clamp(0.0, 1.0)) - other_ns).max(0.0);

        // When the oldest event is done on each side. A device is late now and then by what its slow round trips take.
        let tail = (calibration.round_trip.p99_ns - calibration.round_trip.p50_ns).max(0.0);
        let tail_of = |side| if side == Side::Device { tail } else { 0.0 };
        let here_done = batch.oldest_wait_ns as f64 + here_ns + tail_of(here);
        let other_done = batch.oldest_wait_ns as f64 + other_ns + tail_of(other) + move_ns;
        let late = |done: f64| self.settings.latency_target_ns.is_some_and(|target| done > target as f64);
        let bound = |done: f64| Reason::LatencyBound {
            done_ns: done,
            target_ns: self.settings.latency_target_ns.unwrap_or(u64::MAX),
        };
        if late(here_done) && other_done < here_done && (!late(other_done) || other == Side::Cpu) {
            // Leaving a device that is too slow never waits; going to one does, so the bound cannot make it go to and fro.
            return match other == Side::Cpu || dwell_left == 0 {
                true => (other, bound(here_done)),
                false => (here, Reason::MovedLately { steps_left: dwell_left }),
            };
        }
        if here_ns <= other_ns {
            return (here, Reason::Faster { times: other_ns / here_ns.max(1.0) });
        }
        if late(other_done) && here_done <= other_done.max(self.settings.latency_target_ns.unwrap_or(u64::MAX) as f64) {
            return (here, bound(other_done));
        }
        let times = here_ns / other_ns.max(1.0);
        let move_both_ns = move_in + move_out;
        if self.saved_ns == 0.0 {
            (here, Reason::WithinMargin { times })
        } else if self.saved_ns <= move_both_ns {
            (here, Reason::MoveDoesNotPayYet { saved_ns: self.saved_ns, move_ns: move_both_ns })
        } else if dwell_left > 0 {
            (here, Reason::MovedLately { steps_left: dwell_left })
        } else {
            (other, Reason::Faster { times })
        }
    }

    /// Whether this batch is done on the other side too.
    fn explore(&mut self, predicted: Prediction) -> Option<Side> {
        let other = self.side.other();
        let may = self.settings.device == DeviceChoice::Auto
            && self.replayed.is_none()
            && self.fitness == DeviceFitness::Fit
            && self.step >= self.back_at
            && self.calibration.as_ref().is_some_and(|calibration| !calibration.software);
        if !may {
            return None;
        }
        let (here_ns, other_ns) = match self.side {
            Side::Cpu => (predicted.twin_ns, predicted.device_ns),
            Side::Device => (predicted.device_ns, predicted.twin_ns),
        };
        // A batch waits for its shadow.
        let in_time = self.settings.latency_target_ns.is_none_or(|target| here_ns + other_ns <= target as f64);
        self.shadow.credit_ns += here_ns * self.settings.explore_share.max(0.0);
        let due = self.shadow.last_step.is_none_or(|last| self.step - last >= self.settings.explore_steps);
        if !due || !in_time || self.shadow.credit_ns < other_ns {
            return None;
        }
        self.shadow = Shadow { credit_ns: 0.0, last_step: Some(self.step) };
        Some(other)
    }
}
