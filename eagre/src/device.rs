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
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use eagre_engine::score::{DeviceChoice, OpenDevice, PlacedOptions, Placement, PlacerSettings};
    use eagre_engine::settings::{self, Settings};
    use eagre_kernels::bench;
    use eagre_kernels::cli::default_calibration_file;
    use eagre_kernels::device::{DeviceOptions, MemoryBudget, SharedDevice, calibrate};

    use super::DeviceLog;

    /// About how long measuring may take.
    const CALIBRATION_BUDGET: Duration = Duration::from_millis(300);

    /// What a device is opened for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Wanted {
        forced: bool,
        memory_bytes: u64,
    }

    type Opened = Result<OpenDevice, String>;
    static OPENED: Mutex<BTreeMap<Wanted, Opened>> = Mutex::new(BTreeMap::new());

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
        let wanted = Wanted { forced: device == DeviceChoice::Gpu, memory_bytes: settings.bytes(settings::GPU_MEMORY) };
        Arc::new(Placement::on(placer, options, Arc::new(move || opened(wanted))))
    }

    fn opened(wanted: Wanted) -> Opened {
        // A map is whole whatever happened to the thread that held the lock.
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        opened.entry(wanted).or_insert_with(|| open(wanted)).clone()
    }

    fn open(wanted: Wanted) -> Opened {
        let options = DeviceOptions {
            allow_software: wanted.forced,
            // Calibration tells a kernel's time from its transfers' by the device's own clock.
            timestamps: true,
            memory: match wanted.memory_bytes {
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
