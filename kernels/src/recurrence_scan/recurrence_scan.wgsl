// How far each row is from what its key's recurrence expects: a team of invocations for each key, the state resident.
//
//   EWMA:  residual = value - mean;  score = |residual| / sqrt(variance + floor);  then, with the row's gain g,
//          mean += g * residual;  variance += g * ((1 - g) * residual^2 - variance).
//   Holt:  residual = value - (level + trend);  level += trend + g * residual;  trend += h * residual;
//          variance += g' * (residual^2 - variance).
//   CUSUM: EWMA, and over z = residual / sqrt(variance + floor), cut at the limit:
//          rise = max(rise + z - drift, 0);  fall = max(fall - z - drift, 0);  score = max(rise, fall).
// Gains begin at those of a plain mean (or line) and fall to the constant ones. A value that is NaN is missing: it is not learnt.
//
// A team takes a tile of rows at a time, eight or sixteen for each member. Each step is a map, and maps compose: a member makes
// one map of its rows, the team scans over the maps, and then each member walks its own rows from what holds before them. What depends
// on residuals (Holt's variance, CUSUM's sums) is a second such scan within the tile. Rows are read and scores are written side by side,
// through workgroup memory, in which each member finds its own. So one dispatch, `score`, reads each row once.
//
// A key with very many rows is cut into pieces, so that it does not wait for itself: `summarise` makes one map of each piece, `carry` scans
// over the maps of a key, `score` walks the pieces side by side. Holt's variance and CUSUM's sums take a second round:
// `summarise_residuals`, `carry_residuals`.
//
// EWMA's map is a weighted sample: how much is left of what was before, and the weight, mean and variance of the rows, which merge as those
// of two samples do. Holt's is affine: (level, trend) before and after are A * before + b. Holt's variance after is left * before + added;
// each sum of CUSUM after is max(least, before + moved).
//
// Values are relative to the key's first one in the step (`origin`), the state to the key's first one of all (`base`); both are f64. Values
// come with what rounding takes from them, and means go from member to member with it; a member's own rows are relative to the first of
// them (its `centre`). So a level may change within a step by far more than what is scored, and a small gain does not drown.
// State in f64.wgsl, maps in maps.wgsl, the walk over rows in walk.wgsl, cut keys in carry.wgsl. Twin: cpu.rs, in f64. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const MEMBER_ROWS_MAX: u32 = 16u;         // = gpu::MEMBER_ROWS_MAX
const PITCH: u32 = 17u;                   // MEMBER_ROWS_MAX + 1: members read different banks
const PIECE_WORDS: u32 = 8u;              // = gpu::PIECE_WORDS
const FLAG_FIRST: u32 = 1u;               // = gpu::FLAG_FIRST: the first piece of its key
const FLAG_LAST: u32 = 2u;                // = gpu::FLAG_LAST
const FLAG_LEARNS: u32 = 4u;              // = gpu::FLAG_LEARNS: the key has a value in this step
const HOLT: u32 = 1u;                     // = gpu::HOLT
const CUSUM: u32 = 2u;                    // = gpu::CUSUM
const SQUARE_MAX: f32 = 3e38;             // = gpu::SQUARE_MAX: squares stay finite
const NEVER: f32 = -3e38;                 // = gpu::NEVER: less than any sum
// Words of the state, as in mod.rs.
const WORD_LEARNT: u32 = 0u;              // = word::LEARNT
const WORD_BASE: u32 = 1u;                // = word::BASE
const WORD_MEAN: u32 = 3u;                // = word::MEAN
const WORD_VARIANCE: u32 = 5u;            // = word::VARIANCE
const WORD_EXTRA: u32 = 7u;               // = word::EXTRA
// Words of a carry: the piece's map (first or second round), then what holds before the piece.
const CARRY_LEARNT: u32 = 10u;            // = gpu::CARRY_LEARNT
const CARRY_MEAN: u32 = 11u;              // CARRY_LEARNT + 1
const CARRY_MEAN_REST: u32 = 12u;         // CARRY_LEARNT + 2
const CARRY_TREND: u32 = 13u;             // CARRY_LEARNT + 3
const CARRY_VARIANCE: u32 = 14u;          // CARRY_LEARNT + 4
const CARRY_RISE: u32 = 15u;              // CARRY_LEARNT + 5
const CARRY_FALL: u32 = 16u;              // CARRY_LEARNT + 6
// What a walk over rows is for.
const TO_SCORE: u32 = 0u;
const TO_MAP: u32 = 1u;
const TO_MAP_RESIDUALS: u32 = 2u;

override RECURRENCE: u32;                 // 0: EWMA

