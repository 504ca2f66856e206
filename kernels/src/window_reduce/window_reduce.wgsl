// Count, sum, minimum, maximum and sum of squares of each cell.
//
// A cell's rows are cut into pieces of PIECE_ROWS at most, and a team of invocations reduces a piece. There are LANES = 64 lanes, each of
// which adds every 64th row of the piece, one after the other. In a team of 64 each member has a lane; in one of 16, for cells with few rows,
// member m has the lanes m, m + 16, m + 32 and m + 48. Either way members read rows side by side, and each has several loads under way. Then
// lanes are halved: lane[i] takes in lane[i + 32], then 16, 8, 4, 2, 1. So floats are added by one tree whatever the device. `reduce` does
// that with rows; a cell of one piece goes to the state at once. The pieces of other cells are written down, and are then what `combine`
// reduces in the same way.
//
// What depends on the kind of column is in int64.wgsl, decimal128.wgsl and float32.wgsl, of which one is put before this.
// Twin: cpu.rs.
const LANES: u32 = 64u;                   // = window_reduce::LANES
const WORKGROUP_SIZE: u32 = 64u;          // = gpu::WORKGROUP_SIZE
const TO_PARTIAL: u32 = 0xffffffffu;      // = gpu::TO_PARTIAL: instead of a slot, when the cell has more pieces
// Where the parts of a cell are: count (2 words), sum, minimum, maximum, sum of squares (1).
const SUM_AT: u32 = 2u;
const MIN_AT: u32 = SUM_AT + SUM_WORDS;
const MAX_AT: u32 = MIN_AT + VALUE_WORDS;
const SQUARES_AT: u32 = MAX_AT + VALUE_WORDS;
const CELL_WORDS: u32 = SQUARES_AT + 1u;

override TEAM: u32;                       // members of a team: 16 or 64; no less than the words of a cell

struct Params {
    piece_first: u32,     // the dispatch's pieces are those of one level and one page
    piece_count: u32,
    slots_per_page: u32,
    partial_count: u32,   // of all levels
    all_valid: u32,       // 1: there is no bitmap
    zero: u32,            // 0, which the compiler does not know
}

@group(0) @binding(0) var<uniform> params: Params;
// [piece]: first row (or part), end, slot or TO_PARTIAL, and the cell of the answer, or which part it becomes.
@group(0) @binding(1) var<storage, read> pieces: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> valid: array<u32>;            // a bit for each row
@group(0) @binding(4) var<storage, read_write> partial: array<u32>;    // [word][part]
@group(0) @binding(5) var<storage, read_write> state: array<u32>;      // [word][slot] of one page
@group(0) @binding(6) var<storage, read_write> cells: array<u32>;      // [cell][word]

// [team][member]: the words of the cell before, then after.
var<workgroup> words: array<u32, WORKGROUP_SIZE>;
var<workgroup> counts: array<u32, WORKGROUP_SIZE>;
var<workgroup> sums: array<Sum, WORKGROUP_SIZE>;
var<workgroup> least: array<Value, WORKGROUP_SIZE>;
var<workgroup> greatest: array<Value, WORKGROUP_SIZE>;
var<workgroup> squares: array<f32, WORKGROUP_SIZE>;

// What a member has of its piece.
struct Reduced {
    count: u32,
    sum: LaneSum,
    low: Value,
    high: Value,
    squares: vec4<f32>,   // of its four lanes
}

fn launder4(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4<u32>(params.zero));
}

// Adds four rows to lanes: one to each of a member's four, or all to its only one.
fn with_four(lanes: vec4<f32>, added: vec4<f32>) -> vec4<f32> {
    if TEAM != LANES { return launder4(lanes + added); }
    let first = launder(launder(lanes.x + added.x, params.zero) + added.y, params.zero);
    return vec4<f32>(launder(launder(first + added.z, params.zero) + added.w, params.zero), 0.0, 0.0, 0.0);
}

fn halved(lanes: vec4<f32>) -> f32 {
    if TEAM == LANES { return lanes.x; }
    let half = vec2<f32>(launder(lanes.x + lanes.z, params.zero), launder(lanes.y + lanes.w, params.zero));
    return launder(half.x + half.y, params.zero);
}

fn partial_word(word: u32, part: u32) -> u32 {
    return partial[word * params.partial_count + part];
}

