//! Elementary functions of our own: the system's differ between versions and instruction sets, and
//! a run's bits must not.

/// e^x in single precision, to about 2 units in the last place; clamped to -87..88, where the
/// result is still a normal number. NaN gives NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r, with ln 2 in two parts so that n ln 2 is exact; then the series of e^r.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 · 2^23 leaves the nearest integer, ties to even, in the lowest bits. A conversion would
    // look for numbers beyond an integer's range, and keep loops from being vectorised.
    const ROUND: f32 = 12_582_912.0;
    const SERIES: [f32; 7] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (-n).mul_add(LN2_HIGH, x);
    let r = (-n).mul_add(LN2_LOW, r);
    let mut sum = SERIES[0];
    for &term in &SERIES[1..] {
        sum = sum.mul_add(r, term);
    }
    let sum = sum.mul_add(r, 1.0);
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    sum * scale
}

/// The error function and e^(-x²), by formula 7.1.26 of Abramowitz and Stegun: off by at most
/// 1.5e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> (f32, f32) {
    const SERIES: [f32; 4] = [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6];
    let size = x.abs();
    let t = 1.0 / 0.327_591_1_f32.mul_add(size, 1.0);
    let gauss = exp(-size * size);
    let mut sum = 1.061_405_4_f32;
    for term in SERIES {
        sum = sum.mul_add(t, term);
    }
    ((-sum * t).mul_add(gauss, 1.0).copysign(x), gauss)
}

/// The logistic function.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent: its series near 0, where the other form would cancel.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    const SERIES: [f32; 4] = [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0];
    let square = x * x;
    let mut sum = SERIES[0];
    for &term in &SERIES[1..] {
        sum = sum.mul_add(square, term);
    }
    let near = (sum * square).mul_add(x, x);
    let decay = exp(-2.0 * x.abs());
    let far = ((1.0 - decay) / (1.0 + decay)).copysign(x);
    if x.abs() < 0.3 { near } else { far }
}

/// The natural logarithm of a normal number above 0, to a few units in the last place.
pub(crate) fn ln(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7FF << 52;
    let bits = x.to_bits();
    if !x.is_finite() || x < f64::MIN_POSITIVE {
        return if x == 0.0 {
            f64::NEG_INFINITY
        } else {
            f64::NAN
        };
    }
    let mut exponent = ((bits >> 52) & 0x7FF) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & !EXPONENT) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 artanh s, with s at most 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in (1..=21).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// The same of a number from 1 to 2, to the same bits, without a branch. NaN gives NaN.
#[inline(always)]
pub(crate) fn ln_to_two(x: f64) -> f64 {
    let (mantissa, exponent) = if x > std::f64::consts::SQRT_2 {
        (x * 0.5, 1.0)
    } else {
        (x, 0.0)
    };
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// cos(πt) for t in 0 to 1.
pub(crate) fn cos_pi(t: f64) -> f64 {
    // cos πt = sin x with x = π (1/2 - t), at most π/2 in size; then the series of the sine.
    let x = std::f64::consts::PI * (0.5 - t);
    let square = x * x;
    let mut sum = 1.0;
    for n in (1..=11).rev() {
        let n = f64::from(n);
        sum = 1.0 - sum * square / (2.0 * n * (2.0 * n + 1.0));
    }
    x * sum
}

/// e^x in double precision for x of moderate size, to about 50 units in the last place.
pub(crate) fn wide_exp(x: f64) -> f64 {
    // The series of e^(x / 64), raised to the 64th power by squaring.
    let r = x / 64.0;
    let mut sum = 1.0;
    for n in (1..=14).rev() {
        sum = 1.0 + sum * r / f64::from(n);
    }
    for _ in 0..6 {
        sum *= sum;
    }
    sum
}

/// e^x in double precision for x from -700 to 0, to a few units in the last place; 0 below. NaN
/// gives NaN.
pub(crate) fn exp_down(x: f64) -> f64 {
    // As in single precision.
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    if x < -700.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (-n).mul_add(LN2_LOW, (-n).mul_add(LN2_HIGH, x));
    let mut sum = 1.0;
    for term in (1..=14).rev() {
        sum = (sum * r / f64::from(term)) + 1.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "-1010 to 0, or 0 for NaN"
    )]
    let scale = f64::from_bits(((n as i64).wrapping_add(1023) << 52) as u64);
    sum * scale
}

/// base^exponent, by squaring.
pub(crate) fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut square, mut product) = (base, 1.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_of_what_is_below_zero_is_close() {
        for i in 0..=7000 {
            let x = f64::from(i) * -0.1;
            let (given, expected) = (exp_down(x), x.exp());
            assert!((given - expected).abs() <= 4e-16 * expected, "{x}: {given}");
        }
        assert_eq!((exp_down(0.0), exp_down(-701.0)), (1.0, 0.0));
        assert_eq!(exp_down(f64::NEG_INFINITY), 0.0);
        assert!(exp_down(f64::NAN).is_nan());
    }

    #[test]
    fn single_precision_functions_are_close() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let wide = f64::from(x);
            let relative = (f64::from(exp(x)) / wide.exp() - 1.0).abs();
            assert!(relative < 3e-7, "exp({x}) is off by {relative}");
            let tangent = (f64::from(tanh(x)) - wide.tanh()).abs();
            assert!(
                tangent <= 2.5e-7 * wide.tanh().abs(),
                "tanh({x}) is off by {tangent}"
            );
            let logistic = (f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs();
            assert!(logistic < 2e-7, "sigmoid({x}) is off by {logistic}");
        }
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_close_to_tabulated_values() {
        let table = [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.5, 0.520_499_878),
            (1.0, 0.842_700_793),
            (1.5, 0.966_105_146),
            (2.0, 0.995_322_265),
            (3.0, 0.999_977_910),
        ];
        for (x, expected) in table {
            for sign in [1.0, -1.0] {
                let off = (f64::from(erf(sign * x).0) - f64::from(sign) * expected).abs();
                assert!(off < 3e-7, "erf({x}) is off by {off}");
            }
        }
    }

    #[test]
    fn double_precision_functions_are_exact_enough() {
        for i in 1..=10_000 {
            let x = f64::from(i) * 0.37;
            assert!(
                (ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0),
                "ln({x})"
            );
            let t = f64::from(i) / 10_000.0;
            assert_eq!(ln_to_two(1.0 + t).to_bits(), ln(1.0 + t).to_bits(), "{t}");
            assert!(
                (cos_pi(t) - (std::f64::consts::PI * t).cos()).abs() < 1e-15,
                "cos_pi({t})"
            );
        }
        for i in 0..=1_000 {
            let x = f64::from(i) * -0.01;
            assert!((wide_exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp({x})");
        }
        assert!((power(0.9, 37) - 0.9_f64.powi(37)).abs() < 1e-16);
        assert!(ln(f64::NAN).is_nan() && ln(f64::INFINITY).is_nan());
    }
}
