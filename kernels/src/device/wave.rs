//! A wave: the work of one step for the device, of one kernel or of several that do not wait for each other.
//!
//! Everything of a wave goes up in one copy, is one submission, and comes back in one readback that is waited for once: that is what a
//! round trip costs, so it is shared. A wave is recorded on the caller's thread, columns being written straight into mapped staging, and
//! is sent as a whole; the device thread makes commands of it.

use std::ops::Range;
use std::sync::Arc;

use super::DeviceError;
use super::error::one_line;
use super::gpu::{Gpu, Slot};
use super::memory::{Buffer, Pool, Use};
use super::program::{Access, Pipeline, Program, STORAGE_MAX, WORKGROUPS_PER_DIMENSION_MAX};
use super::resident::{Page, ResidentPages, Table};

/// Where a binding may start, by the default limits, in bytes.
const REGION_ALIGNMENT: u64 = 256;
/// The least that is bound, so that an array of `vec4` is never empty for the validation.
const BOUND_BYTES_MIN: u64 = 16;

/// Which buffers a region lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Arena {
    Upload,
    Scratch,
    Output,
    PageCopy,
}

/// A part of a wave's memory: 32-bit words that can be bound, starting at a multiple of 256 bytes.
///
/// It belongs to the wave that it was made by, and to that wave's [`Readback`](super::Readback).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub(super) wave: u64,
    pub(super) arena: Arena,
    pub(super) index: usize,
    words: usize,
}

impl Region {
    /// How many words it has.
    pub fn words(&self) -> usize {
        self.words
    }
}

/// What a storage binding of a dispatch refers to.
#[derive(Debug, Clone, Copy)]
pub enum Binding<'a> {
    /// A region of this wave. What was uploaded is read only.
    Region(&'a Region),
    /// A page of state that stays on the device.
    Page(&'a ResidentPages, usize),
    /// A constant table that stays on the device. It is read only.
    Table(&'a Table),
}

/// One run of an entry point.
#[derive(Debug, Clone, Copy)]
pub struct Dispatch<'a> {
    /// The program.
    pub program: &'static Program,
    /// Its entry point.
    pub entry: &'static str,
    /// Values of its `override` constants: shapes, of which there are few.
    pub overrides: &'a [(&'static str, f64)],
    /// The words of the uniform at binding 0; floats go in by their bits.
    pub params: &'a [u32],
    /// Bindings from 1 on, in order.
    pub bindings: &'a [Binding<'a>],
    /// How many workgroups. Beyond 65,535 they are spread over x and y, with a few too many: see `prelude.wgsl`. With 0 nothing runs.
    pub workgroups: u32,
}

/// What a recorded dispatch binds.
#[derive(Debug)]
pub(super) enum Bound {
    Region { arena: Arena, index: usize },
    Page(Arc<Page>),
    Table(Arc<Buffer>),
}

/// A dispatch with its pipeline, ready to be encoded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) group: usize,
    pub(super) grid: (u32, u32),
}

/// What dispatches bind, parameters and storage together. Kernels take turns between a few entry points with the same bindings, often
/// hundreds of times; making a group costs more than the dispatch.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) program: &'static Program,
    pub(super) layout: wgpu::BindGroupLayout,
    /// The region of the upload that has the parameters, which are these words.
    pub(super) params: usize,
    params_words: Vec<u32>,
    pub(super) bound: Vec<(Bound, Access)>,
}

/// How many groups are looked at for one that fits.
const GROUPS_LOOKED_AT: usize = 4;

/// A staging buffer that is being filled. It goes back into the ring when the wave is dropped.
#[derive(Debug)]
pub(super) struct Chunk {
    staging: Option<(Buffer, wgpu::BufferViewMut)>,
    pool: Arc<Pool>,
    bytes: u64,
    pub(super) used_bytes: u64,
}

impl Chunk {
    /// The buffer, ready to be copied from.
    pub(super) fn into_unmapped(mut self) -> Buffer {
        let (staging, view) = self.staging.take().expect("is taken only here, and here the chunk ends");
        drop(view);
        staging.raw.unmap();
        staging
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some((staging, view)) = self.staging.take() {
            drop(view);
            self.pool.give_back(Use::UploadStaging, staging);
        }
    }
}

/// Where a region lies: in which buffer, from which byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) buffer: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Place {
    /// The part that is bound.
    pub(super) fn bound_bytes(&self) -> u64 {
        self.bytes.max(BOUND_BYTES_MIN)
    }
}

