//! The device that all operators share, opened again after it was lost.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Device, DeviceError, DeviceOptions};

/// A device that comes back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedDevice {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: DeviceOptions,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    device: Device,
    reopened: u64,
}

impl SharedDevice {
    /// Opens the best adapter that the options allow.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open(options: DeviceOptions) -> Result<Self, DeviceError> {
        let device = Device::open(&options)?;
        let current = Mutex::new(Current { device, reopened: 0 });
        Ok(SharedDevice { inner: Arc::new(Inner { options, current }) })
    }

    /// The device. One that was lost is opened again, which takes some tenths of a second: callers try it rarely (see
    /// [`Backoff`](crate::placed::Backoff)). What lay on the lost one is gone.
    ///
    /// # Errors
    /// When it cannot be opened again.
    pub fn get(&self) -> Result<Device, DeviceError> {
        // A device is whole whatever happened to the thread that held the lock.
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.device.lost() {
            current.device = Device::open(&self.inner.options)?;
            current.reopened += 1;
        }
        Ok(current.device.clone())
    }

    /// The device as it is, lost or not, for figures.
    pub fn current(&self) -> Device {
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).device.clone()
    }

    /// How often it was opened again.
    pub fn reopened(&self) -> u64 {
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).reopened
    }

    pub(crate) fn is_same(&self, other: &SharedDevice) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}
