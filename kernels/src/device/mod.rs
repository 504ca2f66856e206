//! The device: one GPU, shared by all operators, through wgpu.
//!
//! - [`Device::wave`] starts recording the work of a step, on the caller's thread, into staging memory that is mapped already.
//! - [`Device::submit`] hands it to the device thread, which alone submits and polls, and gives a [`Ticket`]; the caller works on.
//! - The [`Readback`] is read in place.
//!
//! Everything runs under wgpu's default limits (8 storage buffers of 128 MiB, 256 invocations, bindings at multiples of 256 bytes),
//! because a kernel that needs more does not run on many machines. Nothing here panics on what a device does: lost, hanging, out of
//! memory or wrong, each is a [`DeviceError`], and the twin does the work.
//!
//! ```no_run
//! use eagre_kernels::device::{Access, Binding, Device, DeviceError, DeviceOptions, Dispatch, Program};
//!
//! static DOUBLE: Program = Program {
//!     name: "double",
//!     source: "
//!         @group(0) @binding(0) var<uniform> count: vec4<u32>;
//!         @group(0) @binding(1) var<storage, read> input: array<u32>;
//!         @group(0) @binding(2) var<storage, read_write> output: array<u32>;
//!         @compute @workgroup_size(64)
//!         fn double(
//!             @builtin(workgroup_id) workgroup_id: vec3<u32>,
//!             @builtin(num_workgroups) num_workgroups: vec3<u32>,
//!             @builtin(local_invocation_index) local_index: u32,
//!         ) {
//!             let i = linear_invocation(workgroup_id, num_workgroups, local_index, 64u);
//!             if i < count.x { output[i] = 2u * input[i]; }
//!         }",
//!     storage: &[Access::Read, Access::ReadWrite],
//! };
//!
//! fn main() -> Result<(), DeviceError> {
//!     let device = Device::open(&DeviceOptions::default())?;
//!     let mut wave = device.wave()?;
//!     let (input, output) = (wave.upload(&[1, 2, 3]), wave.output(3));
//!     wave.dispatch(Dispatch {
//!         program: &DOUBLE,
//!         entry: "double",
//!         overrides: &[],
//!         params: &[3],
//!         bindings: &[Binding::Region(&input), Binding::Region(&output)],
//!         workgroups: 1,
//!     })?;
//!     assert_eq!(device.submit(wave).wait()?.words(&output), [2, 4, 6]);
//!     Ok(())
//! }
//! ```

mod adapter;
pub mod calibrate;
mod error;
mod faults;
mod gpu;
mod memory;
mod program;
pub mod registry;
mod resident;
pub mod self_test;
mod shared;
pub mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod ticket;
#[cfg(test)]
pub(crate) mod validation;
pub(crate) mod watchdog;
mod wave;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use adapter::AdapterDescription;
pub use error::{DeviceError, ErrorKind};
pub use faults::{Fault, Faults};
pub use program::{Access, PRELUDE, Program};
pub use resident::{FILL_PAGE, ResidentPages, Table};
pub use self_test::{Need, SelfTest};
pub use shared::SharedDevice;
pub use ticket::{Readback, Ticket};
pub use wave::{Binding, Dispatch, Region, Wave, WaveMark};

use gpu::Gpu;
use thread::{Answer, Command};
use ticket::TicketState;

/// Called on the device thread when the answer of a wave is there. It should only wake who waits.
pub type WaveDone = Box<dyn FnOnce() + Send>;

/// How much memory a device may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryBudget {
    /// So many bytes.
    Bytes(u64),
    /// A share of what the adapter has; of 2 GiB where it does not tell.
    Share(f64),
}

/// Which device to open, and how.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Only adapters with this in their name, in any case.
    pub adapter: Option<String>,
    /// Adapters that compute on the CPU are taken too, after all others.
    pub allow_software: bool,
    /// Shaders check their indices and divisors. Without it they are trusted, which is quicker.
    pub checked_shaders: bool,
    /// How much memory it may hold.
    pub memory: MemoryBudget,
    /// How long a wave may take. A device that takes longer is given up.
    pub timeout: Duration,
    /// Nothing beyond wgpu's default limits is asked for, so that what runs here runs everywhere.
    pub default_limits: bool,
    /// Waves measure how long they take on the device, where it can.
    pub timestamps: bool,
    /// Faults that tests inject.
    pub faults: Faults,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        DeviceOptions {
            adapter: None,
            allow_software: false,
            checked_shaders: cfg!(debug_assertions),
            memory: MemoryBudget::Share(0.7),
            timeout: Duration::from_secs(5),
            default_limits: false,
            timestamps: false,
            faults: Faults::default(),
        }
    }
}

/// Figures of a device since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMetrics {
    /// Waves that were sent.
    pub waves: u64,
    /// Waves that are recorded or under way.
    pub waves_in_flight: usize,
    /// Dispatches in them.
    pub dispatches: u64,
    /// Bytes copied to the device.
    pub upload_bytes: u64,
    /// Bytes copied back.
    pub readback_bytes: u64,
    /// Bytes that are held.
    pub held_bytes: u64,
    /// Bytes that may be held.
    pub budget_bytes: u64,
    /// Entry points that were compiled, each with its overrides.
    pub pipelines: usize,
    /// Buffers that were made. Waves use those of waves before them, so it stands still unless they grow.
    pub buffers_created: u64,
    /// How many waves failed, by kind.
    pub errors: [(ErrorKind, u64); ErrorKind::ALL.len()],
}

