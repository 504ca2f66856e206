// The maps of `recurrence_scan` and how they compose, and scans over those of a team. Each scan takes turns between two halves of the
// arrays in workgroup memory, so that a step has one barrier, and tells where the first lane's result is; the others follow.

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

fn put_sample(lane: u32, sample: Sample) {
    scan_a[lane] = vec4<f32>(sample.left, sample.weight, sample.mean);
    scan_b[lane] = vec2<f32>(sample.variance, 0.0);
}

fn sample_at(lane: u32) -> Sample {
    let a = scan_a[lane];
    return Sample(a.x, a.y, a.zw, scan_b[lane].x);
}

// Scans over the samples of `size` lanes.
fn scan_samples(own: Sample, local: u32, size: u32) -> u32 {
    let member = local & (size - 1u);
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
    let member = local & (size - 1u);
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
    let member = local & (size - 1u);
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
