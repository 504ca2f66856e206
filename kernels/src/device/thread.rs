//! The device thread: the only one that submits and polls.
//!
//! Submitting and polling from several threads contend for locks of the driver, and a wait on one thread holds up the submission of
//! another; so one thread does both. It sleeps while there is nothing to do, sends what comes in at once, and otherwise waits for the
//! oldest wave, in slices, so that what comes in meanwhile is sent too.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::error::one_line;
use super::faults::Fault;
use super::gpu::{Gpu, Slot};
use super::memory::{Buffer, Pool, Use};
use super::program::Access;
use super::resident::Page;
use super::ticket::{Readback, TicketState};
use super::wave::{Arena, Bound, Group, Place, Recorded, Work, place_regions};
use super::{DeviceError, WaveDone};

/// How long the thread waits for the device before it looks for further waves.
const WAIT_SLICE: Duration = Duration::from_micros(250);
/// How long the driver may take to tell that the device is lost, after a command failed.
const LOSS_TOLD_WITHIN: Duration = Duration::from_millis(100);
/// How often the thread looks whether a device that did not answer in time has finished after all.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// A wave to send.
pub(super) struct Command {
    pub(super) work: Work,
    pub(super) slot: Slot,
    pub(super) submitted: Instant,
    pub(super) answer: Answer,
}

/// Where the answer goes. One that is dropped, because the thread is gone, tells so: nobody waits for ever.
pub(super) struct Answer {
    pub(super) gpu: Arc<Gpu>,
    pub(super) ticket: Arc<TicketState>,
    pub(super) on_done: Option<WaveDone>,
    pub(super) given: bool,
}

impl Answer {
    pub(super) fn give(mut self, answer: Result<Readback, DeviceError>) {
        self.put(answer);
    }

    fn put(&mut self, answer: Result<Readback, DeviceError>) {
        self.given = true;
        if let Err(error) = &answer {
            self.gpu.counters.count_error(error.kind());
        }
        self.ticket.resolve(answer);
        if let Some(on_done) = self.on_done.take() {
            on_done();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            let error = self.gpu.lost_error().unwrap_or_else(|| lost(&self.gpu, "its thread has ended".to_owned()));
            // Nothing is sent by it any more: it has to be opened again.
            self.gpu.mark_lost(&error);
            self.put(Err(error));
        }
    }
}

/// A wave that was sent.
struct InFlight {
    id: u64,
    index: wgpu::SubmissionIndex,
    readback: Vec<Buffer>,
    outputs: Vec<Place>,
    page_copies: Vec<Place>,
    timestamps: Option<Place>,
    maps: Arc<Maps>,
    _pages: Vec<Arc<Page>>,
}

/// How far the mapping of a wave's readback is.
#[derive(Default)]
struct Maps {
    done: AtomicUsize,
    failed: AtomicUsize,
}

/// Runs until all handles of the device are gone.
pub(super) fn run(gpu: &Arc<Gpu>, commands: &Receiver<Command>) {
    let mut in_flight: VecDeque<(InFlight, Slot, Instant, Answer)> = VecDeque::new();
    loop {
        if in_flight.is_empty() {
            match next_command(gpu, commands) {
                Some(command) => start(gpu, command, &mut in_flight),
                None => return,
            }
        }
        while let Ok(command) = commands.try_recv() {
            start(gpu, command, &mut in_flight);
        }
        if let Some((wave, _, submitted, _)) = in_flight.front() {
            match wait(gpu, wave, *submitted) {
                Ok(false) => {}
                Ok(true) => {
                    gpu.note_progress();
                    if let Some((wave, slot, _, answer)) = in_flight.pop_front() {
                        drop(slot);
                        answer.give(finish(gpu, wave));
                    }
                }
                Err(error) => gpu.mark_lost(&error),
            }
        }
        if let Some(error) = gpu.lost_error() {
            // Their buffers may still be written to; wgpu keeps them until the device has ended with them.
            in_flight.drain(..).for_each(|(_, _, _, answer)| answer.give(Err(error.clone())));
        }
    }
}

/// Waits for the next wave. A lost device is polled meanwhile, so that what it still does comes to an end and is freed; before that,
/// dropping it would block, or bring the process down.
fn next_command(gpu: &Gpu, commands: &Receiver<Command>) -> Option<Command> {
    let mut handles_gone = false;
    while gpu.is_lost() {
        let drained = match catch_unwind(AssertUnwindSafe(|| gpu.device.poll(wgpu::PollType::Poll))) {
            Ok(status) => status.is_ok_and(|status| status.is_queue_empty()),
            Err(_) => true,
        };
        if drained {
            break;
        }
        match commands.recv_timeout(DRAIN_INTERVAL) {
            Ok(command) => return Some(command),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                handles_gone = true;
                std::thread::sleep(DRAIN_INTERVAL);
            }
        }
    }
    if handles_gone { None } else { commands.recv().ok() }
}