/// The parts of a wave, as the device thread gets them.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) id: u64,
    pub(super) chunks: Vec<Chunk>,
    pub(super) uploads: Vec<Place>,
    pub(super) scratch_words: Vec<usize>,
    pub(super) output_words: Vec<usize>,
    /// Words that go straight from the upload into a page before the dispatches: region of the upload and page.
    pub(super) page_writes: Vec<(usize, Arc<Page>)>,
    /// Pages that are read back as they are after the dispatches, so many words of each.
    pub(super) page_reads: Vec<(Arc<Page>, usize)>,
    pub(super) groups: Vec<Group>,
    pub(super) dispatches: Vec<Recorded>,
    /// The first dispatch that is timed.
    pub(super) timed_from: usize,
}

/// How far a wave was at some time.
#[derive(Debug, Clone)]
pub struct WaveMark {
    wave: u64,
    uploads: usize,
    scratches: usize,
    outputs: usize,
    page_writes: usize,
    page_reads: usize,
    groups: usize,
    dispatches: usize,
}

/// A wave that is being recorded. Dropping it gives its memory back.
///
/// The first thing that fails (the budget, a region that is too large) is kept and returned by the next [`dispatch`](Self::dispatch)
/// and by the submission, so that uploads need no check each.
#[derive(Debug)]
pub struct Wave {
    pub(super) gpu: Arc<Gpu>,
    pub(super) work: Work,
    pub(super) slot: Slot,
    pub(super) failure: Option<DeviceError>,
}

impl Wave {
    pub(super) fn new(gpu: Arc<Gpu>) -> Result<Self, DeviceError> {
        if let Some(error) = gpu.lost_error() {
            return Err(error);
        }
        let slot = gpu.slot()?;
        let work = Work {
            id: gpu.next_wave_id(),
            chunks: Vec::new(),
            uploads: Vec::new(),
            scratch_words: Vec::new(),
            output_words: Vec::new(),
            page_writes: Vec::new(),
            page_reads: Vec::new(),
            groups: Vec::new(),
            dispatches: Vec::new(),
            timed_from: 0,
        };
        let mut wave = Wave { gpu, work, slot, failure: None };
        let expected = wave.gpu.upload_bytes_expected();
        wave.add_chunk(expected)?;
        Ok(wave)
    }

    /// How far the wave is, to come back to it.
    pub fn mark(&self) -> WaveMark {
        let Work { uploads, scratch_words, output_words, page_writes, page_reads, groups, dispatches, .. } = &self.work;
        WaveMark {
            wave: self.work.id,
            uploads: uploads.len(),
            scratches: scratch_words.len(),
            outputs: output_words.len(),
            page_writes: page_writes.len(),
            page_reads: page_reads.len(),
            groups: groups.len(),
            dispatches: dispatches.len(),
        }
    }

    /// Takes back all that was recorded since the mark, and what failed in it; regions made since are worth nothing then. Staging
    /// that was filled stays so until the wave is over.
    ///
    /// # Panics
    /// When the mark is of another wave.
    pub fn roll_back(&mut self, mark: WaveMark) {
        assert_eq!(mark.wave, self.work.id, "a mark belongs to one wave");
        self.work.uploads.truncate(mark.uploads);
        self.work.scratch_words.truncate(mark.scratches);
        self.work.output_words.truncate(mark.outputs);
        self.work.page_writes.truncate(mark.page_writes);
        self.work.page_reads.truncate(mark.page_reads);
        self.work.groups.truncate(mark.groups);
        self.work.dispatches.truncate(mark.dispatches);
        self.work.timed_from = self.work.timed_from.min(mark.dispatches);
        self.failure = None;
    }

    /// What has failed so far.
    pub fn failure(&self) -> Option<&DeviceError> {
        self.failure.as_ref()
    }

    /// How many bytes have been put into the upload.
    pub fn upload_bytes(&self) -> u64 {
        self.work.chunks.iter().map(|chunk| chunk.used_bytes).sum()
    }

    /// `words` words that `fill` writes straight into mapped staging memory, in one pass; it should only write there, reading is slow.
    /// They are zero before. `fill` is not called when the wave has failed before.
    pub fn upload_with(&mut self, words: usize, fill: impl FnOnce(&mut [u32])) -> Region {
        match self.upload_place(words) {
            Ok(place) => {
                if words > 0 {
                    let chunk = &mut self.work.chunks[place.buffer];
                    let (_, view) = chunk.staging.as_mut().expect("is taken only when the wave is sent");
                    fill(mapped_words(view, place.offset as usize..(place.offset + place.bytes) as usize));
                }
                self.work.uploads.push(place);
            }
            Err(error) => self.fail(error),
        }
        self.region(Arena::Upload, self.work.uploads.len().saturating_sub(1), words)
    }

