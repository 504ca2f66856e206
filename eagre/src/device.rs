//! The device that the kernels of all sessions of this process share, and where they may run.
//!
//! A GPU belongs to the process, not to a session: it is opened when the first operator that has a kernel is created, because that takes
//! some tenths of a second, and kept. What it does at its speed is measured once for each adapter and driver, and kept in the user's cache.

use std::sync::Arc;

use eagre_engine::score::Placement;
use eagre_engine::settings::Settings;

/// Told, a line for each, of what happens to kernels that run on a device.
pub type DeviceLog = Arc<dyn Fn(&str) + Send + Sync>;

/// Where kernels run, as the settings say.
#[cfg(not(feature = "gpu"))]
pub(crate) fn placement(settings: &Settings, _log: &DeviceLog) -> Arc<Placement> {
    use eagre_engine::score::{DeviceChoice, PlacerSettings};
    // What is forced and not there is refused when an operator is created.
    let device = match settings.text(eagre_engine::settings::DEVICE) {
        "gpu" => DeviceChoice::Gpu,
        _ => DeviceChoice::Cpu,
    };
    Arc::new(Placement::without_device(PlacerSettings { device, ..PlacerSettings::default() }))
}

#[cfg(feature = "gpu")]
pub(crate) use on_device::placement;

#[cfg(feature = "gpu")]
mod on_device {
    use std::sync::{Arc, Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use eagre_engine::score::{DeviceChoice, OpenDevice, PlacedOptions, Placement, PlacerSettings};
    use eagre_engine::settings::{self, Settings};
    use eagre_kernels::bench;
    use eagre_kernels::cli::default_calibration_file;
    use eagre_kernels::device::{DeviceOptions, MemoryBudget, SharedDevice, calibrate};

    use super::DeviceLog;

    /// About how long measuring may take.
    const CALIBRATION_BUDGET: Duration = Duration::from_millis(300);

    /// The device of this process. The first that opens it says how much memory it may hold.
    static OPENED: Mutex<Option<OpenDevice>> = Mutex::new(None);

    pub(crate) fn placement(settings: &Settings, log: &DeviceLog) -> Arc<Placement> {
        let device = settings.text(settings::DEVICE).parse().unwrap_or(DeviceChoice::Auto);
        if device == DeviceChoice::Cpu {
            return Arc::default();
        }
        let target_ms = settings.duration_ms(settings::LATENCY_TARGET);
        let placer = PlacerSettings {
            device,
            latency_target_ns: (target_ms > 0).then(|| target_ms.saturating_mul(1_000_000)),
            ..PlacerSettings::default()
        };
        let log = Arc::clone(log);
        let options =
            PlacedOptions { on_event: Arc::new(move |event| log(&event.to_string())), ..PlacedOptions::default() };
        let (forced, memory_bytes) = (device == DeviceChoice::Gpu, settings.bytes(settings::GPU_MEMORY));
        Arc::new(Placement::on(placer, options, Arc::new(move || opened(forced, memory_bytes))))
    }

    /// The process's device, opened if it is not open. `forced`: a software one will do.
    fn opened(forced: bool, memory_bytes: u64) -> Result<OpenDevice, String> {
        // A device is open or not, whatever happened to the thread that held the lock.
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = opened.as_ref().filter(|opened| forced || !opened.device.current().description().software);
        if let Some(opened) = usable {
            return Ok(opened.clone());
        }
        // A card does not appear while a process runs, and looking for one takes some tenths of a second.
        static ABSENT: OnceLock<String> = OnceLock::new();
        if let Some(reason) = ABSENT.get().filter(|_| !forced) {
            return Err(reason.clone());
        }
        match open(forced, memory_bytes) {
            Ok(device) => Ok(opened.insert(device).clone()),
            Err(reason) if forced => Err(reason),
            Err(reason) => Err(ABSENT.get_or_init(|| reason).clone()),
        }
    }

    fn open(forced: bool, memory_bytes: u64) -> Result<OpenDevice, String> {
        let options = DeviceOptions {
            allow_software: forced,
            // Calibration tells a kernel's time from its transfers' by the device's own clock.
            timestamps: true,
            memory: match memory_bytes {
                0 => MemoryBudget::Share(0.7),
                bytes => MemoryBudget::Bytes(bytes),
            },
            ..DeviceOptions::default()
        };
        let device = SharedDevice::open(options).map_err(|error| error.to_string())?;
        let now = device.current();
        // Nobody chooses a software adapter by its figures.
        let measured = !now.description().software;
        let calibration = measured.then(|| {
            calibrate::calibrate(&now, &bench::cases(), default_calibration_file().as_deref(), CALIBRATION_BUDGET)
        });
        // A device that cannot be measured is chosen by force only.
        Ok(OpenDevice { device, calibration: calibration.and_then(Result::ok).map(Arc::new) })
    }
}
