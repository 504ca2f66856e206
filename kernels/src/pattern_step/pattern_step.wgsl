// Many pattern automata over packed predicate bits: one invocation for each (pattern, chunk of a key's rows), the state resident. The
// invocations of a workgroup have one pattern, whose words all of them read.
//
// Row r enters state j when the row's bits satisfy condition j and the row before entered a state of before[j], or j may start.
// A row at which an accepting state is entered is a match. With a bound in time a state is an age instead of a bit.
//
// A pattern of up to four states is a few bits in registers (`narrow`): the states that may follow each of the 16 sets are nibbles of two
// words, conditions are turned from a word of 32 rows for each state to a nibble for each row, and a row is then a shift and an `and`.
// Larger patterns keep their conditions in workgroup memory (`wide`): arrays of one invocation would lie in memory that all others
// displace from the caches.
//
// Roofline: 14 instructions a row and narrow pattern, so 1 T rows * patterns a second on 132 multiprocessors at two instructions of 32
// lanes a cycle; matches of 64 patterns are 8 bytes a row, which a bus of 8 GB/s brings back at a sixteenth of that.
//
// A key with many rows is cut into chunks where its pattern is a small deterministic automaton: `compose` makes of each chunk the map
// from the set before it to the set after it (16 nibbles), `carry` goes over the maps of a key with a workgroup, and `step` then walks
// the rows of all chunks side by side. Elsewhere a key is one chunk, and only `step` runs.
// Twin: cpu.rs. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const AGE_NEVER: u32 = 0x7fffffffu;       // = pattern_step::AGE_NEVER
const STATES_MAX: u32 = 32u;              // = pattern_step::STATES_MAX
const NARROW_STATES_MAX: u32 = 4u;        // = gpu::NARROW_STATES_MAX
const CHUNK_WORDS: u32 = 8u;              // = gpu::CHUNK_WORDS
const CARRY_WORDS: u32 = 3u;              // = gpu::CARRY_WORDS
const CARRY_SIZE: u32 = 256u;             // invocations of `carry`
const SCRATCH_WORDS: u32 = 32u;           // of workgroup memory, for each invocation of the others
const HEADER_WORDS: u32 = 13u;            // = gpu::HEADER_WORDS
const CONDITION_WORDS: u32 = 4u;          // = gpu::CONDITION_WORDS: mask, value, the states before and those that follow
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
    runs_at: u32,          // where in `chunks` the keys that are cut are: first chunk, count of chunks
    run_count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> chunks: array<u32>;               // [chunk][CHUNK_WORDS]: slot, first row, end, flags, times; [run][2]
@group(0) @binding(2) var<storage, read> bits: array<u32>;                 // [predicate][predicate_stride]
@group(0) @binding(3) var<storage, read> patterns: array<u32>;             // [pattern][HEADER_WORDS], then what they point at
@group(0) @binding(4) var<storage, read> elapsed: array<u32>;              // [row], from the row before; of a key's first row unused
@group(0) @binding(5) var<storage, read_write> state: array<u32>;          // [word][slot] of one page
@group(0) @binding(6) var<storage, read_write> matches: array<atomic<u32>>; // [pattern][match_stride], then [pattern] counts
@group(0) @binding(7) var<storage, read_write> carried: array<u32>;        // [pattern][chunk][CARRY_WORDS]: map, set before the chunk

var<workgroup> held: array<u32, SCRATCH_WORDS * WORKGROUP_SIZE>;       // [state][invocation], for 32 rows; also other arrays
var<workgroup> follow: array<u32, STATES_MAX>;                           // [state] those that the next row may enter
var<workgroup> match_count: atomic<u32>;

struct Work {
    pattern: u32,  // of all patterns
    header: u32,   // where its header is
    chunk: u32,    // of all chunks
    at: u32,       // where its words are
    carry: u32,    // where its carry is
    there: bool,
}