    /// A copy of `words` on the device.
    pub fn upload(&mut self, words: &[u32]) -> Region {
        self.upload_with(words.len(), |staging| staging.copy_from_slice(words))
    }

    /// A copy of `values` on the device.
    pub fn upload_f32(&mut self, values: &[f32]) -> Region {
        self.upload(bytemuck::cast_slice(values))
    }

    /// Words that only the device sees. They are zero at first.
    pub fn scratch(&mut self, words: usize) -> Region {
        self.check_size("a region of scratch", words);
        self.work.scratch_words.push(words);
        self.region(Arena::Scratch, self.work.scratch_words.len() - 1, words)
    }

    /// Words that come back with the wave. They are zero at first.
    pub fn output(&mut self, words: usize) -> Region {
        self.check_size("a region of output", words);
        self.work.output_words.push(words);
        self.region(Arena::Output, self.work.output_words.len() - 1, words)
    }

    /// The words of a page as they are when all dispatches of the wave are done; they come back with the wave. In slot-major pages they
    /// end with the last slot that the state was asked for.
    pub fn read_page(&mut self, pages: &ResidentPages, page: usize) -> Region {
        let words = pages.used_words(page);
        self.work.page_reads.push((pages.page(page), words));
        self.region(Arena::PageCopy, self.work.page_reads.len() - 1, words)
    }

    /// Overwrites a page before any dispatch of the wave.
    ///
    /// # Panics
    /// When `words` are not as many as a page has.
    pub fn write_page(&mut self, pages: &ResidentPages, page: usize, words: &[u32]) {
        assert_eq!(words.len(), pages.shape().page_words(), "a page is written as a whole");
        let region = self.upload(words);
        if self.failure.is_none() {
            self.work.page_writes.push((region.index, pages.page(page)));
        }
    }

    /// Records one run of a shader. Dispatches of a wave run in order, each seeing all that those before it wrote.
    ///
    /// # Errors
    /// What the wave has failed with before; a shader that does not compile; a binding that does not fit the program.
    pub fn dispatch(&mut self, call: Dispatch<'_>) -> Result<(), DeviceError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Dispatch { program, entry, .. } = call;
        let misfit = |binding: usize, reason| DeviceError::Binding { program: program.name, entry, binding, reason };
        if program.storage.len() > STORAGE_MAX {
            return Err(misfit(STORAGE_MAX + 1, "a program has at most 8 storage bindings"));
        }
        if call.bindings.len() != program.storage.len() {
            return Err(misfit(
                call.bindings.len().min(program.storage.len()) + 1,
                "not as many bindings as the program has",
            ));
        }
        if call.workgroups == 0 {
            return Ok(());
        }
        let mut bound: Vec<(Bound, Access)> = Vec::with_capacity(call.bindings.len());
        for (index, (binding, &access)) in call.bindings.iter().zip(program.storage).enumerate() {
            let one = match *binding {
                Binding::Region(region) if region.wave != self.work.id => {
                    return Err(misfit(index + 1, "a region of another wave"));
                }
                Binding::Region(Region { arena: Arena::PageCopy, .. }) => {
                    return Err(misfit(index + 1, "a copy of a page is not there before the wave is done"));
                }
                Binding::Region(&Region { arena, index, .. }) => Bound::Region { arena, index },
                Binding::Page(pages, page) if page >= pages.page_count() => {
                    return Err(misfit(index + 1, "there is no such page"));
                }
                Binding::Page(pages, page) => Bound::Page(pages.page(page)),
                Binding::Table(table) => Bound::Table(table.buffer()),
            };
            let read_only = matches!(one, Bound::Region { arena: Arena::Upload, .. } | Bound::Table(_));
            if read_only && access == Access::ReadWrite {
                return Err(misfit(
                    index + 1,
                    "uploads and tables are read only; copy them into scratch, or bind another region",
                ));
            }
            if bound.iter().any(|(other, other_access)| *other_access != access && other.is_same_as(&one)) {
                return Err(misfit(index + 1, "is bound for writing and for reading in one dispatch"));
            }
            bound.push((one, access));
        }
        let pipeline = self.gpu.pipelines.get(program, entry, call.overrides)?;
        let group = self.group(program, &pipeline, call.params, bound)?;
        for (one, access) in &self.work.groups[group].bound {
            if let (Bound::Page(page), Access::ReadWrite) = (one, access) {
                page.mark_dirty();
            }
        }
        self.work.dispatches.push(Recorded { pipeline, group, grid: grid(call.workgroups) });
        Ok(())
    }

