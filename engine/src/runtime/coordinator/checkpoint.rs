//! When a step carries a checkpoint, and how the steps end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Event;
use super::super::input::Cut;
use super::super::output::SinkMessage;
use super::super::shard::{CheckpointRequest, SourceInput};
use super::Coordinator;
use crate::checkpoint::writer::{Begin, Part};
use crate::error::Result;
use crate::expr::StepContext;
use crate::log::StepRecord;

impl Coordinator {
    pub(super) fn checkpoint_due(&self, now_ms: i64) -> bool {
        if self.parts.is_none()
            || self.checkpoint_running
            || (self.step == self.checkpoint_step && !self.checkpoint_wanted)
        {
            return false;
        }
        let by_steps =
            self.config.checkpoint_steps > 0 && self.step - self.checkpoint_step >= self.config.checkpoint_steps;
        let by_time = now_ms - self.checkpoint_ms >= self.config.checkpoint_interval_ms as i64;
        self.checkpoint_wanted || by_steps || by_time
    }

    pub(super) fn begin_checkpoint(
        &mut self,
        context: &StepContext,
        record: StepRecord,
        finished: bool,
    ) -> Result<CheckpointRequest> {
        if self.config.log_steps {
            self.records.push(record);
        }
        self.checkpoint += 1;
        self.checkpoint_running = true;
        self.checkpoint_wanted = false;
        self.checkpoint_ms = context.clock_ms;
        self.checkpoint_step = context.step;
        let source_ids = self.node_ids.iter().zip(&self.ancestors).enumerate();
        let mut sources = BTreeMap::new();
        // A source node's only ancestor is itself, in order of the graph.
        let mut next_input = 0;
        for (index, (id, _)) in source_ids {
            if next_input < self.inputs.len() && self.source_node(next_input) == index {
                sources.insert(id.clone(), self.inputs[next_input].state());
                next_input += 1;
            }
        }
        let begin = Begin {
            checkpoint: self.checkpoint,
            step: context.step,
            clock_ms: context.clock_ms,
            next_ordinal: self.next_ordinal,
            finished,
            sources,
            watermarks: self.node_ids.iter().cloned().zip(self.watermarks.current().iter().copied()).collect(),
            records: std::mem::take(&mut self.records),
        };
        if let Some(parts) = &self.parts {
            let _ = parts.send(Part::Begin(Box::new(begin)));
        }
        Ok(CheckpointRequest { checkpoint: self.checkpoint, full: std::mem::take(&mut self.full_next) })
    }

    /// The graph node of an input.
    pub(super) fn source_node(&self, input: usize) -> usize {
        self.ancestors.iter().position(|ancestors| ancestors.as_slice() == [input]).expect("an input belongs to a node")
    }

    /// Ends the steps in order: a last one that carries a checkpoint (where there is a store), then the sinks.
    pub(super) fn close(&mut self, finished: bool) -> Result<()> {
        self.wait_for_steps(self.step)?;
        let now_ms = self.now_ms();
        let watermarks = self.source_watermarks(now_ms);
        let closes_time = finished && watermarks != self.source_watermarks;
        if self.parts.is_some() {
            while self.checkpoint_running {
                self.wait_event()?;
            }
            if finished || self.step != self.checkpoint_step {
                let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
                self.step = context.step;
                let cut_ns = self.clock.monotonic_ns();
                let node_watermarks = self.watermarks.advance(&watermarks, now_ms);
                let record = StepRecord {
                    step: context.step,
                    clock_ms: now_ms,
                    watermarks,
                    taken: Vec::new(),
                    answers: Vec::new(),
                };
                let request = Arc::new(self.begin_checkpoint(&context, record, finished)?);
                let nothing = vec![vec![SourceInput::default(); self.inputs.len()]; self.config.shards];
                self.send_step(context, nothing, node_watermarks, Some(request), (cut_ns, 0))?;
                self.wait_for_steps(self.step)?;
                while self.checkpoint_running {
                    self.wait_event()?;
                }
            }
        } else if closes_time {
            let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
            let nothing = self.inputs.iter().map(|_| Cut::default()).collect();
            self.dispatch(context, Vec::new(), nothing, watermarks, false)?;
            self.wait_for_steps(self.step)?;
        }
        for sink in &self.sinks {
            let _ = sink.send(SinkMessage::Finish);
        }
        let mut finished_sinks = 0;
        while finished_sinks < self.sinks.len() {
            match self.events.recv() {
                Ok(Event::SinkFinished) => finished_sinks += 1,
                Ok(Event::Abort) | Err(_) => return Ok(()),
                Ok(event) => {
                    self.handle(event)?;
                }
            }
        }
        Ok(())
    }
}
