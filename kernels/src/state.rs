//! Keyed state of kernels: pages of 32-bit words, the same bytes on the CPU, on the device and in a checkpoint.
//!
//! A key is a *slot* (a dense id that the caller gives out). Slots lie in pages of at most 64 MiB, because a device binds at most
//! 128 MiB at once under default limits and a page is what is copied back when it has changed. One layout for both sides makes moving
//! state a copy.

/// The largest page, in bytes.
pub const PAGE_BYTES_MAX: usize = 64 << 20;
/// The most slots in a page.
pub const PAGE_SLOTS_MAX: usize = 1 << 16;

/// Where the words of a slot lie in its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[word][slot]`: neighbouring lanes, one for each key, read neighbouring words.
    WordMajor,
    /// `[slot][word]`: a workgroup, or a loop, reads the words of one key in a row.
    SlotMajor,
}

/// How large the state of one key is, and what it holds before the key's first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateShape {
    initial: Vec<u32>,
    /// Which initial words are not zero: most are, and a slot is zeros before it is written.
    not_zero: Vec<usize>,
    layout: Layout,
    slots_per_page: usize,
}

impl StateShape {
    /// `initial` has one entry for each word of a slot; floats go in by their bits.
    ///
    /// # Panics
    /// When a slot has no word or does not fit into a page.
    pub fn new(initial: Vec<u32>, layout: Layout) -> Self {
        let slot_bytes = initial.len() * 4;
        assert!(
            slot_bytes > 0 && slot_bytes <= PAGE_BYTES_MAX,
            "a slot has between one word and a page: {slot_bytes} bytes"
        );
        let fits = PAGE_BYTES_MAX / slot_bytes;
        let slots_per_page = if fits >= PAGE_SLOTS_MAX { PAGE_SLOTS_MAX } else { 1 << fits.ilog2() };
        let not_zero = (0..initial.len()).filter(|word| initial[*word] != 0).collect();
        StateShape { initial, not_zero, layout, slots_per_page }
    }

    /// The same with pages of at most `bytes` where a slot fits: for large slots, of which a query with few keys should not hold many.
    pub fn with_page_bytes(mut self, bytes: usize) -> Self {
        while self.slots_per_page > 1 && self.page_words() * 4 > bytes {
            self.slots_per_page /= 2;
        }
        self
    }

    /// How many 32-bit words a slot has.
    pub fn words_per_slot(&self) -> usize {
        self.initial.len()
    }

    /// How many slots a page has, a power of two.
    pub fn slots_per_page(&self) -> usize {
        self.slots_per_page
    }

    /// The words of one page.
    pub fn page_words(&self) -> usize {
        self.slots_per_page * self.initial.len()
    }

    /// Where the words of a slot lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The words of a slot before its first row.
    pub fn initial(&self) -> &[u32] {
        &self.initial
    }

    /// How many words from the start of a page on have the first `slots` slots of it, and maybe others.
    pub fn words_of_first(&self, slots: usize) -> usize {
        match self.layout {
            Layout::SlotMajor => slots.min(self.slots_per_page) * self.initial.len(),
            Layout::WordMajor if slots == 0 => 0,
            Layout::WordMajor => self.page_words(),
        }
    }

    /// The index within its page of a word of a slot (of the page).
    pub fn index(&self, slot_in_page: usize, word: usize) -> usize {
        match self.layout {
            Layout::WordMajor => word * self.slots_per_page + slot_in_page,
            Layout::SlotMajor => slot_in_page * self.initial.len() + word,
        }
    }
}

/// The state of all keys on the CPU: what the twin works on, and the mirror of what lies on a device.
#[derive(Debug, Clone)]
pub struct StatePages {
    shape: StateShape,
    pages: Vec<Box<[u32]>>,
    /// Slots below hold at least their initial words; the others are zero, and memory that nobody has touched.
    slot_count: usize,
}

impl StatePages {
    /// No key yet.
    pub fn new(shape: StateShape) -> Self {
        StatePages { shape, pages: Vec::new(), slot_count: 0 }
    }