fn lost(gpu: &Gpu, reason: String) -> DeviceError {
    DeviceError::Lost { adapter: gpu.description.name.clone(), reason }
}

fn start(gpu: &Arc<Gpu>, command: Command, in_flight: &mut VecDeque<(InFlight, Slot, Instant, Answer)>) {
    let Command { work, slot, submitted, answer } = command;
    if let Some(error) = gpu.lost_error() {
        return answer.give(Err(error));
    }
    // wgpu reports some of what a lost device does by a panic.
    let sent = catch_unwind(AssertUnwindSafe(|| send(gpu, work))).unwrap_or_else(|panic| {
        let error = lost(gpu, panic_message(&*panic));
        gpu.mark_lost(&error);
        Err(error)
    });
    match sent {
        Ok(wave) => in_flight.push_back((wave, slot, submitted, answer)),
        Err(error) => answer.give(Err(error)),
    }
}

/// Waits a little for a wave: true when it is done.
fn wait(gpu: &Gpu, wave: &InFlight, submitted: Instant) -> Result<bool, DeviceError> {
    let timeout = if gpu.faults.strikes(Fault::Timeout) { Duration::ZERO } else { gpu.timeout };
    // Counted from when the device could begin with it: before that it was busy with the waves before.
    let left = timeout.saturating_sub(gpu.idle_since(submitted));
    if left.is_zero() {
        return Err(gpu.timeout_error());
    }
    let wait = wgpu::PollType::Wait { submission_index: Some(wave.index.clone()), timeout: Some(left.min(WAIT_SLICE)) };
    match catch_unwind(AssertUnwindSafe(|| gpu.device.poll(wait))) {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
        Ok(Err(error)) => Err(gpu.lost_error().unwrap_or_else(|| lost(gpu, error.to_string()))),
        Err(panic) => Err(lost(gpu, panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the driver failed without a word".to_owned())
}

/// Reads back a wave that is done.
fn finish(gpu: &Arc<Gpu>, wave: InFlight) -> Result<Readback, DeviceError> {
    if let Some(error) = gpu.lost_error() {
        return Err(error);
    }
    let mapped = wave.maps.done.load(Ordering::Acquire);
    if mapped != wave.readback.len() || wave.maps.failed.load(Ordering::Acquire) > 0 {
        let error = lost(gpu, "the answer of a wave cannot be read".to_owned());
        gpu.mark_lost(&error);
        return Err(error);
    }
    Readback::new(gpu.clone(), wave.id, wave.readback, wave.outputs, wave.page_copies, wave.timestamps)
}

/// The buffers of a wave on the device.
struct Arenas {
    upload: Vec<Buffer>,
    uploads: Vec<Place>,
    scratch: Vec<Buffer>,
    scratches: Vec<Place>,
    output: Vec<Buffer>,
    outputs: Vec<Place>,
}

impl Arenas {
    fn binding(&self, arena: Arena, index: usize) -> wgpu::BindingResource<'_> {
        let (buffers, place) = match arena {
            Arena::Upload => (&self.upload, self.uploads[index]),
            Arena::Scratch => (&self.scratch, self.scratches[index]),
            Arena::Output | Arena::PageCopy => (&self.output, self.outputs[index]),
        };
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &buffers[place.buffer].raw,
            offset: place.offset,
            size: std::num::NonZero::new(place.bound_bytes()),
        })
    }
}

