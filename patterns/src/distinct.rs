//! Threads that are the same.

use crate::automaton::StateId;

/// With fewer threads, looking at each of them is quicker than a table.
const SCANNED_THREADS_MAX: usize = 16;

/// The threads that there are already: by looking at each of them or, where they are many, by a table.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    /// A thread's index plus one, where its hash says or in the free place after that. The length is a power of two, or 0.
    table: Vec<u32>,
    /// States that were met, of threads that do not go on too.
    met: Vec<StateId>,
    /// Registers of each of them.
    registers: Vec<u64>,
}

impl Distinct {
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.met.clear();
        self.registers.clear();
    }

    /// Whether it is a new one.
    pub(crate) fn insert(&mut self, state: StateId, registers: &[u64]) -> bool {
        let width = registers.len();
        let same = |index: usize, met: &[StateId], all: &[u64]| {
            met[index] == state && all[index * width..][..width] == *registers
        };
        if self.met.len() < SCANNED_THREADS_MAX {
            if (0..self.met.len()).any(|index| same(index, &self.met, &self.registers)) {
                return false;
            }
        } else {
            if self.table.len() < 2 * (self.met.len() + 1) {
                self.rehash(width);
            }
            let mask = self.table.len() - 1;
            let mut place = hash(state, registers) as usize & mask;
            while let Some(index) = (self.table[place] as usize).checked_sub(1) {
                if same(index, &self.met, &self.registers) {
                    return false;
                }
                place = (place + 1) & mask;
            }
            self.table[place] = u32::try_from(self.met.len() + 1).unwrap_or(u32::MAX);
        }
        self.met.push(state);
        push_few(&mut self.registers, registers);
        true
    }

    fn rehash(&mut self, width: usize) {
        let size = (4 * (self.met.len() + 1)).next_power_of_two();
        self.table.clear();
        self.table.resize(size, 0);
        for (index, state) in self.met.iter().enumerate() {
            let mut place = hash(*state, &self.registers[index * width..][..width]) as usize & (size - 1);
            while self.table[place] != 0 {
                place = (place + 1) & (size - 1);
            }
            self.table[place] = u32::try_from(index + 1).unwrap_or(u32::MAX);
        }
    }
}

/// Registers are few, mostly one or two: too few for a call.
#[inline]
pub(crate) fn push_few(all: &mut Vec<u64>, few: &[u64]) {
    for register in few {
        all.push(*register);
    }
}
/// Multiplies and rotates, as the hash of rustc does.
fn hash(state: StateId, registers: &[u64]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    registers.iter().fold(mix(0, u64::from(state)), |hash, word| mix(hash, *word)).rotate_left(26)
}
