// How much of the newest window's shape the usual ones do not explain: 16 lanes for each key, which take its rows in order.
//
// Lane `l` has the elements l, l + 16, .. of shapes and vectors, as the twin's lanes do, and sums are added up in the twin's tree. So
// every operation is the twin's, in its order, and every product is laundered lest it be contracted into a sum; quotients and roots
// are made right to the last bit, which shaders do not promise. The reason is not the sums: which centre is nearest, and whether a
// component is empty, are decisions that are learnt from, and a last bit that turns one of them changes all scores of the key after it.
//
// A workgroup is two keys, one subgroup of most cards, so that its barriers cost next to nothing; all lanes add up all partial sums of
// their key, four at a time. Rows of one key follow each other, so the time of a row is that of its chain of reductions (one for the mean,
// one for the squares, one for each component, or one for all centres), and throughput comes from the keys that a card holds at once.
// Control flow around barriers depends on parameters and on the count of rows; what depends on data is done by all lanes of the key.
// Twin: cpu.rs. CCIPCA: Weng, Zhang, Hwang (2003); online k-means: MacQueen (1967).
const LANES: u32 = 16u;                  // of a key
const KEYS: u32 = 2u;                    // of a workgroup
const WORKGROUP_SIZE: u32 = 32u;
const COMPONENTS_MAX: u32 = 16u;
const CENTRE_QUARTERS: u32 = 5u;         // vec4s from the partial sums of a centre to the next: 5, so that lanes read from all banks
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

override STRIDE: u32 = 16u;              // words from one vector to the next, a multiple of LANES
override CENTROIDS: bool = false;        // false: subspace
override COMPONENTS: u32 = 16u;          // = params.components; memory that is not used keeps keys off a card
// Whether the vectors stay in workgroup memory while rows pass: a load from a page that is written too may take as long as a whole
// reduction does.
override RESIDENT: bool = STRIDE <= 64u;
override VECTOR_WORDS: u32 = KEYS * COMPONENTS * STRIDE * u32(RESIDENT) + 1u;
override CENTRE_WORDS: u32 = KEYS * COMPONENTS_MAX * CENTRE_QUARTERS * u32(CENTROIDS) + 1u;

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    window: u32,
    components: u32,
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

var<workgroup> values: array<f32, KEYS * STRIDE>;                        // [key][STRIDE], a ring of `window`
var<workgroup> rest: array<f32, KEYS * STRIDE>;                          // [key][STRIDE] of the shape
var<workgroup> learnt: array<u32, 32>;                                   // [key][COMPONENTS_MAX] windows that each centre has learnt
var<workgroup> vectors: array<f32, VECTOR_WORDS>;                        // [key][COMPONENTS][STRIDE]
// Sixteen rows of each key at a time: one load and one store of sixteen words, where each row alone would touch other lines.
var<workgroup> row_high: array<f32, WORKGROUP_SIZE>;
var<workgroup> row_low: array<f32, WORKGROUP_SIZE>;
var<workgroup> row_score: array<f32, WORKGROUP_SIZE>;
var<workgroup> key_rows: array<u32, KEYS>;
var<workgroup> rows_max: u32;
// Two halves in turn, so that a sum needs one barrier: [half][which of three][key][LANES / 4].
var<workgroup> partials: array<vec4<f32>, 48>;
var<workgroup> centre_partials: array<vec4<f32>, CENTRE_WORDS>;                   // [key][centre][CENTRE_QUARTERS]
var<workgroup> centre_squares: array<f32, 32>;                           // [key][COMPONENTS_MAX]

fn rounded(x: f32) -> f32 {
    return launder(x, params.zero);
}

// a / b, rounded to the nearest as the twin's: the remainder of a quotient that is off by some last bits fits into a word, whatever is
// cut off above, and tells by how much it is off. b is positive; results below the normal numbers are 0.
fn divided(a: f32, b: f32) -> f32 {
    let a_bits = bitcast<u32>(a);
    let b_bits = bitcast<u32>(b);
    let a_whole = (a_bits & 0x7fffffu) | 0x800000u;
    let b_whole = (b_bits & 0x7fffffu) | 0x800000u;
    let shift = select(23u, 24u, a_whole < b_whole);
    let reciprocal = 1.0 / f32(b_whole);
    let near = u32(f32(a_whole) * reciprocal * f32(1u << shift));
    let near_remainder = bitcast<i32>((a_whole << shift) - near * b_whole);
    // One off at most after this.
    let off = i32(round(f32(near_remainder) * reciprocal));
    let divisor = i32(b_whole);
    let nearer_remainder = near_remainder - off * divisor;
    let step = select(0, 1, nearer_remainder >= divisor) - select(0, 1, nearer_remainder < 0);
    let remainder = nearer_remainder - step * divisor;
    let cut = bitcast<u32>(bitcast<i32>(near) + off + step);
    let quotient = cut + select(0u, 1u, 2 * remainder > divisor || (2 * remainder == divisor && (cut & 1u) != 0u));
    let exponent = i32((a_bits >> 23u) & 255u) - i32((b_bits >> 23u) & 255u) - i32(shift);
    let whole = bitcast<i32>(f32(quotient));
    let normal = (a_bits & 0x7f800000u) != 0u && (whole >> 23u) + exponent > 0;
    return bitcast<f32>((a_bits & 0x80000000u) | select(0u, bitcast<u32>(whole + exponent * 8388608), normal));
}