    /// What has been dispatched until here is not part of the time that the readback tells.
    pub(crate) fn time_from_here(&mut self) {
        self.work.timed_from = self.work.dispatches.len();
    }

    /// One of the last groups if it is the same, else a new one.
    fn group(
        &mut self,
        program: &'static Program,
        pipeline: &Pipeline,
        params: &[u32],
        bound: Vec<(Bound, Access)>,
    ) -> Result<usize, DeviceError> {
        let is_same = |group: &Group| {
            std::ptr::eq(group.program, program)
                && group.params_words == params
                && group.bound.len() == bound.len()
                && group.bound.iter().zip(&bound).all(|((one, _), (other, _))| one.is_same_as(other))
        };
        let groups = &self.work.groups;
        let last = groups.len().saturating_sub(GROUPS_LOOKED_AT);
        if let Some(group) = (last..groups.len()).rev().find(|&index| is_same(&groups[index])) {
            return Ok(group);
        }
        let region = self.upload_with(params.len().next_multiple_of(4).max(4), |words| {
            words[..params.len()].copy_from_slice(params);
        });
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let (layout, params_words) = (pipeline.layout.clone(), params.to_vec());
        self.work.groups.push(Group { program, layout, params: region.index, params_words, bound });
        Ok(self.work.groups.len() - 1)
    }

    fn region(&self, arena: Arena, index: usize, words: usize) -> Region {
        Region { wave: self.work.id, arena, index, words }
    }

    pub(super) fn fail(&mut self, error: DeviceError) {
        self.failure.get_or_insert(error);
    }

    fn check_size(&mut self, what: &'static str, words: usize) {
        let (bytes, limit_bytes) = (words as u64 * 4, self.gpu.binding_bytes_max);
        if bytes > limit_bytes {
            self.fail(DeviceError::TooLarge { what, bytes, limit_bytes });
        }
    }

    /// Where the next upload goes, taking another staging buffer if the last one has no room for it.
    fn upload_place(&mut self, words: usize) -> Result<Place, DeviceError> {
        self.check_size("an upload", words);
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let bytes = words as u64 * 4;
        let needed = bytes.max(BOUND_BYTES_MIN);
        let has_room = |chunk: &Chunk| chunk.used_bytes + needed <= chunk.bytes;
        if !self.work.chunks.last().is_some_and(has_room) {
            // As much again as so far, so that a wave takes few buffers however it grows.
            self.add_chunk(needed.max(self.upload_bytes()).min(self.gpu.pool.buffer_bytes_max()).max(needed))?;
        }
        let buffer = self.work.chunks.len() - 1;
        let chunk = &mut self.work.chunks[buffer];
        let place = Place { buffer, offset: chunk.used_bytes, bytes };
        chunk.used_bytes = (chunk.used_bytes + needed).next_multiple_of(REGION_ALIGNMENT).min(chunk.bytes);
        Ok(place)
    }

    fn add_chunk(&mut self, bytes: u64) -> Result<(), DeviceError> {
        let staging = self.gpu.pool.take(Use::UploadStaging, bytes)?;
        let view = staging.raw.slice(..).get_mapped_range_mut().map_err(|error| {
            // The ring has only mapped buffers, and a device that was lost has none.
            let reason = format!("staging memory is not mapped: {}", one_line(&error.to_string()));
            let error = DeviceError::Lost { adapter: self.gpu.description.name.clone(), reason };
            self.gpu.mark_lost(&error);
            self.gpu.lost_error().unwrap_or(error)
        })?;
        let bytes = staging.bytes;
        self.work.chunks.push(Chunk {
            staging: Some((staging, view)),
            pool: self.gpu.pool.clone(),
            bytes,
            used_bytes: 0,
        });
        Ok(())
    }
}

impl Bound {
    fn is_same_as(&self, other: &Bound) -> bool {
        match (self, other) {
            (Bound::Region { arena, index }, Bound::Region { arena: other_arena, index: other_index }) => {
                (arena, index) == (other_arena, other_index)
            }
            (Bound::Page(page), Bound::Page(other)) => Arc::ptr_eq(page, other),
            (Bound::Table(table), Bound::Table(other)) => Arc::ptr_eq(table, other),
            _ => false,
        }
    }
}

/// As few rows as hold all workgroups, so that few are too many.
fn grid(workgroups: u32) -> (u32, u32) {
    let y = workgroups.div_ceil(WORKGROUPS_PER_DIMENSION_MAX);
    (workgroups.div_ceil(y), y)
}

