//! Keyed state that stays on the device between steps, and constant tables that stay beside it.
//!
//! The pages are those of [`StatePages`](crate::state::StatePages), word for word: moving state is a copy. A page that a dispatch binds
//! for writing is dirty until it was read back; only dirty pages are copied for a checkpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::Fault;
use super::gpu::Gpu;
use super::memory::{Buffer, Use};
use super::program::{Access, Program};
use super::wave::{Binding, Dispatch, Wave};
use super::{Device, DeviceError};
use crate::state::{Layout, StateShape};

/// A page of state on the device.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) buffer: Buffer,
    dirty: AtomicBool,
}

impl Page {
    pub(super) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }
}

/// The state of all keys of one kernel on the device.
#[derive(Debug)]
pub struct ResidentPages {
    gpu: Arc<Gpu>,
    shape: StateShape,
    pages: Vec<Arc<Page>>,
    slot_count: usize,
    tables: HashMap<&'static str, Table>,
}

/// Workgroups of `fill_pages.wgsl`.
pub(super) const FILL_WORKGROUP_SIZE: u32 = 256;
/// Words that one invocation fills, so that a page of 64 MiB stays within one row of workgroups.
pub(super) const FILL_WORDS: u32 = 16;

/// Fills a new page with the initial words of its slots.
pub static FILL_PAGE: Program =
    Program { name: "fill_page", source: include_str!("fill_page.wgsl"), storage: &[Access::Read, Access::ReadWrite] };

impl ResidentPages {
    /// No key yet.
    pub fn new(device: &Device, shape: StateShape) -> Self {
        ResidentPages { gpu: device.gpu().clone(), shape, pages: Vec::new(), slot_count: 0, tables: HashMap::new() }
    }

    /// The shape of a slot.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// How many pages there are.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes held on the device, without tables.
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.buffer.bytes).sum()
    }

    /// Makes sure that slots below `slot_count` have a page. New pages hold the initial words before the next dispatch of `wave`.
    ///
    /// # Errors
    /// When the budget has no room; the pages stay as they were before, apart from those that were added already.
    pub fn grow(&mut self, wave: &mut Wave, slot_count: usize) -> Result<(), DeviceError> {
        while self.pages.len() * self.shape.slots_per_page() < slot_count {
            let page = self.add_page()?;
            self.fill(wave, page)?;
        }
        self.slot_count = self.slot_count.max(slot_count);
        Ok(())
    }

    /// Makes sure that slots below `slot_count` have a page, without setting what it holds: [`Wave::write_page`] must follow for each.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn grow_unset(&mut self, slot_count: usize) -> Result<(), DeviceError> {
        while self.pages.len() * self.shape.slots_per_page() < slot_count {
            self.add_page()?;
        }
        self.slot_count = self.slot_count.max(slot_count);
        Ok(())
    }

    /// How many slots have been asked for.
    pub fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// How many words of a page are copied back: up to the last slot that was asked for.
    pub(super) fn used_words(&self, page: usize) -> usize {
        self.shape.words_of_first(self.slot_count.saturating_sub(page * self.shape.slots_per_page()))
    }

    /// The pages that dispatches may have changed since they were last [taken as clean](Self::mark_clean).
    pub fn dirty_pages(&self) -> Vec<usize> {
        (0..self.pages.len()).filter(|&page| self.pages[page].dirty.load(Ordering::Relaxed)).collect()
    }

    /// The page is the same as its mirror now.
    pub fn mark_clean(&mut self, page: usize) {
        self.pages[page].dirty.store(false, Ordering::Relaxed);
    }

    /// A constant table that stays on the device as long as this state: made by `build` when it is asked for the first time.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn table(&mut self, name: &'static str, build: impl FnOnce() -> Vec<u32>) -> Result<Table, DeviceError> {
        if let Some(table) = self.tables.get(name) {
            return Ok(table.clone());
        }
        let table = Table::new(&self.gpu, &build())?;
        self.tables.insert(name, table.clone());
        Ok(table)
    }

    /// # Panics
    /// When there is no such page.
    pub(super) fn page(&self, page: usize) -> Arc<Page> {
        self.pages[page].clone()
    }

    fn add_page(&mut self) -> Result<usize, DeviceError> {
        let bytes = self.shape.page_words() as u64 * 4;
        if self.gpu.faults.strikes(Fault::PageBudget) {
            return Err(self.gpu.budget.exhausted(Use::Page.what(), bytes, self.gpu.budget.held_bytes()));
        }
        let buffer = self.gpu.pool.create(Use::Page, bytes)?;
        self.pages.push(Arc::new(Page { buffer, dirty: AtomicBool::new(false) }));
        Ok(self.pages.len() - 1)
    }

    fn fill(&self, wave: &mut Wave, page: usize) -> Result<(), DeviceError> {
        let initial = wave.upload(self.shape.initial());
        let page_words = self.shape.page_words() as u32;
        // The word of slot-major pages counts up with the index, that of word-major ones stays for as many words as there are slots.
        let (divisor, modulus) = match self.shape.layout() {
            Layout::SlotMajor => (1, self.shape.words_per_slot() as u32),
            Layout::WordMajor => (self.shape.slots_per_page() as u32, u32::MAX),
        };
        wave.dispatch(Dispatch {
            program: &FILL_PAGE,
            entry: "fill_page",
            overrides: &[],
            params: &[page_words, divisor, modulus],
            bindings: &[Binding::Region(&initial), Binding::Page(self, page)],
            workgroups: page_words.div_ceil(FILL_WORKGROUP_SIZE * FILL_WORDS),
        })
    }
}

/// Words that stay on the device and that shaders only read: models, patterns.
#[derive(Debug, Clone)]
pub struct Table {
    buffer: Arc<Buffer>,
}

impl Table {
    /// Puts the words on the device.
    pub(super) fn new(gpu: &Gpu, words: &[u32]) -> Result<Self, DeviceError> {
        // An empty table is bound too.
        let bytes = (words.len() as u64 * 4).max(16);
        if bytes > gpu.binding_bytes_max {
            return Err(DeviceError::TooLarge { what: Use::Table.what(), bytes, limit_bytes: gpu.binding_bytes_max });
        }
        let buffer = gpu.pool.create(Use::Table, bytes)?;
        gpu.queue.write_buffer(&buffer.raw, 0, bytemuck::cast_slice(words));
        Ok(Table { buffer: Arc::new(buffer) })
    }

    pub(super) fn buffer(&self) -> Arc<Buffer> {
        self.buffer.clone()
    }
}
