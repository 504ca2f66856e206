// Many pattern automata over packed predicate bits: one invocation for each (pattern, chunk of a key's rows), the state resident.
//
// Row r enters state j when the row's bits satisfy condition j and the row before entered a state of before[j], or j may start.
// A row at which an accepting state is entered is a match. With a bound in time a state is an age instead of a bit.
//
// A key with many rows is cut into chunks where its pattern is a small deterministic automaton: `compose` makes of each chunk the map
// from the set before it to the set after it (16 nibbles), `carry` walks over the maps of a key, and `step` then walks the rows of all
// chunks side by side. Elsewhere a key is one chunk, and only `step` runs.
// Twin: cpu.rs. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const AGE_NEVER: u32 = 0x7fffffffu;       // = pattern_step::AGE_NEVER
const STATES_MAX: u32 = 32u;              // = pattern_step::STATES_MAX
const CHUNK_WORDS: u32 = 8u;              // = gpu::CHUNK_WORDS
const CARRY_WORDS: u32 = 3u;              // = gpu::CARRY_WORDS
const HEADER_WORDS: u32 = 12u;            // = gpu::HEADER_WORDS
const FLAG_FIRST: u32 = 1u;               // = gpu::FLAG_FIRST: the first chunk of its key
const FLAG_LAST: u32 = 2u;                // = gpu::FLAG_LAST

