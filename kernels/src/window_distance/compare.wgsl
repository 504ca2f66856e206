// Left matrix profile, what is done for each pair of windows (Zimmerman et al., "SCAMP", SoCC 2019). A workgroup takes 256 lags of a
// key, each lane four that follow each other, through a block of rows. Blocks do not wait for each other: a block starts from
// covariances computed from the values, as the renewals do, so one key alone fills a card. A key with one block goes on from the
// covariances in its state.
//
// Four rows of four lags are 16 pairs out of seven columns, which slide through registers: two loads of four for each of df, dg and
// inverse are shared by all. That is 5 operations and 3 bytes of first-level cache a pair; main memory sees nothing of it (12 bytes a
// row and tile). A card of 132 SMs of 128 lanes at 1.7 GHz could do 5.7 10^12 pairs a second so, a history of 10,000 rows at 570 M
// rows a second; the start of a block costs `15 window` operations a lane beside `block_rows * 20 + 25`.
// The greatest of a row is found in steps: over a lane's lags in registers, over 32 rows of all lanes in workgroup memory, over a
// block there, and over tiles by one atomic a row.
// Pairs where something is to be computed anew go through `walk`, row by row. Twin: cpu.rs.
const WORKGROUP_SIZE: u32 = 64u;
const LAGS: u32 = 4u;                    // of a lane
const TILE: u32 = 256u;                  // lags of a workgroup
const STAGED: u32 = 64u;                 // steps of four rows whose df and dg are in workgroup memory
const REDUCED: u32 = 8u;                 // steps that are reduced together
const BLOCK_ROWS_MAX: u32 = 1024u;
const LOWEST: f32 = -3.4e38;
const VALUE_MAX: f32 = 72057594037927936.0;
const VALUE_MIN: f32 = 7.888609e-31;
const COUNT_MAX: u32 = 1073741824u;
const COUNT_BACK: u32 = 536870912u;
const RENEWED: u32 = 1u;
const NO_WINDOW: u32 = 3u;
const COUNT: u32 = 0u;
const HEADER_WORDS: u32 = 4u;
const RINGS: u32 = 5u;
// Straight arrays, see prepare.wgsl.
const HIGH: u32 = 0u;
const LOW: u32 = 1u;
const DF: u32 = 2u;
const DG: u32 = 3u;
const INVERSE: u32 = 4u;
const OFFSET: u32 = 5u;

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    window: u32,
    history: u32,
    exclusion: u32,
    ring: u32,
    pad: u32,                            // so that the columns of a lane start at multiples of four
    positions: u32,                      // of a key, a multiple of 4
    segment_start: u32,                  // rows of each key before the segment
    segment_rows: u32,                   // at most
    blocks: u32,                         // of a key in this dispatch
    min_training: u32,
    slices: u32,
    slice_lags: u32,
    tiles: u32,                          // of lags
    block_rows: u32,                     // a multiple of 4
    flat_span: f32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> straight: array<f32>;           // [array][group][position]
@group(0) @binding(4) var<storage, read> quarters: array<vec4<f32>>;     // the same
@group(0) @binding(5) var<storage, read_write> page: array<u32>;
@group(0) @binding(6) var<storage, read_write> best: array<atomic<u32>>; // [row] ordered; 0: nothing yet

var<workgroup> row_df: array<vec4<f32>, STAGED>;
var<workgroup> row_dg: array<vec4<f32>, STAGED>;
var<workgroup> row_marks: array<u32, STAGED>;
var<workgroup> reduced: array<vec4<f32>, 512>;                           // [REDUCED][WORKGROUP_SIZE]; at the start, values of a window
var<workgroup> greatest: array<atomic<u32>, BLOCK_ROWS_MAX>;

// Floats as integers in the same order.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// Where an array of the key begins.
fn start_of(array: u32, group: u32) -> u32 {
    let groups = params.group_end - params.group_first;
    return (array * groups + group - params.group_first) * params.positions;
}

// The difference of the value at one position from that at another, of which the words are given.
fn between(from_high: u32, to_high: u32, from_low: u32, to_low: u32) -> f32 {
    let high = launder(straight[to_high] - straight[from_high], params.zero);
    let low = launder(straight[to_low] - straight[from_low], params.zero);
    let value = clamp(high + low, -VALUE_MAX, VALUE_MAX);
    return select(value, 0.0, abs(value) < VALUE_MIN);
}

// The centred product of the window that ends at a row and that of an earlier one, from their values.
fn covariance_of(group: u32, position: u32, lag: u32) -> f32 {
    let high = start_of(HIGH, group) + position;
    let low = start_of(LOW, group) + position;
    let offset = straight[start_of(OFFSET, group) + position];
    var sum = 0.0;
    for (var k = 0u; k < params.window; k++) {
        let now = between(high, high - k, low, low - k) - offset;
        sum += now * between(high - lag, high - lag - k, low - lag, low - lag - k);
    }
    return sum;
}

