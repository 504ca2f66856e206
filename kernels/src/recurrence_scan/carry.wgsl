// What `recurrence_scan` knows before each piece of a cut key: scans over the maps of pieces.

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
