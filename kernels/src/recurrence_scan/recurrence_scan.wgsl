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
// A team takes a tile of team * MEMBER_ROWS rows at a time, eight for each member. Each step is a map, and maps compose: a member makes
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
// Twin: cpu.rs, in f64. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const MEMBER_ROWS: u32 = 8u;              // = gpu::MEMBER_ROWS
const PITCH: u32 = 9u;                    // MEMBER_ROWS + 1: members read different banks
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
    member_rows: u32,      // MEMBER_ROWS
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
var<workgroup> row_values: array<f32, 576>;
var<workgroup> row_rests: array<f32, 576>;
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
        for (var i = 0u; i < min(params.state_sums, 2u); i++) {
            mean = f64_add(mean, select(state_f64(WORD_MEAN, slot), f64_negated(origin_of(at)), i == 0u));
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
    // Mean: (origin - base) + mean + rest. Then variance + rest, trend + rest.
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
        sum = f64_add(sum, added);
        if i >= 2u { set_state_f64(WORD_MEAN + 2u * (i - 2u), slot, sum); }
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

// The rows of a map of EWMA, as a sample.
struct Sample {
    left: f32,
    weight: f32,
    mean: vec2<f32>,
    variance: f32,
}

fn no_sample() -> Sample {
    return Sample(1.0, 0.0, vec2<f32>(0.0), 0.0);
}

fn merged(a: Sample, b: Sample) -> Sample {
    if a.weight == 0.0 { return b; }
    if b.weight == 0.0 { return a; }
    let kept = b.left * a.weight;
    let weight = kept + b.weight;
    let share = kept / weight;
    let distance = apart(a.mean, b.mean);
    // From the mean that is nearer: a distance has the digits of f32 only.
    let nearer = select(b.mean, a.mean, share > 0.5);
    let way = select(share, share - 1.0, share > 0.5) * distance;
    let mean = two_floats(nearer.x, way + nearer.y);
    let variance = b.variance + share * ((a.variance - b.variance) + (1.0 - share) * square(distance));
    return Sample(a.left * b.left, weight, mean, variance);
}

// What is known after the rows of a sample.
fn known_after(before: Known, sample: Sample) -> Known {
    var known = before;
    if sample.weight == 0.0 { return known; }
    let own_mean = vec2<f32>(known.mean, known.mean_rest);
    let distance = apart(sample.mean, own_mean);
    // From what is nearer, as in `merged`.
    let is_new = sample.left < 0.5;
    let nearer = select(own_mean, sample.mean, is_new);
    let way = select(sample.weight, -sample.left, is_new);
    let mean = two_floats(nearer.x, way * distance + nearer.y);
    let further = select(sample.left, -sample.weight, is_new);
    let nearer_variance = select(vec2<f32>(known.variance, known.variance_rest), vec2<f32>(sample.variance, 0.0), is_new);
    let to_variance = way * ((sample.variance - known.variance) + further * square(distance));
    let variance = two_floats(nearer_variance.x, to_variance + nearer_variance.y);
    known.mean = mean.x;
    known.mean_rest = mean.y;
    known.variance = max(variance.x, 0.0);
    known.variance_rest = variance.y;
    return known;
}

// A scan leaves here which half of the arrays it has written last.
fn put_sample(lane: u32, sample: Sample) {
    scan_a[lane] = vec4<f32>(sample.left, sample.weight, sample.mean);
    scan_b[lane] = vec2<f32>(sample.variance, 0.0);
}

fn sample_at(lane: u32) -> Sample {
    let a = scan_a[lane];
    return Sample(a.x, a.y, a.zw, scan_b[lane].x);
}

// Scans over the samples of `size` lanes; returns where the first lane's result is, the others following.
fn scan_samples(own: Sample, local: u32, size: u32) -> u32 {
    let member = local % size;
    var turn = 0u;
    var sample = own;
    workgroupBarrier();
    put_sample(local, sample);
    for (var step = 1u; step < size; step *= 2u) {
        workgroupBarrier();
        if member >= step { sample = merged(sample_at(turn + local - step), sample); }
        turn = WORKGROUP_SIZE - turn;
        put_sample(turn + local, sample);
    }
    workgroupBarrier();
    return turn + local - member;
}

// Of Holt: level (relative to `leaving`) and trend after, of level (relative to `entering`) and trend before.
struct Affine {
    matrix: vec4<f32>,    // level of level, level of trend, trend of level, trend of trend
    added: vec2<f32>,
}

fn no_change() -> Affine {
    return Affine(vec4<f32>(1.0, 0.0, 0.0, 1.0), vec2<f32>(0.0));
}

fn applied(map: Affine, x: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(dot(map.matrix.xy, x), dot(map.matrix.zw, x)) + map.added;
}

// `shift` is from what the first one's level is relative to, to what the second one's is.
fn composed(first: Affine, second: Affine, shift: f32) -> Affine {
    let matrix = vec4<f32>(
        dot(second.matrix.xy, first.matrix.xz),
        dot(second.matrix.xy, first.matrix.yw),
        dot(second.matrix.zw, first.matrix.xz),
        dot(second.matrix.zw, first.matrix.yw),
    );
    return Affine(matrix, applied(second, first.added + vec2<f32>(shift, 0.0)));
}

// The same over affine maps. `entering` and `leaving` are set before.
fn scan_affine(own: Affine, local: u32, size: u32) -> u32 {
    let member = local % size;
    var turn = 0u;
    var map = own;
    workgroupBarrier();
    scan_a[local] = map.matrix;
    scan_b[local] = map.added;
    for (var step = 1u; step < size; step *= 2u) {
        workgroupBarrier();
        if member >= step {
            let first = turn + local - step;
            let shift = apart(leaving[local - step], entering[local - step + 1u]);
            map = composed(Affine(scan_a[first], scan_b[first]), map, shift);
        }
        turn = WORKGROUP_SIZE - turn;
        scan_a[turn + local] = map.matrix;
        scan_b[turn + local] = map.added;
    }
    workgroupBarrier();
    return turn + local - member;
}

// Of Holt's variance: (left, weight, added). Of CUSUM's sums: (least, least, moved, moved) of both.
fn residuals_composed(first: vec4<f32>, second: vec4<f32>) -> vec4<f32> {
    if RECURRENCE == HOLT {
        let added = left_of(first.z, second.x, second.y) + second.z;
        return vec4<f32>(first.x * second.x, second.y + left_of(first.y, second.x, second.y), added, 0.0);
    }
    return vec4<f32>(max(second.xy, first.xy + second.zw), first.zw + second.zw);
}

fn no_residuals() -> vec4<f32> {
    if RECURRENCE == HOLT { return vec4<f32>(1.0, 0.0, 0.0, 0.0); }
    return vec4<f32>(NEVER, NEVER, 0.0, 0.0);
}

fn known_after_residuals(before: Known, map: vec4<f32>) -> Known {
    var known = before;
    if RECURRENCE == HOLT {
        let change = select(-map.y * known.variance, (map.x - 1.0) * known.variance, map.x < 0.5);
        let variance = two_floats(known.variance, change + map.z + left_of(known.variance_rest, map.x, map.y));
        known.variance = max(variance.x, 0.0);
        known.variance_rest = variance.y;
    } else {
        known.rise = max(map.x, known.rise + map.z);
        known.fall = max(map.y, known.fall + map.w);
    }
    return known;
}

fn scan_residuals(own: vec4<f32>, local: u32, size: u32) -> u32 {
    let member = local % size;
    var turn = 0u;
    var map = own;
    workgroupBarrier();
    scan_a[local] = map;
    for (var step = 1u; step < size; step *= 2u) {
        workgroupBarrier();
        if member >= step { map = residuals_composed(scan_a[turn + local - step], map); }
        turn = WORKGROUP_SIZE - turn;
        scan_a[turn + local] = map;
    }
    workgroupBarrier();
    return turn + local - member;
}

// Puts a tile's rows where their members find them; behind the last one are rows without a value.
fn read_tile(first: u32, end: u32, local: u32) {
    let member = local % params.team;
    let lane = local - member;
    let last = max(end, 1u) - 1u;
    let v0 = values[min(first + member, last)];
    let v1 = values[min(first + member + params.team, last)];
    let v2 = values[min(first + member + 2u * params.team, last)];
    let v3 = values[min(first + member + 3u * params.team, last)];
    let v4 = values[min(first + member + 4u * params.team, last)];
    let v5 = values[min(first + member + 5u * params.team, last)];
    let v6 = values[min(first + member + 6u * params.team, last)];
    let v7 = values[min(first + member + 7u * params.team, last)];
    put_row(lane, member, first, end, v0);
    put_row(lane, member + params.team, first, end, v1);
    put_row(lane, member + 2u * params.team, first, end, v2);
    put_row(lane, member + 3u * params.team, first, end, v3);
    put_row(lane, member + 4u * params.team, first, end, v4);
    put_row(lane, member + 5u * params.team, first, end, v5);
    put_row(lane, member + 6u * params.team, first, end, v6);
    put_row(lane, member + 7u * params.team, first, end, v7);
}

fn place_of(lane: u32, row: u32) -> u32 {
    return (lane + row / MEMBER_ROWS) * PITCH + row % MEMBER_ROWS;
}

fn put_row(lane: u32, row: u32, first: u32, end: u32, value: vec2<f32>) {
    let place = place_of(lane, row);
    row_values[place] = select(quiet_nan(params.zero), value.x, first + row < end);
    row_rests[place] = value.y;
}

fn write_tile(first: u32, end: u32, local: u32) {
    let member = local % params.team;
    let lane = local - member;
    for (var row = member; row < MEMBER_ROWS * params.team; row += params.team) {
        if first + row < end { scores[first + row] = row_values[place_of(lane, row)]; }
    }
}

// How many rows with a value are before the member's in the tile, and in the whole tile.
fn counts_before(first: u32, end: u32, local: u32) -> vec2<u32> {
    let member = local % params.team;
    let rows = min(end - min(first, end), MEMBER_ROWS * params.team);
    if params.has_missing == 0u { return vec2<u32>(min(member * MEMBER_ROWS, rows), rows); }
    var count = 0u;
    for (var i = 0u; i < params.member_rows; i++) {
        count += select(1u, 0u, is_nan(row_values[local * PITCH + i]));
    }
    let own = count;
    var turn = 0u;
    scan_counts[local] = count;
    for (var step = 1u; step < params.team; step *= 2u) {
        workgroupBarrier();
        if member >= step { count += scan_counts[turn + local - step]; }
        turn = WORKGROUP_SIZE - turn;
        scan_counts[turn + local] = count;
    }
    workgroupBarrier();
    return vec2<u32>(count - own, scan_counts[turn + local - member + params.team - 1u]);
}

// A row's standardised residual as CUSUM adds it, without the drift.
fn limited(residual: f32, variance: f32) -> f32 {
    let z = residual * inverseSqrt(variance + params.variance_floor);
    return clamp(z, -params.residual_limit, params.residual_limit);
}

fn walk(workgroup: u32, local: u32, purpose: u32) {
    let member = local % params.team;
    let own_rows = local * PITCH;
    let teams = WORKGROUP_SIZE / params.team;
    // All teams of the workgroup take as many tiles as the one with the most rows.
    var rows_most = 0u;
    for (var team = 0u; team < teams; team++) {
        let index = workgroup * teams + team;
        if index < params.piece_count {
            let at = (params.piece_first + index) * PIECE_WORDS;
            rows_most = max(rows_most, pieces[at + 2u] - pieces[at + 1u]);
        }
    }
    let index = workgroup * teams + local / params.team;
    let at = (params.piece_first + min(index, params.piece_count - 1u)) * PIECE_WORDS;
    let flags = pieces[at + 3u];
    let part = pieces[at + 7u];
    // Nobody asks what the last piece of a key leads to.
    let is_asked = index < params.piece_count && (purpose == TO_SCORE || (is_cut(flags) && (flags & FLAG_LAST) == 0u));
    var first = pieces[at + 1u];
    let end = select(first, pieces[at + 2u], is_asked);
    var known: Known;
    if is_asked {
        if purpose == TO_MAP {
            known.learnt = more_learnt(state[WORD_LEARNT * params.slots_per_page + pieces[at]], pieces[at + 4u]);
        } else {
            known = before_piece(at);
        }
    }
    var piece_sample = no_sample();
    var piece_affine = no_change();
    var piece_entering = vec2<f32>(0.0);
    var piece_leaving = vec2<f32>(0.0);
    var piece_residuals = no_residuals();

    for (var tile = 0u; tile < rows_most; tile += MEMBER_ROWS * params.team) {
        workgroupBarrier();
        read_tile(first, end, local);
        workgroupBarrier();
        let counts = counts_before(first, end, local);
        let learnt_before = more_learnt(known.learnt, counts.x);
        var residuals = no_residuals();
        var variance = 0.0;
        if RECURRENCE == HOLT {
            // The rows' map, in which they become relative to the first of them.
            var centre = vec2<f32>(known.mean, known.mean_rest);
            var level = vec3<f32>(1.0, 0.0, 0.0); // of the level before, of the trend before, constant
            var trend = vec3<f32>(0.0, 1.0, 0.0);
            var learnt = learnt_before;
            var is_first = true;
            for (var i = 0u; i < params.member_rows; i++) {
                let value = vec2<f32>(row_values[own_rows + i], row_rests[own_rows + i]);
                if is_nan(value.x) { continue; }
                if is_first { centre = value; }
                is_first = false;
                let centred = apart(value, centre);
                row_values[own_rows + i] = centred;
                let gains = holt_gains(learnt);
                let residual = vec3<f32>(0.0, 0.0, centred) - (level + trend);
                level = level + trend + gains.x * residual;
                trend = trend + gains.y * residual;
                learnt = more_learnt(learnt, 1u);
            }
            entering[local] = centre;
            leaving[local] = centre;
            let own = Affine(vec4<f32>(level.xy, trend.xy), vec2<f32>(level.z, trend.z));
            let results = scan_affine(own, local, params.team);
            let lane = local - member;
            let total = Affine(scan_a[results + params.team - 1u], scan_b[results + params.team - 1u]);
            let tile_entering = entering[lane];
            let tile_leaving = leaving[lane + params.team - 1u];
            if purpose == TO_MAP {
                if tile == 0u {
                    piece_affine = total;
                    piece_entering = tile_entering;
                } else {
                    piece_affine = composed(piece_affine, total, apart(piece_leaving, tile_entering));
                }
                piece_leaving = tile_leaving;
            } else {
                let start = vec2<f32>(apart(vec2<f32>(known.mean, known.mean_rest), tile_entering), known.trend + known.trend_rest);
                var before = start;
                if member > 0u {
                    before = applied(Affine(scan_a[results + member - 1u], scan_b[results + member - 1u]), start);
                    before.x += apart(leaving[local - 1u], centre);
                }
                // The residuals, and what they do to the variance.
                learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let centred = row_values[own_rows + i];
                    if is_nan(centred) { continue; }
                    let gains = holt_gains(learnt);
                    let residual = (centred - before.x) - before.y;
                    row_values[own_rows + i] = residual;
                    before = vec2<f32>(before.x + (before.y + gains.x * residual), before.y + gains.y * residual);
                    residuals.x *= 1.0 - gains.z;
                    residuals.y += gains.z * (1.0 - residuals.y);
                    residuals.z += gains.z * (square(residual) - residuals.z);
                    learnt = more_learnt(learnt, 1u);
                }
                let after = applied(total, start);
                let level_after = two_floats(tile_leaving.x, after.x + tile_leaving.y);
                let trend_after = two_floats(known.trend, (after.y - known.trend));
                if counts.y > 0u {
                    known.mean = level_after.x;
                    known.mean_rest = level_after.y;
                    known.trend = trend_after.x;
                    known.trend_rest = trend_after.y;
                }
            }
        } else {
            // The rows as a sample, in which they become relative to the first of them.
            var centre = vec2<f32>(0.0);
            var own = no_sample();
            var mean = 0.0;
            var learnt = learnt_before;
            for (var i = 0u; i < params.member_rows; i++) {
                let value = vec2<f32>(row_values[own_rows + i], row_rests[own_rows + i]);
                if is_nan(value.x) { continue; }
                if own.weight == 0.0 { centre = value; }
                let centred = apart(value, centre);
                row_values[own_rows + i] = centred;
                let gain = gain_of(learnt);
                let residual = centred - mean;
                own.left *= 1.0 - gain;
                own.weight += gain * (1.0 - own.weight);
                own.variance += gain * ((1.0 - gain) * square(residual) - own.variance);
                mean += gain * residual;
                learnt = more_learnt(learnt, 1u);
            }
            if own.weight != 0.0 {
                // Until here it was as if a mean at the centre had been before; that is taken out.
                let offset = mean / own.weight;
                own.mean = two_floats(centre.x, offset + centre.y);
                own.variance = max(own.variance / own.weight - own.left * square(offset), 0.0);
            }
            let results = scan_samples(own, local, params.team);
            let total = sample_at(results + params.team - 1u);
            if purpose == TO_MAP {
                piece_sample = merged(piece_sample, total);
            } else {
                var before = known;
                if member > 0u { before = known_after(known, sample_at(results + member - 1u)); }
                mean = apart(vec2<f32>(before.mean, before.mean_rest), centre);
                variance = before.variance + before.variance_rest;
                learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let centred = row_values[own_rows + i];
                    if is_nan(centred) { continue; }
                    let gain = gain_of(learnt);
                    let residual = centred - mean;
                    let is_trained = learnt >= params.min_training;
                    if RECURRENCE == CUSUM {
                        let z = limited(residual, variance);
                        row_values[own_rows + i] = z;
                        if is_trained {
                            let by = vec2<f32>(z, -z) - vec2<f32>(params.drift);
                            residuals = vec4<f32>(max(residuals.xy + by, vec2<f32>(0.0)), residuals.zw + by);
                        }
                    } else {
                        let score = abs(residual) * inverseSqrt(variance + params.variance_floor);
                        row_values[own_rows + i] = select(0.0, score, is_trained);
                    }
                    mean += gain * residual;
                    variance = max(variance + gain * ((1.0 - gain) * square(residual) - variance), 0.0);
                    learnt = more_learnt(learnt, 1u);
                }
                known = known_after(known, total);
            }
        }
        if RECURRENCE != 0u && purpose != TO_MAP {
            let results = scan_residuals(residuals, local, params.team);
            let total = scan_a[results + params.team - 1u];
            if purpose == TO_MAP_RESIDUALS {
                piece_residuals = residuals_composed(piece_residuals, total);
            } else {
                var before = known;
                if member > 0u { before = known_after_residuals(known, scan_a[results + member - 1u]); }
                var sums = vec2<f32>(before.rise, before.fall);
                variance = before.variance + before.variance_rest;
                var learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let residual = row_values[own_rows + i];
                    if is_nan(residual) { continue; }
                    var score: f32;
                    let is_trained = learnt >= params.min_training;
                    if RECURRENCE == HOLT {
                        score = abs(residual) * inverseSqrt(variance + params.variance_floor);
                        variance = max(variance + holt_gains(learnt).z * (square(residual) - variance), 0.0);
                    } else {
                        let by = vec2<f32>(residual, -residual) - vec2<f32>(params.drift);
                        if is_trained { sums = max(sums + by, vec2<f32>(0.0)); }
                        score = max(sums.x, sums.y);
                    }
                    row_values[own_rows + i] = select(0.0, score, is_trained);
                    learnt = more_learnt(learnt, 1u);
                }
            }
            known = known_after_residuals(known, total);
        }
        known.learnt = more_learnt(known.learnt, counts.y);
        if purpose == TO_SCORE {
            workgroupBarrier();
            write_tile(first, end, local);
        }
        first += MEMBER_ROWS * params.team;
    }

    if !is_asked || member != 0u { return; }
    if purpose == TO_SCORE {
        if (flags & FLAG_LAST) != 0u && (flags & FLAG_LEARNS) != 0u { store(at, known); }
    } else if purpose == TO_MAP_RESIDUALS {
        put_carry4(0u, part, piece_residuals);
    } else if RECURRENCE == HOLT {
        put_carry4(0u, part, piece_affine.matrix);
        put_carry4(4u, part, vec4<f32>(piece_affine.added, piece_entering));
        put_carry2(8u, part, piece_leaving);
    } else {
        put_carry4(0u, part, vec4<f32>(piece_sample.left, piece_sample.weight, piece_sample.mean));
        put_carry2(4u, part, vec2<f32>(piece_sample.variance, 0.0));
    }
}