/// A device. Cheap to clone; the device is closed when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Device {
    gpu: Arc<Gpu>,
    thread: Arc<DeviceThread>,
}

/// The device thread's channel and end.
#[derive(Debug)]
struct DeviceThread {
    commands: Option<crossbeam_channel::Sender<Command>>,
    id: std::thread::ThreadId,
    ended: crossbeam_channel::Receiver<()>,
}

/// How long closing a device waits for its thread. A driver that hangs must not hang who gives it up.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

impl Drop for DeviceThread {
    /// Waits until the thread has left the driver: some drivers bring the process down when it ends meanwhile.
    fn drop(&mut self) {
        drop(self.commands.take());
        // It may be the thread itself that drops the last handle, with the answer of a wave; then there is nothing to wait for.
        if std::thread::current().id() != self.id {
            // Its sender is dropped when it ends, whichever way.
            let _ = self.ended.recv_timeout(CLOSED_WITHIN);
        }
    }
}

impl Device {
    /// All adapters of this machine, the best first.
    pub fn adapters() -> Vec<AdapterDescription> {
        adapter::adapters()
    }

    /// Opens the best adapter that the options allow.
    ///
    /// # Errors
    /// [`DeviceError::NoAdapter`]; [`DeviceError::Open`] when the driver refuses; whatever the self-test runs into. An adapter that
    /// computes wrongly is opened all the same: [`self_test`](Self::self_test) tells what it may be used for.
    pub fn open(options: &DeviceOptions) -> Result<Device, DeviceError> {
        let gpu = Gpu::open(options)?;
        let (commands, received) = crossbeam_channel::unbounded();
        let (running, ended) = crossbeam_channel::bounded(0);
        let shared = gpu.clone();
        let thread = std::thread::Builder::new()
            .name("eagre-device".to_owned())
            .spawn(move || {
                thread::run(&shared, &received);
                drop(shared);
                drop::<crossbeam_channel::Sender<()>>(running);
            })
            .map_err(|error| DeviceError::Open {
                adapter: gpu.description.name.clone(),
                reason: format!("its thread does not start: {error}"),
            })?;
        let thread = Arc::new(DeviceThread { commands: Some(commands), id: thread.thread().id(), ended });
        let device = Device { gpu, thread };
        let test = self_test::run(&device, options.checked_shaders)?;
        device.gpu.self_test.set(test).expect("is set only here, once for each device");
        Ok(device)
    }

    /// What the adapter is.
    pub fn description(&self) -> &AdapterDescription {
        &self.gpu.description
    }

    /// What the adapter computes rightly, and what it is refused for.
    pub fn self_test(&self) -> &SelfTest {
        self.gpu.self_test.get().expect("is set before the device is given out")
    }

    /// Starts a wave.
    ///
    /// # Errors
    /// When the device is lost, too many waves are under way, or the budget has no room for staging.
    pub fn wave(&self) -> Result<Wave, DeviceError> {
        Wave::new(self.gpu.clone()).inspect_err(|error| self.gpu.counters.count_error(error.kind()))
    }

    /// A constant table for work without state; see [`ResidentPages::table`] for one beside a state.
    ///
    /// # Errors
    /// When the budget has no room, or it is larger than what a shader binds.
    pub fn table(&self, words: &[u32]) -> Result<Table, DeviceError> {
        Table::new(&self.gpu, words)
    }

    /// Sends a wave. What is wrong with it is told by the ticket.
    pub fn submit(&self, wave: Wave) -> Ticket {
        self.send(wave, None)
    }

    /// Sends a wave and calls `on_done` when the ticket has its answer.
    pub fn submit_then(&self, wave: Wave, on_done: WaveDone) -> Ticket {
        self.send(wave, Some(on_done))
    }

    /// The device cannot be used any more and has to be opened again.
    pub fn lost(&self) -> bool {
        self.gpu.is_lost()
    }

    /// Figures since the device was opened.
    pub fn metrics(&self) -> DeviceMetrics {
        self.gpu.metrics()
    }

    /// Whether both are handles of one device.
    pub fn is_same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.gpu, &other.gpu)
    }

    /// When a wave that is sent now is overdue, whatever its device thread does.
    pub(crate) fn overdue_at(&self) -> Instant {
        Instant::now() + self.gpu.timeout + ticket::GRACE
    }

    fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    fn send(&self, wave: Wave, on_done: Option<WaveDone>) -> Ticket {
        let shared = Arc::new(TicketState::default());
        let submitted = Instant::now();
        let answer = Answer { gpu: self.gpu.clone(), ticket: shared.clone(), on_done, given: false };
        let Wave { work, slot, failure, .. } = wave;
        match failure {
            Some(error) => answer.give(Err(error)),
            None => {
                if let Some(commands) = &self.thread.commands {
                    // When the thread is gone the command is dropped, and its answer says so.
                    drop(commands.send(Command { work, slot, submitted, answer }));
                }
            }
        }
        Ticket { shared, gpu: self.gpu.clone(), submitted }
    }
}
