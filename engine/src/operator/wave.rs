//! What the operators of a step have for the device, gathered.
//!
//! A round trip to a device costs some ten microseconds whatever it carries, so operators that do not wait for each other share one: each
//! records its kernels and is pending, and the shard sends what was recorded when no other operator of the step can run.

use eagre_kernels::placed::{WaitingFor, WaveGroup};

use super::{Redeemer, Ticket};
use crate::error::Result;

/// The device's work of a step.
#[derive(Debug, Default)]
pub struct StepWave {
    group: WaveGroup,
    /// Who waits for it.
    waiting: Vec<Redeemer>,
    /// Somebody sends it when all operators had their turn; otherwise each sends its own.
    gathers: bool,
    oldest_wait_ns: u64,
}

impl StepWave {
    /// One that is sent by [`send`](Self::send) only.
    pub(crate) fn gathering() -> Self {
        Self { gathers: true, ..Self::default() }
    }

    /// The same for an operator whose oldest rows have waited so long.
    pub(crate) fn waiting_for(mut self, oldest_wait_ns: u64) -> Self {
        self.oldest_wait_ns = oldest_wait_ns;
        self
    }

    /// How long the oldest of the operator's rows have waited when its turn came, since a reader handed them over.
    pub fn oldest_wait_ns(&self) -> u64 {
        self.oldest_wait_ns
    }

    /// Has `start` start so many kernels. A ticket: the device has to answer some of them first, and the operator is pending until then.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start(
        &mut self,
        kernels: usize,
        start: impl FnOnce(&mut WaveGroup) -> Result<()>,
    ) -> Result<Option<Ticket>> {
        self.group.begin(u32::try_from(kernels).unwrap_or(u32::MAX), self.oldest_wait_ns);
        let before = self.group.recorded();
        start(&mut self.group)?;
        if self.group.recorded() == before {
            if self.waiting.is_empty() {
                // What could not be recorded must not hold the device's memory.
                self.group = WaveGroup::new();
            }
            return Ok(None);
        }
        let (redeemer, ticket) = Ticket::new();
        self.waiting.push(redeemer);
        if !self.gathers {
            self.send();
        }
        Ok(Some(ticket))
    }

    /// Whether anybody waits for it to be sent.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what was recorded, if anything was: of how many kernels.
    pub(crate) fn send(&mut self) -> Option<u32> {
        if !self.is_waiting() {
            return None;
        }
        let batches = self.group.recorded();
        let next = WaveGroup::after(batches);
        let waiting = std::mem::take(&mut self.waiting);
        let group = std::mem::replace(&mut self.group, next);
        // Where nothing has to be waited for the redeemers are dropped, which redeems them.
        let _: WaitingFor = group.submit(move || waiting.into_iter().for_each(Redeemer::redeem));
        Some(batches)
    }
}
