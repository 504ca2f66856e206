// Count, sum, minimum, maximum and sum of squares of each cell.
//
// `reduce`: one workgroup for each chunk of 64 rows of a cell, one lane for each row, halved: lane[i] takes in lane[i + 32], then 16, 8, 4,
// 2, 1. `merge`: one invocation for each cell adds the chunks to it, one after the other. So floats are added by one tree whatever the
// device. Integers are words in two's complement, lowest first, and their sums have one word more; floats are compared by a word that
// is ordered as they are (order_of_float).
// Twin: cpu.rs.
const CHUNK_ROWS: u32 = 64u;              // = window_reduce::CHUNK_ROWS, and the workgroup size of `reduce`
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE of `merge`
const GROUP_WORDS: u32 = 4u;              // = gpu::GROUP_WORDS
const WORD_RANGE: f32 = 4294967296.0;     // = gpu::WORD_RANGE

override VALUE_WORDS: u32;                // 1, 2 or 4: f32, i64, i128
override SUM_WORDS: u32;                  // 1, 3 or 5

struct Params {
    chunk_count: u32,
    group_first: u32,   // the groups of one page, for `merge`
    group_count: u32,
    slots_per_page: u32,
    all_valid: u32,     // 1: there is no bitmap
    zero: u32,          // 0, which the compiler does not know
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> chunks: array<vec2<u32>>;     // [chunk]: first row, rows
@group(0) @binding(2) var<storage, read> groups: array<u32>;           // [group][GROUP_WORDS]: slot, first chunk, end chunk
@group(0) @binding(3) var<storage, read> values: array<u32>;           // [row][VALUE_WORDS]
@group(0) @binding(4) var<storage, read> valid: array<u32>;            // a bit for each row
@group(0) @binding(5) var<storage, read_write> partial: array<u32>;    // [chunk][cell]
@group(0) @binding(6) var<storage, read_write> state: array<u32>;      // [word][slot] of one page
@group(0) @binding(7) var<storage, read_write> cells: array<u32>;      // [group][cell]

var<workgroup> counts: array<u32, CHUNK_ROWS>;
var<workgroup> sums: array<array<u32, 5>, CHUNK_ROWS>;
var<workgroup> least: array<array<u32, 4>, CHUNK_ROWS>;
var<workgroup> greatest: array<array<u32, 4>, CHUNK_ROWS>;
var<workgroup> squares: array<f32, CHUNK_ROWS>;

// Where the parts of a cell are: count (2 words), sum, minimum, maximum, sum of squares (1).
fn min_at() -> u32 { return 2u + SUM_WORDS; }
fn max_at() -> u32 { return 2u + SUM_WORDS + VALUE_WORDS; }
fn squares_at() -> u32 { return 2u + SUM_WORDS + 2u * VALUE_WORDS; }
fn cell_words() -> u32 { return 3u + SUM_WORDS + 2u * VALUE_WORDS; }

fn is_float() -> bool { return VALUE_WORDS == 1u; }

fn order_of_float(bits: u32) -> u32 {
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

fn less(a: array<u32, 4>, b: array<u32, 4>) -> bool {
    var left = a;
    var right = b;
    // The highest word has the sign; orders of floats have none.
    let flip = select(0x80000000u, 0u, is_float());
    for (var i = VALUE_WORDS; i > 0u; i--) {
        let top = select(0u, flip, i == VALUE_WORDS);
        let l = left[i - 1u] ^ top;
        let r = right[i - 1u] ^ top;
        if l != r { return l < r; }
    }
    return false;
}

fn sum_of(a: array<u32, 5>, b: array<u32, 5>) -> array<u32, 5> {
    var left = a;
    var right = b;
    var sum: array<u32, 5>;
    if is_float() {
        sum[0] = bitcast<u32>(launder(bitcast<f32>(left[0]) + bitcast<f32>(right[0]), params.zero));
        return sum;
    }
    var carry = 0u;
    for (var i = 0u; i < SUM_WORDS; i++) {
        let once = left[i] + right[i];
        let twice = once + carry;
        carry = select(0u, 1u, once < left[i] || twice < once);
        sum[i] = twice;
    }
    return sum;
}

// The square of an integer as float, by the words of its magnitude.
fn square_of_integer(words: array<u32, 4>) -> f32 {
    var magnitude = words;
    if (magnitude[VALUE_WORDS - 1u] >> 31u) == 1u {
        var carry = 1u;
        for (var i = 0u; i < VALUE_WORDS; i++) {
            let negated = ~magnitude[i] + carry;
            carry = select(0u, 1u, carry == 1u && negated == 0u);
            magnitude[i] = negated;
        }
    }
    var float = 0.0;
    for (var i = VALUE_WORDS; i > 0u; i--) {
        float = launder(float * WORD_RANGE, params.zero) + f32(magnitude[i - 1u]);
    }
    return launder(float * float, params.zero);
}

@compute @workgroup_size(CHUNK_ROWS)
fn reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = linear_workgroup(workgroup, grid);
    if chunk >= params.chunk_count { return; } // the whole workgroup
    let rows = chunks[chunk];
    let row = rows.x + lane;
    var there = lane < rows.y;
    if there && params.all_valid == 0u { there = bit_of(valid[row / 32u], row); }

    var value: array<u32, 4>;
    var sum: array<u32, 5>;
    var low: array<u32, 4>;
    var high: array<u32, 4>;
    var squared = 0.0;
    if there {
        for (var i = 0u; i < VALUE_WORDS; i++) { value[i] = values[row * VALUE_WORDS + i]; }
        for (var i = 0u; i < VALUE_WORDS; i++) { sum[i] = value[i]; }
        if is_float() {
            let float = bitcast<f32>(value[0]);
            squared = launder(float * float, params.zero);
            value[0] = order_of_float(value[0]);
        } else {
            squared = square_of_integer(value);
            sum[VALUE_WORDS] = select(0u, 0xffffffffu, (value[VALUE_WORDS - 1u] >> 31u) == 1u);
        }
        low = value;
        high = value;
    } else {
        for (var i = 0u; i < VALUE_WORDS; i++) {
            let sign = i == VALUE_WORDS - 1u && !is_float();
            low[i] = select(0xffffffffu, 0x7fffffffu, sign);
            high[i] = select(0u, 0x80000000u, sign);
        }
    }
    counts[lane] = select(0u, 1u, there);
    sums[lane] = sum;
    least[lane] = low;
    greatest[lane] = high;
    squares[lane] = squared;
    for (var half = CHUNK_ROWS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = lane + half;
            counts[lane] += counts[other];
            sums[lane] = sum_of(sums[lane], sums[other]);
            if less(least[other], least[lane]) { least[lane] = least[other]; }
            if less(greatest[lane], greatest[other]) { greatest[lane] = greatest[other]; }
            squares[lane] += squares[other];
        }
    }
    if lane == 0u {
        let at = chunk * cell_words();
        partial[at] = counts[0];
        partial[at + 1u] = 0u;
        for (var i = 0u; i < SUM_WORDS; i++) { partial[at + 2u + i] = sums[0][i]; }
        for (var i = 0u; i < VALUE_WORDS; i++) {
            partial[at + min_at() + i] = least[0][i];
            partial[at + max_at() + i] = greatest[0][i];
        }
        partial[at + squares_at()] = bitcast<u32>(squares[0]);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.group_count { return; }
    let group = params.group_first + invocation;
    let slot = groups[group * GROUP_WORDS];
    var count = vec2<u32>(state[slot], state[params.slots_per_page + slot]);
    var sum: array<u32, 5>;
    var low: array<u32, 4>;
    var high: array<u32, 4>;
    for (var i = 0u; i < SUM_WORDS; i++) { sum[i] = state[(2u + i) * params.slots_per_page + slot]; }
    for (var i = 0u; i < VALUE_WORDS; i++) {
        low[i] = state[(min_at() + i) * params.slots_per_page + slot];
        high[i] = state[(max_at() + i) * params.slots_per_page + slot];
    }
    var squared = bitcast<f32>(state[squares_at() * params.slots_per_page + slot]);
    for (var chunk = groups[group * GROUP_WORDS + 1u]; chunk < groups[group * GROUP_WORDS + 2u]; chunk++) {
        let at = chunk * cell_words();
        count = add64(count, vec2<u32>(partial[at], 0u));
        var more: array<u32, 5>;
        for (var i = 0u; i < SUM_WORDS; i++) { more[i] = partial[at + 2u + i]; }
        sum = sum_of(sum, more);
        var other_low: array<u32, 4>;
        var other_high: array<u32, 4>;
        for (var i = 0u; i < VALUE_WORDS; i++) {
            other_low[i] = partial[at + min_at() + i];
            other_high[i] = partial[at + max_at() + i];
        }
        if less(other_low, low) { low = other_low; }
        if less(high, other_high) { high = other_high; }
        squared = launder(squared + bitcast<f32>(partial[at + squares_at()]), params.zero);
    }
    let to = group * cell_words();
    cells[to] = count.x;
    cells[to + 1u] = count.y;
    for (var i = 0u; i < SUM_WORDS; i++) { cells[to + 2u + i] = sum[i]; }
    for (var i = 0u; i < VALUE_WORDS; i++) {
        cells[to + min_at() + i] = low[i];
        cells[to + max_at() + i] = high[i];
    }
    cells[to + squares_at()] = bitcast<u32>(squared);
    for (var word = 0u; word < cell_words(); word++) {
        state[word * params.slots_per_page + slot] = cells[to + word];
    }
}
