//! What became of a request that was accepted, wholly or in part.

use std::fmt;

use super::error::Reason;

/// Elements of a request that are in the engine: stored, identical or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Float samples, staleness markers included.
    pub samples: u64,
    /// Native histogram samples, staleness markers sent as histograms included.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, more: Written) {
        self.samples += more.samples;
        self.histograms += more.histograms;
        self.exemplars += more.exemplars;
    }
}

/// Everything refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// How many elements of each kind.
    pub refused: Written,
    /// The first case in words.
    pub example: String,
}

/// What a request left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What is in the engine now.
    pub written: Written,
    /// What is not, by reason in the order met. Empty if everything was written.
    pub refusals: Vec<Refusal>,
}

impl Outcome {
    /// Whether nothing was refused.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// The text of the answer to a request that was written in part: how much was refused, and for what reasons.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut refused = Written::default();
        for refusal in &self.refusals {
            refused += refusal.refused;
        }
        let counts = |w: &Written| (w.samples, w.histograms, w.exemplars);
        let ((s, h, e), (ws, wh, we)) = (counts(&refused), counts(&self.written));
        writeln!(
            f,
            "rejected: {s} samples, {h} histograms, {e} exemplars \
             (written: {ws} samples, {wh} histograms, {we} exemplars)"
        )?;
        for Refusal { reason, refused, example } in &self.refusals {
            let count = refused.samples + refused.histograms + refused.exemplars;
            writeln!(f, "{}: {count} elements: {}: {example}", reason.as_str(), reason.describe())?;
        }
        Ok(())
    }
}
