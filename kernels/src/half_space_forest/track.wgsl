// Ranges of the half-space forest and the rows' coordinates in them: one workgroup for each key and feature. Within a window the range
// stands still, so the rows of all its parts are taken side by side, some lanes for each part; windows follow each other. Extremes are
// compared as integers (`ordered`), so that they are the twin's to the bit.
//
// Roofline: 12 bytes a row and feature (two floats in, one word out) and some 20 instructions: memory, where there are enough keys.
// Twin: cpu.rs (`track`, `end_part`, `end_range`).
override WORKGROUP_SIZE: u32;            // 64 or more
const PARTS: u32 = 8u;
const KEEP_BELOW: f32 = -2048.0;
const KEEP_ABOVE: f32 = 18432.0;
const KEEP_SPAN: f32 = 4096.0;
const SPAN_RELATIVE: f32 = 9.536743e-7;
const SPAN_MIN: f32 = 8.6736174e-19;
const REBASE_SPANS: f32 = 64.0;
const VALUE_MAX: f32 = 72057594037927936.0;
const VALUE_MIN: f32 = 7.888609e-31;
const CALIBRATING: u32 = 0u;
const COUNTING: u32 = 1u;
const SCORING: u32 = 2u;
// Words of a slot and of a feature in it.
const PHASE: u32 = 0u;
const COUNT: u32 = 1u;
const HEADER_WORDS: u32 = 2u;
const FEATURE_WORDS: u32 = 12u;
const BASE_HIGH: u32 = 0u;
const BASE_LOW: u32 = 1u;
const LOW: u32 = 2u;
const SCALE: u32 = 3u;
const REFERENCE_LOW: u32 = 4u;
const REFERENCE_SCALE: u32 = 5u;
const PART_MIN: u32 = 6u;
const PART_MAX: u32 = 7u;
const LEAST: u32 = 8u;
const LEAST_2: u32 = 9u;
const GREATEST: u32 = 10u;
const GREATEST_2: u32 = 11u;

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    features: u32,
    row_count: u32,
    window: u32,
    calibration: u32,
    plans_at: u32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> high: array<f32>;               // [feature][row]
@group(0) @binding(4) var<storage, read> low: array<f32>;                // [feature][row]
@group(0) @binding(5) var<storage, read_write> page: array<u32>;
// [feature][row] latest in the low half, reference in the high half; from `plans_at` on [group] phase and count before the batch
@group(0) @binding(6) var<storage, read_write> coordinates: array<u32>;

var<workgroup> head: vec2<u32>;
var<workgroup> of_lanes: array<vec2<u32>, WORKGROUP_SIZE>;
var<workgroup> of_eighths: array<vec2<u32>, 64>;
var<workgroup> of_parts: array<vec2<u32>, PARTS>;

// Floats as integers in the same order, and back.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn unordered(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u);
}