struct Walked {
    covariance: vec4<f32>,
    best: vec4<f32>,                     // of each row
}

// Four rows of four lags where something is to be computed anew, or is not there.
fn walk(group: u32, first: u32, end: u32, lags: vec4<u32>, counts: vec4<bool>, covariance_before: vec4<f32>) -> Walked {
    var covariance = covariance_before;
    var best = vec4<f32>(LOWEST);
    for (var r = 0u; r < 4u; r++) {
        let position = first + r;
        for (var i = 0u; i < LAGS; i++) {
            let column = position - lags[i];
            let bits = bitcast<u32>(straight[start_of(INVERSE, group) + column]);
            if position < end && counts[i] && bits != NO_WINDOW {
                let row_bits = bitcast<u32>(straight[start_of(INVERSE, group) + position]);
                let df = start_of(DF, group);
                let dg = start_of(DG, group);
                var moved = covariance[i] + (straight[df + position] * straight[dg + column] + straight[df + column] * straight[dg + position]);
                if (bits & NO_WINDOW) != 0u || (row_bits & RENEWED) != 0u {
                    moved = covariance_of(group, position, lags[i]);
                }
                covariance[i] = moved;
                best[r] = max(best[r], moved * bitcast<f32>(bits));
            }
        }
    }
    return Walked(covariance, best);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn compare(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let tile = index % params.tiles;
    let block = index / params.tiles % params.blocks;
    let group = params.group_first + index / params.tiles / params.blocks;
    if group >= params.group_end {
        return;
    }
    let first_row = min(starts[group] + params.segment_start, starts[group + 1u]);
    let all_rows = min(starts[group + 1u] - first_row, params.segment_rows);
    let block_first = block * params.block_rows;
    if block_first >= all_rows {
        return;
    }
    let rows = min(all_rows - block_first, params.block_rows);
    let one_block = all_rows <= params.block_rows;
    let first = params.pad + params.ring + block_first;                  // position of the first row
    let end = first + rows;
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    let covariances = slot + HEADER_WORDS + RINGS * params.ring;

    // A lane beyond the history reads what the first one does.
    let wanted = params.exclusion + 1u + tile * TILE + lane * LAGS;
    let is_there = wanted <= params.history;
    let nearest = select(params.exclusion + 1u, wanted, is_there);
    let lags = nearest + vec4<u32>(3u, 2u, 1u, 0u);
    let counts = vec4<bool>(is_there) & (lags <= vec4<u32>(params.history));

    var covariance = vec4<f32>(0.0);
    if one_block {
        for (var i = 0u; i < LAGS; i++) {
            if counts[i] {
                covariance[i] = bitcast<f32>(page[covariances + lags[i]]);
            }
        }
    } else {
        // Of the windows before the first row.
        let high = start_of(HIGH, group) + first - 1u;
        let low = start_of(LOW, group) + first - 1u;
        for (var k = lane; k < params.window; k += WORKGROUP_SIZE) {
            reduced[k / 4u][k % 4u] = between(high, high - k, low, low - k);
        }
        workgroupBarrier();
        var sum = 0.0;
        for (var k = 0u; k < params.window; k++) {
            sum += reduced[k / 4u][k % 4u];
        }
        let offset = sum / f32(params.window);
        // The windows of the four lags overlap but for three values; all are seen from one that is in each of them.
        let from_high = high - nearest - 3u;
        let from_low = low - nearest - 3u;
        var then = vec4<f32>(
            0.0,
            between(from_high, from_high + 1u, from_low, from_low + 1u),
            between(from_high, from_high + 2u, from_low, from_low + 2u),
            between(from_high, from_high + 3u, from_low, from_low + 3u),
        );
        for (var k = 0u; k < params.window; k++) {
            covariance += (reduced[k / 4u][k % 4u] - offset) * then;
            then = vec4<f32>(between(from_high, from_high - 1u - k, from_low, from_low - 1u - k), then.xyz);
        }
    }

    let df_start = start_of(DF, group);
    let dg_start = start_of(DG, group);
    let inverse_start = start_of(INVERSE, group);
    // Words of quarters: the columns of the four lags and the first row.
    let column = first - nearest - 3u;
    var df_word = (df_start + column) / 4u;
    var dg_word = (dg_start + column) / 4u;
    var inverse_word = (inverse_start + column) / 4u;
    var df = quarters[df_word];
    var dg = quarters[dg_word];
    var inverse = quarters[inverse_word];
    let steps = (rows + 3u) / 4u;
    for (var staged = 0u; staged < steps; staged += STAGED) {
        workgroupBarrier();
        let mine = staged + lane;
        var four_df = vec4<f32>(0.0);
        var four_dg = vec4<f32>(0.0);
        var marks = 0u;
        for (var r = 0u; r < 4u; r++) {
            let position = first + mine * 4u + r;
            // Rows that are not there change nothing.
            if position < end {
                four_df[r] = straight[df_start + position];
                four_dg[r] = straight[dg_start + position];
                marks |= bitcast<u32>(straight[inverse_start + position]);
            }
        }
        row_df[lane] = four_df;
        row_dg[lane] = four_dg;
        row_marks[lane] = marks & RENEWED;
        workgroupBarrier();
        let staged_steps = min(steps - staged, STAGED);
        for (var step = 0u; step < staged_steps; step += REDUCED) {
            let taken = min(staged_steps - step, REDUCED);
            for (var s = 0u; s < taken; s++) {
                df_word += 1u;
                dg_word += 1u;
                inverse_word += 1u;
                let next_df = quarters[df_word];
                let next_dg = quarters[dg_word];
                let next_inverse = quarters[inverse_word];
                let now_df = row_df[step + s];
                let now_dg = row_dg[step + s];
                let bits = bitcast<vec4<u32>>(inverse) | bitcast<vec4<u32>>(next_inverse);
                var four: vec4<f32>;
                if (((bits.x | bits.y | bits.z | bits.w) & NO_WINDOW) | row_marks[step + s]) != 0u {
                    let walked = walk(group, first + (staged + step + s) * 4u, end, lags, counts, covariance);
                    covariance = walked.covariance;
                    four = walked.best;
                } else {
                    covariance += now_df.x * dg + df * now_dg.x;
                    let first_best = select(vec4<f32>(LOWEST), covariance * inverse, counts);
                    covariance += now_df.y * vec4<f32>(dg.yzw, next_dg.x) + vec4<f32>(df.yzw, next_df.x) * now_dg.y;
                    let second_best = select(vec4<f32>(LOWEST), covariance * vec4<f32>(inverse.yzw, next_inverse.x), counts);
                    covariance += now_df.z * vec4<f32>(dg.zw, next_dg.xy) + vec4<f32>(df.zw, next_df.xy) * now_dg.z;
                    let third_best = select(vec4<f32>(LOWEST), covariance * vec4<f32>(inverse.zw, next_inverse.xy), counts);
                    covariance += now_df.w * vec4<f32>(dg.w, next_dg.xyz) + vec4<f32>(df.w, next_df.xyz) * now_dg.w;
                    let fourth_best = select(vec4<f32>(LOWEST), covariance * vec4<f32>(inverse.w, next_inverse.xyz), counts);
                    four = vec4<f32>(
                        max(max(first_best.x, first_best.y), max(first_best.z, first_best.w)),
                        max(max(second_best.x, second_best.y), max(second_best.z, second_best.w)),
                        max(max(third_best.x, third_best.y), max(third_best.z, third_best.w)),
                        max(max(fourth_best.x, fourth_best.y), max(fourth_best.z, fourth_best.w)),
                    );
                }
                reduced[s * WORKGROUP_SIZE + lane] = four;
                df = next_df;
                dg = next_dg;
                inverse = next_inverse;
            }
            workgroupBarrier();
            // Eight lanes for each step.
            let s = lane / 8u;
            if s < taken {
                var four = reduced[s * WORKGROUP_SIZE + lane % 8u];
                for (var i = 8u + lane % 8u; i < WORKGROUP_SIZE; i += 8u) {
                    four = max(four, reduced[s * WORKGROUP_SIZE + i]);
                }
                let row = (staged + step + s) * 4u;
                for (var r = 0u; r < 4u; r++) {
                    if four[r] > LOWEST {
                        atomicMax(&greatest[row + r], ordered(four[r]));
                    }
                }
            }
            workgroupBarrier();
        }
    }
    for (var row = lane; row < rows; row += WORKGROUP_SIZE) {
        let found = atomicLoad(&greatest[row]);
        if found != 0u {
            atomicMax(&best[first_row + block_first + row], found);
        }
    }

    // The covariances of the last row. Those that went on from the state are computed anew where it is their turn.
    if end == params.pad + params.ring + all_rows {
        let before = page[slot + COUNT];
        let count = select(before, before - COUNT_BACK, before >= COUNT_MAX) + 1u;
        for (var i = 0u; i < LAGS; i++) {
            if counts[i] {
                let slice = (lags[i] - 1u) / params.slice_lags;
                let turn = (slice + params.slices - count % params.slices) % params.slices < rows;
                let has_window = bitcast<u32>(straight[inverse_start + end - 1u - lags[i]]) != NO_WINDOW;
                if one_block && turn && has_window {
                    covariance[i] = covariance_of(group, end - 1u, lags[i]);
                }
                page[covariances + lags[i]] = bitcast<u32>(covariance[i]);
            }
        }
    }
}
