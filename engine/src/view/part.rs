//! What one shard holds of a view.
//!
//! A step's rows become a chunk; rows that go are found by hash and compared, and marked. Small chunks of steps that nobody reads any
//! more are merged by size class, so that a row is copied a logarithmic number of times, and chunks of which most rows have gone
//! are written anew. Chunks that a reader holds live on beside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::chunk::Chunk;
use super::{Owned, lock, owned_or_all};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::{HashGroups, hash_columns};
use crate::keys::canonical_values;

/// A chunk smaller than this is merged with others.
const SMALL_ROWS: usize = DELTA_ROWS_MAX / 2;
/// How many chunks of a size class are merged at once.
const MERGED_CHUNKS: usize = 8;
/// Fewer rows that have gone are not worth a look.
const DEAD_ROWS_MIN: usize = 1_024;

/// One shard's rows of a view.
#[derive(Debug)]
pub(crate) struct Part {
    schema: SchemaRef,
    route: Vec<usize>,
    owned: Owned,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    next_chunk: u64,
    index: Option<Index>,
    live_rows: usize,
    dead_rows: usize,
    bytes: usize,
    dead_bytes: u64,
    /// Small chunks since the last merge.
    small: usize,
    /// The horizon of the last merge: without a later one another finds nothing.
    merged_at: Option<u64>,
    /// What steps changed that are not published yet.
    changes: VecDeque<(u64, Delta)>,
}

/// Where rows lie, by the hash of their key.
#[derive(Debug)]
struct Index {
    table: HashTable<Place>,
    converter: RowConverter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    hash: u64,
    chunk: u64,
    row: u32,
}

impl Part {
    pub(super) fn new(schema: SchemaRef, route: Vec<usize>, indexed: bool) -> Result<Self> {
        let index = match indexed {
            true => {
                let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
                Some(Index { table: HashTable::new(), converter: RowConverter::new(fields)? })
            }
            false => None,
        };
        let state = State {
            chunks: BTreeMap::new(),
            next_chunk: 0,
            index,
            live_rows: 0,
            dead_rows: 0,
            bytes: 0,
            dead_bytes: 0,
            small: 0,
            merged_at: None,
            changes: VecDeque::new(),
        };
        Ok(Self { schema, route, owned: OnceLock::new(), state: Mutex::new(state) })
    }

    pub(crate) fn own(&self, groups: HashGroups) {
        let _ = self.owned.set(groups);
    }

    pub(super) fn owned(&self) -> &HashGroups {
        owned_or_all(&self.owned)
    }

    pub(crate) fn live_rows(&self) -> usize {
        lock(&self.state).live_rows
    }

    /// All bytes, and those of rows that have gone.
    pub(crate) fn bytes(&self) -> (usize, u64) {
        let state = lock(&self.state);
        let index = state.index.as_ref().map_or(0, |index| index.table.capacity() * size_of::<Place>());
        (state.bytes + index, state.dead_bytes)
    }

    pub(super) fn chunks(&self) -> Vec<Arc<Chunk>> {
        lock(&self.state).chunks.values().cloned().collect()
    }

    /// The rows as they are now, after all steps that this shard has run.
    pub(crate) fn live(&self) -> Result<Vec<RecordBatch>> {
        // A row that has gone at all is not there now.
        self.chunks().iter().filter_map(|chunk| chunk.at(u64::MAX - 1).transpose()).collect()
    }

    pub(super) fn take_changes(&self, step: u64) -> Vec<(u64, Delta)> {
        let mut state = lock(&self.state);
        let count = state.changes.iter().take_while(|(at, _)| *at <= step).count();
        state.changes.drain(..count).collect()
    }

    /// What was restored is nobody's news.
    pub(crate) fn forget_changes(&self) {
        lock(&self.state).changes.clear();
    }