fn nothing() -> Reduced {
    return Reduced(0u, no_lane_sum(), greatest_value(), least_value(), vec4<f32>(0.0));
}

fn is_valid(row: u32) -> bool {
    return params.all_valid == 1u || bit_of(valid[row / 32u], row);
}

// Four rows that all have their value.
fn with_line(before: Reduced, a: Value, b: Value, c: Value, d: Value) -> Reduced {
    var reduced = before;
    reduced.count += 4u;
    reduced.sum = add_line(reduced.sum, a, b, c, d);
    reduced.low = lesser(reduced.low, lesser(lesser(ordered(a), ordered(b)), lesser(ordered(c), ordered(d))));
    reduced.high = greater(reduced.high, greater(greater(ordered(a), ordered(b)), greater(ordered(c), ordered(d))));
    reduced.squares = with_four(reduced.squares, vec4<f32>(square_of(a), square_of(b), square_of(c), square_of(d)));
    return reduced;
}

// Up to four rows, of which some lack their value.
fn with_some_of_line(before: Reduced, a: Value, b: Value, c: Value, d: Value, there: vec4<bool>) -> Reduced {
    var reduced = before;
    let counted = select(vec4<u32>(0u), vec4<u32>(1u), there);
    reduced.count += counted.x + counted.y + counted.z + counted.w;
    let known_a = select(no_value(), a, there.x);
    let known_b = select(no_value(), b, there.y);
    let known_c = select(no_value(), c, there.z);
    let known_d = select(no_value(), d, there.w);
    reduced.sum = add_line(reduced.sum, known_a, known_b, known_c, known_d);
    reduced.low = lesser(reduced.low, select(greatest_value(), ordered(a), there.x));
    reduced.low = lesser(reduced.low, select(greatest_value(), ordered(b), there.y));
    reduced.low = lesser(reduced.low, select(greatest_value(), ordered(c), there.z));
    reduced.low = lesser(reduced.low, select(greatest_value(), ordered(d), there.w));
    reduced.high = greater(reduced.high, select(least_value(), ordered(a), there.x));
    reduced.high = greater(reduced.high, select(least_value(), ordered(b), there.y));
    reduced.high = greater(reduced.high, select(least_value(), ordered(c), there.z));
    reduced.high = greater(reduced.high, select(least_value(), ordered(d), there.w));
    let squared = vec4<f32>(square_of(known_a), square_of(known_b), square_of(known_c), square_of(known_d));
    reduced.squares = with_four(reduced.squares, squared);
    return reduced;
}

// The team's piece; one without rows behind the last one.
fn piece_of(workgroup: u32, local: u32) -> vec4<u32> {
    let index = workgroup * (WORKGROUP_SIZE / TEAM) + local / TEAM;
    if index >= params.piece_count { return vec4<u32>(0u, 0u, TO_PARTIAL, 0u); }
    return pieces[params.piece_first + index];
}

// Asked for before the rows are, so that nobody waits for it at the end.
fn fetch_cell(piece: vec4<u32>, local: u32) {
    let member = local % TEAM;
    if piece.z != TO_PARTIAL && member < CELL_WORDS { words[local] = state[member * params.slots_per_page + piece.z]; }
}

