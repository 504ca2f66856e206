// How far each row is from what its key's recurrence expects: one invocation for each chunk of a key's rows, the state resident.
//
//   EWMA:  residual = value - mean;  score = |residual| / sqrt(variance + floor);  then, with the row's gain g,
//          mean += g * residual;  variance += g * ((1 - g) * residual^2 - variance).
//   Holt:  residual = value - (level + trend);  level += trend + g * residual;  trend += h * residual;
//          variance += g' * (residual^2 - variance).
//   CUSUM: EWMA, and over z = residual / sqrt(variance + floor), cut at the limit:
//          rise = max(rise + z - drift, 0);  fall = max(fall - z - drift, 0);  score = max(rise, fall).
// Gains begin at those of a plain mean (or line) and fall to the constant ones. A value that is NaN is missing: it is not learnt.
//
// A key is cut into chunks, and each step is a map that composes. `summarise` makes one map of each chunk, `carry` walks over the maps
// of a key, `score` walks the rows of all chunks side by side. What depends on residuals (Holt's variance, CUSUM's sums) is a second
// round: `summarise_residuals`, `carry_residuals`. A key of one chunk needs only `score`.
//
// Values are relative to the key's first one in the step (`origin`), the state to the key's first one of all (`base`); both are f64. Values
// come with what rounding takes from them, and mean and variance are kept with it: a level may change within a step by far more than
// what is scored, and a small gain would drown otherwise. Holt's maps of chunks are without it.
// Twin: cpu.rs, in f64. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const CHUNK_WORDS: u32 = 8u;              // = gpu::CHUNK_WORDS
const CARRY_WORDS: u32 = 16u;             // = gpu::CARRY_WORDS
const FLAG_FIRST: u32 = 1u;               // = gpu::FLAG_FIRST: the first chunk of its key
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
// Words of a carry: the chunk's map (first or second round), then what holds before the chunk.
const CARRY_LEARNT: u32 = 8u;             // = gpu::CARRY_LEARNT
const CARRY_MEAN: u32 = 9u;               // = gpu::CARRY_MEAN
const CARRY_TREND: u32 = 10u;             // = gpu::CARRY_TREND
const CARRY_VARIANCE: u32 = 11u;          // = gpu::CARRY_VARIANCE
const CARRY_RISE: u32 = 12u;              // = gpu::CARRY_RISE
const CARRY_FALL: u32 = 13u;              // = gpu::CARRY_FALL
const CARRY_MEAN_REST: u32 = 14u;         // = gpu::CARRY_MEAN_REST

override RECURRENCE: u32;                 // 0: EWMA

struct Params {
    chunk_first: u32,      // the dispatch's chunks are those of one page
    chunk_count: u32,
    slots_per_page: u32,
    zero: u32,             // 0, which the compiler does not know
    min_training: u32,
    gain: f32,
    trend_gain: f32,
    variance_floor: f32,
    drift: f32,
    residual_limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> chunks: array<u32>;        // [chunk][CHUNK_WORDS]: slot, first row, end, flags, values before, origin
@group(0) @binding(2) var<storage, read> values: array<vec2<f32>>;  // [row] (value, what rounding took from it), relative to the origin
@group(0) @binding(3) var<storage, read_write> state: array<u32>;   // [word][slot] of one page
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;  // [row]
@group(0) @binding(5) var<storage, read_write> carried: array<f32>; // [chunk][CARRY_WORDS]

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
    return vec2<u32>(chunks[at + 5u], chunks[at + 6u]);
}

// The key's state before the step.
fn load(at: u32) -> Known {
    var known: Known;
    let slot = chunks[at];
    known.learnt = state[WORD_LEARNT * params.slots_per_page + slot];
    if known.learnt != 0u {
        // (base - origin) + mean: the level is gone before anything is rounded to f32.
        let to_origin = f64_add(state_f64(WORD_BASE, slot), f64_negated(origin_of(at)));
        let mean = f64_add(to_origin, state_f64(WORD_MEAN, slot));
        known.mean = f32_of_f64(mean);
        known.mean_rest = f32_of_f64(f64_add(mean, f64_negated(f64_of_f32(known.mean))));
    }
    let variance = state_f64(WORD_VARIANCE, slot);
    known.variance = f32_of_f64(variance);
    known.variance_rest = f32_of_f64(f64_add(variance, f64_negated(f64_of_f32(known.variance))));
    if RECURRENCE == HOLT {
        let trend = state_f64(WORD_EXTRA, slot);
        known.trend = f32_of_f64(trend);
        known.trend_rest = f32_of_f64(f64_add(trend, f64_negated(f64_of_f32(known.trend))));
    }
    if RECURRENCE == CUSUM {
        known.rise = bitcast<f32>(state[WORD_EXTRA * params.slots_per_page + slot]);
        known.fall = bitcast<f32>(state[(WORD_EXTRA + 1u) * params.slots_per_page + slot]);
    }
    return known;
}

