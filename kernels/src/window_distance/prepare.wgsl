// Left matrix profile, what is done once for each row: see compare.wgsl for what is done for each pair.
//   unroll   the rings of each key and its new rows into straight arrays in the order of time, a lane for each place
//   shape    mean, squares, df, dg and inverse of each new window, a lane for each
//   mark     which windows are so much smaller than one before that all their covariances are computed anew, and where the last flat
//            window was: one workgroup for each key, 1024 places at a time. Both follow from row to row, so a block is looked at as a
//            whole first; only one where something is marked is gone through row by row
//   finish   from the greatest correlation to the distance; new rows into the rings
//   settle   the header of each key
// Positions of a key: `pad`, then the rings from the oldest on, then the rows of the segment. Arrays of all keys of a page lie one after
// the other: [array][group][position]. Twin: cpu.rs.
const WORKGROUP_SIZE: u32 = 256u;
const BLOCK: u32 = 1024u;                // places of a block of `mark`
const PLACES: u32 = 4u;                  // of a lane
const VALUE_MAX: f32 = 72057594037927936.0;
const VALUE_MIN: f32 = 7.888609e-31;
const FLAT_RELATIVE: f32 = 9.536743e-7;
const SQUARES_MIN: f32 = 1e-30;
const PEAK_RATIO: f32 = 4096.0;
const COUNT_MAX: u32 = 1073741824u;
const COUNT_BACK: u32 = 536870912u;
// Bits of an inverse. The second one is there in the straight arrays only: nothing is carried over to the first window of all, and
// where both are there and nothing else, there is no window.
const RENEWED: u32 = 1u;
const FIRST: u32 = 2u;
const NO_WINDOW: u32 = 3u;
// Words of a slot.
const COUNT: u32 = 0u;
const FLAT_COUNT: u32 = 1u;
const PLACE: u32 = 2u;
const PEAK: u32 = 3u;
const HEADER_WORDS: u32 = 4u;
// Straight arrays, the first five as the rings.
const HIGH: u32 = 0u;
const LOW: u32 = 1u;
const DF: u32 = 2u;
const DG: u32 = 3u;
const INVERSE: u32 = 4u;
const OFFSET: u32 = 5u;                  // from the newest value of the window to its mean
const SQUARES: u32 = 6u;                 // 0: flat, negative: to be marked; after `mark`, one more than the last flat position

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    window: u32,
    history: u32,
    exclusion: u32,
    ring: u32,
    pad: u32,
    positions: u32,                      // of a key, a multiple of 4
    segment_start: u32,                  // rows of each key before the segment
    segment_rows: u32,                   // at most
    blocks: u32,                         // of a key in this dispatch
    min_training: u32,
    slices: u32,
    slice_lags: u32,
    tiles: u32,                          // of lags
    block_rows: u32,
    flat_span: f32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> high: array<f32>;               // [row]
@group(0) @binding(4) var<storage, read> low: array<f32>;                // [row]
@group(0) @binding(5) var<storage, read_write> page: array<u32>;
@group(0) @binding(6) var<storage, read_write> straight: array<u32>;
@group(0) @binding(7) var<storage, read_write> best: array<atomic<u32>>; // [row] ordered; 0: nothing yet
@group(0) @binding(8) var<storage, read_write> score: array<f32>;        // [row]

var<workgroup> tile: array<vec2<f32>, 1280>;                             // values: a window before the rows, and the rows
var<workgroup> offsets: array<f32, 257>;                                 // of the window before, and of the rows
var<workgroup> of_squares: array<f32, 257>;
var<workgroup> block_squares: array<f32, BLOCK>;
var<workgroup> last_flats: array<u32, WORKGROUP_SIZE>;
var<workgroup> greatest_bits: atomic<u32>;
var<workgroup> least_bits: atomic<u32>;
var<workgroup> something: atomic<u32>;                                   // bit 0: to be marked, bit 1: a flat window
var<workgroup> found: vec3<u32>;                                         // what came of these
var<workgroup> peak_now: f32;
var<workgroup> flat_count: atomic<u32>;

// The key's part of a dispatch.
struct Key {
    group: u32,
    slot: u32,
    first_row: u32,
    rows: u32,
    before: u32,                         // rows learnt
}