// The root of a number that is not negative, rounded to the nearest as the twin's.
fn root(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let exponent = i32(bits >> 23u) - 127;
    let odd = exponent & 1;
    let shift = 23u + u32(odd);
    let whole = (bits & 0x7fffffu) | 0x800000u;
    let scaled = f32(whole) * f32(1u << shift);
    let reciprocal = inverseSqrt(scaled);
    let near = u32(scaled * reciprocal);
    let near_remainder = bitcast<i32>((whole << shift) - near * near);
    // One off at most after this.
    let off = i32(round(f32(near_remainder) * 0.5 * reciprocal));
    let nearer = bitcast<u32>(bitcast<i32>(near) + off);
    let nearer_remainder = bitcast<i32>((whole << shift) - nearer * nearer);
    let step = select(0, 1, nearer_remainder > i32(2u * nearer)) - select(0, 1, nearer_remainder < 0);
    let cut = bitcast<u32>(bitcast<i32>(nearer) + step);
    let remainder = bitcast<i32>((whole << shift) - cut * cut);
    let found = cut + select(0u, 1u, remainder > i32(cut));
    let moved = bitcast<i32>(f32(found)) + ((exponent - odd) / 2 - 23) * 8388608;
    return select(0.0, bitcast<f32>(moved), (bits & 0x7f800000u) != 0u);
}

// An element of a vector of the key; `start` is that of its vectors in the page.
fn element_at(start: u32, key: u32, element: u32) -> f32 {
    if RESIDENT {
        return vectors[key * COMPONENTS * STRIDE + element];
    }
    return bitcast<f32>(page[start + element]);
}

fn set_element(start: u32, key: u32, element: u32, value: f32) {
    if RESIDENT {
        vectors[key * COMPONENTS * STRIDE + element] = value;
    } else {
        page[start + element] = bitcast<u32>(value);
    }
}

fn gain(count: u32, first: f32) -> f32 {
    return clamp(divided(first, f32(count)), params.gain_min, 1.0);
}