// The key's state after the step, which has values of it.
fn store(at: u32, known: Known) {
    let slot = chunks[at];
    let learnt_at = WORD_LEARNT * params.slots_per_page + slot;
    let mean = f64_add(f64_of_f32(known.mean), f64_of_f32(known.mean_rest));
    if state[learnt_at] == 0u {
        set_state_f64(WORD_BASE, slot, origin_of(at));
        set_state_f64(WORD_MEAN, slot, mean);
    } else {
        let to_base = f64_add(origin_of(at), f64_negated(state_f64(WORD_BASE, slot)));
        set_state_f64(WORD_MEAN, slot, f64_add(to_base, mean));
    }
    state[learnt_at] = known.learnt;
    let variance = f64_add(f64_of_f32(known.variance), f64_of_f32(known.variance_rest));
    set_state_f64(WORD_VARIANCE, slot, variance);
    if RECURRENCE == HOLT {
        set_state_f64(WORD_EXTRA, slot, f64_add(f64_of_f32(known.trend), f64_of_f32(known.trend_rest)));
    }
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

// What is known before a chunk: the state, or what `carry` and `carry_residuals` found.
fn before_chunk(at: u32, carry: u32) -> Known {
    if !is_cut(chunks[at + 3u]) { return load(at); }
    var known: Known;
    known.learnt = bitcast<u32>(carried[carry + CARRY_LEARNT]);
    known.mean = carried[carry + CARRY_MEAN];
    known.mean_rest = carried[carry + CARRY_MEAN_REST];
    known.trend = carried[carry + CARRY_TREND];
    known.variance = carried[carry + CARRY_VARIANCE];
    known.rise = carried[carry + CARRY_RISE];
    known.fall = carried[carry + CARRY_FALL];
    return known;
}

fn gain_of(learnt: u32) -> f32 {
    return max(1.0 / (f32(learnt) + 1.0), params.gain);
}

// Holt's gains of level, trend and variance: those of a line through all rows first.
fn holt_gains(learnt: u32) -> vec3<f32> {
    let n = f32(learnt);
    let reciprocal = 1.0 / ((n + 1.0) * (n + 2.0));
    let level = max(2.0 * (2.0 * n + 1.0) * reciprocal, params.gain);
    let trend = select(max(6.0 * reciprocal, params.trend_gain), 0.0, learnt == 0u);
    return vec3<f32>(level, trend, max(1.0 / max(n, 1.0), params.gain));
}

fn square(x: f32) -> f32 {
    return min(x * x, SQUARE_MAX);
}

fn residual_of(known: Known, value: vec2<f32>) -> f32 {
    let rest = value.y - known.mean_rest;
    if RECURRENCE == HOLT {
        return ((value.x - known.mean) - known.trend) + (rest - known.trend_rest);
    }
    return (value.x - known.mean) + rest;
}

fn deviation_of(known: Known) -> f32 {
    return sqrt(known.variance + params.variance_floor);
}

// The row's standardised residual as CUSUM adds it, without the drift.
fn limited(residual: f32, known: Known) -> f32 {
    return clamp(residual / deviation_of(known), -params.residual_limit, params.residual_limit);
}

// Learns a row, CUSUM's sums apart.
fn learn(before: Known, residual: f32) -> Known {
    var known = before;
    var to_variance: f32;
    if RECURRENCE == HOLT {
        let gains = holt_gains(known.learnt);
        let level = two_sum(known.mean, (known.trend + gains.x * residual) + (known.mean_rest + known.trend_rest), params.zero);
        known.mean = level.x;
        known.mean_rest = level.y;
        let trend = two_sum(known.trend, gains.y * residual + known.trend_rest, params.zero);
        known.trend = trend.x;
        known.trend_rest = trend.y;
        to_variance = gains.z * (square(residual) - known.variance);
    } else {
        let gain = gain_of(known.learnt);
        let mean = two_sum(known.mean, gain * residual + known.mean_rest, params.zero);
        known.mean = mean.x;
        known.mean_rest = mean.y;
        to_variance = gain * ((1.0 - gain) * square(residual) - known.variance);
    }
    let variance = two_sum(known.variance, to_variance + known.variance_rest, params.zero);
    known.variance = max(variance.x, 0.0);
    known.variance_rest = variance.y;
    known.learnt = more_learnt(known.learnt, 1u);
    return known;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn score(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    let at = (params.chunk_first + invocation) * CHUNK_WORDS;
    let flags = chunks[at + 3u];
    var known = before_chunk(at, invocation * CARRY_WORDS);
    let end_row = chunks[at + 2u];
    for (var row = chunks[at + 1u]; row < end_row; row++) {
        let value = values[row];
        if is_nan(value.x) {
            scores[row] = quiet_nan(params.zero);
            continue;
        }
        let residual = residual_of(known, value);
        let trained = known.learnt >= params.min_training;
        var score = abs(residual) / deviation_of(known);
        if RECURRENCE == CUSUM {
            if trained {
                let z = limited(residual, known);
                known.rise = max(known.rise + (z - params.drift), 0.0);
                known.fall = max(known.fall + (-z - params.drift), 0.0);
            }
            score = max(known.rise, known.fall);
        }
        scores[row] = select(0.0, score, trained);
        known = learn(known, residual);
    }
    if (flags & FLAG_LAST) != 0u && (flags & FLAG_LEARNS) != 0u { store(at, known); }
}

// The map of a chunk. EWMA and CUSUM: weight left of what was before, and the chunk's own weight, mean and variance, which merge with
// those before as those of two samples do. Holt: (level, trend) before and after are A * before + b.
@compute @workgroup_size(WORKGROUP_SIZE)
fn summarise(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    let at = (params.chunk_first + invocation) * CHUNK_WORDS;
    let flags = chunks[at + 3u];
    if (flags & FLAG_LAST) != 0u { return; } // nobody asks what it leads to
    let carry = invocation * CARRY_WORDS;
    let end_row = chunks[at + 2u];
    var learnt = more_learnt(state[WORD_LEARNT * params.slots_per_page + chunks[at]], chunks[at + 4u]);
    if RECURRENCE == HOLT {
        var level = vec3<f32>(1.0, 0.0, 0.0); // of the level before, of the trend before, constant
        var trend = vec3<f32>(0.0, 1.0, 0.0);
        for (var row = chunks[at + 1u]; row < end_row; row++) {
            let value = values[row];
            if is_nan(value.x) { continue; }
            let gains = holt_gains(learnt);
            let residual = vec3<f32>(0.0, 0.0, value.x) - (level + trend);
            level = level + trend + gains.x * residual;
            trend = trend + gains.y * residual;
            learnt = more_learnt(learnt, 1u);
        }
        for (var i = 0u; i < 3u; i++) {
            carried[carry + i] = level[i];
            carried[carry + 3u + i] = trend[i];
        }
    } else {
        var left = 1.0;
        var weight = 0.0;
        var mean = vec2<f32>(0.0, 0.0);
        var variance = 0.0;
        for (var row = chunks[at + 1u]; row < end_row; row++) {
            let value = values[row];
            if is_nan(value.x) { continue; }
            let gain = gain_of(learnt);
            let keep = 1.0 - gain;
            left *= keep;
            weight = weight * keep + gain;
            let share = gain / weight;
            let residual = (value.x - mean.x) + (value.y - mean.y);
            mean = two_sum(mean.x, share * residual + mean.y, params.zero);
            variance += share * ((1.0 - share) * square(residual) - variance);
            learnt = more_learnt(learnt, 1u);
        }
        carried[carry] = left;
        carried[carry + 1u] = weight;
        carried[carry + 2u] = mean.x;
        carried[carry + 3u] = variance;
        carried[carry + 4u] = mean.y;
    }
}

// What holds before each chunk of a key, by the maps of those before it.
@compute @workgroup_size(WORKGROUP_SIZE)
fn carry(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    var at = (params.chunk_first + invocation) * CHUNK_WORDS;
    let flags = chunks[at + 3u];
    if (flags & FLAG_FIRST) == 0u || !is_cut(flags) { return; }
    var to = invocation * CARRY_WORDS;
    let known = load(at);
    var mean = vec2<f32>(known.mean, known.mean_rest);
    var trend = known.trend;
    var variance = known.variance;
    loop {
        carried[to + CARRY_LEARNT] = bitcast<f32>(more_learnt(known.learnt, chunks[at + 4u]));
        carried[to + CARRY_MEAN] = mean.x;
        carried[to + CARRY_MEAN_REST] = mean.y;
        carried[to + CARRY_TREND] = trend;
        carried[to + CARRY_VARIANCE] = variance;
        carried[to + CARRY_RISE] = known.rise;
        carried[to + CARRY_FALL] = known.fall;
        if (chunks[at + 3u] & FLAG_LAST) != 0u { break; }
        if RECURRENCE == HOLT {
            let before = vec3<f32>(mean.x + mean.y, trend, 1.0);
            mean = vec2<f32>(dot(vec3<f32>(carried[to], carried[to + 1u], carried[to + 2u]), before), 0.0);
            trend = dot(vec3<f32>(carried[to + 3u], carried[to + 4u], carried[to + 5u]), before);
        } else {
            let left = carried[to];
            let weight = carried[to + 1u];
            let apart = (carried[to + 2u] - mean.x) + (carried[to + 4u] - mean.y);
            variance = left * variance + weight * carried[to + 3u] + left * weight * square(apart);
            mean = two_sum(mean.x, weight * apart + mean.y, params.zero);
        }
        at += CHUNK_WORDS;
        to += CARRY_WORDS;
    }
}

// The map of a chunk's residuals. Holt: variance after is left * before + added. CUSUM: each sum after is max(least, before + added).
@compute @workgroup_size(WORKGROUP_SIZE)
fn summarise_residuals(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    let at = (params.chunk_first + invocation) * CHUNK_WORDS;
    if (chunks[at + 3u] & FLAG_LAST) != 0u { return; }
    let carry = invocation * CARRY_WORDS;
    let end_row = chunks[at + 2u];
    var known = before_chunk(at, carry);
    var left = 1.0;
    var added = 0.0;
    var least = vec2<f32>(NEVER, NEVER);
    var moved = vec2<f32>(0.0, 0.0);
    for (var row = chunks[at + 1u]; row < end_row; row++) {
        let value = values[row];
        if is_nan(value.x) { continue; }
        let residual = residual_of(known, value);
        if RECURRENCE == HOLT {
            let gain = holt_gains(known.learnt).z;
            left *= 1.0 - gain;
            added += gain * (square(residual) - added);
        } else if known.learnt >= params.min_training {
            let z = limited(residual, known);
            let by = vec2<f32>(z, -z) - vec2<f32>(params.drift);
            least = max(least + by, vec2<f32>(0.0));
            moved += by;
        }
        known = learn(known, residual);
    }
    if RECURRENCE == HOLT {
        carried[carry] = left;
        carried[carry + 1u] = added;
    } else {
        carried[carry] = least.x;
        carried[carry + 1u] = least.y;
        carried[carry + 2u] = moved.x;
        carried[carry + 3u] = moved.y;
    }
}

// Holt's variance, or CUSUM's sums, before each chunk of a key.
@compute @workgroup_size(WORKGROUP_SIZE)
fn carry_residuals(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    var at = (params.chunk_first + invocation) * CHUNK_WORDS;
    let flags = chunks[at + 3u];
    if (flags & FLAG_FIRST) == 0u || !is_cut(flags) { return; }
    var to = invocation * CARRY_WORDS;
    var variance = carried[to + CARRY_VARIANCE];
    var sums = vec2<f32>(carried[to + CARRY_RISE], carried[to + CARRY_FALL]);
    loop {
        if RECURRENCE == HOLT {
            carried[to + CARRY_VARIANCE] = variance;
            variance = carried[to] * variance + carried[to + 1u];
        } else {
            carried[to + CARRY_RISE] = sums.x;
            carried[to + CARRY_FALL] = sums.y;
            let least = vec2<f32>(carried[to], carried[to + 1u]);
            sums = max(least, sums + vec2<f32>(carried[to + 2u], carried[to + 3u]));
        }
        if (chunks[at + 3u] & FLAG_LAST) != 0u { break; }
        at += CHUNK_WORDS;
        to += CARRY_WORDS;
    }
}
