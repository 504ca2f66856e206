// 64-bit floats in integers, for the few numbers of a key that keep their absolute level; put before recurrence_scan.wgsl.
//
// A float is its bits, (low, high). Sums are rounded to nearest even and equal those of the CPU to the bit, apart from subnormals,
// which become 0. Nothing here is float arithmetic, so no driver can reassociate it.

fn f64_of_f32(x: f32) -> vec2<u32> {
    let bits = bitcast<u32>(x);
    let sign = bits & 0x80000000u;
    let exponent = (bits >> 23u) & 0xffu;
    let mantissa = bits & 0x7fffffu;
    if exponent == 0u { return vec2<u32>(0u, sign); }
    let wide = select(exponent + 896u, 0x7ffu, exponent == 255u);
    return vec2<u32>(mantissa << 29u, sign | (wide << 20u) | (mantissa >> 3u));
}

// To nearest even; beyond the range of f32 its greatest value, below it 0.
fn f32_of_f64(x: vec2<u32>) -> f32 {
    let sign = x.y & 0x80000000u;
    let wide = (x.y >> 20u) & 0x7ffu;
    if wide <= 896u { return bitcast<f32>(sign); }
    if wide >= 1151u { return bitcast<f32>(sign | 0x7f7fffffu); }
    let mantissa = ((x.y & 0xfffffu) << 3u) | (x.x >> 29u);
    let rest = x.x & 0x1fffffffu;
    let up = rest > 0x10000000u || (rest == 0x10000000u && (mantissa & 1u) == 1u);
    // A mantissa that overflows makes the exponent one more, as it must.
    let rounded = (((wide - 896u) << 23u) | mantissa) + select(0u, 1u, up);
    return bitcast<f32>(sign | min(rounded, 0x7f7fffffu));
}

// As two floats that make 48 bits of it: cut off, and what was cut off. Beyond the range of f32 as in `f32_of_f64`.
fn f32s_of_f64(x: vec2<u32>) -> vec2<f32> {
    let sign = x.y & 0x80000000u;
    let wide = (x.y >> 20u) & 0x7ffu;
    if wide <= 896u { return vec2<f32>(0.0, 0.0); }
    if wide >= 1151u { return vec2<f32>(bitcast<f32>(sign | 0x7f7fffffu), 0.0); }
    let cut = bitcast<f32>(sign | ((wide - 896u) << 23u) | ((x.y & 0xfffffu) << 3u) | (x.x >> 29u));
    // Its lowest bit is 2^-52 of the highest; what would be subnormal is nothing.
    if wide <= 948u { return vec2<f32>(cut, 0.0); }
    return vec2<f32>(cut, f32(x.x & 0x1fffffffu) * bitcast<f32>(sign | ((wide - 948u) << 23u)));
}

fn f64_negated(x: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(x.x, x.y ^ 0x80000000u);
}

fn shifted_left(x: vec2<u32>, by: u32) -> vec2<u32> {
    if by == 0u { return x; }
    if by >= 32u { return vec2<u32>(0u, x.x << (by - 32u)); }
    return vec2<u32>(x.x << by, (x.y << by) | (x.x >> (32u - by)));
}

// Bits that fall out are kept as a lowest bit that says that there were some.
fn shifted_right(x: vec2<u32>, by: u32) -> vec2<u32> {
    if by == 0u { return x; }
    var shifted: vec2<u32>;
    var lost: bool;
    if by >= 32u {
        let more = by - 32u;
        shifted = vec2<u32>(x.y >> more, 0u);
        lost = x.x != 0u || (x.y & low_bits(more)) != 0u;
    } else {
        shifted = vec2<u32>((x.x >> by) | (x.y << (32u - by)), x.y >> by);
        lost = (x.x & low_bits(by)) != 0u;
    }
    return vec2<u32>(shifted.x | select(0u, 1u, lost), shifted.y);
}

fn f64_add(left: vec2<u32>, right: vec2<u32>) -> vec2<u32> {
    var a = left;
    var b = right;
    if less_u64(vec2<u32>(a.x, a.y & 0x7fffffffu), vec2<u32>(b.x, b.y & 0x7fffffffu)) {
        a = right;
        b = left;
    }
    let sign = a.y & 0x80000000u;
    var exponent = (a.y >> 20u) & 0x7ffu;
    let lesser = (b.y >> 20u) & 0x7ffu;
    if exponent == 0x7ffu { return a; }
    if lesser == 0u {
        if exponent == 0u { return vec2<u32>(0u, 0u); }
        return a;
    }
    // 53 bits of mantissa and three for rounding.
    let mantissa_a = shifted_left(vec2<u32>(a.x, (a.y & 0xfffffu) | 0x100000u), 3u);
    var mantissa_b = shifted_left(vec2<u32>(b.x, (b.y & 0xfffffu) | 0x100000u), 3u);
    mantissa_b = shifted_right(mantissa_b, min(exponent - lesser, 60u));
    var sum: vec2<u32>;
    if ((a.y ^ b.y) & 0x80000000u) == 0u {
        sum = add64(mantissa_a, mantissa_b);
        if (sum.y & 0x01000000u) != 0u {
            sum = shifted_right(sum, 1u);
            exponent += 1u;
        }
    } else {
        sum = sub64(mantissa_a, mantissa_b);
        if sum.x == 0u && sum.y == 0u { return vec2<u32>(0u, 0u); }
        let zeros = select(countLeadingZeros(sum.y), 32u + countLeadingZeros(sum.x), sum.y == 0u);
        let by = zeros - 8u;
        if by >= exponent { return vec2<u32>(0u, sign); }
        sum = shifted_left(sum, by);
        exponent -= by;
    }
    let rest = sum.x & 7u;
    sum = vec2<u32>((sum.x >> 3u) | (sum.y << 29u), sum.y >> 3u);
    if rest > 4u || (rest == 4u && (sum.x & 1u) == 1u) {
        sum = add64(sum, vec2<u32>(1u, 0u));
    }
    // A mantissa that overflows makes the exponent one more, as it must; the leading 1 is not stored.
    return vec2<u32>(sum.x, sign | (((exponent - 1u) << 20u) + sum.y));
}
