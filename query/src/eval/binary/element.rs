//! One operator on one pair of samples, at least one of them a histogram.

use std::sync::Arc;

use kymo_core::histogram::{Keep, ResetHint};

use crate::eval::column::Sample;
use crate::parser::BinaryOp;

/// What an operator makes of two samples.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The result, which a filter may refuse, and what it had to give up.
    Result { sample: Sample, keep: bool, reset_collision: bool, bounds_reconciled: bool },
    /// No such operation: the kinds of both sides.
    Incompatible { lhs: &'static str, rhs: &'static str },
    /// Custom and exponential buckets met.
    MixedBuckets,
}

impl Outcome {
    fn plain(sample: Sample, keep: bool) -> Outcome {
        Outcome::Result { sample, keep, reset_collision: false, bounds_reconciled: false }
    }
}

/// Applies `op`, where at least one side is a histogram or `op` is for histograms only.
pub(super) fn with_histogram(op: BinaryOp, lhs: &Sample, rhs: &Sample) -> Outcome {
    match (lhs, op, rhs) {
        (Sample::Float(factor), BinaryOp::Mul, Sample::Histogram(histogram))
        | (Sample::Histogram(histogram), BinaryOp::Mul, Sample::Float(factor)) => {
            let mut result = histogram.to_float();
            result.multiply(*factor);
            result.compact(0);
            Outcome::plain(Sample::Histogram(Arc::new(result)), true)
        }
        (Sample::Histogram(histogram), BinaryOp::Div, Sample::Float(by)) => {
            let mut result = histogram.to_float();
            result.divide(*by);
            result.compact(0);
            Outcome::plain(Sample::Histogram(Arc::new(result)), true)
        }
        (Sample::Histogram(histogram), BinaryOp::TrimLower | BinaryOp::TrimUpper, Sample::Float(at)) => {
            let keep = if op == BinaryOp::TrimUpper { Keep::Below } else { Keep::Above };
            Outcome::plain(Sample::Histogram(Arc::new(histogram.trimmed(*at, keep))), true)
        }
        (Sample::Histogram(a), BinaryOp::Equal | BinaryOp::NotEqual, Sample::Histogram(b)) => {
            Outcome::plain(lhs.clone(), a.equals(b) == (op == BinaryOp::Equal))
        }
        (Sample::Histogram(a), BinaryOp::Add | BinaryOp::Sub, Sample::Histogram(b)) => {
            let mut result = a.to_float();
            let merged = if op == BinaryOp::Add { result.add(b) } else { result.subtract(b) };
            let Ok(notes) = merged else { return Outcome::MixedBuckets };
            if op == BinaryOp::Sub {
                result.hint = ResetHint::Gauge;
            }
            result.compact(0);
            Outcome::Result {
                sample: Sample::Histogram(Arc::new(result)),
                keep: true,
                reset_collision: notes.reset_collision,
                bounds_reconciled: notes.bounds_reconciled,
            }
        }
        _ => Outcome::Incompatible { lhs: kind(lhs), rhs: kind(rhs) },
    }
}

fn kind(sample: &Sample) -> &'static str {
    match sample {
        Sample::Float(_) => "float",
        Sample::Histogram(_) => "histogram",
    }
}
