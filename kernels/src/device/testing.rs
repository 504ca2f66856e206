//! The device that tests run on: one for the whole process, or none, and then the tests say so.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Device, DeviceOptions, SharedDevice};

/// Set to anything but `0`: a test that finds no adapter fails. CI sets it, so that nothing is skipped there unseen.
pub const REQUIRE_VARIABLE: &str = "EAGRE_REQUIRE_GPU";
/// Set to `trusted` or `checked`: which form of the shaders tests run. Without it they are checked.
pub const SHADERS_VARIABLE: &str = "EAGRE_TEST_SHADERS";

/// How tests open a device: software is good enough, nothing beyond the default limits is used, and it may take long, because tests run
/// side by side on machines that have other work too.
pub fn test_options() -> DeviceOptions {
    DeviceOptions {
        allow_software: true,
        default_limits: true,
        timeout: Duration::from_secs(120),
        checked_shaders: std::env::var(SHADERS_VARIABLE).map_or(true, |form| form != "trusted"),
        ..DeviceOptions::default()
    }
}

/// The device that all tests of the process share, or `None` after saying that the test is skipped, and why.
///
/// # Panics
/// When there is none although [`REQUIRE_VARIABLE`] asks for one.
pub fn test_device() -> Option<Device> {
    static SHARED: OnceLock<Result<Device, String>> = OnceLock::new();
    found(SHARED.get_or_init(|| Device::open(&test_options()).map_err(|error| error.to_string())).clone())
}

/// A device of its own, for tests that break it.
///
/// # Panics
/// As [`test_device`].
pub fn own_test_device(options: &DeviceOptions) -> Option<Device> {
    found(Device::open(options).map_err(|error| error.to_string()))
}

/// A device of its own that is opened again, for tests that break it.
///
/// # Panics
/// As [`test_device`].
pub fn shared_test_device(options: &DeviceOptions) -> Option<SharedDevice> {
    found(SharedDevice::open(options.clone()).map_err(|error| error.to_string()))
}

fn found<T>(device: Result<T, String>) -> Option<T> {
    let required = std::env::var(REQUIRE_VARIABLE).is_ok_and(|value| !value.is_empty() && value != "0");
    match device {
        Ok(device) => Some(device),
        Err(reason) if required => panic!("{REQUIRE_VARIABLE} is set, and {reason}"),
        Err(reason) => {
            use std::io::Write;
            // Not `eprintln!`: that is captured, and nobody would see that nothing was tested.
            drop(writeln!(std::io::stderr(), "SKIPPED, needs a device: {reason}"));
            None
        }
    }
}
