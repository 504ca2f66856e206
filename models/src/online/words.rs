//! What was learnt, as 64-bit words: exact, and the same on every machine.

use super::settings::Size;

/// The form of all that is saved; another one is another version.
pub(super) const VERSION: u64 = 1;

/// Collects words.
#[derive(Default)]
pub(super) struct Writer(Vec<u64>);

impl Writer {
    pub(super) fn count(&mut self, count: u64) {
        self.0.push(count);
    }

    pub(super) fn number(&mut self, number: f64) {
        self.0.push(number.to_bits());
    }

    pub(super) fn numbers(&mut self, numbers: &[f64]) {
        self.0.extend(numbers.iter().map(|number| number.to_bits()));
    }

    /// With their count.
    pub(super) fn list(&mut self, numbers: &[f64]) {
        self.count(numbers.len() as u64);
        self.numbers(numbers);
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_iter().flat_map(u64::to_le_bytes).collect()
    }
}

/// Gives words back; `None` where there are too few.
pub(super) struct Reader<'a>(std::slice::ChunksExact<'a, u8>);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(8).then(|| Self(bytes.chunks_exact(8)))
    }

    pub(super) fn count(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.0.next()?.try_into().ok()?))
    }

    pub(super) fn number(&mut self) -> Option<f64> {
        self.count().map(f64::from_bits)
    }

    /// As many as there is place for.
    pub(super) fn numbers(&mut self, numbers: &mut [f64]) -> Option<()> {
        for number in numbers {
            *number = self.number()?;
        }
        Some(())
    }

    pub(super) fn list(&mut self) -> Option<Vec<f64>> {
        let count = usize::try_from(self.count()?).ok().filter(|count| *count <= self.0.len())?;
        (0..count).map(|_| self.number()).collect()
    }

    /// Whether all has been read.
    pub(super) fn is_done(&self) -> bool {
        self.0.len() == 0
    }
}

/// What must be the same for what was saved to be of use.
pub(super) fn shape(size: Size, settings: u64) -> [u64; 5] {
    [VERSION, size.inputs as u64, size.outputs as u64, size.hidden as u64, settings]
}
