//! What a kernel is: one computation with state by key, in two forms.

#[cfg(feature = "gpu")]
use crate::device::{Readback, ResidentPages, Wave};
use crate::state::{StatePages, StateShape};

/// One computation over rows grouped by key, with state by key.
///
/// The same batches in the same order give the same outputs and the same state words on both sides, by the policy of the kernel
/// ([`Exactness`]). A batch is kept by the caller until its output is there, so that the twin can do it again when a device fails.
pub trait Kernel: Send + Sync + 'static {
    /// The input of one step.
    type Batch: Send + Sync;
    /// The answer for one batch.
    type Output: Send;

    /// The kernel's name, the same in SQL, `EXPLAIN`, metrics and errors, for example `"recurrence_scan"`.
    fn name(&self) -> &'static str;

    /// How device and twin agree.
    fn exactness(&self) -> Exactness;

    /// Whether one invocation of the shader may run more than 32,768 iterations of loops. Some drivers cut those; the kernel stays on
    /// the CPU there.
    fn long_loops(&self) -> bool {
        true
    }

    /// Whether a batch depends on those before it. Where none does, a batch that was answered is never done again.
    fn keeps_state(&self) -> bool {
        true
    }

    /// The state of one key.
    fn state_shape(&self) -> StateShape;

    /// How many slots the state must have for this batch: one more than its greatest slot.
    fn slot_count(&self, batch: &Self::Batch) -> usize;

    /// How many rows the batch has, for figures.
    fn row_count(&self, batch: &Self::Batch) -> usize;

    /// About how many bytes the batch holds, to bound how many are kept; 16 bytes for each row unless the kernel knows better.
    fn batch_bytes(&self, batch: &Self::Batch) -> usize {
        self.row_count(batch) * 16
    }

    /// The slots whose state the batch may change, for checkpoints of what has changed; `None` if the kernel does not tell.
    fn touched_slots<'a>(&self, batch: &'a Self::Batch) -> Option<&'a [u32]> {
        let _ = batch;
        None
    }

    /// Does the work on this thread. `state` has grown to [`slot_count`](Self::slot_count).
    fn run_twin(&self, batch: &Self::Batch, state: &mut StatePages) -> Self::Output;

    /// Puts uploads and dispatches into the wave; what comes back is read by [`decode`](Self::decode) from the regions kept in the
    /// ticket. Nothing is sent yet.
    ///
    /// # Errors
    /// What does not fit the device ([`KernelError::Device`]); the twin does the batch then.
    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Self::Batch,
        state: &mut ResidentPages,
        wave: &mut Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError>;

    /// Reads the answer of what [`encode`](Self::encode) put in.
    #[cfg(feature = "gpu")]
    fn decode(&self, batch: &Self::Batch, regions: &[crate::device::Region], readback: &Readback) -> Self::Output;
}

/// How device and twin agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exactness {
    /// Equal to the bit on every adapter.
    Exact,
    /// Equal to the bit where the adapter keeps float operations as they are written; else as [`Tolerance`](Self::Tolerance).
    SameTree,
    /// `|device - twin| <= relative * |twin| + absolute`.
    Tolerance {
        /// Relative bound.
        relative: f32,
        /// Absolute bound, in units of the output.
        absolute: f32,
    },
}

/// What a kernel refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A parameter outside of its range.
    #[error("`{kernel}`: {parameter} must be {expected}, not {given}")]
    Parameter {
        /// The kernel.
        kernel: &'static str,
        /// The parameter, as users write it.
        parameter: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },
    /// The device did not do it.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
}