fn centred(high: f32, low: f32, base: vec2<f32>) -> f32 {
    let value = clamp(rounded(high - base.x) + rounded(low - base.y), -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

// The partial sums of 16 lanes, added in halves.
fn tree(first: vec4<f32>, second: vec4<f32>, third: vec4<f32>, fourth: vec4<f32>) -> f32 {
    let quarter = (first + third) + (second + fourth);
    let half = quarter.xy + quarter.zw;
    return half.x + half.y;
}

fn sum_of_lanes(first: u32) -> f32 {
    return tree(partials[first], partials[first + 1u], partials[first + 2u], partials[first + 3u]);
}

fn greatest_of_lanes(first: u32) -> f32 {
    let greatest = max(max(partials[first], partials[first + 1u]), max(partials[first + 2u], partials[first + 3u]));
    return max(max(greatest.x, greatest.y), max(greatest.z, greatest.w));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn subspace_score(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let key = index / LANES;
    let lane = index % LANES;
    let group_wanted = params.group_first + linear_workgroup(workgroup_id, num_workgroups) * KEYS + key;
    let there = group_wanted < params.group_end;
    let group = min(group_wanted, params.group_end - 1u);
    let first_row = starts[group];
    let rows = select(0u, starts[group + 1u] - first_row, there);
    if lane == 0u {
        key_rows[key] = rows;
    }
    workgroupBarrier();
    if index == 0u {
        rows_max = max(key_rows[0], key_rows[1]);
    }
    let rows_end = workgroupUniformLoad(&rows_max);

    let window = params.window;
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    let counts = slot + HEADER_WORDS;
    let values_start = counts + params.components;
    let vectors_start = values_start + STRIDE;
    let own = key * STRIDE;                                              // in values and rest
    let own_learnt = key * COMPONENTS_MAX;
    let own_quarter = key * 4u + lane / 4u;                              // in partials

    var base = vec2<f32>(bitcast<f32>(page[slot + BASE_HIGH]), bitcast<f32>(page[slot + BASE_LOW]));
    var count = page[slot + COUNT];
    var flat_share = bitcast<f32>(page[slot + FLAT_SHARE]);
    if count == 0u && rows > 0u {
        base = vec2<f32>(high[first_row], low[first_row]);
    }
    if lane < params.components {
        learnt[own_learnt + lane] = page[counts + lane];
    }
    for (var j = lane; j < window; j += LANES) {
        values[own + j] = bitcast<f32>(page[values_start + j]);
    }
    if RESIDENT {
        // A lane reads and writes the same elements all the time, so nothing waits for this.
        for (var j = lane; j < params.components * STRIDE; j += LANES) {
            vectors[key * COMPONENTS * STRIDE + j] = bitcast<f32>(page[vectors_start + j]);
        }
    }
    workgroupBarrier();

    var oldest = 0u;                                                     // its place in the ring
    var half = 0u;                                                       // of partials
    for (var step = 0u; step < rows_end; step++) {
        if step % LANES == 0u {
            // Only this lane reads and writes its scores here; rows are read by all lanes of the key, after the barrier.
            if step > 0u && step - LANES + lane < rows {
                score[first_row + step - LANES + lane] = row_score[index];
            }
            if step + lane < rows {
                row_high[index] = high[first_row + step + lane];
                row_low[index] = low[first_row + step + lane];
            }
            workgroupBarrier();
        }
        let going = step < rows;
        let row = key * LANES + step % LANES;
        var newest = 0.0;
        if going {
            newest = centred(row_high[row], row_low[row], base);
            if lane == 0u {
                values[own + oldest] = newest;
            }
            oldest = select(oldest + 1u, 0u, oldest + 1u == window);
            count = min(count + 1u, COUNT_MAX);
        }
        workgroupBarrier();
        let full = going && count >= window;
        let windows = count - min(count, window) + 1u;                   // so far, with this one

        // Mean and extremes.
        var sum = 0.0;
        var tops = vec2<f32>(-VALUE_MAX);
        for (var j = lane; j < STRIDE; j += LANES) {
            if j < window {
                let place = oldest + j;
                let value = values[own + select(place, place - window, place >= window)];
                sum += rounded(value - newest);
                tops = max(tops, vec2<f32>(value, -value));
            }
        }
        partials[half + own_quarter][lane % 4u] = sum;
        partials[half + 8u + own_quarter][lane % 4u] = tops.x;
        partials[half + 16u + own_quarter][lane % 4u] = tops.y;
        workgroupBarrier();
        let offset = divided(sum_of_lanes(half + key * 4u), f32(window)); // from the newest value to the mean
        let greatest = greatest_of_lanes(half + 8u + key * 4u);
        let least_negated = greatest_of_lanes(half + 16u + key * 4u);
        let span = greatest + least_negated;
        half = 24u - half;

        // The sum of squares, and the shape.
        sum = 0.0;
        for (var j = lane; j < STRIDE; j += LANES) {
            if j < window {
                let place = oldest + j;
                let value = values[own + select(place, place - window, place >= window)];
                let difference = rounded(rounded(value - newest) - offset);
                sum += rounded(difference * difference);
                rest[own + j] = difference;
            }
        }
        partials[half + own_quarter][lane % 4u] = sum;
        workgroupBarrier();
        let squares = sum_of_lanes(half + key * 4u);
        half = 24u - half;
        let flat = span <= params.flat_span + FLAT_RELATIVE * max(greatest, least_negated) || squares < SQUARES_MIN;
        var answer = 1.0 - flat_share;
        if full {
            flat_share += rounded(gain(windows, 1.0) * (select(0.0, 1.0, flat) - flat_share));
        }
        var live = full && !flat;
        let scale = divided(1.0, root(max(squares, SQUARES_MIN)));
        for (var j = lane; j < STRIDE; j += LANES) {
            rest[own + j] = rounded(rest[own + j] * scale);              // what lies behind the window stays 0
        }

        if CENTROIDS {
            for (var centre = 0u; centre < params.components; centre++) {
                let vector = centre * STRIDE;
                sum = 0.0;
                for (var j = lane; j < STRIDE; j += LANES) {
                    let difference = rounded(rest[own + j] - element_at(vectors_start, key, vector + j));
                    sum += rounded(difference * difference);
                }
                centre_partials[(own_learnt + centre) * CENTRE_QUARTERS + lane / 4u][lane % 4u] = sum;
            }
            workgroupBarrier();
            // A lane for each centre.
            let mine = (own_learnt + lane) * CENTRE_QUARTERS;
            centre_squares[own_learnt + lane] = tree(
                centre_partials[mine],
                centre_partials[mine + 1u],
                centre_partials[mine + 2u],
                centre_partials[mine + 3u],
            );
            workgroupBarrier();
            var nearest = params.components;
            var free = params.components;
            var least = 4.0;
            for (var centre = 0u; centre < params.components; centre++) {
                let centre_is = centre_squares[own_learnt + centre];
                if learnt[own_learnt + centre] == 0u {
                    free = min(free, centre);
                } else if free == params.components && centre_is < least {
                    nearest = centre;
                    least = centre_is;
                }
            }
            if live {
                answer = root(least);
            }
            // Centres start from windows that do not overlap.
            let begins = free < params.components && least > CENTRE_SQUARES_MIN && windows % window == 1u;
            let centre = select(nearest, free, begins);
            let moves = live && centre < params.components;
            if moves {
                let learnt_now = min(learnt[own_learnt + centre] + 1u, COUNT_MAX);
                let weight = gain(learnt_now, 1.0);
                let vector = centre * STRIDE;
                for (var j = lane; j < STRIDE; j += LANES) {
                    let element = element_at(vectors_start, key, vector + j);
                    set_element(vectors_start, key, vector + j, element + rounded(weight * (rest[own + j] - element)));
                }
            }
            workgroupBarrier();
            if moves && lane == 0u {
                learnt[own_learnt + centre] = min(learnt[own_learnt + centre] + 1u, COUNT_MAX);
            }
        } else {
            let learn = gain(windows, 3.0);
            let keep = 1.0 - learn;
            // After the components, what is left.
            for (var component = 0u; component <= params.components; component++) {
                let vector = component * STRIDE;
                let has_vector = component < params.components;
                var sums = vec3<f32>(0.0);
                for (var j = lane; j < STRIDE; j += LANES) {
                    let left = rest[own + j];
                    if has_vector {
                        let element = element_at(vectors_start, key, vector + j);
                        sums.x += rounded(element * element);
                        sums.y += rounded(element * left);
                    }
                    sums.z += rounded(left * left);
                }
                partials[half + own_quarter][lane % 4u] = sums.x;
                partials[half + 8u + own_quarter][lane % 4u] = sums.y;
                partials[half + 16u + own_quarter][lane % 4u] = sums.z;
                workgroupBarrier();
                let vector_squares = sum_of_lanes(half + key * 4u);
                let product = sum_of_lanes(half + 8u + key * 4u);
                let rest_squares = sum_of_lanes(half + 16u + key * 4u);
                half = 24u - half;
                if live && (!has_vector || vector_squares < EMPTY_SQUARES) {
                    // Nothing more is taken out. An empty component takes what is left; those after it wait.
                    answer = root(rest_squares);
                    live = false;
                    if has_vector && rest_squares > TAKEN_SQUARES {
                        for (var j = lane; j < STRIDE; j += LANES) {
                            set_element(vectors_start, key, vector + j, rest[own + j]);
                        }
                    }
                } else if live {
                    let along = rounded(learn * divided(product, root(vector_squares)));
                    let take = divided(product, vector_squares);
                    for (var j = lane; j < STRIDE; j += LANES) {
                        let element = element_at(vectors_start, key, vector + j);
                        let left = rest[own + j];
                        set_element(vectors_start, key, vector + j, rounded(keep * element) + rounded(along * left));
                        rest[own + j] = left - rounded(take * element);
                    }
                }
            }
        }

        if params.in_units != 0u {
            answer *= root(divided(squares, f32(window)));
        }
        if going && lane == step % LANES {
            row_score[index] = select(0.0, answer, full && windows > params.min_training);
        }
        // The base moves to the newest value when it is many spans of its window away.
        if full && span < abs(newest) * (1.0 / REBASE_SPANS) {
            for (var j = lane; j < window; j += LANES) {
                values[own + j] -= newest;
            }
            base = vec2<f32>(row_high[row], row_low[row]);
        }
        workgroupBarrier();
    }

    if rows > 0u {
        // What is left of the last sixteen.
        let last = (rows_end - 1u) / LANES * LANES + lane;
        if last < rows {
            score[first_row + last] = row_score[index];
        }
        if lane < params.components {
            page[counts + lane] = learnt[own_learnt + lane];
        }
        if RESIDENT {
            for (var j = lane; j < params.components * STRIDE; j += LANES) {
                page[vectors_start + j] = bitcast<u32>(vectors[key * COMPONENTS * STRIDE + j]);
            }
        }
        for (var j = lane; j < window; j += LANES) {
            let place = oldest + j;
            page[values_start + j] = bitcast<u32>(values[own + select(place, place - window, place >= window)]);
        }
        if lane == 0u {
            page[slot + BASE_HIGH] = bitcast<u32>(base.x);
            page[slot + BASE_LOW] = bitcast<u32>(base.y);
            page[slot + COUNT] = count;
            page[slot + FLAT_SHARE] = bitcast<u32>(flat_share);
        }
    }
}
