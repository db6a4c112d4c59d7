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
        "log10" => f64::log10,
        "log2" => f64::log2,
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

/// Into `[min, max]`; NaN stays NaN, and a NaN bound makes it NaN.
pub(crate) fn clamp(value: f64, min: f64, max: f64) -> f64 {
    if value.is_nan() || min.is_nan() || max.is_nan() {
        return f64::NAN;
    }
    value.min(max).max(min)
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