/// Makes commands of a wave and submits them.
fn send(gpu: &Arc<Gpu>, work: Work) -> Result<InFlight, DeviceError> {
    if gpu.faults.strikes(Fault::LostBeforeWave) {
        gpu.device.destroy();
    }
    let pool = &gpu.pool;
    let buffer_bytes_max = pool.buffer_bytes_max();
    let (scratches, scratch_bytes) =
        place_regions(&work.scratch_words, buffer_bytes_max, conflicts(&work.groups, Arena::Scratch));
    let (outputs, output_bytes) =
        place_regions(&work.output_words, buffer_bytes_max, conflicts(&work.groups, Arena::Output));
    let page_words: Vec<usize> = work.page_reads.iter().map(|(_, words)| *words).collect();
    let (mut page_copies, page_bytes) = place_regions(&page_words, buffer_bytes_max, |_, _| false);
    page_copies.iter_mut().for_each(|place| place.buffer += output_bytes.len());

    let take_all = |usage, sizes: &mut dyn Iterator<Item = u64>| {
        sizes.map(|bytes| pool.take(usage, bytes)).collect::<Result<Vec<_>, _>>()
    };
    let arenas = Arenas {
        upload: take_all(Use::Upload, &mut work.chunks.iter().map(|chunk| chunk.used_bytes))?,
        uploads: work.uploads,
        scratch: take_all(Use::Scratch, &mut scratch_bytes.iter().copied())?,
        scratches,
        output: take_all(Use::Scratch, &mut output_bytes.iter().copied())?,
        outputs,
    };
    let timestamp_bytes = gpu.timestamps.then_some(16);
    let readback =
        take_all(Use::ReadbackStaging, &mut output_bytes.iter().chain(&page_bytes).copied().chain(timestamp_bytes))?;
    let timestamps = timestamp_bytes.map(|bytes| Place { buffer: readback.len() - 1, offset: 0, bytes });
    let resolved = timestamps.map(|_| pool.create(Use::Timestamps, 256)).transpose()?;

    let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
        .map(|filter| gpu.device.push_error_scope(filter));
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wave") });
    let mut upload_bytes = 0;
    let mut stagings = Vec::with_capacity(work.chunks.len());
    for (chunk, target) in work.chunks.into_iter().zip(&arenas.upload) {
        let used = chunk.used_bytes;
        upload_bytes += used;
        let staging = chunk.into_unmapped();
        if used > 0 {
            encoder.copy_buffer_to_buffer(&staging.raw, 0, &target.raw, 0, used);
        }
        stagings.push(staging);
    }
    for (region, page) in &work.page_writes {
        let place = arenas.uploads[*region];
        encoder.copy_buffer_to_buffer(&stagings[place.buffer].raw, place.offset, &page.buffer.raw, 0, place.bytes);
    }
    stagings.into_iter().for_each(|staging| map_again(&encoder, staging, pool));
    for (buffer, &bytes) in arenas.scratch.iter().zip(&scratch_bytes).chain(arenas.output.iter().zip(&output_bytes)) {
        encoder.clear_buffer(&buffer.raw, 0, Some(bytes));
    }
    let queries = gpu.timestamps.then(|| {
        gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("wave"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        })
    });
    let groups: Vec<wgpu::BindGroup> = work.groups.iter().map(|group| bind(gpu, group, &arenas)).collect();
    let (untimed, timed) = work.dispatches.split_at(work.timed_from);
    if !untimed.is_empty() {
        run_pass(&mut encoder, None, &groups, untimed);
    }
    run_pass(&mut encoder, queries.as_ref(), &groups, timed);
    let mut readback_bytes = 0;
    for ((source, target), &bytes) in arenas.output.iter().zip(&readback).zip(&output_bytes) {
        encoder.copy_buffer_to_buffer(&source.raw, 0, &target.raw, 0, bytes);
        readback_bytes += bytes;
    }
    for ((page, _), place) in work.page_reads.iter().zip(&page_copies) {
        encoder.copy_buffer_to_buffer(&page.buffer.raw, 0, &readback[place.buffer].raw, place.offset, place.bytes);
        readback_bytes += place.bytes;
    }
    if let (Some(queries), Some(place), Some(resolved)) = (&queries, timestamps, &resolved) {
        encoder.resolve_query_set(queries, 0..2, &resolved.raw, 0);
        encoder.copy_buffer_to_buffer(&resolved.raw, 0, &readback[place.buffer].raw, 0, place.bytes);
    }
    if gpu.faults.strikes(Fault::Validation) {
        // A copy within one buffer is never valid.
        let buffer = pool.take(Use::Scratch, 512)?;
        encoder.copy_buffer_to_buffer(&buffer.raw, 0, &buffer.raw, 256, 256);
    }
    let maps = Arc::new(Maps::default());
    for buffer in &readback {
        let maps = maps.clone();
        encoder.map_buffer_on_submit(&buffer.raw, wgpu::MapMode::Read, .., move |mapped| {
            match mapped {
                Ok(()) => maps.done.fetch_add(1, Ordering::AcqRel),
                Err(_) => maps.failed.fetch_add(1, Ordering::AcqRel),
            };
        });
    }
    let index = gpu.queue.submit([encoder.finish()]);
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect::<Vec<_>>();
    if gpu.faults.strikes(Fault::LostDuringWave) {
        gpu.device.destroy();
    }

    // What only shaders touch can be used by the next wave at once: the queue keeps the order.
    for (usage, buffers) in
        [(Use::Upload, arenas.upload), (Use::Scratch, arenas.scratch), (Use::Scratch, arenas.output)]
    {
        buffers.into_iter().for_each(|buffer| pool.give_back(usage, buffer));
    }
    if let Some(error) = errors.into_iter().next() {
        // On a device that was lost every buffer is "invalid", and the loss itself is told only when the queue has emptied.
        drop(gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(LOSS_TOLD_WITHIN) }));
        if let Some(error) = gpu.lost_error() {
            return Err(error);
        }
        let adapter = gpu.description.name.clone();
        return Err(match error {
            wgpu::Error::OutOfMemory { .. } => {
                DeviceError::OutOfMemory { what: "a wave", adapter, asked_bytes: upload_bytes }
            }
            error => {
                DeviceError::Validation { what: "a wave".to_owned(), adapter, reason: one_line(&error.to_string()) }
            }
        });
    }
    gpu.counters.waves.fetch_add(1, Ordering::Relaxed);
    gpu.counters.dispatches.fetch_add(work.dispatches.len() as u64, Ordering::Relaxed);
    gpu.counters.upload_bytes.fetch_add(upload_bytes, Ordering::Relaxed);
    gpu.counters.readback_bytes.fetch_add(readback_bytes, Ordering::Relaxed);
    gpu.expect_upload_bytes(upload_bytes);
    let read = work.page_reads.into_iter().map(|(page, _)| page);
    let pages = work.page_writes.into_iter().map(|(_, page)| page).chain(read);
    let bound_pages = work.groups.into_iter().flat_map(|group| group.bound).filter_map(|(bound, _)| match bound {
        Bound::Page(page) => Some(page),
        Bound::Region { .. } | Bound::Table(_) => None,
    });
    Ok(InFlight {
        id: work.id,
        index,
        readback,
        outputs: arenas.outputs,
        page_copies,
        timestamps,
        maps,
        _pages: pages.chain(bound_pages).collect(),
    })
}