/// The mapped bytes as words.
#[allow(unsafe_code)]
fn mapped_words(view: &mut wgpu::BufferViewMut, bytes: Range<usize>) -> &mut [u32] {
    let mut slice = view.slice(bytes);
    let (pointer, length) = (slice.as_raw_element_ptr().as_ptr().cast::<u32>(), slice.len() / 4);
    debug_assert_eq!(
        pointer.align_offset(align_of::<u32>()),
        0,
        "buffers are mapped at multiples of 8 bytes, regions lie at 256"
    );
    // SAFETY: the slice was checked to lie in the mapping, `&mut` makes it the only reference, and the mapping lives as long as the view.
    // It is aligned (see above). It is readable and initialised: it is ordinary memory that the driver maps into the process, and
    // unwritten parts of a buffer are zeroed when it is mapped. wgpu gives out no slice because the memory may be write-combining,
    // where atomic operations may fail; plain reads are only slow there, and nothing here hands out atomics.
    unsafe { std::slice::from_raw_parts_mut(pointer, length) }
}

/// Puts the regions of an arena into buffers: each at a multiple of 256 bytes, none over `buffer_bytes_max`, and two regions that
/// `conflict` never in one buffer. Returns the places and the bytes of each buffer.
///
/// A dispatch may not read one part of a buffer and write another, since the device tracks buffers as wholes; so a region that some
/// dispatch reads while it writes another one needs a buffer of its own. First fit colours that graph well: there are few conflicts.
pub(super) fn place_regions(
    words: &[usize],
    buffer_bytes_max: u64,
    conflict: impl Fn(usize, usize) -> bool,
) -> (Vec<Place>, Vec<u64>) {
    let mut places: Vec<Place> = Vec::with_capacity(words.len());
    let mut buffers: Vec<(u64, Vec<usize>)> = Vec::new();
    for (region, &words) in words.iter().enumerate() {
        let bytes = words as u64 * 4;
        let needed = bytes.max(BOUND_BYTES_MIN);
        let fits = buffers.iter().position(|(used, regions)| {
            used + needed <= buffer_bytes_max && !regions.iter().any(|&other| conflict(other, region))
        });
        let buffer = fits.unwrap_or_else(|| {
            buffers.push((0, Vec::new()));
            buffers.len() - 1
        });
        let (used, regions) = &mut buffers[buffer];
        places.push(Place { buffer, offset: *used, bytes });
        *used = (*used + needed).next_multiple_of(REGION_ALIGNMENT);
        regions.push(region);
    }
    (places, buffers.into_iter().map(|(used, _)| used.min(buffer_bytes_max)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_dispatch_is_wider_than_the_limit() {
        assert_eq!(grid(1), (1, 1));
        assert_eq!(grid(65_535), (65_535, 1));
        assert_eq!(grid(65_536), (32_768, 2));
        for workgroups in [65_535u32 * 3 + 1, 1 << 24, u32::MAX / 256, u32::MAX] {
            let (x, y) = grid(workgroups);
            assert!(x <= WORKGROUPS_PER_DIMENSION_MAX && u64::from(x) * u64::from(y) >= u64::from(workgroups));
            assert!(u64::from(x) * u64::from(y) - u64::from(workgroups) < u64::from(y), "{workgroups}");
        }
    }

    proptest! {
        /// Regions that overlap, or that lie in one buffer although a dispatch reads one and writes the other, give wrong results.
        #[test]
        fn regions_lie_apart(words in proptest::collection::vec(0usize..2000, 0..20), seed in any::<u64>()) {
            let conflict = |a: usize, b: usize| (seed >> ((a * 7 + b * 3 + (a ^ b)) % 64)) & 1 == 1 || (seed >> ((b * 7 + a * 3 + (a ^ b)) % 64)) & 1 == 1;
            let (places, buffers) = place_regions(&words, 8192, conflict);
            for (a, first) in places.iter().enumerate() {
                prop_assert_eq!(first.bytes, words[a] as u64 * 4);
                prop_assert!(first.offset % REGION_ALIGNMENT == 0 && first.offset + first.bound_bytes() <= buffers[first.buffer]);
                prop_assert!(buffers[first.buffer] <= 8192);
                for (b, second) in places.iter().enumerate().skip(a + 1) {
                    let apart = first.offset + first.bound_bytes() <= second.offset;
                    prop_assert!(first.buffer != second.buffer || (apart && !conflict(a, b)));
                }
            }
        }
    }
}