// How many workgroups a pattern has.
fn blocks() -> u32 {
    return max((params.chunk_count + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE, 1u);
}

fn work_of(workgroup: u32, local: u32) -> Work {
    var work: Work;
    let pattern = workgroup / blocks();
    let chunk = workgroup % blocks() * WORKGROUP_SIZE + local;
    work.there = pattern < params.pattern_count && chunk < params.chunk_count;
    work.pattern = params.pattern_first + pattern;
    work.header = work.pattern * HEADER_WORDS;
    work.chunk = params.chunk_first + chunk;
    work.at = work.chunk * CHUNK_WORDS;
    work.carry = (pattern * params.chunk_count + chunk) * CARRY_WORDS;
    return work;
}

// Whether the predicates of `mask` are as in `value`, for 32 rows from `row` on.
fn condition_word(all: u32, value: u32, row: u32) -> u32 {
    var mask = all;
    var word = 0xffffffffu;
    loop {
        if mask == 0u { break; }
        let predicate = firstTrailingBit(mask);
        mask &= mask - 1u;
        let bits = predicate_word(predicate, row);
        word &= select(~bits, bits, bit_of(value, predicate));
    }
    return word;
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

// Eight bits to the lowest bits of eight nibbles, and back.
fn to_nibbles(bits: u32) -> u32 {
    let far = (bits | (bits << 12u)) & 0x000f000fu;
    let near = (far | (far << 6u)) & 0x03030303u;
    return (near | (near << 3u)) & 0x11111111u;
}

fn from_nibbles(nibbles: u32) -> u32 {
    let near = (nibbles | (nibbles >> 3u)) & 0x03030303u;
    let far = (near | (near >> 6u)) & 0x000f000fu;
    return (far | (far >> 12u)) & 0xffu;
}

// The set that a row enters, from the one before it and the conditions that hold.
fn entered_of(before: u32, conditions: u32, following: vec2<u32>) -> u32 {
    let word = select(following.x, following.y, before > 7u);
    return (word >> ((before & 7u) << 2u)) & conditions & 15u;
}

// For four walks at the same time.
fn entered_of_four(before: vec4<u32>, conditions: u32, following: vec2<u32>) -> vec4<u32> {
    let word = select(vec4<u32>(following.x), vec4<u32>(following.y), before > vec4<u32>(7u));
    return (word >> ((before & vec4<u32>(7u)) << vec4<u32>(2u))) & vec4<u32>(conditions & 15u);
}

// What a narrow pattern is in registers.
struct Narrow {
    masks: vec4<u32>,
    values: vec4<u32>,
    following: vec2<u32>,
}

fn narrow_of(header: u32) -> Narrow {
    let at = patterns[header + 7u];
    // There are four conditions; a state that is not there is never entered, whatever its own.
    return Narrow(
        vec4<u32>(patterns[at], patterns[at + 4u], patterns[at + 8u], patterns[at + 12u]),
        vec4<u32>(patterns[at + 1u], patterns[at + 5u], patterns[at + 9u], patterns[at + 13u]),
        vec2<u32>(patterns[header + 5u], patterns[header + 12u]),
    );
}

// The conditions of all states for 32 rows from `row` on.
fn condition_words(pattern: Narrow, row: u32) -> vec4<u32> {
    return vec4<u32>(
        condition_word(pattern.masks.x, pattern.values.x, row),
        condition_word(pattern.masks.y, pattern.values.y, row),
        condition_word(pattern.masks.z, pattern.values.z, row),
        condition_word(pattern.masks.w, pattern.values.w, row),
    );
}

// The conditions of eight rows from `shift` on, a nibble for each row.
fn octet(words: vec4<u32>, shift: u32) -> u32 {
    let octets = (words >> vec4<u32>(shift)) & vec4<u32>(0xffu);
    return to_nibbles(octets.x) | (to_nibbles(octets.y) << 1u) | (to_nibbles(octets.z) << 2u) | (to_nibbles(octets.w) << 3u);
}

// Matches of up to 32 rows; what belongs to the next word of the bitmap comes back.
fn put_matches(pattern: u32, row: u32, hits: u32, carried_over: u32) -> u32 {
    let shift = row % 32u;
    let word = (hits << shift) | carried_over;
    if word != 0u { atomicOr(&matches[pattern * params.match_stride + row / 32u], word); }
    return (hits >> (31u - shift)) >> 1u;
}

// Walks the rows of a chunk with a pattern of up to four states, from the set `before` on.
fn narrow(work: Work, first_row: u32, end_row: u32, before: u32) -> vec2<u32> {
    let accept = patterns[work.header + 3u] * 0x11111111u;
    let pattern = narrow_of(work.header);
    let following = pattern.following;
    var entered = before;
    var count = 0u;
    var over = 0u;
    for (var row = first_row; row < end_row; row += 32u) {
        let words = condition_words(pattern, row);
        let rows = min(end_row - row, 32u);
        var hits = 0u;
        var last = 0u;
        for (var shift = 0u; shift < 32u; shift += 8u) {
            let conditions = octet(words, shift);
            entered = entered_of(entered, conditions, following);
            var sets = entered;
            entered = entered_of(entered, conditions >> 4u, following);
            sets |= entered << 4u;
            entered = entered_of(entered, conditions >> 8u, following);
            sets |= entered << 8u;
            entered = entered_of(entered, conditions >> 12u, following);
            sets |= entered << 12u;
            entered = entered_of(entered, conditions >> 16u, following);
            sets |= entered << 16u;
            entered = entered_of(entered, conditions >> 20u, following);
            sets |= entered << 20u;
            entered = entered_of(entered, conditions >> 24u, following);
            sets |= entered << 24u;
            entered = entered_of(entered, conditions >> 28u, following);
            sets |= entered << 28u;
            // Rows behind the last one are of another key: what they entered is not used.
            if ((rows - 1u) & 24u) == shift { last = (sets >> (((rows - 1u) & 7u) << 2u)) & 15u; }
            var matched = sets & accept;
            matched |= matched >> 1u;
            matched |= matched >> 2u;
            hits |= from_nibbles(matched & 0x11111111u) << shift;
        }
        entered = last;
        hits &= low_bits(rows);
        over = put_matches(work.pattern, row, hits, over);
        count += countOneBits(hits);
    }
    if over != 0u { atomicOr(&matches[work.pattern * params.match_stride + (end_row - 1u) / 32u], over); }
    return vec2<u32>(entered, count);
}

// The same with any pattern. `follow` is filled.
fn wide(work: Work, local: u32, first_row: u32, end_row: u32, before: u32) -> vec2<u32> {
    let count_of_states = patterns[work.header + 1u];
    let start = patterns[work.header + 2u];
    let accept = patterns[work.header + 3u];
    let skip = patterns[work.header + 4u] != 0u;
    let at = patterns[work.header + 7u];
    var entered = before;
    var count = 0u;
    for (var row = first_row; row < end_row; row += 32u) {
        for (var j = 0u; j < count_of_states; j++) {
            let condition = at + CONDITION_WORDS * j;
            held[j * WORKGROUP_SIZE + local] = condition_word(patterns[condition], patterns[condition + 1u], row);
        }
        let rows = min(end_row - row, 32u);
        var hits = 0u;
        for (var r = 0u; r < rows; r++) {
            var reached = start;
            loop {
                if entered == 0u { break; }
                reached |= follow[firstTrailingBit(entered)];
                entered &= entered - 1u;
            }
            loop {
                if reached == 0u { break; }
                let j = firstTrailingBit(reached);
                reached &= reached - 1u;
                entered |= ((held[j * WORKGROUP_SIZE + local] >> r) & 1u) << j;
            }
            if (entered & accept) != 0u {
                hits |= 1u << r;
                if skip { entered = 0u; }
            }
        }
        if hits != 0u {
            set_matches(work.pattern, row, hits);
            count += countOneBits(hits);
        }
    }
    return vec2<u32>(entered, count);
}

// The matches of a workgroup, all of one pattern, are added up before all workgroups meet at one word.
fn add_matches(pattern: u32, local: u32, count: u32) {
    atomicAdd(&match_count, count);
    workgroupBarrier();
    if local == 0u {
        let all = atomicLoad(&match_count);
        if all != 0u { atomicAdd(&matches[params.counts_at + pattern], all); }
    }
}

// Patterns without a bound.
@compute @workgroup_size(WORKGROUP_SIZE)
fn step(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_workgroup(workgroup, grid);
    if index >= blocks() * params.pattern_count { return; }
    let work = work_of(index, local);
    let state_count = patterns[work.header + 1u];
    if local < state_count { follow[local] = patterns[patterns[work.header + 7u] + CONDITION_WORDS * local + 3u]; }
    if local == 0u { atomicStore(&match_count, 0u); }
    workgroupBarrier();
    var count = 0u;
    if work.there {
        let word = patterns[work.header] * params.slots_per_page + chunks[work.at];
        let first_row = chunks[work.at + 1u];
        let end_row = chunks[work.at + 2u];
        let flags = chunks[work.at + 3u];
        var before = 0u;
        if flags == (FLAG_FIRST | FLAG_LAST) {
            before = state[word];
        } else {
            before = patterns[patterns[work.header + 10u] + carried[work.carry + 2u]];
        }
        var found: vec2<u32>;
        if state_count <= NARROW_STATES_MAX {
            found = narrow(work, first_row, end_row, before);
            // The set of a match that skips is left by what follows it.
            if patterns[work.header + 4u] != 0u && (found.x & patterns[work.header + 3u]) != 0u { found.x = 0u; }
        } else {
            found = wide(work, local, first_row, end_row, before);
        }
        count = found.y;
        if (flags & FLAG_LAST) != 0u { state[word] = found.x; }
    }
    add_matches(work.pattern, local, count);
}

// Patterns with a bound in time: a state is the age of the partial match that started last.
@compute @workgroup_size(WORKGROUP_SIZE)
fn step_within(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let work = work_of(linear_workgroup(workgroup, grid), local);
    if !work.there { return; }
    let first_word = patterns[work.header];
    let state_count = patterns[work.header + 1u];
    let start = patterns[work.header + 2u];
    let accept = patterns[work.header + 3u];
    let skip = patterns[work.header + 4u] != 0u;
    let within = patterns[work.header + 6u];
    let conditions = patterns[work.header + 7u];
    let slot = chunks[work.at];
    let first_row = chunks[work.at + 1u];
    let end_row = chunks[work.at + 2u];

    var before: array<u32, 32>; // [state]
    var now: array<u32, 32>;    // [state], ages
    var next: array<u32, 32>;
    for (var j = 0u; j < state_count; j++) {
        before[j] = patterns[conditions + CONDITION_WORDS * j + 2u];
        now[j] = state[(first_word + j) * params.slots_per_page + slot];
    }
    // The time since the key's last row of an earlier step, cut to 0..=AGE_NEVER.
    var passed = 0u;
    let last = vec2<u32>(state[slot], state[params.slots_per_page + slot]);
    let time = vec2<u32>(chunks[work.at + 4u], chunks[work.at + 5u]);
    if less_i64(last, time) {
        let gap = sub64(time, last);
        passed = select(AGE_NEVER, gap.x, gap.y == 0u && gap.x < AGE_NEVER);
    }

    var count = 0u;
    for (var row = first_row; row < end_row; row += 32u) {
        for (var j = 0u; j < state_count; j++) {
            let condition = conditions + CONDITION_WORDS * j;
            held[j * WORKGROUP_SIZE + local] = condition_word(patterns[condition], patterns[condition + 1u], row);
        }
        let rows = min(end_row - row, 32u);
        var hits = 0u;
        for (var r = 0u; r < rows; r++) {
            var hit = false;
            if row + r != first_row { passed = elapsed[row + r]; }
            for (var j = 0u; j < state_count; j++) {
                let age = now[j] + passed;
                now[j] = select(age, AGE_NEVER, age > within);
            }
            for (var j = 0u; j < state_count; j++) {
                var youngest = AGE_NEVER;
                if bit_of(held[j * WORKGROUP_SIZE + local], r) {
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
            hits |= select(0u, 1u << r, hit);
        }
        if hits != 0u {
            set_matches(work.pattern, row, hits);
            count += countOneBits(hits);
        }
    }
    if count != 0u { atomicAdd(&matches[params.counts_at + work.pattern], count); }
    for (var j = 0u; j < state_count; j++) {
        state[(first_word + j) * params.slots_per_page + slot] = now[j];
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
    let work = work_of(linear_workgroup(workgroup, grid), local);
    if !work.there { return; }
    // Nobody asks what the last chunk of a key leads to.
    if (chunks[work.at + 3u] & FLAG_LAST) != 0u { return; }
    let set_count = patterns[work.header + 11u];
    var map: vec2<u32>;
    if patterns[work.header + 1u] <= NARROW_STATES_MAX {
        for (var first = 0u; first < set_count; first += 4u) {
            let part = compose_narrow(work, first, set_count);
            let nibbles = part << (4u * (first % 8u));
            if first < 8u { map.x |= nibbles; } else { map.y |= nibbles; }
        }
    } else {
        map = compose_wide(work, local, set_count);
    }
    carried[work.carry] = map.x;
    carried[work.carry + 1u] = map.y;
}

// Where the rows of a chunk lead from sets `first` to `first + 3`, as nibbles. All chunks but the last of a key end with a word.
fn compose_narrow(work: Work, first: u32, set_count: u32) -> u32 {
    let pattern = narrow_of(work.header);
    let sets = patterns[work.header + 10u];
    let last = set_count - 1u;
    let end_row = chunks[work.at + 2u];
    var entered = vec4<u32>(
        patterns[sets + min(first, last)],
        patterns[sets + min(first + 1u, last)],
        patterns[sets + min(first + 2u, last)],
        patterns[sets + min(first + 3u, last)],
    );
    for (var row = chunks[work.at + 1u]; row < end_row; row += 32u) {
        let words = condition_words(pattern, row);
        for (var shift = 0u; shift < 32u; shift += 8u) {
            let conditions = octet(words, shift);
            for (var r = 0u; r < 32u; r += 4u) {
                entered = entered_of_four(entered, conditions >> r, pattern.following);
            }
        }
    }
    if patterns[work.header + 4u] != 0u {
        let accept = vec4<u32>(patterns[work.header + 3u]);
        entered = select(vec4<u32>(0u), entered, (entered & accept) == vec4<u32>(0u));
    }
    var found = vec4<u32>(0u);
    for (var other = 0u; other < set_count; other++) {
        found = select(found, vec4<u32>(other), entered == vec4<u32>(patterns[sets + other]));
    }
    return found.x | (found.y << 4u) | (found.z << 8u) | (found.w << 12u);
}

fn compose_wide(work: Work, local: u32, set_count: u32) -> vec2<u32> {
    let predicate_count = patterns[work.header + 8u];
    let predicates = patterns[work.header + 9u];
    let transitions = predicates + predicate_count; // [set][class]
    let end_row = chunks[work.at + 2u];
    // In workgroup memory: where each set has led, and the words of the predicates.
    let reached = local;
    let words = 16u * WORKGROUP_SIZE + local;
    for (var which = 0u; which < set_count; which++) { held[reached + which * WORKGROUP_SIZE] = which; }
    for (var row = chunks[work.at + 1u]; row < end_row; row += 32u) {
        for (var i = 0u; i < predicate_count; i++) {
            held[words + i * WORKGROUP_SIZE] = predicate_word(patterns[predicates + i], row);
        }
        for (var r = 0u; r < 32u; r++) {
            var kind = 0u;
            for (var i = 0u; i < predicate_count; i++) {
                kind |= ((held[words + i * WORKGROUP_SIZE] >> r) & 1u) << i;
            }
            for (var which = 0u; which < set_count; which++) {
                let at = reached + which * WORKGROUP_SIZE;
                held[at] = patterns[transitions + (held[at] << predicate_count) + kind];
            }
        }
    }
    var map: vec2<u32>;
    for (var which = 0u; which < set_count; which++) {
        let nibble = held[reached + which * WORKGROUP_SIZE] << (4u * (which % 8u));
        if which < 8u { map.x |= nibble; } else { map.y |= nibble; }
    }
    return map;
}

// Where a map leads to.
fn mapped(map: vec2<u32>, which: u32) -> u32 {
    return (select(map.x, map.y, which >= 8u) >> (4u * (which % 8u))) & 15u;
}

// From the set before a key's first chunk to those before all of its chunks: one workgroup for each pattern and key that is cut. Each
// invocation composes the maps of a part of the chunks, and goes over them again when it knows what leads to them.
@compute @workgroup_size(CARRY_SIZE)
fn carry(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_workgroup(workgroup, grid);
    if index >= params.run_count * params.pattern_count { return; }
    let pattern = index / max(params.run_count, 1u);
    let run = params.runs_at + index % max(params.run_count, 1u) * 2u;
    let first = chunks[run];
    let count = chunks[run + 1u];
    let header = (params.pattern_first + pattern) * HEADER_WORDS;
    let sets = patterns[header + 10u];
    let set_count = patterns[header + 11u];
    let carry = (pattern * params.chunk_count + first - params.chunk_first) * CARRY_WORDS;
    let each = (count + CARRY_SIZE - 1u) / CARRY_SIZE;
    let begin = carry + min(local * each, count) * CARRY_WORDS;
    let end = carry + min((local + 1u) * each, count) * CARRY_WORDS;
    var map = vec2<u32>(0x76543210u, 0xfedcba98u);
    for (var at = begin; at < end; at += CARRY_WORDS) {
        let next = vec2<u32>(carried[at], carried[at + 1u]);
        var both: vec2<u32>;
        for (var which = 0u; which < set_count; which++) {
            let nibble = mapped(next, mapped(map, which)) << (4u * (which % 8u));
            if which < 8u { both.x |= nibble; } else { both.y |= nibble; }
        }
        map = both;
    }
    held[2u * local] = map.x;
    held[2u * local + 1u] = map.y;
    workgroupBarrier();
    let entered = state[patterns[header] * params.slots_per_page + chunks[first * CHUNK_WORDS]];
    var which = 0u;
    for (var other = 0u; other < set_count; other++) {
        if patterns[sets + other] == entered { which = other; }
    }
    for (var before = 0u; before < local; before++) {
        which = mapped(vec2<u32>(held[2u * before], held[2u * before + 1u]), which);
    }
    for (var at = begin; at < end; at += CARRY_WORDS) {
        carried[at + 2u] = which;
        which = mapped(vec2<u32>(carried[at], carried[at + 1u]), which);
    }
}
