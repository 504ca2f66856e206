//! What is measured of each kernel: a workload, behind one face for all.

use super::Limits;
#[cfg(test)]
use super::agreement;
#[cfg(any(test, feature = "gpu"))]
use super::figure::Agreement;
use super::figure::TwinFigure;
use super::twin;
use crate::kernel::{Exactness, Kernel};

#[cfg(feature = "gpu")]
use super::{
    figure::{DeviceFigure, KernelTime},
    gpu,
};
#[cfg(feature = "gpu")]
use crate::{device::Device, kernel::KernelError};

/// Typical input of a kernel: what its figures are measured on.
pub trait Workload: Send + Sync + 'static {
    /// The kernel.
    type Kernel: Kernel;
    /// Rows in order of arrival, as a step of the engine has them.
    type Columns: Send + Sync;

    /// The kernel, with its parameters.
    fn kernel(&self) -> &Self::Kernel;

    /// What tells this workload from others of the kernel, for example `100x12`; empty when it is the kernel's first one.
    fn variant(&self) -> &'static str;

    /// What the rows are, for people.
    fn input(&self) -> &'static str;

    /// How many keys so many rows have.
    fn key_count(&self, rows: usize) -> usize;

    /// How many rows a key needs before it costs what it costs for good.
    fn warm_rows(&self) -> usize;

    /// Rows of so many keys, from a seed.
    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> Self::Columns;

    /// Groups and converts: what is done on the CPU for either side, and is timed with it.
    fn batch(&self, columns: &Self::Columns) -> <Self::Kernel as Kernel>::Batch;

    /// The bytes that the kernel cannot but read and write, its state included: what GB/s are counted from.
    fn traffic_bytes(&self, batch: &<Self::Kernel as Kernel>::Batch) -> u64;

    /// How many units of work an event is, and what they are called, where they tell more than events do.
    fn units_per_event(&self) -> Option<(usize, &'static str)> {
        None
    }

    /// The answer as bits that must be equal and as numbers that must agree by the kernel's policy.
    fn answer(&self, output: <Self::Kernel as Kernel>::Output) -> Answer;
}

/// An answer, made comparable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Counts, bits, integers.
    pub words: Vec<u32>,
    /// Scores and sums.
    pub floats: Vec<f32>,
    /// Numbers that need not agree by more than a few digits, whatever the kernel's policy.
    pub approximate: Vec<f32>,
}

/// A workload of a kernel, whichever it is.
pub trait Case: Send + Sync {
    /// The kernel's name.
    fn kernel(&self) -> &'static str;
    /// The kernel's name and, if it is not the first of its workloads, which one: `half_space_forest/100x12`.
    fn name(&self) -> String;
    /// What the rows are, for people.
    fn input(&self) -> &'static str;
    /// How device and twin agree.
    fn exactness(&self) -> Exactness;
    /// How many units of work an event is, and what they are called, where they tell more than events do.
    fn units_per_event(&self) -> Option<(usize, &'static str)>;
    /// Among how many threads so many rows can be cut: a key stays whole.
    fn threads_max(&self, rows: usize) -> usize;
    /// Times the twin on batches of `rows` rows, cut by key among `threads` threads, or as many as can be.
    fn twin(&self, rows: usize, threads: usize, limits: &Limits) -> TwinFigure;
    /// Times the device on batches of `rows` rows, its throughput also when fed by each of these counts of threads.
    ///
    /// # Errors
    /// What the kernel or the device refuses.
    #[cfg(feature = "gpu")]
    fn device(
        &self,
        device: &Device,
        rows: usize,
        threads: &[usize],
        limits: &Limits,
    ) -> Result<DeviceFigure, KernelError>;
    /// Times the kernel alone, for a calibration.
    ///
    /// # Errors
    /// What the kernel or the device refuses.
    #[cfg(feature = "gpu")]
    fn kernel_time(&self, device: &Device, rows: usize, limits: &Limits) -> Result<KernelTime, KernelError>;
    /// Compares device and twin over several batches from fresh state.
    ///
    /// # Errors
    /// What the kernel or the device refuses.
    #[cfg(feature = "gpu")]
    fn agreement(&self, device: &Device, rows: usize, limits: &Limits) -> Result<Agreement, KernelError>;
    /// Compares two twins that get the same batches: what [`agreement`](Self::agreement) does without a device.
    #[cfg(test)]
    fn repeats(&self, rows: usize, limits: &Limits) -> Agreement;
    /// Which share of a warm answer is neither 0 nor NaN.
    #[cfg(test)]
    fn telling_share(&self, rows: usize, limits: &Limits) -> f64;
}

impl<W: Workload> Case for W {
    fn kernel(&self) -> &'static str {
        Workload::kernel(self).name()
    }

    fn name(&self) -> String {
        match self.variant() {
            "" => Case::kernel(self).to_owned(),
            variant => format!("{}/{variant}", Case::kernel(self)),
        }
    }

    fn input(&self) -> &'static str {
        Workload::input(self)
    }

    fn exactness(&self) -> Exactness {
        Workload::kernel(self).exactness()
    }

    fn units_per_event(&self) -> Option<(usize, &'static str)> {
        Workload::units_per_event(self)
    }

    fn threads_max(&self, rows: usize) -> usize {
        self.key_count(rows).min(rows).max(1)
    }

    fn twin(&self, rows: usize, threads: usize, limits: &Limits) -> TwinFigure {
        twin::measure(self, rows, threads, limits)
    }

    #[cfg(feature = "gpu")]
    fn device(
        &self,
        device: &Device,
        rows: usize,
        threads: &[usize],
        limits: &Limits,
    ) -> Result<DeviceFigure, KernelError> {
        gpu::measure(self, device, rows, threads, limits)
    }

    #[cfg(feature = "gpu")]
    fn kernel_time(&self, device: &Device, rows: usize, limits: &Limits) -> Result<KernelTime, KernelError> {
        gpu::kernel_time(self, device, rows, limits)
    }

    #[cfg(feature = "gpu")]
    fn agreement(&self, device: &Device, rows: usize, limits: &Limits) -> Result<Agreement, KernelError> {
        gpu::agreement(self, device, rows, limits)
    }

    #[cfg(test)]
    fn telling_share(&self, rows: usize, limits: &Limits) -> f64 {
        let mut runner = twin::Runner::new(self);
        let batch = self.batch(&self.columns(rows, self.key_count(rows), limits.seed));
        (0..twin::warm_batches(self, rows, self.key_count(rows))).for_each(|_| drop(runner.run(&batch)));
        let answer = self.answer(runner.run(&batch));
        let telling = answer.words.iter().filter(|&&word| word != 0).count()
            + answer
                .floats
                .iter()
                .chain(&answer.approximate)
                .filter(|float| float.is_finite() && **float != 0.0)
                .count();
        telling as f64 / (answer.words.len() + answer.floats.len() + answer.approximate.len()).max(1) as f64
    }

    #[cfg(test)]
    fn repeats(&self, rows: usize, limits: &Limits) -> Agreement {
        let mut first = twin::Runner::new(self);
        let mut second = twin::Runner::new(self);
        let mut agreement = Agreement::default();
        for step in 0..agreement::STEPS {
            let batch = self.batch(&self.columns(rows, self.key_count(rows), limits.seed + step));
            agreement::compare(
                &mut agreement,
                self.exactness(),
                &self.answer(first.run(&batch)),
                &self.answer(second.run(&batch)),
            );
        }
        agreement
    }
}