    /// The shape of a slot.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// Makes sure that slots below `slot_count` have a page; new slots hold the initial words.
    ///
    /// A page is asked for as zeros, which costs nothing until it is written, and a slot is written when it comes: a query with three
    /// keys does not pay for a page of them.
    pub fn grow(&mut self, slot_count: usize) {
        let slots_per_page = self.shape.slots_per_page;
        while self.pages.len() * slots_per_page < slot_count {
            self.pages.push(vec![0; self.shape.page_words()].into_boxed_slice());
        }
        for slot in self.slot_count..slot_count {
            let page = &mut self.pages[slot / slots_per_page];
            for &word in &self.shape.not_zero {
                page[self.shape.index(slot % slots_per_page, word)] = self.shape.initial[word];
            }
        }
        self.slot_count = self.slot_count.max(slot_count);
    }

    /// How many slots there are; there may be room for more in the last page.
    pub fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// A page as a device has it: slots that are not there yet hold their initial words too.
    pub fn whole_page(&self, page: usize) -> Vec<u32> {
        let mut words = self.pages[page].to_vec();
        let first = page * self.shape.slots_per_page;
        for slot in self.slot_count.saturating_sub(first)..self.shape.slots_per_page {
            for (word, &initial) in self.shape.initial.iter().enumerate() {
                words[self.shape.index(slot, word)] = initial;
            }
        }
        words
    }

    /// Gives all slots of all pages their initial words: to compare with pages of a device as wholes.
    pub fn fill(&mut self) {
        self.grow(self.pages.len() * self.shape.slots_per_page);
    }

    /// How many pages there are.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// The words of a page.
    pub fn page(&self, page: usize) -> &[u32] {
        &self.pages[page]
    }

    /// The words of a page, to change.
    pub fn page_mut(&mut self, page: usize) -> &mut [u32] {
        &mut self.pages[page]
    }

    /// All pages, to change some of them at the same time.
    pub fn pages_mut(&mut self) -> &mut [Box<[u32]>] {
        &mut self.pages
    }

    /// The words of a slot, in order; for checkpoints and tests.
    pub fn slot(&self, slot: u32) -> Vec<u32> {
        let (page, slot) = (slot as usize / self.shape.slots_per_page, slot as usize % self.shape.slots_per_page);
        (0..self.shape.words_per_slot()).map(|word| self.pages[page][self.shape.index(slot, word)]).collect()
    }

    /// Sets the words of a slot, which has a page.
    pub fn set_slot(&mut self, slot: u32, words: &[u32]) {
        debug_assert_eq!(words.len(), self.shape.words_per_slot());
        let (page, slot) = (slot as usize / self.shape.slots_per_page, slot as usize % self.shape.slots_per_page);
        for (word, &value) in words.iter().enumerate() {
            self.pages[page][self.shape.index(slot, word)] = value;
        }
    }

    /// Bytes held: those of the slots that are there.
    pub fn bytes(&self) -> usize {
        self.slot_count * self.shape.words_per_slot() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_slots_are_found_in_them() {
        for layout in [Layout::WordMajor, Layout::SlotMajor] {
            let shape = StateShape::new(vec![7, 8, 9], layout);
            assert_eq!(shape.slots_per_page(), PAGE_SLOTS_MAX);
            let mut state = StatePages::new(shape);
            state.grow(PAGE_SLOTS_MAX + 1);
            assert_eq!(state.page_count(), 2);
            let last = PAGE_SLOTS_MAX as u32;
            assert_eq!(state.slot(last), [7, 8, 9]);
            state.set_slot(last, &[1, 2, 3]);
            assert_eq!(
                (state.slot(last), state.slot(last - 1), state.slot(0)),
                (vec![1, 2, 3], vec![7, 8, 9], vec![7, 8, 9])
            );
        }
        for layout in [Layout::WordMajor, Layout::SlotMajor] {
            let mut state = StatePages::new(StateShape::new(vec![0, 5], layout));
            state.grow(PAGE_SLOTS_MAX + 2);
            state.set_slot(PAGE_SLOTS_MAX as u32 + 1, &[3, 4]);
            let whole = [state.whole_page(0), state.whole_page(1)];
            assert_eq!(
                state.shape().words_of_first(2),
                if layout == Layout::SlotMajor { 4 } else { 2 * PAGE_SLOTS_MAX }
            );
            state.fill();
            assert!(whole[0] == state.page(0) && whole[1] == state.page(1), "{layout:?}");
        }
        let large = StateShape::new(vec![0; 20_003], Layout::SlotMajor);
        assert!(large.page_words() * 4 <= PAGE_BYTES_MAX && large.slots_per_page() == 512);
        assert_eq!(large.clone().with_page_bytes(1 << 20).slots_per_page(), 8);
        assert_eq!(large.with_page_bytes(1).slots_per_page(), 1);
    }
}
