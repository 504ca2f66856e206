//! Before an exchange that takes all rows to one shard: only rows that are among the first of their own shard can be among the first of all.
//!
//! What is let through is never taken back: the shard that decides knows better. So nothing here need outlive the process either; after a
//! restart a few rows more come through.

use std::sync::Arc;

use super::few::Few;
use super::key::{ByteKey, Encoder, SortKey};
use super::{Plan, by_words};
use crate::error::Result;
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};

/// Makes [`LocalTopN`]s.
pub struct LocalTopNFactory {
    pub(super) plan: Arc<Plan>,
}

impl LocalTopNFactory {
    fn create_with<K: SortKey>(&self, encoder: Encoder) -> Result<Box<dyn Operator>> {
        let mut few = Few::<K>::new(self.plan.ranks);
        few.resize(1);
        Ok(Box::new(LocalTopN { plan: Arc::clone(&self.plan), encoder, few, ties: Vec::new(), keys: Vec::new() }))
    }
}

impl OperatorFactory for LocalTopNFactory {
    fn name(&self) -> &'static str {
        "LocalTopN"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let encoder = self.plan.encoder()?;
        by_words!(encoder.words() => self.create_with(encoder))
    }
}

/// Lets through what may be among the first of all shards.
struct LocalTopN<K> {
    plan: Arc<Plan>,
    encoder: Encoder,
    few: Few<K>,
    ties: Vec<u64>,
    keys: Vec<K>,
}

impl<K: SortKey> Operator for LocalTopN<K> {
    fn name(&self) -> &'static str {
        "LocalTopN"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let deltas = input.single();
        for (number, delta) in deltas.iter().enumerate() {
            let slots = vec![0; delta.rows()];
            self.few.keys(&self.plan, &self.encoder, delta, &slots, &mut self.ties, &mut self.keys)?;
            self.few.take_in(number as u32, &slots, &self.keys);
        }
        if let Some(delta) = self.few.pass(&deltas, &self.plan.input)? {
            out.emit(delta);
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.few.bytes()
    }

    fn state_rows(&self) -> usize {
        0
    }
}