fn key_of(group: u32) -> Key {
    let first_row = min(starts[group] + params.segment_start, starts[group + 1u]);
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    return Key(group, slot, first_row, min(starts[group + 1u] - first_row, params.segment_rows), page[slot + COUNT]);
}

fn word_of(array: u32, key: Key, position: u32) -> u32 {
    let groups = params.group_end - params.group_first;
    return (array * groups + key.group - params.group_first) * params.positions + position;
}

// How many rows were learnt with a row.
fn count_at(key: Key, row: u32) -> u32 {
    let before = key.before + row;
    return select(before, before - COUNT_BACK, before >= COUNT_MAX) + 1u;
}

// Whether a window ends at a position, which is there.
fn has_window(key: Key, position: u32) -> bool {
    let newest = params.pad + params.ring;                               // position of the first new row
    if position >= newest {
        return count_at(key, position - newest) >= params.window;
    }
    return key.before >= newest - 1u - position + params.window;
}

fn unordered(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

fn between(from_value: vec2<f32>, to_value: vec2<f32>) -> f32 {
    let parts = to_value - from_value;
    let value = clamp(launder(parts.x, params.zero) + launder(parts.y, params.zero), -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn unroll(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.blocks;
    if group >= params.group_end {
        return;
    }
    let key = key_of(group);
    let position = index % params.blocks * WORKGROUP_SIZE + lane;        // after the pad
    if position >= params.ring + key.rows {
        return;
    }
    let at = params.pad + position;
    if position >= params.ring {
        let row = key.first_row + position - params.ring;
        straight[word_of(HIGH, key, at)] = bitcast<u32>(high[row]);
        straight[word_of(LOW, key, at)] = bitcast<u32>(low[row]);
        return;
    }
    let age = params.ring - 1u - position;
    let from_word = key.slot + HEADER_WORDS + (page[key.slot + PLACE] + age) % params.ring;
    for (var array = 0u; array < INVERSE; array++) {
        straight[word_of(array, key, at)] = page[from_word + array * params.ring];
    }
    var inverse = NO_WINDOW;
    if has_window(key, at) {
        let first = key.before == age + params.window;
        inverse = page[from_word + INVERSE * params.ring] & ~FIRST | select(0u, FIRST, first);
    }
    straight[word_of(INVERSE, key, at)] = inverse;
    straight[word_of(SQUARES, key, at)] = 0u;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn shape(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.blocks;
    if group >= params.group_end {
        return;
    }
    let key = key_of(group);
    let block = index % params.blocks * WORKGROUP_SIZE;
    let window = params.window;
    let origin = params.pad + params.ring + block - window;              // position of the first value of the tile
    let positions = params.pad + params.ring + key.rows;
    for (var i = lane; i < window + WORKGROUP_SIZE; i += WORKGROUP_SIZE) {
        if origin + i < positions {
            let word = word_of(HIGH, key, origin + i);
            tile[i] = vec2<f32>(bitcast<f32>(straight[word]), bitcast<f32>(straight[word_of(LOW, key, origin + i)]));
        }
    }
    workgroupBarrier();
    // Window 0 is that before the first row.
    for (var i = lane; i <= WORKGROUP_SIZE; i += WORKGROUP_SIZE) {
        let newest = tile[i + window - 1u];
        var sum = 0.0;
        var least = 0.0;
        var greatest = 0.0;
        for (var k = 0u; k < window; k++) {
            let value = between(newest, tile[i + k]);
            sum += value;
            least = min(least, value);
            greatest = max(greatest, value);
        }
        let offset = sum / f32(window);
        var squares = 0.0;
        for (var k = 0u; k < window; k++) {
            let difference = between(newest, tile[i + k]) - offset;
            squares += difference * difference;
        }
        let rounding = FLAT_RELATIVE * max(greatest, -least);
        let flat = greatest - least <= params.flat_span + rounding || squares < SQUARES_MIN;
        let cut = greatest >= VALUE_MAX || least <= -VALUE_MAX;
        offsets[i] = offset;
        of_squares[i] = select(select(squares, -squares, cut), 0.0, flat);
    }
    workgroupBarrier();
    let row = block + lane;
    if row >= key.rows {
        return;
    }
    let position = params.pad + params.ring + row;
    let count = count_at(key, row);
    if count < window {
        straight[word_of(DF, key, position)] = 0u;
        straight[word_of(DG, key, position)] = 0u;
        straight[word_of(OFFSET, key, position)] = 0u;
        straight[word_of(INVERSE, key, position)] = NO_WINDOW;
        straight[word_of(SQUARES, key, position)] = 0u;
        return;
    }
    let first = count == window;
    let newest = tile[lane + window];
    let left = tile[lane];
    let df = between(left, newest) * 0.5;
    let dg = (between(tile[lane + window - 1u], left) - offsets[lane]) - offsets[lane + 1u];
    var squares = of_squares[lane + 1u];
    var inverse = 0u;
    if squares != 0.0 {
        inverse = bitcast<u32>(1.0 / sqrt(abs(squares)));
    }
    if !first && of_squares[lane] < 0.0 {
        squares = -abs(squares);                                         // the window before was cut
    }
    straight[word_of(DF, key, position)] = select(bitcast<u32>(df), 0u, first);
    straight[word_of(DG, key, position)] = select(bitcast<u32>(dg), 0u, first);
    straight[word_of(OFFSET, key, position)] = bitcast<u32>(offsets[lane + 1u]);
    straight[word_of(INVERSE, key, position)] = inverse & ~NO_WINDOW | select(0u, FIRST, first);
    straight[word_of(SQUARES, key, position)] = bitcast<u32>(squares);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mark(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = params.group_first + linear_workgroup(workgroup_id, num_workgroups);
    if group >= params.group_end {
        return;
    }
    let key = key_of(group);
    let positions = params.pad + params.ring + min(starts[group + 1u] - min(starts[group] + params.segment_start, starts[group + 1u]), params.segment_rows);
    var peak = bitcast<f32>(page[key.slot + PEAK]);
    var last_flat = 0u;                                                  // one more than its position
    for (var block = params.pad; block < positions; block += BLOCK) {
        var greatest = 0.0;
        var least = bitcast<f32>(0x7f7fffffu);
        var seen = 0u;
        var flats = vec4<u32>(0u);
        var flat = 0u;
        for (var i = 0u; i < PLACES; i++) {
            let position = block + lane * PLACES + i;
            var squares = 0.0;
            if position < positions {
                squares = bitcast<f32>(straight[word_of(SQUARES, key, position)]);
                if squares != 0.0 {
                    greatest = max(greatest, abs(squares));
                    least = min(least, abs(squares));
                    seen |= select(0u, 1u, squares < 0.0);
                }
                let inverse = straight[word_of(INVERSE, key, position)];
                if (inverse & ~NO_WINDOW) == 0u && has_window(key, position) {
                    flat = position + 1u;
                    seen |= 2u;
                }
            }
            flats[i] = flat;
            block_squares[lane * PLACES + i] = squares;
        }
        last_flats[lane] = flat;
        // Positive floats are ordered as their bits are.
        if greatest > 0.0 {
            atomicMax(&greatest_bits, bitcast<u32>(greatest));
            atomicMax(&least_bits, ~bitcast<u32>(least));
        }
        if seen != 0u {
            atomicOr(&something, seen);
        }
        workgroupBarrier();
        if lane == 0u {
            let most = atomicExchange(&greatest_bits, 0u);
            let fewest = atomicExchange(&least_bits, 0u);
            found = vec3<u32>(most, ~fewest, atomicExchange(&something, 0u));
        }
        let all = workgroupUniformLoad(&found);
        let running = max(peak, bitcast<f32>(all.x));
        let any_small = all.x != 0u && bitcast<f32>(all.y) * PEAK_RATIO < running;
        if any_small || (all.z & 1u) != 0u {
            if lane == 0u {
                for (var i = 0u; i < BLOCK; i++) {
                    let squares = abs(block_squares[i]);
                    var renewed = block_squares[i] < 0.0;
                    if squares > 0.0 {
                        peak = max(peak, squares);
                        if squares * PEAK_RATIO < peak {
                            peak = squares;
                            renewed = true;
                        }
                    }
                    block_squares[i] = select(0.0, 1.0, renewed);
                }
                peak_now = peak;
            }
            peak = workgroupUniformLoad(&peak_now);
            for (var i = 0u; i < PLACES; i++) {
                if block_squares[lane * PLACES + i] != 0.0 {
                    straight[word_of(INVERSE, key, block + lane * PLACES + i)] |= RENEWED;
                }
            }
        } else {
            peak = running;
        }
        if (all.z & 2u) != 0u {
            for (var reach = 1u; reach < WORKGROUP_SIZE; reach *= 2u) {
                let nearer = last_flats[lane];
                let farther = last_flats[select(lane - reach, 0u, lane < reach)];
                workgroupBarrier();
                if lane >= reach {
                    last_flats[lane] = max(nearer, farther);
                }
                workgroupBarrier();
            }
            if lane > 0u {
                flats = max(flats, vec4<u32>(last_flats[lane - 1u]));
            }
        }
        flats = max(flats, vec4<u32>(last_flat));
        for (var i = 0u; i < PLACES; i++) {
            let position = block + lane * PLACES + i;
            if position < positions {
                straight[word_of(SQUARES, key, position)] = flats[i];
            }
        }
        if (all.z & 2u) != 0u {
            last_flat = max(last_flat, last_flats[WORKGROUP_SIZE - 1u]);
        }
        workgroupBarrier();
    }
    // How many flat windows there are among those that the newest is compared with.
    if key.rows > 0u {
        let newest = positions - 1u;
        let count = count_at(key, key.rows - 1u);
        let earlier = min(count - min(count, params.window), params.history);
        if last_flat > 0u {
            for (var lag = params.exclusion + 1u + lane; lag <= earlier; lag += WORKGROUP_SIZE) {
                if (straight[word_of(INVERSE, key, newest - lag)] & ~NO_WINDOW) == 0u {
                    atomicAdd(&flat_count, 1u);
                }
            }
        }
    }
    workgroupBarrier();
    if lane == 0u && key.rows > 0u {
        page[key.slot + FLAT_COUNT] = atomicLoad(&flat_count);
        page[key.slot + PEAK] = bitcast<u32>(peak);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn finish(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.blocks;
    if group >= params.group_end {
        return;
    }
    let key = key_of(group);
    let row = index % params.blocks * WORKGROUP_SIZE + lane;
    if row >= key.rows {
        return;
    }
    let position = params.pad + params.ring + row;
    let count = count_at(key, row);
    let inverse_bits = straight[word_of(INVERSE, key, position)];
    let earlier = min(count - min(count, params.window), params.history);
    if count >= params.window && earlier >= params.exclusion + params.min_training {
        let inverse = bitcast<f32>(inverse_bits & ~NO_WINDOW);
        let last_flat = straight[word_of(SQUARES, key, position - params.exclusion - 1u)];
        let any_flat = last_flat > position - earlier;
        var correlation = 0.5;
        if inverse != 0.0 {
            correlation = unordered(atomicLoad(&best[key.first_row + row])) * inverse;
            if any_flat {
                correlation = max(correlation, 0.5);
            }
        } else if any_flat {
            correlation = 1.0;
        }
        score[key.first_row + row] = sqrt(max(2.0 * f32(params.window) * (1.0 - correlation), 0.0));
    }
    let age = key.rows - 1u - row;
    if age < params.ring {
        let place = (page[key.slot + PLACE] + params.ring - key.rows % params.ring + age) % params.ring;
        let to_word = key.slot + HEADER_WORDS + place;
        page[to_word] = straight[word_of(HIGH, key, position)];
        page[to_word + LOW * params.ring] = straight[word_of(LOW, key, position)];
        if count >= params.window {
            page[to_word + DF * params.ring] = straight[word_of(DF, key, position)];
            page[to_word + DG * params.ring] = straight[word_of(DG, key, position)];
            page[to_word + INVERSE * params.ring] = inverse_bits & ~FIRST;
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn settle(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = params.group_first + linear_invocation(workgroup_id, num_workgroups, lane, WORKGROUP_SIZE);
    if group >= params.group_end {
        return;
    }
    let key = key_of(group);
    if key.rows > 0u {
        let count = count_at(key, key.rows - 1u);
        page[key.slot + COUNT] = select(count, count - COUNT_BACK, count >= COUNT_MAX);
        page[key.slot + PLACE] = (page[key.slot + PLACE] + params.ring - key.rows % params.ring) % params.ring;
    }
}