/// Dispatches in order, and the time before and after them.
fn run_pass(
    encoder: &mut wgpu::CommandEncoder,
    timestamps: Option<&wgpu::QuerySet>,
    groups: &[wgpu::BindGroup],
    dispatches: &[Recorded],
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
        label: Some("wave"),
        timestamp_writes: timestamps.map(|query_set| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }),
    });
    let mut last = None;
    for Recorded { pipeline, group, grid } in dispatches {
        pass.set_pipeline(&pipeline.raw);
        if last != Some(*group) {
            pass.set_bind_group(0, &groups[*group], &[]);
            last = Some(*group);
        }
        pass.dispatch_workgroups(grid.0, grid.1, 1);
    }
}

/// When the device has read the staging buffer, it is mapped and goes back into the ring.
fn map_again(encoder: &wgpu::CommandEncoder, staging: Buffer, pool: &Arc<Pool>) {
    let (raw, pool) = (staging.raw.clone(), Arc::downgrade(pool));
    encoder.map_buffer_on_submit(&raw, wgpu::MapMode::Write, .., move |mapped| {
        // Held weakly: the queue owns this closure, and the pool owns the queue's device.
        if let (Ok(()), Some(pool)) = (mapped, pool.upgrade()) {
            pool.give_back(Use::UploadStaging, staging);
        }
    });
}

fn bind(gpu: &Gpu, group: &Group, arenas: &Arenas) -> wgpu::BindGroup {
    let params = wgpu::BindGroupEntry { binding: 0, resource: arenas.binding(Arena::Upload, group.params) };
    let storage = group.bound.iter().zip(1..).map(|((bound, _), binding)| wgpu::BindGroupEntry {
        binding,
        resource: match bound {
            Bound::Region { arena, index } => arenas.binding(*arena, *index),
            Bound::Page(page) => page.buffer.raw.as_entire_binding(),
            Bound::Table(table) => table.raw.as_entire_binding(),
        },
    });
    let entries: Vec<wgpu::BindGroupEntry<'_>> = std::iter::once(params).chain(storage).collect();
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(group.program.name),
        layout: &group.layout,
        entries: &entries,
    })
}

/// Whether some dispatch uses two regions of an arena in different ways, which are in one buffer then not.
fn conflicts(groups: &[Group], arena: Arena) -> impl Fn(usize, usize) -> bool + use<> {
    let mut pairs = std::collections::HashSet::new();
    for group in groups {
        let used: Vec<(usize, Access)> = group
            .bound
            .iter()
            .filter_map(|(bound, access)| match bound {
                Bound::Region { arena: of, index } if *of == arena => Some((*index, *access)),
                _ => None,
            })
            .collect();
        for &(a, access) in &used {
            pairs.extend(used.iter().filter(|(_, other)| *other != access).map(|&(b, _)| (a, b)));
        }
    }
    move |a, b| pairs.contains(&(a, b)) || pairs.contains(&(b, a))
}
