//! What the coordinator is told, and waiting for it.

use std::time::Duration;

use crossbeam_channel::Select;

use super::super::Event;
use super::super::input::Input;
use super::{Coordinator, End, Shards};
use crate::error::{EngineError, Result};

/// The longest wait without looking around.
const WAIT_MS_MAX: i64 = 1_000;

impl Coordinator {
    pub(super) fn wait_for_steps(&mut self, step: u64) -> Result<()> {
        if matches!(self.shards, Shards::One(_)) {
            // It ran them on this thread; what it said of them is there, and nothing more comes of a step that has failed.
            while let Ok(event) = self.events.try_recv() {
                self.take_event(event)?;
            }
            return Ok(());
        }
        while self.steps_done < step {
            self.wait_event()?;
        }
        Ok(())
    }

    pub(super) fn wait_event(&mut self) -> Result<()> {
        let event = self.events.recv().map_err(|_| EngineError::bug("all threads of the pipeline are gone"))?;
        self.take_event(event)
    }

    pub(super) fn take_event(&mut self, event: Event) -> Result<()> {
        match self.handle(event)? {
            Some(End::Aborted) => Err(EngineError::limit("the pipeline was aborted")),
            _ => Ok(()),
        }
    }

    pub(super) fn drain_events(&mut self) -> Result<Option<End>> {
        while let Ok(event) = self.events.try_recv() {
            if let Some(end) = self.handle(event)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    pub(super) fn handle(&mut self, event: Event) -> Result<Option<End>> {
        match event {
            Event::StepDone { step, cut_ns } => {
                let done = self.shard_done.entry(step).or_insert(0);
                *done += 1;
                if *done == self.config.shards {
                    self.shard_done.remove(&step);
                    self.steps_done = step;
                    self.metrics.steps.set(step);
                    self.metrics.step_took(self.clock.monotonic_ns().saturating_sub(cut_ns));
                    if let Some(observer) = &self.observer {
                        observer.done(step);
                    }
                }
            }
            Event::Failed(error) => return Err(error),
            Event::Written(written) => {
                let written = written?;
                self.full_next = written.full_next;
                self.checkpoint_running = false;
                for input in 0..self.inputs.len() {
                    let saved = written.oldest_sources.get(&self.node_ids[self.source_node(input)]);
                    self.inputs[input].node.source.committed(&Input::places(saved));
                }
            }
            Event::Stop => self.stopping = true,
            Event::Drain => {
                self.draining = true;
                self.stop_readers.drain();
            }
            Event::Abort => return Ok(Some(End::Aborted)),
            Event::Checkpoint => self.checkpoint_wanted = self.parts.is_some(),
            Event::SinkFinished => {}
        }
        Ok(None)
    }

    /// Waits until something happens or the time has come for something.
    pub(super) fn block(&mut self, now_ms: i64) -> Result<()> {
        let mut wait_ms = WAIT_MS_MAX;
        if self.parts.is_some() && self.step != self.checkpoint_step && !self.checkpoint_running {
            wait_ms = wait_ms.min(self.checkpoint_ms + self.config.checkpoint_interval_ms as i64 - now_ms);
        }
        if let Some(idle_ms) = self.inputs.iter().filter_map(|input| input.next_idle_ms(now_ms)).min() {
            wait_ms = wait_ms.min(idle_ms - now_ms);
        }
        if let Some(tick_ms) = self.watermarks.next_tick_ms(self.clock_ms) {
            wait_ms = wait_ms.min(tick_ms - now_ms);
        }
        let mut select = Select::new();
        let receivers: Vec<_> =
            self.inputs.iter().filter(|input| input.is_open()).map(|input| input.messages.clone()).collect();
        select.recv(&self.events);
        for receiver in &receivers {
            select.recv(receiver);
        }
        // Whatever is ready is taken by the loop; only the wait ends here.
        let _ = select.ready_timeout(Duration::from_millis(wait_ms.max(1) as u64));
        Ok(())
    }
}
