//! Where processing time starts to be the time of the rows.
//!
//! A window over `PROCTIME()` has the step's recorded clock as its event time. Rows pass here as they are; from here on the watermark is
//! that clock, and so windows close when processing time passes their end, with or without input, and in the same steps when the log is
//! run again. What a watermark says of other columns of the rows ends here.

use super::{Input, Operator, OperatorFactory, Output, OutputWatermark, Progress};
use crate::error::Result;

/// Makes [`ProcessingTime`]s.
#[derive(Debug, Clone, Copy)]
pub struct ProcessingTimeFactory {
    grain_ms: i64,
    offset_ms: i64,
}

impl ProcessingTimeFactory {
    /// What follows can become final when the clock passes `offset_ms`, or a multiple of `grain_ms` from there.
    pub fn new(grain_ms: i64, offset_ms: i64) -> Self {
        Self { grain_ms: grain_ms.max(1), offset_ms }
    }
}

impl OperatorFactory for ProcessingTimeFactory {
    fn name(&self) -> &'static str {
        "ProcessingTime"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(ProcessingTime))
    }

    fn output_watermark(&self) -> OutputWatermark {
        OutputWatermark::Clock { grain_ms: self.grain_ms, offset_ms: self.offset_ms }
    }
}

/// Hands its input on.
#[derive(Debug)]
pub struct ProcessingTime;

impl Operator for ProcessingTime {
    fn name(&self) -> &'static str {
        "ProcessingTime"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        input.single().into_iter().for_each(|delta| out.emit(delta));
        Ok(Progress::Done)
    }

    keeps_nothing!();
}
