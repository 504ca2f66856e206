//! When a device that failed is tried again: after so many steps, twice as many after each further failure.
//!
//! Counted in steps, not in time: an operator reads no clock, and a step is what is lost when it fails again.

/// Settings of the back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Steps after the first failure.
    pub steps_first: u64,
    /// The most steps.
    pub steps_max: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { steps_first: 16, steps_max: 16_384 }
    }
}

/// How far the back-off is.
#[derive(Debug, Default)]
#[cfg(feature = "gpu")]
pub(super) struct BackoffState {
    failures: u32,
    left: u64,
    good: u64,
}

#[cfg(feature = "gpu")]
impl BackoffState {
    /// The device has failed: returns how many steps to leave it alone.
    pub(super) fn fail(&mut self, backoff: Backoff) -> u64 {
        let factor = 1u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1);
        self.good = 0;
        self.left = backoff.steps_first.saturating_mul(factor).min(backoff.steps_max);
        self.left
    }

    /// A step goes by on the CPU: true when the device is to be tried now.
    pub(super) fn step(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// A step was answered by the device. When it has worked for as long as it would be left alone, its failures are forgotten.
    pub(super) fn succeed(&mut self, backoff: Backoff) {
        if self.failures > 0 {
            self.good += 1;
            if self.good
                > backoff
                    .steps_first
                    .saturating_mul(1u64.checked_shl(self.failures).unwrap_or(u64::MAX))
                    .min(backoff.steps_max)
            {
                *self = BackoffState::default();
            }
        }
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_is_forgotten_after_good_steps() {
        let backoff = Backoff { steps_first: 4, steps_max: 20 };
        let mut state = BackoffState::default();
        assert_eq!((0..5).map(|_| state.fail(backoff)).collect::<Vec<_>>(), [4, 8, 16, 20, 20]);
        assert_eq!((0..20).filter(|_| state.step()).count(), 1, "at the last step");
        (0..20).for_each(|_| state.succeed(backoff));
        assert_eq!(state.fail(backoff), 20, "not long enough");
        (0..21).for_each(|_| state.succeed(backoff));
        assert_eq!(state.fail(backoff), 4);
    }
}
