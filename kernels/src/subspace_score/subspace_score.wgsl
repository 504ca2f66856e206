// How much of the newest window's shape the usual ones do not explain: one workgroup for each key, which takes its rows in order.
// Window and shape lie in workgroup memory; lane `l` has the elements l, l + 64, .. of shapes and vectors, which nobody else touches.
// Control flow around barriers depends on parameters only; what depends on data is done by all lanes alike, or not at all. Each row is a
// loop of steps with one reduction each, so that the barriers stand in the code once: software drivers take very long over more.
// Twin: cpu.rs. CCIPCA: Weng, Zhang, Hwang (2003); online k-means: MacQueen (1967).
const WORKGROUP_SIZE: u32 = 64u;
const WINDOW_MAX: u32 = 512u;
const COMPONENTS_MAX: u32 = 16u;
const EMPTY_SQUARES: f32 = 1e-16;
const TAKEN_SQUARES: f32 = 1e-6;
const CENTRE_SQUARES_MIN: f32 = 1e-2;
const COUNT_MAX: u32 = 16777216u;
const VALUE_MAX: f32 = 72057594037927936.0;
const VALUE_MIN: f32 = 7.888609e-31;
const FLAT_RELATIVE: f32 = 9.536743e-7;
const SQUARES_MIN: f32 = 1e-30;
const REBASE_SPANS: f32 = 64.0;
// Words of a slot.
const BASE_HIGH: u32 = 0u;
const BASE_LOW: u32 = 1u;
const COUNT: u32 = 2u;
const FLAT_SHARE: u32 = 3u;
const HEADER_WORDS: u32 = 4u;

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    window: u32,
    components: u32,
    stride: u32,
    centroids: u32,                      // 0: subspace
    in_units: u32,                       // 0: of the shape
    min_training: u32,
    gain_min: f32,
    flat_span: f32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> high: array<f32>;               // [row]
@group(0) @binding(4) var<storage, read> low: array<f32>;                // [row]
@group(0) @binding(5) var<storage, read_write> page: array<u32>;
@group(0) @binding(6) var<storage, read_write> score: array<f32>;        // [row]

var<workgroup> values: array<f32, WINDOW_MAX>;                           // a ring
var<workgroup> rest: array<f32, WINDOW_MAX>;                             // of the shape
var<workgroup> learnt: array<u32, COMPONENTS_MAX>;                       // windows that each centre has learnt
var<workgroup> partial_sums: array<vec3<f32>, WORKGROUP_SIZE>;
var<workgroup> partial_tops: array<vec2<f32>, WORKGROUP_SIZE>;
var<workgroup> eighth_sums: array<vec3<f32>, 8>;
var<workgroup> eighth_tops: array<vec2<f32>, 8>;

fn gain(count: u32, first: f32) -> f32 {
    return clamp(first / f32(count), params.gain_min, 1.0);
}

