// Left matrix profile: rows are taken in chunks of 256, each in three dispatches.
//   prepare   one workgroup for each key: values and windows of the chunk into the rings, a lane for each row
//   compare   one workgroup for each key and 1024 lags, which stay in registers while all rows of the chunk pass
//   finish    one workgroup for each key: from the greatest correlation to the distance; moves the base
// Lags of one key are thereby spread over as many workgroups as there are. Twin: cpu.rs. SCAMP: Zimmerman et al. (SoCC 2019).
const CHUNK: u32 = 256u;                 // and lanes of a workgroup
const LAGS: u32 = 4u;                    // of a lane
const TILE: u32 = 1024u;                 // lags of a workgroup
const ROWS: u32 = 8u;                    // that are reduced together
const VALUE_MAX: f32 = 72057594037927936.0;
const VALUE_MIN: f32 = 7.888609e-31;
const FLAT_RELATIVE: f32 = 9.536743e-7;
const SQUARES_MIN: f32 = 1e-30;
const REBASE_SPANS: f32 = 64.0;
const PEAK_RATIO: f32 = 4096.0;
const RENEWED: u32 = 1u;                 // bit of an inverse
const COUNT_MAX: u32 = 1073741824u;
const COUNT_BACK: u32 = 536870912u;
// Words of a slot.
const BASE_HIGH: u32 = 0u;
const BASE_LOW: u32 = 1u;
const COUNT: u32 = 2u;
const FLAT_COUNT: u32 = 3u;
const PLACE: u32 = 4u;
const PEAK: u32 = 5u;
const HEADER_WORDS: u32 = 6u;
// Words of a key's chunk in `chunks`.
const CHUNK_DONE: u32 = 0u;              // learnt rows of the batch before and in the chunk
const CHUNK_ROWS: u32 = 1u;
const CHUNK_PLACE: u32 = 2u;             // in the rings, before the chunk
const CHUNK_COUNT: u32 = 3u;             // rows learnt before the chunk
const CHUNK_WORDS: u32 = 4u;
// Words of a row after the chunks of all keys.
const ROW_OFFSET: u32 = 0u;                // from the newest value of the window to its mean
const ROW_FLAGS: u32 = 1u;               // bit 0: an earlier window is flat, bit 1: all covariances are computed anew
const ROW_WORDS: u32 = 2u;

