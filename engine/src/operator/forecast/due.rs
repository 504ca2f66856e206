//! Forecasts that are due, and where they are worked out.
//!
//! A network is best asked about many keys at once, and a device is of no use otherwise. So while rows are learnt, forecasts are only asked
//! for ([`Asked`]), and what is to be said of them, in which order, is noted; when there are many, or no rows are left, they are worked out
//! and said. In between the operator may be pending, as the device has to answer. A series' newest forecast, which rows are held against
//! and which a new one takes back, is the one that was last said: so what reads it is noted, too, and comes in its turn.

use std::sync::Arc;

use arrow::array::RecordBatch;
use eagre_kernels::conv_forecast::{ConvForecast, FORECAST_NUMBERS, WINDOW_CANDIDATES, WINDOW_NUMBERS};
use eagre_kernels::forecast::{Asked, Forecaster};
use eagre_kernels::placed::{Placement, Runner};
use eagre_kernels::placer::{BatchShape, Side};
use eagre_kernels::score::Decision;
use serde_json::{Map, Value};

use super::spec::NAME;
use crate::error::Result;
use crate::hash::HashGroups;
use crate::operator::{Output, StepWave, Ticket, moves};
use crate::time::EventTimeMs;

/// About so many numbers of forecasts are worked out at once,
const STEPS_MAX: usize = 262_144;
/// and not more forecasts than this: a window of the network has 1,088 numbers.
const FORECASTS_MAX: usize = 8_192;

/// What is to be said when forecasts are there.
#[derive(Debug)]
pub(super) enum Event {
    /// The forecast that was asked for as number `forecast`.
    Made {
        slot: u32,
        at: EventTimeMs,
        /// The step and the time of the newest row at that time.
        index: i64,
        last: EventTimeMs,
        forecast: usize,
    },
    /// A value, of this step, that the newest forecast is held against.
    Came { slot: u32, time: EventTimeMs, index: i64, value: f64 },
}

/// See the module.
pub(super) struct Due {
    asked: Asked,
    events: Vec<Event>,
    forecasts_max: usize,
    /// Of a method that has a kernel.
    runner: Option<Runner<ConvForecast>>,
    /// Whether the kernel works.
    pub(super) is_working: bool,
    /// The hash groups of this shard: whose moves it writes.
    pub(super) owned: HashGroups,
}

impl Due {
    pub(super) fn new(forecaster: &Forecaster, levels: &[f64], placement: &Arc<Placement>) -> Self {
        let horizon = forecaster.parameters().horizon as usize;
        Self {
            asked: forecaster.asking(levels),
            events: vec![],
            forecasts_max: (STEPS_MAX / horizon).clamp(1, FORECASTS_MAX),
            runner: forecaster.kernel().map(|kernel| Runner::new(kernel, placement)),
            is_working: false,
            owned: HashGroups::ALL,
        }
    }

    /// Whether there are as many as may wait.
    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= self.forecasts_max || self.events.len() >= STEPS_MAX
    }

    /// Asks for the forecast of a key as it is now, if there is enough to forecast from.
    pub(super) fn ask(
        &mut self,
        forecaster: &mut Forecaster,
        slot: u32,
        (at, index, last): (EventTimeMs, i64, EventTimeMs),
    ) {
        let forecast = self.asked.len();
        if forecaster.ask(slot, &mut self.asked) {
            self.events.push(Event::Made { slot, at, index, last, forecast });
        }
    }

    /// Notes a value that the newest forecast is held against.
    pub(super) fn came(&mut self, slot: u32, time: EventTimeMs, index: i64, value: f64) {
        self.events.push(Event::Came { slot, time, index, value });
    }

    /// Has forecasts worked out. A ticket: the device has to answer first.
    pub(super) fn work(&mut self, wave: &mut StepWave) -> Result<Option<Ticket>> {
        while let Some(windows) = self.asked.next_windows() {
            let Some(runner) = &mut self.runner else { break };
            let shape = BatchShape::of_rows(
                windows.len() as u64,
                (WINDOW_NUMBERS + WINDOW_CANDIDATES) as u64 * 4,
                FORECAST_NUMBERS as u64 * 4,
            );
            let ticket = wave.start(1, |group| {
                runner.start(windows, shape, group);
                Ok(())
            })?;
            self.is_working = true;
            if ticket.is_some() {
                return Ok(ticket);
            }
            self.answered();
        }
        Ok(None)
    }

    /// Takes the kernel's answer.
    pub(super) fn answered(&mut self) {
        if let Some(runner) = self.runner.as_mut().filter(|_| self.is_working) {
            self.asked.answer(&runner.finish());
        }
        self.is_working = false;
    }

    /// What is to be said, with the forecasts that it speaks of.
    pub(super) fn take(&mut self) -> (Vec<Event>, &Asked) {
        (std::mem::take(&mut self.events), &self.asked)
    }

    /// Forgets what was said.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
    }

    /// Hands over moves between CPU and device.
    pub(super) fn record(&mut self, out: &mut Output) -> Result<()> {
        let Some(runner) = &mut self.runner else { return Ok(()) };
        let moves: Vec<_> = runner.take_switches().into_iter().map(|switch| (0, switch)).collect();
        moves::record(self.owned, &moves, out)
    }

    /// Repeats the moves of the step log.
    pub(super) fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        let Some(runner) = &mut self.runner else { return Ok(()) };
        for moves in moves::recorded(NAME, self.owned, answers, &[runner.place().0])? {
            runner.recall(&moves);
        }
        Ok(())
    }

    pub(super) fn save(&self, meta: &mut Map<String, Value>) {
        moves::put_places(self.owned, self.runner.iter().map(Runner::place), meta);
    }

    /// Goes on where the kernel ran; at another number of shards, where that of some shard did.
    pub(super) fn restore(&mut self, owned: HashGroups, metas: &[Map<String, Value>]) {
        self.owned = owned;
        let place: Option<(u64, Side)> = moves::places_of(owned, metas).into_iter().flatten().next();
        if let (Some(runner), Some((batches, side))) = (&mut self.runner, place) {
            runner.resume(batches, side);
        }
    }

    /// Where the kernel runs, and why; with how often the CPU had to take over, and how many batches it did again.
    pub(super) fn decision(&self) -> Option<(Decision, (u64, u64))> {
        let runner = self.runner.as_ref()?;
        Some((runner.decision()?.clone(), runner.fall_backs()))
    }
}
