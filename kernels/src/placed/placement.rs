//! Where the kernels of a process's operators may run: who chooses, and the device that they share.

use std::fmt;
#[cfg(feature = "gpu")]
use std::sync::{Arc, OnceLock};

use super::{Placed, PlacedOptions};
use crate::Kernel;
#[cfg(feature = "gpu")]
use crate::device::SharedDevice;
#[cfg(feature = "gpu")]
use crate::placer::Calibration;
use crate::placer::{DeviceChoice, DeviceFitness, OperatorPlacer, PlacerSettings};

/// A device that is open, with its figures.
#[cfg(feature = "gpu")]
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// The device.
    pub device: SharedDevice,
    /// Without figures it is used only where it is forced.
    pub calibration: Option<Arc<Calibration>>,
}

/// Opens the device when the first operator asks for one, because that takes some tenths of a second; or says why there is none.
#[cfg(feature = "gpu")]
pub type OpenOnce = dyn Fn() -> Result<OpenDevice, String> + Send + Sync;

/// See the module.
pub struct Placement {
    settings: PlacerSettings,
    options: PlacedOptions,
    #[cfg(feature = "gpu")]
    open: Option<Arc<OpenOnce>>,
    #[cfg(feature = "gpu")]
    opened: OnceLock<Result<OpenDevice, String>>,
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Default for Placement {
    /// All on the CPU.
    fn default() -> Self {
        Placement {
            settings: PlacerSettings { device: DeviceChoice::Cpu, ..PlacerSettings::default() },
            options: PlacedOptions::default(),
            #[cfg(feature = "gpu")]
            open: None,
            #[cfg(feature = "gpu")]
            opened: OnceLock::new(),
        }
    }
}

impl Placement {
    /// As the settings say, on the device that `open` opens.
    #[cfg(feature = "gpu")]
    pub fn on(settings: PlacerSettings, options: PlacedOptions, open: Arc<OpenOnce>) -> Self {
        Placement { settings, options, open: Some(open), opened: OnceLock::new() }
    }

    /// All on the CPU; what asks for a device is refused by [`check`](Self::check).
    #[cfg_attr(not(feature = "gpu"), expect(clippy::needless_update, reason = "with a device there are more fields"))]
    pub fn without_device(settings: PlacerSettings, options: PlacedOptions) -> Self {
        Placement { settings, options, ..Self::default() }
    }

    /// Who chooses.
    pub fn settings(&self) -> &PlacerSettings {
        &self.settings
    }

    /// Refuses what cannot be: a device that is forced, and not there.
    ///
    /// # Errors
    /// Why there is none.
    pub fn check(&self) -> Result<(), String> {
        if self.settings.device != DeviceChoice::Gpu {
            return Ok(());
        }
        #[cfg(feature = "gpu")]
        return self.opened().map(|_| ());
        #[cfg(not(feature = "gpu"))]
        Err("this build has no GPU support (cargo feature `gpu`)".to_string())
    }

    pub(crate) fn options(&self) -> &PlacedOptions {
        &self.options
    }

    /// The placer of one operator.
    pub(crate) fn placer<K: Kernel>(&self, kernel: &K) -> OperatorPlacer {
        #[cfg(feature = "gpu")]
        if self.settings.device != DeviceChoice::Cpu
            && let Ok(opened) = self.opened()
        {
            let fitness = match opened.device.current().self_test().allows_kernel(kernel) {
                Ok(()) => DeviceFitness::Fit,
                Err((_, reason)) => DeviceFitness::Unfit(reason.to_string()),
            };
            return OperatorPlacer::new(kernel.name(), self.settings.clone(), fitness, opened.calibration.clone());
        }
        OperatorPlacer::new(kernel.name(), self.settings.clone(), DeviceFitness::Absent, None)
    }

    /// Whether it is on the device now.
    pub(crate) fn move_to_device<K: Kernel>(&self, placed: &mut Placed<K>) -> bool {
        #[cfg(feature = "gpu")]
        if let Ok(opened) = self.opened() {
            // What went wrong is told by the placement's events.
            return placed.move_to_device(&opened.device).is_ok();
        }
        #[cfg(not(feature = "gpu"))]
        let _ = placed;
        false
    }

    #[cfg(feature = "gpu")]
    fn opened(&self) -> Result<&OpenDevice, String> {
        let Some(open) = &self.open else { return Err("no device was given".to_string()) };
        self.opened.get_or_init(|| open()).as_ref().map_err(Clone::clone)
    }
}
