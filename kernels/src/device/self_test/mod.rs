//! What an adapter computes rightly, found out when it is opened: drivers do not tell.
//!
//! Each thing that is tried here was seen to go wrong somewhere without any error. The result is data: which needs of kernels an
//! adapter does not meet, with the reason; a kernel that has such a need stays on the CPU there.
//!
//! One trap is not tried but excluded: workgroups that wait for each other by spinning hang, or go wrong, on drivers that do not run
//! them all at once. No shader of this crate does that: their validation refuses loops that only an atomic of a storage buffer ends.

mod evaluate;
mod probe;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

pub use evaluate::{Need, Observed, SelfTest};
pub use probe::SELF_TEST;

use super::{Device, DeviceError};

/// Runs the self-test, once for each adapter, driver and form of shaders in this process.
pub(super) fn run(device: &Device, checked_shaders: bool) -> Result<SelfTest, DeviceError> {
    static DONE: Mutex<Option<HashMap<String, SelfTest>>> = Mutex::new(None);
    let description = device.description();
    let key = format!("{}/{}/{}/{checked_shaders}", description.name, description.driver, description.backend);
    // Not held while it runs: twice is better than waiting for a device that hangs.
    if let Some(test) = DONE.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|done| done.get(&key)) {
        return Ok(test.clone());
    }
    let test = SelfTest::evaluate(probe::observe(device)?);
    DONE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(key, test.clone());
    Ok(test)
}

#[cfg(test)]
mod tests {
    use super::evaluate::tests::right;
    use super::*;
    use crate::device::testing::test_device;

    /// The device that the tests run on is a right one, apart from what is its own: else its results would mean nothing.
    #[test]
    fn this_adapter_passes() {
        let Some(device) = test_device() else { return };
        let test = device.self_test();
        assert_eq!(test.refused, [], "{:?}", test.observed);
        let free = Observed {
            nan_is_unequal_to_itself: true,
            reassociates: false,
            contracts: false,
            fma_is_fused: true,
            keeps_denormals: true,
            subgroup_size: Some(32),
            ..test.observed.clone()
        };
        assert_eq!(free, right());
        if let Some(size) = test.observed.subgroup_size {
            let (least, most) = device.description().subgroup_sizes;
            assert!(size.is_power_of_two() && (least..=most).contains(&size), "{size} of {least} to {most}");
        }
    }

    /// Software with a known width: the test would not see it if all of lavapipe's widths were the same.
    #[test]
    fn the_width_of_subgroups_is_the_drivers() {
        let Some(device) = test_device() else { return };
        let width = std::env::var("LP_NATIVE_VECTOR_WIDTH").ok().and_then(|bits| bits.parse::<u32>().ok());
        if let (true, Some(width)) = (device.description().name.contains("llvmpipe"), width) {
            assert_eq!(device.self_test().observed.subgroup_size, Some(width / 32));
        }
    }
}