fn centred(high: f32, low: f32, base: vec2<f32>) -> f32 {
    let value = clamp(launder(high - base.x, params.zero) + launder(low - base.y, params.zero), -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn subspace_score(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = params.group_first + linear_workgroup(workgroup_id, num_workgroups);
    if group >= params.group_end {
        return;
    }
    let first_row = starts[group];
    let end_row = starts[group + 1u];
    if first_row == end_row {
        return;
    }
    let window = params.window;
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    let counts = slot + HEADER_WORDS;
    let values_start = counts + params.components;
    let vectors_start = values_start + params.stride;

    var base = vec2<f32>(bitcast<f32>(page[slot + BASE_HIGH]), bitcast<f32>(page[slot + BASE_LOW]));
    var count = page[slot + COUNT];
    var flat_share = bitcast<f32>(page[slot + FLAT_SHARE]);
    if count == 0u {
        base = vec2<f32>(high[first_row], low[first_row]);
    }
    if lane < params.components {
        learnt[lane] = page[counts + lane];
    }
    for (var j = lane; j < window; j += WORKGROUP_SIZE) {
        values[j] = bitcast<f32>(page[values_start + j]);
    }
    workgroupBarrier();

    var oldest = 0u;                                                     // its place in the ring
    for (var row = first_row; row < end_row; row++) {
        let newest = centred(high[row], low[row], base);
        if lane == 0u {
            values[oldest] = newest;
        }
        oldest = (oldest + 1u) % window;
        count = min(count + 1u, COUNT_MAX);
        workgroupBarrier();

        let full = count >= window;
        let windows = count - min(count, window) + 1u;                   // so far, with this one
        let learn = gain(windows, 3.0);
        let flat_share_before = flat_share;
        var answer = 1.0 - flat_share_before;
        var live = full;
        var offset = 0.0;                                                // from the newest value to the mean
        var span = 0.0;
        var top = 0.0;
        var squares = 0.0;
        var nearest = params.components;
        var free = params.components;
        var least = 4.0;
        // Step 0: mean and span. Step 1: squares. Then each vector. Last, for the subspace: what is left.
        let steps = params.components + select(3u, 2u, params.centroids != 0u);
        for (var step = 0u; step < steps; step++) {
            let vector = vectors_start + (step - 2u) * params.stride;
            let has_vector = step >= 2u && step < params.components + 2u;
            var sums = vec3<f32>(0.0);
            var tops = vec2<f32>(-VALUE_MAX);
            for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                if step == 0u {
                    sums.x += values[j] - newest;
                    tops = max(tops, vec2<f32>(values[j], -values[j]));
                } else if step == 1u {
                    let difference = (values[j] - newest) - offset;
                    sums.x += difference * difference;
                } else {
                    var element = 0.0;
                    if has_vector {
                        element = bitcast<f32>(page[vector + j]);
                    }
                    let difference = rest[j] - element;
                    sums.x += select(element * element, difference * difference, params.centroids != 0u);
                    sums.y += element * rest[j];
                    sums.z += rest[j] * rest[j];
                }
            }

            // Sums and greatest over all lanes; every lane gets them.
            partial_sums[lane] = sums;
            partial_tops[lane] = tops;
            workgroupBarrier();
            if lane < 8u {
                for (var i = lane + 8u; i < WORKGROUP_SIZE; i += 8u) {
                    sums += partial_sums[i];
                    tops = max(tops, partial_tops[i]);
                }
                eighth_sums[lane] = sums;
                eighth_tops[lane] = tops;
            }
            workgroupBarrier();
            sums = eighth_sums[0];
            tops = eighth_tops[0];
            for (var i = 1u; i < 8u; i++) {
                sums += eighth_sums[i];
                tops = max(tops, eighth_tops[i]);
            }

            if step == 0u {
                offset = sums.x / f32(window);
                span = tops.x + tops.y;
                top = max(tops.x, tops.y);
            } else if step == 1u {
                squares = sums.x;
                let flat = span <= params.flat_span + FLAT_RELATIVE * top || squares < SQUARES_MIN;
                if full {
                    flat_share += gain(windows, 1.0) * (select(0.0, 1.0, flat) - flat_share);
                }
                live = full && !flat;
                let scale = 1.0 / sqrt(max(squares, SQUARES_MIN));
                for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                    rest[j] = ((values[(oldest + j) % window] - newest) - offset) * scale;
                }
            } else if live && params.centroids != 0u {
                if learnt[step - 2u] == 0u {
                    free = min(free, step - 2u);
                } else if free == params.components && sums.x < least {
                    nearest = step - 2u;
                    least = sums.x;
                }
                answer = sqrt(least);
            } else if live && (!has_vector || sums.x < EMPTY_SQUARES) {
                // Nothing more is taken out. An empty component takes what is left; those after it wait.
                answer = sqrt(sums.z);
                live = false;
                for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                    if has_vector && sums.z > TAKEN_SQUARES {
                        page[vector + j] = bitcast<u32>(rest[j]);
                    }
                }
            } else if live {
                let along = learn * (sums.y / sqrt(sums.x));
                let take = sums.y / sums.x;
                for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                    let element = bitcast<f32>(page[vector + j]);
                    page[vector + j] = bitcast<u32>((1.0 - learn) * element + along * rest[j]);
                    rest[j] -= take * element;
                }
            }
        }

        // Centres start from windows that do not overlap.
        let begins = free < params.components && least > CENTRE_SQUARES_MIN && windows % window == 1u;
        let centre = select(nearest, free, begins);
        let moves = live && centre < params.components;
        if moves {
            let weight = gain(min(learnt[centre] + 1u, COUNT_MAX), 1.0);
            for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                let word = vectors_start + centre * params.stride + j;
                let element = bitcast<f32>(page[word]);
                page[word] = bitcast<u32>(element + weight * (rest[j] - element));
            }
        }
        if params.in_units != 0u {
            answer *= sqrt(squares / f32(window));
        }
        if lane == 0u {
            score[row] = select(0.0, answer, full && windows > params.min_training);
        }
        // The base moves to the newest value when it is many spans of its window away.
        if full && span < abs(newest) / REBASE_SPANS {
            for (var j = lane; j < window; j += WORKGROUP_SIZE) {
                values[j] -= newest;
            }
            base = vec2<f32>(high[row], low[row]);
        }
        workgroupBarrier();
        if lane == 0u && moves {
            learnt[centre] = min(learnt[centre] + 1u, COUNT_MAX);
        }
    }

    workgroupBarrier();
    if lane < params.components {
        page[counts + lane] = learnt[lane];
    }
    for (var j = lane; j < window; j += WORKGROUP_SIZE) {
        page[values_start + j] = bitcast<u32>(values[(oldest + j) % window]);
    }
    if lane == 0u {
        page[slot + BASE_HIGH] = bitcast<u32>(base.x);
        page[slot + BASE_LOW] = bitcast<u32>(base.y);
        page[slot + COUNT] = count;
        page[slot + FLAT_SHARE] = bitcast<u32>(flat_share);
    }
}