fn centred(high: f32, low: f32, base: vec2<f32>) -> f32 {
    let value = clamp(launder(high - base.x, params.zero) + launder(low - base.y, params.zero), -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

// Units of the work range above the lower end of `range`, of 16 bits.
fn coordinate(value: f32, range: vec2<f32>) -> u32 {
    let units = clamp(launder(value - range.x, params.zero) * range.y, -32768.0, 32767.0);
    return u32(i32(launder(units, params.zero) + 32768.0) - 32768) & 0xffffu;
}

// Least of the first, greatest of the second.
fn wider(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(min(a.x, b.x), max(a.y, b.y));
}

// From the extremes of each lane to those of each part in `of_parts`; neighbouring lanes have the rows of one part.
fn reduce_parts(lane: u32, mine: vec2<u32>) {
    of_lanes[lane] = mine;
    workgroupBarrier();
    if lane < 64u {
        let lanes = WORKGROUP_SIZE / 64u;
        var eighth = of_lanes[lane * lanes];
        for (var i = 1u; i < lanes; i++) {
            eighth = wider(eighth, of_lanes[lane * lanes + i]);
        }
        of_eighths[lane] = eighth;
    }
    workgroupBarrier();
    if lane < PARTS {
        var part = of_eighths[lane * 8u];
        for (var i = 1u; i < 8u; i++) {
            part = wider(part, of_eighths[lane * 8u + i]);
        }
        of_parts[lane] = part;
    }
    workgroupBarrier();
}

fn phase_rows(phase: u32) -> u32 {
    return select(params.window, params.calibration, phase == CALIBRATING);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn track(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.features;
    let feature = index % params.features;
    if group >= params.group_end {
        return;
    }
    var row = starts[group];
    let end_row = starts[group + 1u];
    if row == end_row {
        return;
    }
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    let words = slot + HEADER_WORDS + feature * FEATURE_WORDS;
    let column = feature * params.row_count;
    if lane == 0u {
        head = vec2<u32>(page[slot + PHASE], page[slot + COUNT]);
    }
    let start = workgroupUniformLoad(&head);
    var phase = start.x;
    var count = start.y;
    if feature == 0u && lane == 0u {
        coordinates[params.plans_at + 2u * group] = phase;
        coordinates[params.plans_at + 2u * group + 1u] = count;
    }

    var base = vec2<f32>(bitcast<f32>(page[words + BASE_HIGH]), bitcast<f32>(page[words + BASE_LOW]));
    if phase == CALIBRATING && count == 0u {
        base = vec2<f32>(high[column + row], low[column + row]);
    }
    var latest = vec2<f32>(bitcast<f32>(page[words + LOW]), bitcast<f32>(page[words + SCALE]));
    var reference = vec2<f32>(bitcast<f32>(page[words + REFERENCE_LOW]), bitcast<f32>(page[words + REFERENCE_SCALE]));
    let infinite = vec2<u32>(0xff800000u, 0x007fffffu);                  // ordered: infinity and its negative
    var extremes = vec2<u32>(ordered(bitcast<f32>(page[words + PART_MIN])), ordered(bitcast<f32>(page[words + PART_MAX])));
    var least = vec2<u32>(ordered(bitcast<f32>(page[words + LEAST])), ordered(bitcast<f32>(page[words + LEAST_2])));
    var greatest = vec2<u32>(ordered(bitcast<f32>(page[words + GREATEST])), ordered(bitcast<f32>(page[words + GREATEST_2])));

    while row < end_row {
        let length = phase_rows(phase);
        let part = (length + PARTS - 1u) / PARTS;
        let rows = min(length - count, end_row - row);
        // This lane's rows of the window.
        let lanes = WORKGROUP_SIZE / PARTS;
        let first = max(lane / lanes * part, count);
        let end = min(min((lane / lanes + 1u) * part, length), count + rows);
        var mine = infinite;
        for (var i = first + lane % lanes; i < end; i += lanes) {
            let at = column + row + i - count;
            let value = centred(high[at], low[at], base);
            mine = wider(mine, vec2<u32>(ordered(value)));
            coordinates[at] = coordinate(value, latest) | (coordinate(value, reference) << 16u);
        }
        reduce_parts(lane, mine);
        row += rows;
        count += rows;
        for (var i = (count - rows) / part; i * part < count; i++) {
            extremes = wider(extremes, of_parts[i]);
            if count == length || (i + 1u) * part <= count {
                least = vec2<u32>(min(least.x, extremes.x), min(least.y, max(least.x, extremes.x)));
                greatest = vec2<u32>(max(greatest.x, extremes.y), max(greatest.y, min(greatest.x, extremes.y)));
                extremes = infinite;
            }
        }
        if count == length {
            reference = latest;
            let bottom = bitcast<f32>(unordered(least.y));
            let top = bitcast<f32>(unordered(greatest.y));
            let kept = phase != CALIBRATING
                && launder(bottom - latest.x, params.zero) * latest.y >= KEEP_BELOW
                && launder(top - latest.x, params.zero) * latest.y <= KEEP_ABOVE
                && launder(top - bottom, params.zero) * latest.y >= KEEP_SPAN;
            if !kept {
                let span = max(max(top - bottom, max(abs(bottom), abs(top)) * SPAN_RELATIVE), SPAN_MIN);
                let scale = bitcast<f32>((13u + 2u * 127u - (bitcast<u32>(span) >> 23u)) << 23u);
                let newest = vec2<f32>(high[column + row - 1u], low[column + row - 1u]);
                let distance = centred(newest.x, newest.y, base);
                let moved = select(0.0, distance, abs(distance) > REBASE_SPANS * span);
                if moved != 0.0 {
                    reference.x -= moved;
                    base = newest;
                }
                latest = vec2<f32>(bottom - moved, scale);
            }
            least = infinite.xx;
            greatest = infinite.yy;
            phase = min(phase + 1u, SCORING);
            count = 0u;
        }
    }

    if lane == 0u {
        page[words + BASE_HIGH] = bitcast<u32>(base.x);
        page[words + BASE_LOW] = bitcast<u32>(base.y);
        page[words + LOW] = bitcast<u32>(latest.x);
        page[words + SCALE] = bitcast<u32>(latest.y);
        page[words + REFERENCE_LOW] = bitcast<u32>(reference.x);
        page[words + REFERENCE_SCALE] = bitcast<u32>(reference.y);
        page[words + PART_MIN] = unordered(extremes.x);
        page[words + PART_MAX] = unordered(extremes.y);
        page[words + LEAST] = unordered(least.x);
        page[words + LEAST_2] = unordered(least.y);
        page[words + GREATEST] = unordered(greatest.x);
        page[words + GREATEST_2] = unordered(greatest.y);
    }
}
