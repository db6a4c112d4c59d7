//! Functions of one number, and operators of two.

use crate::parser::BinaryOp;

/// The function of that name, if it maps one float to one float.
pub(crate) fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        // Not `to_degrees`: multiplied before divided, as upstream does.
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => |v| log2(v) * (std::f64::consts::LN_2 / std::f64::consts::LN_10),
        "log2" => log2,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "sgn" => sign,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// As Go has it: exponent and fraction apart, which loses digits near 1 and is exact for powers of two.
fn log2(value: f64) -> f64 {
    const MANTISSA_BITS: u32 = 52;
    if !(value.is_finite() && value > 0.0) {
        return value.log2();
    }
    // Subnormal numbers have no exponent of their own.
    let (scaled, shift) = if value.is_normal() { (value, 0) } else { (value * (1_u64 << MANTISSA_BITS) as f64, 52) };
    let bits = scaled.to_bits();
    // The fraction lies in [0.5, 1).
    let exponent = (bits >> MANTISSA_BITS) as i32 - 1022 - shift;
    let fraction = f64::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | 1022 << MANTISSA_BITS);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    f64::from(exponent) + fraction.ln() * (1.0 / std::f64::consts::LN_2)
}

/// −1, 1, or the value itself if it is a zero or NaN.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// To the nearest multiple of `nearest`, ties up.
pub(crate) fn round(value: f64, nearest: f64) -> f64 {
    // The inverse loses less than dividing by fractions like 0.1.
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// Into `[min, max]`, as Go's `math.Max(min, math.Min(max, value))`: NaN stays NaN and a NaN bound makes it NaN,
/// except that an infinity that no number could pass wins over NaN.
pub(crate) fn clamp(value: f64, min: f64, max: f64) -> f64 {
    let below = match (max, value) {
        (f64::NEG_INFINITY, _) | (_, f64::NEG_INFINITY) => f64::NEG_INFINITY,
        _ if max.is_nan() || value.is_nan() => f64::NAN,
        _ => max.min(value),
    };
    match (min, below) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        _ if min.is_nan() || below.is_nan() => f64::NAN,
        _ => min.max(below),
    }
}

/// The result of an arithmetic operator.
pub(crate) fn arithmetic(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => lhs.powf(rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        _ => f64::NAN,
    }
}

/// Whether a comparison holds.
pub(crate) fn compare(op: BinaryOp, lhs: f64, rhs: f64) -> bool {
    match op {
        BinaryOp::Equal => lhs == rhs,
        BinaryOp::NotEqual => lhs != rhs,
        BinaryOp::Greater => lhs > rhs,
        BinaryOp::GreaterOrEqual => lhs >= rhs,
        BinaryOp::Less => lhs < rhs,
        BinaryOp::LessOrEqual => lhs <= rhs,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_powers_are_exact_and_others_those_of_go() {
        let of = |name: &str, value: f64| unary(name).unwrap()(value);
        assert_eq!([1.0, 8.0, 0.125, 5e-324].map(|v| of("log2", v)), [0.0, 3.0, -3.0, -1074.0]);
        assert_eq!([0.0, f64::INFINITY].map(|v| of("log2", v)), [f64::NEG_INFINITY, f64::INFINITY]);
        assert!(of("log2", -1.0).is_nan() && of("log10", f64::NAN).is_nan());
        assert!(
            (of("log10", 1000.0) - 3.0).abs() < 1e-15 && (of("log2", 10.0) - std::f64::consts::LOG2_10).abs() < 1e-15
        );
        // The true value is 3.2e-16.
        assert_eq!(of("log2", 1.000_000_000_000_000_2), 3.330_669_073_875_469_6e-16);
    }

    #[test]
    fn ties_round_up_and_fractions_stay_exact() {
        let rows = [(2.5, 1.0, 3.0), (-2.5, 1.0, -2.0), (1.23, 0.1, 1.2), (7.0, 5.0, 5.0), (0.0, 1.0, 0.0)];
        for (value, nearest, expected) in rows {
            assert_eq!(round(value, nearest), expected, "{value} to {nearest}");
        }
    }

    #[test]
    fn clamping_and_signs_leave_nan_alone() {
        assert_eq!((clamp(5.0, 0.0, 3.0), clamp(-5.0, 0.0, 3.0), clamp(1.0, 0.0, 3.0)), (3.0, 0.0, 1.0));
        assert!(clamp(f64::NAN, 0.0, 3.0).is_nan() && clamp(1.0, f64::NAN, 3.0).is_nan());
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(
            (clamp(f64::NAN, low, low), clamp(f64::NAN, high, high), clamp(low, low, f64::NAN)),
            (low, high, low)
        );
        assert_eq!((sign(-3.0), sign(4.0), sign(0.0)), (-1.0, 1.0, 0.0));
        assert!(sign(f64::NAN).is_nan());
    }

    #[test]
    fn operators_are_those_of_go() {
        assert_eq!(arithmetic(BinaryOp::Mod, -5.0, 3.0), -2.0);
        assert_eq!(arithmetic(BinaryOp::Pow, -1.0, f64::INFINITY), 1.0);
        assert!(arithmetic(BinaryOp::Mod, 1.0, 0.0).is_nan());
        assert!(!compare(BinaryOp::Equal, f64::NAN, f64::NAN) && compare(BinaryOp::NotEqual, f64::NAN, f64::NAN));
    }
}
