//! Which slots have changed since a checkpoint: one bit each, because a step may touch a hundred thousand.

/// Which slots have changed since the last time that this was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These, ascending.
    Slots(Vec<u32>),
    /// Any may have: a kernel that does not tell, or a state that was put in as a whole.
    Any,
}

#[derive(Debug, Default)]
pub(super) struct ChangedSlots {
    words: Vec<u64>,
    any: bool,
}

impl ChangedSlots {
    pub(super) fn mark(&mut self, slots: &[u32]) {
        if self.any {
            return;
        }
        let Some(&last) = slots.iter().max() else { return };
        let words = last as usize / 64 + 1;
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        slots.iter().for_each(|&slot| self.words[slot as usize / 64] |= 1 << (slot % 64));
    }

    pub(super) fn mark_any(&mut self) {
        self.any = true;
    }

    /// What was marked; nothing is after this.
    pub(super) fn take(&mut self) -> Changed {
        let words = std::mem::take(&mut self.words);
        if std::mem::take(&mut self.any) {
            return Changed::Any;
        }
        let mut slots = Vec::new();
        for (index, mut word) in words.into_iter().enumerate() {
            while word != 0 {
                slots.push(index as u32 * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        Changed::Slots(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_told_once_for_each_checkpoint() {
        let mut changed = ChangedSlots::default();
        changed.mark(&[3, 64, 1000]);
        changed.mark(&[]);
        changed.mark(&[3, 63]);
        assert_eq!(changed.take(), Changed::Slots(vec![3, 63, 64, 1000]));
        assert_eq!(changed.take(), Changed::Slots(vec![]));
        changed.mark(&[5]);
        changed.mark_any();
        changed.mark(&[6]);
        assert_eq!(changed.take(), Changed::Any);
        assert_eq!(changed.take(), Changed::Slots(vec![]));
    }
}