struct Params {
    chunk_first: u32,      // the dispatch's chunks are those of one page
    chunk_count: u32,
    pattern_first: u32,    // and its patterns those that are, or are not, cut into chunks
    pattern_count: u32,
    predicate_stride: u32, // words from one predicate's bitmap to the next one's
    match_stride: u32,
    counts_at: u32,        // where in `matches` the counts begin
    slots_per_page: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> chunks: array<u32>;               // [chunk][CHUNK_WORDS]: slot, first row, end, flags, times
@group(0) @binding(2) var<storage, read> bits: array<u32>;                 // [predicate][predicate_stride]
@group(0) @binding(3) var<storage, read> patterns: array<u32>;             // [pattern][HEADER_WORDS], then what they point at
@group(0) @binding(4) var<storage, read> elapsed: array<u32>;              // [row], from the row before; of a key's first row unused
@group(0) @binding(5) var<storage, read_write> state: array<u32>;          // [word][slot] of one page
@group(0) @binding(6) var<storage, read_write> matches: array<atomic<u32>>; // [pattern][match_stride], then [pattern] counts
@group(0) @binding(7) var<storage, read_write> carried: array<u32>;        // [pattern][chunk][CARRY_WORDS]: map, set before the chunk

struct Work {
    pattern: u32,  // of all patterns
    header: u32,   // where its header is
    chunk: u32,    // of all chunks
    at: u32,       // where its words are
    carry: u32,    // where its carry is
    there: bool,
}

fn work_of(invocation: u32) -> Work {
    var work: Work;
    work.there = invocation < params.chunk_count * params.pattern_count;
    let pattern = invocation / max(params.chunk_count, 1u);
    work.pattern = params.pattern_first + pattern;
    work.header = work.pattern * HEADER_WORDS;
    work.chunk = params.chunk_first + invocation % max(params.chunk_count, 1u);
    work.at = work.chunk * CHUNK_WORDS;
    work.carry = invocation * CARRY_WORDS;
    return work;
}

// Whether condition `condition` (mask, value, before) holds, for 32 rows from `row` on.
fn condition_word(condition: u32, row: u32) -> u32 {
    var mask = patterns[condition];
    let value = patterns[condition + 1u];
    var held = 0xffffffffu;
    loop {
        if mask == 0u { break; }
        let predicate = firstTrailingBit(mask);
        mask &= mask - 1u;
        let word = predicate_word(predicate, row);
        held &= select(~word, word, bit_of(value, predicate));
    }
    return held;
}

// 32 bits of a predicate's bitmap from `row` on; bitmaps are padded.
fn predicate_word(predicate: u32, row: u32) -> u32 {
    let at = predicate * params.predicate_stride + row / 32u;
    let shift = row % 32u;
    return (bits[at] >> shift) | ((bits[at + 1u] << (31u - shift)) << 1u);
}

// Sets up to 32 bits of a pattern's matches from `row` on.
fn set_matches(pattern: u32, row: u32, hits: u32) {
    let at = pattern * params.match_stride + row / 32u;
    let shift = row % 32u;
    let low = hits << shift;
    let high = (hits >> (31u - shift)) >> 1u;
    if low != 0u { atomicOr(&matches[at], low); }
    if high != 0u { atomicOr(&matches[at + 1u], high); }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn step(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let work = work_of(linear_invocation(workgroup, grid, local, WORKGROUP_SIZE));
    if !work.there { return; }
    let first_word = patterns[work.header];
    let state_count = patterns[work.header + 1u];
    let start = patterns[work.header + 2u];
    let accept = patterns[work.header + 3u];
    let skip = patterns[work.header + 4u] != 0u;
    let bounded = patterns[work.header + 5u] != 0u;
    let within = patterns[work.header + 6u];
    let conditions = patterns[work.header + 7u];
    let sets = patterns[work.header + 10u];
    let slot = chunks[work.at];
    let first_row = chunks[work.at + 1u];
    let end_row = chunks[work.at + 2u];
    let flags = chunks[work.at + 3u];
    let alone = (flags & (FLAG_FIRST | FLAG_LAST)) == (FLAG_FIRST | FLAG_LAST);

    var held: array<u32, 32>;   // [state], for 32 rows
    var before: array<u32, 32>; // [state]
    var now: array<u32, 32>;    // [state], ages
    var next: array<u32, 32>;
    for (var j = 0u; j < state_count; j++) {
        before[j] = patterns[conditions + 3u * j + 2u];
        if bounded { now[j] = state[(first_word + j) * params.slots_per_page + slot]; }
    }
    var entered = 0u;
    if !bounded {
        if alone {
            entered = state[first_word * params.slots_per_page + slot];
        } else {
            entered = patterns[sets + carried[work.carry + 2u]];
        }
    }
    var passed = 0u;
    if bounded {
        // The time since the key's last row of an earlier step, cut to 0..=AGE_NEVER.
        let last = vec2<u32>(state[slot], state[params.slots_per_page + slot]);
        let time = vec2<u32>(chunks[work.at + 4u], chunks[work.at + 5u]);
        if less_i64(last, time) {
            let gap = sub64(time, last);
            passed = select(AGE_NEVER, gap.x, gap.y == 0u && gap.x < AGE_NEVER);
        }
    }

    var count = 0u;
    for (var row = first_row; row < end_row; row += 32u) {
        for (var j = 0u; j < state_count; j++) {
            held[j] = condition_word(conditions + 3u * j, row);
        }
        let rows = min(end_row - row, 32u);
        var hits = 0u;
        for (var r = 0u; r < rows; r++) {
            var hit = false;
            if bounded {
                if row + r != first_row { passed = elapsed[row + r]; }
                for (var j = 0u; j < state_count; j++) {
                    let age = now[j] + passed;
                    now[j] = select(age, AGE_NEVER, age > within);
                }
                for (var j = 0u; j < state_count; j++) {
                    var youngest = AGE_NEVER;
                    if bit_of(held[j], r) {
                        youngest = select(AGE_NEVER, 0u, bit_of(start, j));
                        var others = before[j];
                        loop {
                            if others == 0u { break; }
                            youngest = min(youngest, now[firstTrailingBit(others)]);
                            others &= others - 1u;
                        }
                        hit = hit || (bit_of(accept, j) && youngest < AGE_NEVER);
                    }
                    next[j] = youngest;
                }
                let given_up = hit && skip;
                for (var j = 0u; j < state_count; j++) {
                    now[j] = select(next[j], AGE_NEVER, given_up);
                }
            } else {
                var after = 0u;
                for (var j = 0u; j < state_count; j++) {
                    let reached = bit_of(start, j) || (before[j] & entered) != 0u;
                    after |= select(0u, 1u << j, reached && bit_of(held[j], r));
                }
                hit = (after & accept) != 0u;
                entered = select(after, 0u, hit && skip);
            }
            hits |= select(0u, 1u << r, hit);
        }
        if hits != 0u {
            set_matches(work.pattern, row, hits);
            count += countOneBits(hits);
        }
    }
    if count != 0u { atomicAdd(&matches[params.counts_at + work.pattern], count); }
    if bounded {
        for (var j = 0u; j < state_count; j++) {
            state[(first_word + j) * params.slots_per_page + slot] = now[j];
        }
    } else if (flags & FLAG_LAST) != 0u {
        state[first_word * params.slots_per_page + slot] = entered;
    }
}

// The times of the keys' last rows, when no pattern reads those of before any more. One invocation for each chunk.
@compute @workgroup_size(WORKGROUP_SIZE)
fn settle(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_invocation(workgroup, grid, local, WORKGROUP_SIZE);
    if invocation >= params.chunk_count { return; }
    let at = (params.chunk_first + invocation) * CHUNK_WORDS;
    if (chunks[at + 3u] & FLAG_LAST) == 0u { return; }
    let slot = chunks[at];
    state[slot] = chunks[at + 6u];
    state[params.slots_per_page + slot] = chunks[at + 7u];
}

// The map of a chunk between sets of states.
@compute @workgroup_size(WORKGROUP_SIZE)
fn compose(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let work = work_of(linear_invocation(workgroup, grid, local, WORKGROUP_SIZE));
    if !work.there { return; }
    // Nobody asks what the last chunk of a key leads to.
    if (chunks[work.at + 3u] & FLAG_LAST) != 0u { return; }
    let predicate_count = patterns[work.header + 8u];
    let predicates = patterns[work.header + 9u];
    let set_count = patterns[work.header + 11u];
    let transitions = predicates + predicate_count; // [set][class]
    let end_row = chunks[work.at + 2u];
    var words: array<u32, 6>;
    var reached: array<u32, 16>;
    for (var which = 0u; which < set_count; which++) { reached[which] = which; }
    for (var row = chunks[work.at + 1u]; row < end_row; row += 32u) {
        for (var i = 0u; i < predicate_count; i++) {
            words[i] = predicate_word(patterns[predicates + i], row);
        }
        let rows = min(end_row - row, 32u);
        for (var r = 0u; r < rows; r++) {
            var kind = 0u;
            for (var i = 0u; i < predicate_count; i++) {
                kind |= ((words[i] >> r) & 1u) << i;
            }
            for (var which = 0u; which < set_count; which++) {
                reached[which] = patterns[transitions + (reached[which] << predicate_count) + kind];
            }
        }
    }
    var low = 0u;
    var high = 0u;
    for (var which = 0u; which < set_count; which++) {
        let nibble = reached[which] << (4u * (which % 8u));
        if which < 8u { low |= nibble; } else { high |= nibble; }
    }
    carried[work.carry] = low;
    carried[work.carry + 1u] = high;
}

// From the set before a key's first chunk to those before all of its chunks.
@compute @workgroup_size(WORKGROUP_SIZE)
fn carry(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let work = work_of(linear_invocation(workgroup, grid, local, WORKGROUP_SIZE));
    if !work.there { return; }
    let flags = chunks[work.at + 3u];
    if (flags & FLAG_FIRST) == 0u || (flags & FLAG_LAST) != 0u { return; }
    let sets = patterns[work.header + 10u];
    let set_count = patterns[work.header + 11u];
    let entered = state[patterns[work.header] * params.slots_per_page + chunks[work.at]];
    var which = 0u;
    for (var other = 0u; other < set_count; other++) {
        if patterns[sets + other] == entered { which = other; }
    }
    var at = work.at;
    var to = work.carry;
    loop {
        carried[to + 2u] = which;
        if (chunks[at + 3u] & FLAG_LAST) != 0u { break; }
        let map = select(carried[to], carried[to + 1u], which >= 8u);
        which = (map >> (4u * (which % 8u))) & 15u;
        at += CHUNK_WORDS;
        to += CARRY_WORDS;
    }
}
