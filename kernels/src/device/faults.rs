//! Faults on demand, so that tests see what a failing device does without having one.
//!
//! A fault does the real thing where that is possible: a lost device is one that was destroyed, a validation error comes from a command
//! that is wrong. So what is tested is the path that a real fault takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The device is destroyed before the wave is submitted.
    LostBeforeWave,
    /// The device is destroyed when the wave was submitted and its answer is not there yet.
    LostDuringWave,
    /// The wave is waited for no time at all.
    Timeout,
    /// The wave has a command that is not valid.
    Validation,
    /// The budget has nothing left for this page of state.
    PageBudget,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 5] =
        [Fault::LostBeforeWave, Fault::LostDuringWave, Fault::Timeout, Fault::Validation, Fault::PageBudget];
}

/// Faults that are armed, shared by a device and the test that arms them; stays the same when the device is opened again.
///
/// Each fault has a countdown: `arm(fault, 0)` strikes the next time that it can, `arm(fault, n)` lets `n` occasions pass before.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    countdowns: Arc<[AtomicU64; Fault::ALL.len()]>,
}

impl Faults {
    /// Lets the fault strike once, after `occasions` occasions passed.
    pub fn arm(&self, fault: Fault, occasions: u64) {
        self.countdowns[fault as usize].store(occasions + 1, Ordering::SeqCst);
    }

    /// No fault is armed any more.
    pub fn disarm(&self) {
        self.countdowns.iter().for_each(|countdown| countdown.store(0, Ordering::SeqCst));
    }

    /// An occasion for the fault: true when it strikes.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        self.countdowns[fault as usize]
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok_and(|before| before == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_and_when_it_is_told_to() {
        let faults = Faults::default();
        assert!(!faults.strikes(Fault::Timeout));
        faults.arm(Fault::Timeout, 2);
        let struck: Vec<bool> = (0..5).map(|_| faults.clone().strikes(Fault::Timeout)).collect();
        assert_eq!(struck, [false, false, true, false, false]);
        assert!(!faults.strikes(Fault::Validation));
    }
}
