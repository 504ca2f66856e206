//! Whether device and twin agree, by the policy of the kernel.

use super::case::Answer;
use super::figure::Agreement;
use crate::kernel::Exactness;

/// How many batches are compared: what the first one leaves in the state shows in the next.
pub(super) const STEPS: u64 = 3;

/// What approximate numbers agree by: relative, absolute.
const APPROXIMATE: (f32, f32) = (1e-4, 1e-30);

/// Counts what differs between the twin's answer and the device's. `exactness` is the kernel's on this adapter.
pub(super) fn compare(agreement: &mut Agreement, exactness: Exactness, twin: &Answer, device: &Answer) {
    let lengths = |answer: &Answer| [answer.words.len(), answer.floats.len(), answer.approximate.len()];
    let count = lengths(twin).iter().sum::<usize>() as u64;
    agreement.compared += count;
    if lengths(twin) != lengths(device) {
        agreement.wrong += count.max(1);
        return;
    }
    agreement.wrong += twin.words.iter().zip(&device.words).filter(|(twin, device)| twin != device).count() as u64;
    let policy = match exactness {
        Exactness::Exact | Exactness::SameTree => (0.0, 0.0),
        Exactness::Tolerance { relative, absolute } => (relative, absolute),
    };
    compare_floats(agreement, policy, &twin.floats, &device.floats);
    compare_floats(agreement, APPROXIMATE, &twin.approximate, &device.approximate);
}

/// `|device - twin| <= relative * |twin| + absolute`.
fn compare_floats(agreement: &mut Agreement, (relative, absolute): (f32, f32), twin: &[f32], device: &[f32]) {
    for (&twin, &device) in twin.iter().zip(device) {
        // One NaN is as good as another, and infinities are equal or not.
        if twin.to_bits() == device.to_bits() || twin.is_nan() && device.is_nan() {
            continue;
        }
        let difference = (twin - device).abs();
        agreement.differing += 1;
        let bound = relative * twin.abs() + absolute;
        if !difference.is_finite() || difference > bound {
            agreement.wrong += 1;
        }
        if difference.is_finite() {
            let relative_error = f64::from(difference / twin.abs().max(f32::MIN_POSITIVE));
            agreement.relative_error_max = agreement.relative_error_max.max(relative_error);
            agreement.absolute_error_max = agreement.absolute_error_max.max(f64::from(difference));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exactness: Exactness, twin: &[f32], device: &[f32]) -> Agreement {
        let mut agreement = Agreement::default();
        let answer = |floats: &[f32]| Answer { words: vec![7], floats: floats.to_vec(), approximate: vec![] };
        compare(&mut agreement, exactness, &answer(twin), &answer(device));
        agreement
    }

    /// A benchmark whose check lets a wrong answer through praises a kernel for being quick at nothing.
    #[test]
    fn what_differs_is_counted() {
        let tolerance = Exactness::Tolerance { relative: 1e-3, absolute: 1e-3 };
        assert!(of(tolerance, &[1.0, f32::NAN], &[1.0005, f32::NAN]).is_right());
        assert!(!of(tolerance, &[1.0], &[1.01]).is_right());
        assert!(!of(tolerance, &[1.0], &[f32::NAN]).is_right());
        assert!(!of(tolerance, &[f32::NAN], &[1.0]).is_right());
        assert!(!of(tolerance, &[f32::INFINITY], &[1.0]).is_right());
        assert!(!of(Exactness::Exact, &[1.0], &[1.000_000_1]).is_right());
        assert!(of(Exactness::Exact, &[1.0], &[1.0]).is_right());
        assert!(!of(Exactness::SameTree, &[1.0], &[1.000_000_1]).is_right());
        assert!(!of(Exactness::SameTree, &[1.0, 2.0], &[1.0]).is_right());
        let mut agreement = Agreement::default();
        compare(
            &mut agreement,
            Exactness::Exact,
            &Answer { words: vec![1, 2], ..Answer::default() },
            &Answer { words: vec![1, 3], ..Answer::default() },
        );
        assert_eq!((agreement.compared, agreement.wrong), (2, 1));
        for (device, right) in [(1.00001, true), (1.001, false)] {
            let of = |value: f32| Answer { approximate: vec![value], ..Answer::default() };
            let mut agreement = Agreement::default();
            compare(&mut agreement, Exactness::SameTree, &of(1.0), &of(device));
            assert_eq!((agreement.is_right(), agreement.compared, agreement.differing), (right, 1, 1));
        }
        assert!(!Agreement::default().is_right(), "nothing compared is nothing shown");
    }
}
