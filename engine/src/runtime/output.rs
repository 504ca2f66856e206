//! Sink threads: each sink gets whole steps in order, whatever the order in which shards finish them.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender};

use super::{Event, Stopwatch};
use crate::checkpoint::writer::Part;
use crate::delta::Delta;
use crate::error::Result;
use crate::sink::Sink;

pub(crate) enum SinkMessage {
    /// One shard's output of a step; with several shards all of them send every step.
    Step { step: u64, shard: usize, deltas: Vec<Delta>, checkpoint: Option<u64> },
    /// The manifest that lists this transaction is durable.
    Commit(serde_json::Value),
    /// The pipeline has ended cleanly.
    Finish,
    /// Nothing comes any more. (The checkpointer holds senders to publish with and the sinks hold senders to it, so that neither would
    /// see the other's channel close.)
    Close,
}

pub(crate) struct SinkThread {
    pub sink: Box<dyn Sink>,
    pub index: usize,
    pub shards: usize,
    pub parts: Option<Sender<Part>>,
    pub events: Sender<Event>,
    /// Notes how many nanoseconds a call took.
    pub busy: Stopwatch,
}

impl SinkThread {
    /// Runs until all senders are gone or the sink fails; after a failure it goes on taking messages, so that no shard hangs.
    pub(crate) fn run(mut self, inbox: Receiver<SinkMessage>) {
        if let Err(error) = self.serve(&inbox) {
            let _ = self.events.send(Event::Failed(error));
            while inbox.recv().is_ok_and(|message| !matches!(message, SinkMessage::Close)) {}
        }
    }

    fn serve(&mut self, inbox: &Receiver<SinkMessage>) -> Result<()> {
        let mut waiting: BTreeMap<u64, Vec<(usize, Vec<Delta>)>> = BTreeMap::new();
        for message in inbox {
            match message {
                SinkMessage::Step { step, shard, deltas, checkpoint } => {
                    let arrived = waiting.entry(step).or_default();
                    arrived.push((shard, deltas));
                    if arrived.len() < self.shards {
                        continue;
                    }
                    // Shards finish their steps in order, so the step that is whole first is the oldest one.
                    let mut arrived = waiting.remove(&step).expect("it was just filled");
                    arrived.sort_by_key(|(shard, _)| *shard);
                    let deltas: Vec<Delta> = arrived.into_iter().flat_map(|(_, deltas)| deltas).collect();
                    if !deltas.is_empty() {
                        let sink = &mut self.sink;
                        self.busy.time(|| sink.write(step, &deltas))?;
                    }
                    if let Some(checkpoint) = checkpoint {
                        let transaction = self.sink.prepare(step)?;
                        if let Some(parts) = &self.parts {
                            let _ = parts.send(Part::Sink { checkpoint, sink: self.index, transaction });
                        }
                    }
                }
                SinkMessage::Close => return Ok(()),
                SinkMessage::Commit(transaction) => self.sink.commit(&transaction)?,
                SinkMessage::Finish => {
                    self.sink.finish()?;
                    let _ = self.events.send(Event::SinkFinished);
                }
            }
        }
        Ok(())
    }
}