fn put_carry2(word: u32, part: u32, x: vec2<f32>) {
    carried[carry_at(word, part)] = x.x;
    carried[carry_at(word + 1u, part)] = x.y;
}

fn put_carry4(word: u32, part: u32, x: vec4<f32>) {
    put_carry2(word, part, x.xy);
    put_carry2(word + 2u, part, x.zw);
}

fn carry2(word: u32, part: u32) -> vec2<f32> {
    return vec2<f32>(carried[carry_at(word, part)], carried[carry_at(word + 1u, part)]);
}

fn carry4(word: u32, part: u32) -> vec4<f32> {
    return vec4<f32>(carry2(word, part), carry2(word + 2u, part));
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

// What holds before each piece of a cut key, by the maps of those before it: a workgroup for each key, 64 pieces at a time.
@compute @workgroup_size(WORKGROUP_SIZE)
fn carry(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear >= params.cut_count { return; } // the whole workgroup
    let cut = cuts[params.cut_first + linear];
    let part_first = pieces[cut.x * PIECE_WORDS + 7u];
    var known = load(cut.x * PIECE_WORDS);
    let count = cut.y - cut.x;
    for (var done = 0u; done < count; done += WORKGROUP_SIZE) {
        let part = part_first + done + local;
        let is_piece = done + local < count;
        // The last piece has no map, and nobody asks for it.
        let has_map = done + local + 1u < count;
        var before = known;
        if RECURRENCE == HOLT {
            var own = no_change();
            var enters = vec2<f32>(known.mean, known.mean_rest);
            var leaves = enters;
            if has_map {
                let rest = carry4(4u, part);
                own = Affine(carry4(0u, part), rest.xy);
                enters = rest.zw;
                leaves = carry2(8u, part);
            }
            workgroupBarrier();
            entering[local] = enters;
            leaving[local] = leaves;
            let results = scan_affine(own, local, params.workgroup_size);
            let start = vec2<f32>(apart(vec2<f32>(known.mean, known.mean_rest), entering[0]), known.trend + known.trend_rest);
            if local > 0u {
                let after = applied(Affine(scan_a[results + local - 1u], scan_b[results + local - 1u]), start);
                let level = two_floats(leaving[local - 1u].x, after.x + leaving[local - 1u].y);
                before.mean = level.x;
                before.mean_rest = level.y;
                before.trend = after.y;
                before.trend_rest = 0.0;
            }
            let last = WORKGROUP_SIZE - 1u;
            let after = applied(Affine(scan_a[results + last], scan_b[results + last]), start);
            let level = two_floats(leaving[last].x, after.x + leaving[last].y);
            known.mean = level.x;
            known.mean_rest = level.y;
            known.trend = after.y;
            known.trend_rest = 0.0;
        } else {
            var own = no_sample();
            if has_map {
                let words = carry4(0u, part);
                own = Sample(words.x, words.y, words.zw, carried[carry_at(4u, part)]);
            }
            let results = scan_samples(own, local, params.workgroup_size);
            if local > 0u { before = known_after(known, sample_at(results + local - 1u)); }
            known = known_after(known, sample_at(results + WORKGROUP_SIZE - 1u));
        }
        if is_piece {
            let learnt = more_learnt(known.learnt, pieces[(cut.x + done + local) * PIECE_WORDS + 4u]);
            carried[carry_at(CARRY_LEARNT, part)] = bitcast<f32>(learnt);
            carried[carry_at(CARRY_MEAN, part)] = before.mean;
            carried[carry_at(CARRY_MEAN_REST, part)] = before.mean_rest;
            carried[carry_at(CARRY_TREND, part)] = before.trend + before.trend_rest;
            carried[carry_at(CARRY_VARIANCE, part)] = before.variance + before.variance_rest;
            carried[carry_at(CARRY_RISE, part)] = known.rise;
            carried[carry_at(CARRY_FALL, part)] = known.fall;
        }
    }
}

// Holt's variance, or CUSUM's sums, before each piece of a cut key.
@compute @workgroup_size(WORKGROUP_SIZE)
fn carry_residuals(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear >= params.cut_count { return; } // the whole workgroup
    let cut = cuts[params.cut_first + linear];
    let part_first = pieces[cut.x * PIECE_WORDS + 7u];
    var known = load(cut.x * PIECE_WORDS);
    let count = cut.y - cut.x;
    for (var done = 0u; done < count; done += WORKGROUP_SIZE) {
        let part = part_first + done + local;
        var own = no_residuals();
        if done + local + 1u < count { own = carry4(0u, part); }
        let results = scan_residuals(own, local, params.workgroup_size);
        var before = known;
        if local > 0u { before = known_after_residuals(known, scan_a[results + local - 1u]); }
        known = known_after_residuals(known, scan_a[results + WORKGROUP_SIZE - 1u]);
        if done + local < count {
            if RECURRENCE == HOLT {
                carried[carry_at(CARRY_VARIANCE, part)] = before.variance + before.variance_rest;
            } else {
                carried[carry_at(CARRY_RISE, part)] = before.rise;
                carried[carry_at(CARRY_FALL, part)] = before.fall;
            }
        }
    }
}
