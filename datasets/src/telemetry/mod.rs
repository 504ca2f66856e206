//! Machine sensors with planted faults: the stream for anomaly scores, drift and forecasts, with the truth beside it.
//!
//! Each machine reports once per interval; machines are staggered within it, so that event time never goes back. A reading is
//! the sum of what a healthy machine shows (load by the hour and the day of the week, ambient warmth, lags and noise) and of a
//! fault's effect, if one is on. Each machine's time is cut into service periods, and the fault of a period, if it has one, is
//! drawn from (seed, machine, period) alone: kind, start, length and strength. So a reading is a pure function of its event
//! number, however long a fault has been growing.
//!
//! A machine that drops out still sends, but without values: nulls, which engines must take.

mod config;
mod faults;
mod machine;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::columns::{TIMESTAMP_MS, int64, optional, project, required, timestamp};
use crate::error::Result;
use crate::generator::{EVENT_COUNT_MAX, Generator, clamp};
use crate::order::Order;
use crate::text::TextList;
pub use config::TelemetryConfig;
pub use faults::FaultKind;
use faults::{Fault, Faults};
use machine::{Machines, Sensors};

/// The dataset's name in the catalog and in errors.
pub(crate) const NAME: &str = "telemetry";

/// One reading, before it is spread over the columns.
#[derive(Debug, Clone, Copy)]
struct Reading {
    id: u64,
    /// None while the machine has dropped out.
    sensors: Option<Sensors>,
    fault: Option<Fault>,
}

/// The generator of the table `reading`.
#[derive(Debug)]
pub struct TelemetryGenerator {
    config: TelemetryConfig,
    order: Order,
    machines: Machines,
    faults: Faults,
    kinds: TextList,
}

impl TelemetryGenerator {
    /// Checks the configuration.
    pub fn new(config: TelemetryConfig) -> Result<Self> {
        let order = config.validate()?;
        Ok(Self {
            order,
            machines: Machines::new(&config),
            faults: Faults::new(&config),
            kinds: TextList::new(FaultKind::ALL.map(FaultKind::name)),
            config,
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &TelemetryConfig {
        &self.config
    }

    fn reading(&self, id: u64) -> Reading {
        let (machine, tick) = (id % self.config.machine_count, id / self.config.machine_count);
        let fault = self.faults.at(&self.config, machine, tick);
        let healthy = |tick| self.machines.healthy(&self.config, machine, tick);
        let sensors = match &fault {
            None => Some(healthy(tick)),
            Some(fault) if fault.kind == FaultKind::Dropout => None,
            // The sensor repeats what it showed when it got stuck; the others go on.
            Some(fault) if fault.kind == FaultKind::StuckSensor => {
                Some(fault.stick(healthy(tick), healthy(fault.start_tick)))
            }
            Some(fault) => Some(fault.disturb(healthy(tick), tick)),
        };
        Reading { id, sensors, fault }
    }

    fn column(&self, readings: &[Reading], index: usize) -> ArrayRef {
        let sensor = |value: fn(&Sensors) -> f64| -> ArrayRef {
            Arc::new(readings.iter().map(|reading| reading.sensors.as_ref().map(value)).collect::<Float64Array>())
        };
        let readings = readings.iter();
        match index {
            0 => int64(readings.map(|reading| (reading.id % self.config.machine_count) as i64)),
            1 => timestamp(readings.map(|reading| self.config.event_time_ms(reading.id))),
            2 => sensor(|sensors| sensors.temperature_c),
            3 => sensor(|sensors| sensors.vibration_mm_s),
            4 => sensor(|sensors| sensors.pressure_bar),
            5 => sensor(|sensors| sensors.speed_rpm),
            6 => sensor(|sensors| sensors.power_kw),
            7 => Arc::new(BooleanArray::from_iter(readings.map(|reading| Some(reading.fault.is_some())))),
            8 => Arc::new(readings.map(|reading| reading.fault.map(|fault| fault.id)).collect::<Int64Array>()),
            _ => self.kinds.pick_optional(readings.map(|reading| reading.fault.map(|fault| fault.kind as u32))),
        }
    }
}

/// All columns of the table `reading`.
pub(crate) fn schema() -> &'static SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("machine", DataType::Int64),
            required("event_time", TIMESTAMP_MS),
            optional("temperature_c", DataType::Float64),
            optional("vibration_mm_s", DataType::Float64),
            optional("pressure_bar", DataType::Float64),
            optional("speed_rpm", DataType::Float64),
            optional("power_kw", DataType::Float64),
            required("is_fault", DataType::Boolean),
            optional("fault_id", DataType::Int64),
            optional("fault_kind", DataType::Utf8View),
        ]))
    });
    &SCHEMA
}

impl Generator for TelemetryGenerator {
    fn schema(&self) -> &SchemaRef {
        schema()
    }

    fn event_count(&self) -> Option<u64> {
        self.config.event_count
    }

    fn event_time_ms_min(&self, first_event: u64) -> i64 {
        self.config.event_time_ms(self.order.group_start(first_event.min(EVENT_COUNT_MAX)))
    }

    fn batch(&self, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch> {
        let events = clamp(events, self.config.event_count);
        if projection.is_some_and(<[usize]>::is_empty) {
            return project(schema(), projection, (events.end - events.start) as usize, |index| {
                self.column(&[], index)
            });
        }
        let readings: Vec<Reading> = self.order.ids(events).map(|id| self.reading(id)).collect();
        project(schema(), projection, readings.len(), |index| self.column(&readings, index))
    }
}
