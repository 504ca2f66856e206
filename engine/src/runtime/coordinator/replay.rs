//! Steps of the log, run again.

use std::sync::Arc;

use super::super::input::{Cut, Stamp};
use super::super::shard::Answers;
use super::{Coordinator, End};
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::log::StepRecord;

impl Coordinator {
    /// Runs the steps of the log again.
    pub(super) fn replay(&mut self, records: Vec<StepRecord>) -> Result<End> {
        for record in records {
            if let Some(end) = self.drain_events()? {
                return Ok(end);
            }
            let context = StepContext { step: record.step, clock_ms: record.clock_ms, seed: self.config.seed };
            let mut cuts: Vec<Cut> = self.inputs.iter().map(|_| Cut::default()).collect();
            for taken in &record.taken {
                let mut left = taken.clone();
                loop {
                    let input = &mut self.inputs[taken.source];
                    let mut stamp = Stamp { context: &context, next_ordinal: &mut self.next_ordinal };
                    if input.take_again(&mut left, &mut cuts[taken.source], &mut stamp)? {
                        break;
                    }
                    if input.ended {
                        return Err(EngineError::Source {
                            table: input.node.table.clone(),
                            message: format!(
                                "step {} took {} rows of `{}` that are no longer there; a replay needs the input as it was",
                                record.step, taken.rows, taken.partition
                            ),
                        });
                    }
                    let message = input.messages.recv().map_err(|_| EngineError::bug("a reader is gone"))?;
                    input.receive(message, record.clock_ms)?;
                }
            }
            self.step = record.step - 1;
            self.answers = Some(Arc::new(self.answers_of(&record)?));
            let mut order: Vec<usize> = record.taken.iter().map(|taken| taken.source).collect();
            order.extend(0..self.inputs.len());
            let mut seen = vec![false; self.inputs.len()];
            order.retain(|source| !std::mem::replace(&mut seen[*source], true));
            self.dispatch(context, order, cuts, record.watermarks, false)?;
        }
        self.wait_for_steps(self.step)?;
        // Stopped, not finished: the steps end where the log does, and time is not closed behind them.
        Ok(End::Stopped)
    }

    /// What tables outside answered in a step, by node.
    pub(super) fn answers_of(&self, record: &StepRecord) -> Result<Answers> {
        let mut answers = Answers::new();
        for answer in &record.answers {
            if let Some(node) = self.node_ids.iter().position(|id| *id == answer.operator) {
                answers.entry(node).or_default().extend(answer.rows()?);
            }
        }
        Ok(answers)
    }
}