// Halves the lanes of the team, and puts the piece where it belongs.
fn finish(reduced: Reduced, piece: vec4<u32>, local: u32) {
    let member = local % TEAM;
    counts[local] = reduced.count;
    sums[local] = whole_sum(reduced.sum);
    least[local] = reduced.low;
    greatest[local] = reduced.high;
    squares[local] = halved(reduced.squares);
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if member < half {
            let other = local + half;
            counts[local] += counts[other];
            sums[local] = sum_of(sums[local], sums[other]);
            least[local] = lesser(least[local], least[other]);
            greatest[local] = greater(greatest[local], greatest[other]);
            squares[local] = launder(squares[local] + squares[other], params.zero);
        }
    }
    if member == 0u {
        var count = vec2<u32>(counts[local], 0u);
        var sum = sums[local];
        var low = least[local];
        var high = greatest[local];
        var squared = squares[local];
        if piece.z != TO_PARTIAL {
            count = add64(vec2<u32>(words[local], words[local + 1u]), count);
            sum = sum_of(sum_in_words(local + SUM_AT), sum);
            low = lesser(low, value_in_words(local + MIN_AT));
            high = greater(high, value_in_words(local + MAX_AT));
            squared = launder(bitcast<f32>(words[local + SQUARES_AT]) + squared, params.zero);
        }
        words[local] = count.x;
        words[local + 1u] = count.y;
        sum_to_words(local + SUM_AT, sum);
        value_to_words(local + MIN_AT, low);
        value_to_words(local + MAX_AT, high);
        words[local + SQUARES_AT] = bitcast<u32>(squared);
    }
    workgroupBarrier();
    if member >= CELL_WORDS || piece.x == piece.y { return; }
    if piece.z == TO_PARTIAL {
        partial[member * params.partial_count + piece.w] = words[local];
    } else {
        state[member * params.slots_per_page + piece.z] = words[local];
        cells[piece.w * CELL_WORDS + member] = words[local];
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear * (WORKGROUP_SIZE / TEAM) >= params.piece_count { return; } // the whole workgroup
    let piece = piece_of(linear, local);
    fetch_cell(piece, local);
    var reduced = nothing();
    var row = piece.x + local % TEAM;
    let end = piece.y;
    if params.all_valid == 1u {
        for (; row + 7u * TEAM < end; row += 8u * TEAM) {
            let a = value_of(row);
            let b = value_of(row + TEAM);
            let c = value_of(row + 2u * TEAM);
            let d = value_of(row + 3u * TEAM);
            let e = value_of(row + 4u * TEAM);
            let f = value_of(row + 5u * TEAM);
            let g = value_of(row + 6u * TEAM);
            let h = value_of(row + 7u * TEAM);
            reduced = with_line(reduced, a, b, c, d);
            reduced = with_line(reduced, e, f, g, h);
        }
    }
    for (; row < end; row += 4u * TEAM) {
        let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u) * TEAM, vec4<u32>(end - 1u));
        let a = value_of(rows.x);
        let b = value_of(rows.y);
        let c = value_of(rows.z);
        let d = value_of(rows.w);
        let there = vec4<bool>(
            is_valid(rows.x),
            row + TEAM < end && is_valid(rows.y),
            row + 2u * TEAM < end && is_valid(rows.z),
            row + 3u * TEAM < end && is_valid(rows.w),
        );
        reduced = with_some_of_line(reduced, a, b, c, d, there);
    }
    finish(reduced, piece, local);
}

struct Part {
    count: u32,
    sum: Sum,
    low: Value,
    high: Value,
    squares: f32,
}

fn part_of(part: u32, end: u32) -> Part {
    let at = min(part, end - 1u);
    var found: Part;
    found.count = partial_word(0u, at);
    found.sum = partial_sum(at);
    found.low = partial_value(MIN_AT, at);
    found.high = partial_value(MAX_AT, at);
    found.squares = bitcast<f32>(partial_word(SQUARES_AT, at));
    if part >= end {
        // Its extremes are those of another part, and change nothing.
        var none: Part;
        none.low = found.low;
        none.high = found.high;
        return none;
    }
    return found;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn combine(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let linear = linear_workgroup(workgroup, grid);
    if linear * (WORKGROUP_SIZE / TEAM) >= params.piece_count { return; } // the whole workgroup
    let piece = piece_of(linear, local);
    fetch_cell(piece, local);
    var reduced = nothing();
    let end = piece.y;
    for (var part = piece.x + local % TEAM; part < end; part += 4u * TEAM) {
        let a = part_of(part, end);
        let b = part_of(part + TEAM, end);
        let c = part_of(part + 2u * TEAM, end);
        let d = part_of(part + 3u * TEAM, end);
        reduced.count += a.count + b.count + c.count + d.count;
        reduced.sum = add_sums(reduced.sum, a.sum, b.sum, c.sum, d.sum);
        reduced.low = lesser(reduced.low, lesser(lesser(a.low, b.low), lesser(c.low, d.low)));
        reduced.high = greater(reduced.high, greater(greater(a.high, b.high), greater(c.high, d.high)));
        reduced.squares = with_four(reduced.squares, vec4<f32>(a.squares, b.squares, c.squares, d.squares));
    }
    finish(reduced, piece, local);
}