struct Params {
    piece_first: u32,      // the dispatch's pieces are those of one page
    piece_count: u32,
    slots_per_page: u32,
    zero: u32,             // 0, which the compiler does not know
    min_training: u32,
    gain: f32,
    trend_gain: f32,
    variance_floor: f32,
    drift: f32,
    residual_limit: f32,
    steady_from: u32,      // from so many learnt rows on gains are constant
    has_missing: u32,      // 1: some rows of the step have no value
    part_count: u32,       // pieces of cut keys
    cut_first: u32,        // the page's cut keys
    cut_count: u32,
    // Bounds of loops that the compiler does not know, so that it does not write them out: the code is then many times longer, and a
    // workgroup runs each part of it once or twice, so most of its time would go into fetching instructions.
    team: u32,             // members of a team, a power of two, at most WORKGROUP_SIZE
    member_rows: u32,      // of a tile: 8 or 16
    member_shift: u32,     // 3 or 4
    workgroup_size: u32,   // WORKGROUP_SIZE
    state_sums: u32,       // additions that make the words of the state
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> pieces: array<u32>;        // [piece][PIECE_WORDS]: slot, first row, end, flags, values before, origin, part
@group(0) @binding(2) var<storage, read> values: array<vec2<f32>>;  // [row] (value, what rounding took from it), relative to the origin
@group(0) @binding(3) var<storage, read_write> state: array<u32>;   // [word][slot] of one page
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;  // [row]
@group(0) @binding(5) var<storage, read_write> carried: array<f32>; // [word][part]
@group(0) @binding(6) var<storage, read> cuts: array<vec2<u32>>;    // [cut key]: first piece, end

// [member][PITCH]: values of the tile's rows, then what is made of them; and what rounding took.
var<workgroup> row_values: array<f32, 1088>;
var<workgroup> row_rests: array<f32, 1088>;
// [turn][lane]: maps while they are scanned, written in turns into one half and the other.
var<workgroup> scan_a: array<vec4<f32>, 128>;
var<workgroup> scan_b: array<vec2<f32>, 128>;
var<workgroup> scan_counts: array<u32, 128>;
// Holt: what a lane's level is relative to before its rows, and after them.
var<workgroup> entering: array<vec2<f32>, 64>;
var<workgroup> leaving: array<vec2<f32>, 64>;

// What is known of a key, relative to its origin in this step.
struct Known {
    learnt: u32,
    mean: f32,          // or Holt's level
    mean_rest: f32,     // what rounding took from the mean
    variance: f32,
    variance_rest: f32,
    trend: f32,
    trend_rest: f32,
    rise: f32,
    fall: f32,
}

fn state_f64(word: u32, slot: u32) -> vec2<u32> {
    return vec2<u32>(state[word * params.slots_per_page + slot], state[(word + 1u) * params.slots_per_page + slot]);
}

fn set_state_f64(word: u32, slot: u32, value: vec2<u32>) {
    state[word * params.slots_per_page + slot] = value.x;
    state[(word + 1u) * params.slots_per_page + slot] = value.y;
}

fn origin_of(at: u32) -> vec2<u32> {
    return vec2<u32>(pieces[at + 5u], pieces[at + 6u]);
}

// The key's state before the step.
fn load(at: u32) -> Known {
    var known: Known;
    let slot = pieces[at];
    known.learnt = state[WORD_LEARNT * params.slots_per_page + slot];
    if known.learnt != 0u {
        // (base - origin) + mean: the level is gone before anything is rounded to f32.
        var mean = state_f64(WORD_BASE, slot);
        for (var i = 0u; i < min(params.state_sums, select(2u, 3u, RECURRENCE == HOLT)); i++) {
            var added = state_f64(WORD_MEAN, slot);
            if i == 0u { added = f64_negated(origin_of(at)); }
            // Holt's level is the forecast that is kept, less the trend.
            if i == 2u { added = f64_negated(state_f64(WORD_EXTRA, slot)); }
            mean = f64_add(mean, added);
        }
        let floats = f32s_of_f64(mean);
        known.mean = floats.x;
        known.mean_rest = floats.y;
    }
    let variance = f32s_of_f64(state_f64(WORD_VARIANCE, slot));
    known.variance = variance.x;
    known.variance_rest = variance.y;
    if RECURRENCE == HOLT {
        let trend = f32s_of_f64(state_f64(WORD_EXTRA, slot));
        known.trend = trend.x;
        known.trend_rest = trend.y;
    }
    if RECURRENCE == CUSUM {
        known.rise = bitcast<f32>(state[WORD_EXTRA * params.slots_per_page + slot]);
        known.fall = bitcast<f32>(state[(WORD_EXTRA + 1u) * params.slots_per_page + slot]);
    }
    return known;
}

// The key's state after the step, which has values of it.
fn store(at: u32, known: Known) {
    let slot = pieces[at];
    let learnt_at = WORD_LEARNT * params.slots_per_page + slot;
    let is_new = state[learnt_at] == 0u;
    if is_new { set_state_f64(WORD_BASE, slot, origin_of(at)); }
    // Mean: (origin - base) + mean + rest. Then variance + rest, trend + rest; Holt's forecast is level + trend.
    var sum = select(origin_of(at), vec2<u32>(0u, 0u), is_new);
    for (var i = 0u; i < params.state_sums; i++) {
        var added = select(f64_negated(state_f64(WORD_BASE, slot)), vec2<u32>(0u, 0u), is_new);
        if i == 1u { added = f64_of_f32(known.mean); }
        if i == 2u { added = f64_of_f32(known.mean_rest); }
        if i == 3u {
            sum = f64_of_f32(known.variance);
            added = f64_of_f32(known.variance_rest);
        }
        if i == 4u {
            sum = f64_of_f32(known.trend);
            added = f64_of_f32(known.trend_rest);
        }
        if i == 5u {
            sum = state_f64(WORD_MEAN, slot);
            added = state_f64(WORD_EXTRA, slot);
        }
        sum = f64_add(sum, added);
        if i >= 2u { set_state_f64(select(WORD_MEAN + 2u * (i - 2u), WORD_MEAN, i == 5u), slot, sum); }
    }
    state[learnt_at] = known.learnt;
    if RECURRENCE == CUSUM {
        state[WORD_EXTRA * params.slots_per_page + slot] = bitcast<u32>(known.rise);
        state[(WORD_EXTRA + 1u) * params.slots_per_page + slot] = bitcast<u32>(known.fall);
    }
}

fn is_cut(flags: u32) -> bool {
    return (flags & (FLAG_FIRST | FLAG_LAST)) != (FLAG_FIRST | FLAG_LAST);
}

fn more_learnt(learnt: u32, by: u32) -> u32 {
    let sum = learnt + by;
    return select(sum, 0xffffffffu, sum < learnt);
}

fn carry_at(word: u32, part: u32) -> u32 {
    return word * params.part_count + part;
}

// What is known before a piece: the state, or what `carry` and `carry_residuals` found.
fn before_piece(at: u32) -> Known {
    if !is_cut(pieces[at + 3u]) { return load(at); }
    let part = pieces[at + 7u];
    var known: Known;
    known.learnt = bitcast<u32>(carried[carry_at(CARRY_LEARNT, part)]);
    known.mean = carried[carry_at(CARRY_MEAN, part)];
    known.mean_rest = carried[carry_at(CARRY_MEAN_REST, part)];
    known.trend = carried[carry_at(CARRY_TREND, part)];
    known.variance = carried[carry_at(CARRY_VARIANCE, part)];
    known.rise = carried[carry_at(CARRY_RISE, part)];
    known.fall = carried[carry_at(CARRY_FALL, part)];
    return known;
}

fn gain_of(learnt: u32) -> f32 {
    if learnt >= params.steady_from { return params.gain; }
    return max(1.0 / (f32(learnt) + 1.0), params.gain);
}

// Holt's gains of level, trend and variance: those of a line through all rows first.
fn holt_gains(learnt: u32) -> vec3<f32> {
    if learnt >= params.steady_from { return vec3<f32>(params.gain, params.trend_gain, params.gain); }
    let n = f32(learnt);
    let reciprocal = 1.0 / ((n + 1.0) * (n + 2.0));
    let level = max(2.0 * (2.0 * n + 1.0) * reciprocal, params.gain);
    let trend = select(max(6.0 * reciprocal, params.trend_gain), 0.0, learnt == 0u);
    return vec3<f32>(level, trend, max(1.0 / max(n, 1.0), params.gain));
}

fn square(x: f32) -> f32 {
    return min(x * x, SQUARE_MAX);
}

fn apart(a: vec2<f32>, b: vec2<f32>) -> f32 {
    return (a.x - b.x) + (a.y - b.y);
}

// What is left of `x`, of which a share `weight` has been replaced: by the smaller of the two, which has all its digits.
fn left_of(x: f32, left: f32, weight: f32) -> f32 {
    return select(x - weight * x, left * x, left < 0.5);
}

fn two_floats(a: f32, b: f32) -> vec2<f32> {
    return two_sum(a, b, params.zero);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn score(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear * (WORKGROUP_SIZE / params.team) >= params.piece_count { return; } // the whole workgroup
    walk(linear, local, TO_SCORE);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn summarise(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear * (WORKGROUP_SIZE / params.team) >= params.piece_count { return; } // the whole workgroup
    walk(linear, local, TO_MAP);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn summarise_residuals(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear * (WORKGROUP_SIZE / params.team) >= params.piece_count { return; } // the whole workgroup
    walk(linear, local, TO_MAP_RESIDUALS);
}