struct Params {
    group_first: u32,
    group_end: u32,
    group_count: u32,                    // of all pages
    slot_first: u32,                     // of the page
    slot_words: u32,
    window: u32,
    history: u32,
    exclusion: u32,
    ring: u32,
    min_training: u32,
    slices: u32,
    slice_lags: u32,
    tiles: u32,
    flat_span: f32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> high: array<f32>;               // [row]
@group(0) @binding(4) var<storage, read> low: array<f32>;                // [row]
@group(0) @binding(5) var<storage, read_write> page: array<u32>;
@group(0) @binding(6) var<storage, read_write> chunks: array<u32>;       // [group][CHUNK_WORDS], then [row][ROW_WORDS]
@group(0) @binding(7) var<storage, read_write> best: array<atomic<u32>>; // [row] ordered; 0: nothing yet
@group(0) @binding(8) var<storage, read_write> score: array<f32>;        // [row]

var<workgroup> chunk_rows: u32;
var<workgroup> changes: array<i32, CHUNK>;                               // of the count of flat windows
var<workgroup> of_lanes: array<u32, 2048>;                               // ROWS * CHUNK
var<workgroup> of_parts: array<u32, CHUNK>;

// Floats as integers in the same order, and back.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn unordered(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

fn centred(high: f32, low: f32, base: vec2<f32>) -> f32 {
    let value = clamp(launder(high - base.x, params.zero) + launder(low - base.y, params.zero), -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

fn slot_start(group: u32) -> u32 {
    return (slots[group] - params.slot_first) * params.slot_words;
}

// A word of the rings: 0 value, 1 df, 2 dg, 3 inverse. `place` is below twice the ring.
fn ring_word(slot: u32, array: u32, place: u32) -> u32 {
    return slot + HEADER_WORDS + array * params.ring + select(place, place - params.ring, place >= params.ring);
}

fn ring(slot: u32, array: u32, place: u32) -> f32 {
    return bitcast<f32>(page[ring_word(slot, array, place)]);
}

// The same of four windows.
fn ring_bits(slot: u32, array: u32, places: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(
        page[ring_word(slot, array, places.x)],
        page[ring_word(slot, array, places.y)],
        page[ring_word(slot, array, places.z)],
        page[ring_word(slot, array, places.w)],
    );
}

fn row_word(row: u32) -> u32 {
    return params.group_count * CHUNK_WORDS + row * ROW_WORDS;
}

@compute @workgroup_size(CHUNK)
fn prepare(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = params.group_first + linear_workgroup(workgroup_id, num_workgroups);
    if group >= params.group_end {
        return;
    }
    let slot = slot_start(group);
    let chunk = group * CHUNK_WORDS;
    let first_row = starts[group] + chunks[chunk + CHUNK_DONE];
    let before = page[slot + COUNT];
    let place_before = page[slot + PLACE];
    let flats_before = page[slot + FLAT_COUNT];
    var base = vec2<f32>(bitcast<f32>(page[slot + BASE_HIGH]), bitcast<f32>(page[slot + BASE_LOW]));
    let rows = min(starts[group + 1u] - first_row, CHUNK - before % CHUNK);
    if before == 0u && rows > 0u {
        base = vec2<f32>(high[first_row], low[first_row]);
    }
    workgroupBarrier();
    storageBarrier();

    let mine = lane < rows;
    let row = first_row + lane;
    let place = (place_before + params.ring - lane - 1u) % params.ring;
    if mine {
        page[ring_word(slot, 0u, place)] = bitcast<u32>(centred(high[row], low[row], base));
    }
    storageBarrier();

    let count = before + lane + 1u;
    let window = params.window;
    let full = mine && count >= window;
    var inverse = 0.0;
    var shaped_squares = 0.0;                                            // 0 for a flat window
    if full {
        var sum = 0.0;
        var sum_before = 0.0;
        var least = VALUE_MAX;
        var greatest = -VALUE_MAX;
        let newest = ring(slot, 0u, place);
        let newest_before = ring(slot, 0u, place + 1u);
        for (var k = 0u; k < window; k++) {
            let value = ring(slot, 0u, place + k);
            sum += value - newest;
            sum_before += ring(slot, 0u, place + k + 1u) - newest_before;
            least = min(least, value);
            greatest = max(greatest, value);
        }
        let offset = sum / f32(window);                                  // from the newest value to the mean
        let offset_before = sum_before / f32(window);
        var squares = 0.0;
        for (var k = 0u; k < window; k++) {
            let difference = (ring(slot, 0u, place + k) - newest) - offset;
            squares += difference * difference;
        }
        let left = ring(slot, 0u, place + window);
        let first = count == window;                                     // no window before it
        let flat = greatest - least <= params.flat_span + FLAT_RELATIVE * max(greatest, -least) || squares < SQUARES_MIN;
        if !flat {
            inverse = 1.0 / sqrt(squares);
            shaped_squares = squares;
        }
        page[ring_word(slot, 1u, place)] = select(bitcast<u32>((newest - left) * 0.5), 0u, first);
        page[ring_word(slot, 2u, place)] = select(bitcast<u32>(((left - newest_before) - offset_before) - offset), 0u, first);
        chunks[row_word(row) + ROW_OFFSET] = bitcast<u32>(offset);
    }
    // Which windows are so much smaller than one before that roundings of that one matter: one after the other.
    of_parts[lane] = bitcast<u32>(shaped_squares);
    workgroupBarrier();
    if lane == 0u {
        var peak = bitcast<f32>(page[slot + PEAK]);
        for (var i = 0u; i < rows; i++) {
            let squares = bitcast<f32>(of_parts[i]);
            of_parts[i] = 0u;
            if squares > 0.0 {
                peak = max(peak, squares);
                if squares * PEAK_RATIO < peak {
                    peak = squares;
                    of_parts[i] = RENEWED;
                }
            }
        }
        page[slot + PEAK] = bitcast<u32>(peak);
    }
    workgroupBarrier();
    let renewed = of_parts[lane];
    if full {
        page[ring_word(slot, 3u, place)] = select(bitcast<u32>(inverse) & ~RENEWED | renewed, 0u, inverse == 0.0);
    }
    storageBarrier();

    var change = 0;
    if full {
        let earlier = count - window;
        if earlier > params.exclusion && page[ring_word(slot, 3u, place + params.exclusion + 1u)] == 0u {
            change++;
        }
        if earlier > params.history && page[ring_word(slot, 3u, place + params.history + 1u)] == 0u {
            change--;
        }
    }
    changes[lane] = change;
    workgroupBarrier();
    // Each lane adds up for itself: a scan in steps has many barriers for little work.
    var flats = flats_before;
    for (var i = 0u; i <= lane; i++) {
        flats += u32(changes[i]);
    }
    if mine {
        chunks[row_word(row) + ROW_FLAGS] = select(0u, 1u, flats > 0u) | (renewed << 1u);
    }
    if lane + 1u == max(rows, 1u) {
        chunks[chunk + CHUNK_DONE] = first_row - starts[group] + rows;
        chunks[chunk + CHUNK_ROWS] = rows;
        chunks[chunk + CHUNK_PLACE] = place_before;
        chunks[chunk + CHUNK_COUNT] = before;
        if rows > 0u {
            page[slot + BASE_HIGH] = bitcast<u32>(base.x);
            page[slot + BASE_LOW] = bitcast<u32>(base.y);
            page[slot + COUNT] = select(count, count - COUNT_BACK, count >= COUNT_MAX);
            page[slot + FLAT_COUNT] = flats;
            page[slot + PLACE] = place;
        }
    }
}

// The centred product of two windows, from their values.
fn covariance_of(slot: u32, place: u32, offset: f32, lag: u32) -> f32 {
    let newest = ring(slot, 0u, place);
    let origin = ring(slot, 0u, place + lag);
    var other = select(place + lag, place + lag - params.ring, place + lag >= params.ring);
    var sum = 0.0;
    for (var k = 0u; k < params.window; k++) {
        sum += ((ring(slot, 0u, place + k) - newest) - offset) * (ring(slot, 0u, other + k) - origin);
    }
    return sum;
}

@compute @workgroup_size(CHUNK)
fn compare(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.tiles;
    let tile = index % params.tiles;
    if group >= params.group_end {
        return;
    }
    let slot = slot_start(group);
    let chunk = group * CHUNK_WORDS;
    if lane == 0u {
        chunk_rows = chunks[chunk + CHUNK_ROWS];
    }
    let rows = workgroupUniformLoad(&chunk_rows);
    let first_row = starts[group] + chunks[chunk + CHUNK_DONE] - rows;
    let place_before = chunks[chunk + CHUNK_PLACE];
    let before = chunks[chunk + CHUNK_COUNT];
    let covariances = slot + HEADER_WORDS + 4u * params.ring;
    let lags = params.exclusion + 1u + tile * TILE + lane + vec4<u32>(0u, 1u, 2u, 3u) * CHUNK;

    var covariance = vec4<f32>(0.0);
    for (var i = 0u; i < LAGS; i++) {
        if lags[i] <= params.history {
            covariance[i] = bitcast<f32>(page[covariances + lags[i]]);
        }
    }
    for (var first = 0u; first < rows; first += ROWS) {
        for (var r = 0u; r < min(ROWS, rows - first); r++) {
            let row = first + r;
            let count = before + row + 1u;
            var greatest = 0u;
            if count >= params.window {
                let place = (place_before + params.ring - row - 1u) % params.ring;
                let earlier = count - params.window;
                let limit = min(earlier, params.history);
                let there = lags <= vec4<u32>(limit);
                let places = place + min(lags, vec4<u32>(limit));
                let slice = count % params.slices * params.slice_lags;
                let flags = chunks[row_word(first_row + row) + ROW_FLAGS];
                let inverse = ring_bits(slot, 3u, places);

                // The first window of all (`earlier`) is seen at this distance for the first time.
                let now = there & ((lags == vec4<u32>(earlier)) | ((inverse & vec4<u32>(RENEWED)) != vec4<u32>(0u)) | vec4<bool>((flags & 2u) != 0u));
                let after = there & (lags > vec4<u32>(slice)) & (lags <= vec4<u32>(slice + params.slice_lags));
                let wanted = select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), now | after);
                var anew = vec4<f32>(0.0);
                // Bit by bit, so that the code is there once: software drivers take very long over more.
                for (var todo = wanted.x + wanted.y + wanted.z + wanted.w; todo != 0u; todo &= todo - 1u) {
                    let i = firstTrailingBit(todo);
                    let offset = bitcast<f32>(chunks[row_word(first_row + row) + ROW_OFFSET]);
                    anew[i] = covariance_of(slot, place, offset, lags[i]);
                }
                let df = ring(slot, 1u, place);
                let dg = ring(slot, 2u, place);
                let change = df * bitcast<vec4<f32>>(ring_bits(slot, 2u, places)) + bitcast<vec4<f32>>(ring_bits(slot, 1u, places)) * dg;
                covariance = select(covariance, covariance + change, there);
                covariance = select(covariance, anew, now);
                let similar = covariance * bitcast<vec4<f32>>(inverse);
                for (var i = 0u; i < LAGS; i++) {
                    greatest = max(greatest, select(0u, ordered(similar[i]), there[i]));
                }
                covariance = select(covariance, anew, after);
            }
            of_lanes[r * CHUNK + lane] = greatest;
        }
        workgroupBarrier();
        // 32 lanes for each row, then one.
        let r = lane / 32u;
        var greatest = 0u;
        for (var i = lane % 32u; i < CHUNK; i += 32u) {
            greatest = max(greatest, of_lanes[r * CHUNK + i]);
        }
        of_parts[lane] = greatest;
        workgroupBarrier();
        if lane < ROWS && first + lane < rows {
            var greatest = 0u;
            for (var i = 0u; i < 32u; i++) {
                greatest = max(greatest, of_parts[lane * 32u + i]);
            }
            atomicMax(&best[first_row + first + lane], greatest);
        }
    }
    for (var i = 0u; i < LAGS; i++) {
        if lags[i] <= params.history {
            page[covariances + lags[i]] = bitcast<u32>(covariance[i]);
        }
    }
}

@compute @workgroup_size(CHUNK)
fn finish(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = params.group_first + linear_workgroup(workgroup_id, num_workgroups);
    if group >= params.group_end {
        return;
    }
    let slot = slot_start(group);
    let chunk = group * CHUNK_WORDS;
    let rows = chunks[chunk + CHUNK_ROWS];
    let first_row = starts[group] + chunks[chunk + CHUNK_DONE] - rows;
    let place_before = chunks[chunk + CHUNK_PLACE];
    let before = chunks[chunk + CHUNK_COUNT];
    let row = first_row + lane;
    let count = before + lane + 1u;
    if lane < rows && count >= params.window {
        let earlier = min(count - params.window, params.history);
        if earlier >= params.exclusion + params.min_training {
            let place = (place_before + params.ring - lane - 1u) % params.ring;
            let inverse = ring(slot, 3u, place);
            let any_flat = (chunks[row_word(row) + ROW_FLAGS] & 1u) != 0u;
            var correlation = 0.5;
            if inverse != 0.0 {
                correlation = unordered(atomicLoad(&best[row])) * inverse;
                if any_flat {
                    correlation = max(correlation, 0.5);
                }
            } else if any_flat {
                correlation = 1.0;
            }
            score[row] = sqrt(max(2.0 * f32(params.window) * (1.0 - correlation), 0.0));
        }
    }

    // At the end of a chunk the base moves to the newest value when it is many spans of its window away.
    let place = (place_before + params.ring - rows) % params.ring;
    let newest = ring(slot, 0u, place);
    var extremes = vec2<u32>(ordered(newest));
    for (var k = lane; k < min(params.window, before + rows); k += CHUNK) {
        let value = ordered(ring(slot, 0u, place + k));
        extremes = vec2<u32>(min(extremes.x, value), max(extremes.y, value));
    }
    of_lanes[lane] = extremes.x;
    of_parts[lane] = extremes.y;
    workgroupBarrier();
    if lane < 16u {
        for (var i = lane + 16u; i < CHUNK; i += 16u) {
            extremes = vec2<u32>(min(extremes.x, of_lanes[i]), max(extremes.y, of_parts[i]));
        }
        of_lanes[CHUNK + lane] = extremes.x;
        of_lanes[2u * CHUNK + lane] = extremes.y;
    }
    workgroupBarrier();
    for (var i = 0u; i < 16u; i++) {
        extremes = vec2<u32>(min(extremes.x, of_lanes[CHUNK + i]), max(extremes.y, of_lanes[2u * CHUNK + i]));
    }
    let span = unordered(extremes.y) - unordered(extremes.x);
    if rows > 0u && (before + rows) % CHUNK == 0u && abs(newest) > REBASE_SPANS * span {
        for (var k = lane; k < params.ring; k += CHUNK) {
            let word = slot + HEADER_WORDS + k;
            page[word] = bitcast<u32>(bitcast<f32>(page[word]) - newest);
        }
        if lane == 0u {
            page[slot + BASE_HIGH] = bitcast<u32>(high[first_row + rows - 1u]);
            page[slot + BASE_LOW] = bitcast<u32>(low[first_row + rows - 1u]);
        }
    }
}