    /// The rows after `step` with one of these hashes.
    pub(super) fn lookup(&self, hashes: &[u64], step: u64) -> Result<Option<RecordBatch>> {
        let state = lock(&self.state);
        let Some(index) = &state.index else {
            return Err(EngineError::bug("a view without an index was asked by key"));
        };
        let mut places = Vec::new();
        for hash in hashes {
            places.extend(index.table.iter_hash(*hash).filter(|place| place.hash == *hash).copied());
        }
        places.retain(|place| state.chunks[&place.chunk].is_visible(place.row as usize, step));
        places.sort_by_key(|place| (place.chunk, place.row));
        match places.is_empty() {
            true => Ok(None),
            false => state.gather(&places).map(Some),
        }
    }

    /// Applies a step that no reader has come to; gives what it changed, net. `merge`: old versions are to be merged away now.
    pub(crate) fn apply(
        &self,
        step: u64,
        deltas: &[Delta],
        horizon: u64,
        merge: bool,
        view: &str,
    ) -> Result<Option<Delta>> {
        let net = self.consolidate(deltas)?;
        let mut state = lock(&self.state);
        if let Some(net) = &net {
            let weights = net.weights.as_ref();
            if weights.is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0)) {
                self.remove(&mut state, step, net, view)?;
            }
            self.insert(&mut state, step, net)?;
            state.changes.push_back((step, net.clone()));
        }
        state.merge(self, horizon, merge)?;
        Ok(net)
    }

    /// The rows of a step, each distinct one once with the sum of its weights; `None`: nothing changed.
    fn consolidate(&self, deltas: &[Delta]) -> Result<Option<Delta>> {
        let rows: usize = deltas.iter().map(Delta::rows).sum();
        if rows == 0 {
            return Ok(None);
        }
        let batches = deltas.iter().map(|delta| batch_of(&self.schema, delta.batch.columns().to_vec(), delta.rows()));
        let all = concat_batches(&self.schema, &batches.collect::<Result<Vec<_>>>()?)?;
        if deltas.iter().all(|delta| delta.weights.is_none()) {
            return Ok(Some(Delta::insert(all)));
        }
        let mut state = lock(&self.state);
        let Some(index) = &mut state.index else {
            return Err(EngineError::bug("rows are taken back from a view that only grows"));
        };
        let encoded = index.encode(&all)?;
        let weights = deltas.iter().flat_map(|delta| (0..delta.rows()).map(|row| delta.weight(row)));
        let mut net: Vec<(u32, i64)> = Vec::new();
        let mut seen: HashTable<usize> = HashTable::with_capacity(rows);
        for (row, weight) in weights.enumerate() {
            let data = encoded.row(row).data();
            let hash = xxh3_64(data);
            match seen.find(hash, |other| encoded.row(net[*other].0 as usize).data() == data) {
                Some(found) => net[*found].1 += weight,
                None => {
                    let place = net.len();
                    net.push((row as u32, weight));
                    seen.insert_unique(hash, place, |other| xxh3_64(encoded.row(net[*other].0 as usize).data()));
                }
            }
        }
        net.retain(|(_, weight)| *weight != 0);
        if net.is_empty() {
            return Ok(None);
        }
        // What goes comes first, as in a changelog.
        net.sort_by_key(|(row, weight)| (*weight > 0, *row));
        let delta = Delta::insert(all).take(&UInt32Array::from_iter_values(net.iter().map(|(row, _)| *row)))?;
        let weights = Int64Array::from_iter_values(net.iter().map(|(_, weight)| *weight));
        Ok(Some(Delta::weighted(delta.batch, weights)))
    }

    fn hashes(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let columns: Vec<ArrayRef> = self.route.iter().map(|column| Arc::clone(rows.column(*column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&columns, rows.num_rows(), &mut hashes)?;
        Ok(hashes)
    }

    fn insert(&self, state: &mut State, step: u64, net: &Delta) -> Result<()> {
        let rows = match &net.weights {
            None => net.batch.clone(),
            Some(weights) => {
                let counted = weights.values().iter().enumerate().filter(|(_, weight)| **weight > 0);
                let rows: Vec<u32> =
                    counted.flat_map(|(row, weight)| std::iter::repeat_n(row as u32, *weight as usize)).collect();
                let rows = UInt32Array::from(rows);
                let columns = net.batch.columns().iter().map(|column| take(column, &rows, None));
                batch_of(&self.schema, columns.collect::<Result<Vec<_>, _>>()?, rows.len())?
            }
        };
        let mut offset = 0;
        while offset < rows.num_rows() {
            let some = rows.slice(offset, DELTA_ROWS_MAX.min(rows.num_rows() - offset));
            offset += some.num_rows();
            let hashes = if state.index.is_some() { self.hashes(&some)? } else { Vec::new() };
            state.live_rows += some.num_rows();
            state.add(Chunk::new(step, some, hashes));
        }
        Ok(())
    }

    /// Marks the rows that a step takes back.
    fn remove(&self, state: &mut State, step: u64, net: &Delta, view: &str) -> Result<()> {
        let gone: Vec<usize> = (0..net.rows()).filter(|row| net.weight(*row) < 0).collect();
        let wanted = net.take(&UInt32Array::from_iter_values(gone.iter().map(|row| *row as u32)))?.batch;
        let hashes = self.hashes(&wanted)?;
        let mut places: Vec<Place> = Vec::new();
        let mut ends = Vec::with_capacity(gone.len());
        {
            let State { index, chunks, .. } = &*state;
            let index =
                index.as_ref().ok_or_else(|| EngineError::bug("rows are taken back from a view that only grows"))?;
            for hash in &hashes {
                let from = places.len();
                let found = index.table.iter_hash(*hash).filter(|place| place.hash == *hash);
                places.extend(found.filter(|place| chunks[&place.chunk].is_alive(place.row as usize)));
                // The oldest of equal rows goes first, whatever the order of the table.
                places[from..].sort_by_key(|place| (place.chunk, place.row));
                ends.push(places.len());
            }
        }
        let missing = || EngineError::bug(format!("view `{view}`: a row is taken back that is not there"));
        if places.is_empty() {
            return Err(missing());
        }
        let candidates = state.gather(&places)?;
        let index = state.index.as_mut().ok_or_else(missing)?;
        let (wanted, candidates) = (index.encode(&wanted)?, index.encode(&candidates)?);
        let mut from = 0;
        for (position, (row, end)) in gone.iter().zip(&ends).enumerate() {
            let mut left = net.weight(*row).unsigned_abs();
            for (candidate, place) in places.iter().enumerate().take(*end).skip(from) {
                if left == 0 {
                    break;
                }
                let is_alive = state.chunks[&place.chunk].is_alive(place.row as usize);
                if is_alive && candidates.row(candidate) == wanted.row(position) {
                    state.kill(*place, step);
                    left -= 1;
                }
            }
            if left > 0 {
                return Err(missing());
            }
            from = *end;
        }
        Ok(())
    }
}

impl Index {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = rows.columns().iter().map(canonical_values).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

impl State {
    fn add(&mut self, chunk: Chunk) {
        let id = self.next_chunk;
        self.next_chunk += 1;
        if let Some(index) = &mut self.index {
            for (row, hash) in chunk.hashes.iter().enumerate() {
                let place = Place { hash: *hash, chunk: id, row: row as u32 };
                index.table.insert_unique(*hash, place, |place| place.hash);
            }
        }
        self.bytes += chunk.bytes;
        self.small += usize::from(chunk.rows.num_rows() < SMALL_ROWS);
        self.chunks.insert(id, Arc::new(chunk));
    }

    fn kill(&mut self, place: Place, step: u64) {
        let chunk = &self.chunks[&place.chunk];
        let before = chunk.dead_bytes();
        chunk.kill(place.row as usize, step);
        self.dead_bytes += chunk.dead_bytes() - before;
        self.live_rows -= 1;
        self.dead_rows += 1;
    }

    /// The rows at these places, in their order.
    fn gather(&self, places: &[Place]) -> Result<RecordBatch> {
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut by_chunk: BTreeMap<u64, usize> = BTreeMap::new();
        let mut picks = Vec::with_capacity(places.len());
        for place in places {
            let batch = *by_chunk.entry(place.chunk).or_insert_with(|| {
                batches.push(&self.chunks[&place.chunk].rows);
                batches.len() - 1
            });
            picks.push((batch, place.row as usize));
        }
        Ok(interleave_record_batch(&batches, &picks)?)
    }

    /// Merges small chunks, and those of which most has gone, as far as nobody reads what they were before.
    fn merge(&mut self, part: &Part, horizon: u64, now: bool) -> Result<()> {
        let crowded = self.small >= MERGED_CHUNKS;
        let stale = self.dead_rows > 0
            && self.merged_at.is_none_or(|at| at < horizon)
            && (now || (self.dead_rows > DEAD_ROWS_MIN && self.dead_rows > self.live_rows / 2));
        if !crowded && !stale {
            return Ok(());
        }
        self.small = 0;
        self.merged_at = Some(horizon);
        let mut classes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut merged: Vec<Vec<u64>> = Vec::new();
        let mut rewritten = Vec::new();
        for (id, chunk) in self.chunks.iter().filter(|(_, chunk)| chunk.born <= horizon) {
            let rows = chunk.rows.num_rows();
            let dead = if stale { chunk.dead_at(horizon) } else { 0 };
            if dead > 0 && (now || dead * 2 > rows) {
                rewritten.push(*id);
            } else if rows < SMALL_ROWS {
                classes.entry(rows.max(1).ilog2() / 3).or_default().push(*id);
            }
        }
        merged.extend(classes.into_values().filter(|ids| ids.len() >= MERGED_CHUNKS));
        if !rewritten.is_empty() {
            merged.push(rewritten);
        }
        merged.into_iter().try_for_each(|ids| self.rewrite(part, &ids, horizon))
    }

    /// Puts what of these chunks is there at the horizon or goes later into new ones.
    fn rewrite(&mut self, part: &Part, ids: &[u64], horizon: u64) -> Result<()> {
        let mut places = Vec::new();
        let mut born = 0;
        for id in ids {
            let chunk = &self.chunks[id];
            born = born.max(chunk.born);
            let kept = (0..chunk.rows.num_rows()).filter(|row| chunk.death(*row) > horizon);
            places.extend(kept.map(|row| Place {
                hash: chunk.hashes.get(row).copied().unwrap_or(0),
                chunk: *id,
                row: row as u32,
            }));
        }
        let mut fresh = Vec::new();
        for some in places.chunks(DELTA_ROWS_MAX) {
            let rows = batch_of(&part.schema, self.gather(some)?.columns().to_vec(), some.len())?;
            let deaths: Vec<u64> =
                some.iter().map(|place| self.chunks[&place.chunk].death(place.row as usize)).collect();
            let hashes = if self.index.is_some() { some.iter().map(|place| place.hash).collect() } else { Vec::new() };
            fresh.push(Chunk::with_deaths(born, rows, hashes, &deaths));
        }
        for id in ids {
            let Some(chunk) = self.chunks.remove(id) else { continue };
            self.bytes -= chunk.bytes;
            self.dead_rows -= chunk.dead();
            self.dead_bytes -= chunk.dead_bytes();
            let Some(index) = &mut self.index else { continue };
            for (row, hash) in chunk.hashes.iter().enumerate() {
                let gone = Place { hash: *hash, chunk: *id, row: row as u32 };
                if let Ok(entry) = index.table.find_entry(*hash, |place| *place == gone) {
                    entry.remove();
                }
            }
        }
        for chunk in fresh {
            self.dead_rows += chunk.dead();
            self.dead_bytes += chunk.dead_bytes();
            self.add(chunk);
        }
        if let Some(index) = &mut self.index
            && index.table.capacity() > 64 + 4 * index.table.len()
        {
            index.table.shrink_to(2 * index.table.len(), |place| place.hash);
        }
        // A merged chunk that is still small waits for others of its class, not for a merge of its own.
        self.small = 0;
        Ok(())
    }
}
