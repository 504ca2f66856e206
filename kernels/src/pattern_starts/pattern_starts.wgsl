// Rows at which matches of many patterns may begin: one invocation for each (pattern, segment of rows), a row in each bit. The invocations
// of a workgroup have one pattern, so that all of them do the same.
//
//   goes_on[state][row] = holds[predicate of state][row]
//                         and (state is free, or row is the last of its group, or goes_on[next][row + 1] for a next state)
//
// Words are walked from the last to the first, because a row is decided by those behind it. A segment ends with a word in which a group
// ends: what is behind that row does not matter for those before it, so the walk begins there with nothing, and the word is written by the
// segment that it is in. States come in order, those that may follow a state before it; of states that lead to each other (a cycle) the
// words are worked out again until none changes. A state that repeats is filled through its runs of rows by the carry of an addition.
// Twin: cpu.rs. Sources: see mod.rs.
const WORKGROUP_SIZE: u32 = 64u;           // = gpu::WORKGROUP_SIZE
const STATES_MAX: u32 = 32u;               // = pattern_starts::STATES_MAX
const HEADER_WORDS: u32 = 4u;              // = gpu::HEADER_WORDS: where its states are, how many, those that begin, whether some are cycles
const STATE_WORDS: u32 = 4u;               // = gpu::STATE_WORDS: predicate, states that follow, flags, first state of the cycle it ends + 1
const FLAG_FREE: u32 = 1u;                 // = gpu::FLAG_FREE
const FLAG_REPEATS: u32 = 2u;              // = gpu::FLAG_REPEATS
const PREDICATE_ANY: u32 = 0xffffffffu;    // = gpu::PREDICATE_ANY

struct Params {
    segment_count: u32,
    pattern_first: u32,
    pattern_count: u32,
    words: u32,        // of a bitmap
    ends_at: u32,      // where in `bits` the ends of groups are
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> segments: array<vec2<u32>>;      // [segment] first word, end
@group(0) @binding(2) var<storage, read> bits: array<u32>;                // [predicate][words], then the ends of groups
@group(0) @binding(3) var<storage, read> patterns: array<u32>;            // [pattern][HEADER_WORDS], then their states
@group(0) @binding(4) var<storage, read_write> starts: array<u32>;        // [pattern of the dispatch][words]

var<workgroup> goes_on: array<u32, STATES_MAX * WORKGROUP_SIZE>;          // [state][invocation], of the word in work

// Runs of `holds` downwards from the rows of `from`, which are some of its rows.
fn fill(from_rows: u32, holds: u32) -> u32 {
    let seeds = reverseBits(from_rows);
    let runs = reverseBits(holds);
    return reverseBits(((seeds + runs) ^ runs) | seeds) & holds;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn pattern_starts(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let blocks = max((params.segment_count + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE, 1u);
    let index = linear_workgroup(workgroup, grid);
    let pattern = index / blocks;
    let segment = index % blocks * WORKGROUP_SIZE + local;
    if pattern >= params.pattern_count || segment >= params.segment_count { return; }
    let header = (params.pattern_first + pattern) * HEADER_WORDS;
    let states = patterns[header];
    let state_count = patterns[header + 1u];
    let begin = patterns[header + 2u];
    let has_cycles = patterns[header + 3u] != 0u;
    let first = segments[segment].x;
    let end = segments[segment].y;
    let answers = pattern * params.words;

    // Of the word behind the one in work: a bit for each state, whether its first row goes on.
    var behind = 0u;
    var word = min(end + 1u, params.words);
    loop {
        if word <= first { break; }
        word--;
        let ends = bits[params.ends_at + word];
        if has_cycles {
            for (var j = 0u; j < state_count; j++) { goes_on[j * WORKGROUP_SIZE + local] = 0u; }
        }
        var now_behind = 0u;
        var begins = 0u;
        var changed = false;
        var j = 0u;
        loop {
            if j >= state_count { break; }
            let at = states + j * STATE_WORDS;
            let predicate = patterns[at];
            let flags = patterns[at + 2u];
            let cycle = patterns[at + 3u];
            var holds = 0xffffffffu;
            if predicate != PREDICATE_ANY { holds = bits[predicate * params.words + word]; }
            var leads = ends;
            if (flags & FLAG_FREE) != 0u { leads = 0xffffffffu; }
            var next = patterns[at + 1u];
            loop {
                if next == 0u { break; }
                let k = firstTrailingBit(next);
                next &= next - 1u;
                leads |= (goes_on[k * WORKGROUP_SIZE + local] >> 1u) | (((behind >> k) & 1u) << 31u);
            }
            var now = leads & holds;
            if (flags & FLAG_REPEATS) != 0u {
                now = fill(now | ((((behind >> j) & 1u) << 31u) & holds), holds);
            }
            changed = changed || (has_cycles && goes_on[j * WORKGROUP_SIZE + local] != now);
            goes_on[j * WORKGROUP_SIZE + local] = now;
            if cycle != 0u && changed {
                // States before the cycle have changed from nothing, too: then it is walked once more, which changes nothing.
                changed = false;
                j = cycle - 1u;
                continue;
            }
            j++;
        }
        for (var k = 0u; k < state_count; k++) {
            let now = goes_on[k * WORKGROUP_SIZE + local];
            now_behind |= (now & 1u) << k;
            if bit_of(begin, k) { begins |= now; }
        }
        behind = now_behind;
        if word < end { starts[answers + word] = begins; }
    }
}
