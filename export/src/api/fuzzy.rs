//! How well a text is what somebody began to type: the two ways Prometheus' search API ranks names.
//!
//! Scores are from 0, no match, to 1 and equal those of Prometheus' `util/strutil` bit for bit, as clients compare them
//! with thresholds of their own. Both work on characters.

use std::borrow::Cow;

/// How a text is compared with what is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Algorithm {
    /// All characters in order, runs of them rewarded.
    #[default]
    Subsequence,
    /// Contains it, or is similar as a whole by Jaro and Winkler.
    JaroWinkler,
}

impl Algorithm {
    /// As a parameter names it; `None` for none of them.
    pub(super) fn named(name: &str) -> Option<Algorithm> {
        match name {
            "subsequence" => Some(Algorithm::Subsequence),
            "jarowinkler" => Some(Algorithm::JaroWinkler),
            _ => None,
        }
    }
}

/// What is searched for.
#[derive(Debug)]
pub(super) struct Terms {
    terms: Vec<String>,
    algorithm: Algorithm,
    /// From 0 to 1; what scores less is no match.
    threshold: f64,
    minds_case: bool,
}

impl Terms {
    /// Any of `terms`; none of them for everything.
    pub(super) fn new(terms: Vec<String>, algorithm: Algorithm, threshold: f64, minds_case: bool) -> Terms {
        let folded = |term: String| if minds_case { term } else { term.to_lowercase() };
        Terms { terms: terms.into_iter().map(folded).collect(), algorithm, threshold, minds_case }
    }

    /// The best score of a text that is found. O(length²) at worst, for each term.
    pub(super) fn score(&self, text: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let text = if self.minds_case { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) };
        self.terms.iter().filter_map(|term| self.score_of(term, &text)).max_by(f64::total_cmp)
    }

    fn score_of(&self, term: &str, text: &str) -> Option<f64> {
        if term.is_empty() || text.starts_with(term) {
            return Some(1.0);
        }
        let similar = match self.algorithm {
            Algorithm::Subsequence => Some(subsequence(term, text)).filter(|score| *score > 0.0),
            Algorithm::JaroWinkler if text.contains(term) => return Some(0.9),
            Algorithm::JaroWinkler => Some(jaro_winkler(term, text)).filter(|_| self.threshold > 0.0),
        };
        similar.filter(|score| *score >= self.threshold)
    }
}

/// The best of Σ run² − Σ gap ÷ length − tail ÷ (2 × length) over all places to begin, divided by the square of the
/// pattern's length; 0 if the characters are not there in order.
fn subsequence(pattern: &str, text: &str) -> f64 {
    if pattern == text {
        return 1.0;
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    if pattern.is_empty() || pattern.len() > text.len() {
        return 0.0;
    }
    let mut best = -1.0;
    for start in 0..=text.len() - pattern.len() {
        if text[start] != pattern[0] {
            continue;
        }
        // What cannot be completed from here cannot be from any later place.
        let Some(score) = subsequence_from(&pattern, &text, start) else { break };
        best = f64::max(best, score);
    }
    if best < 0.0 { 0.0 } else { best / (pattern.len() * pattern.len()) as f64 }
}

fn subsequence_from(pattern: &[char], text: &[char], start: usize) -> Option<f64> {
    let per_char = 1.0 / text.len() as f64;
    // The end of the last run, exclusive: a gap before the first counts from the beginning.
    let (mut matched, mut at, mut behind, mut score) = (0, start, 0, 0.0);
    while matched < pattern.len() {
        let from = at + text[at..].iter().position(|char| *char == pattern[matched])?;
        let run = text[from..].iter().zip(&pattern[matched..]).take_while(|(a, b)| a == b).count();
        if from > behind {
            score -= (from - behind) as f64 * per_char;
        }
        score += (run * run) as f64;
        matched += run;
        at = from + run;
        behind = at;
    }
    if text.len() > behind {
        score -= (text.len() - behind) as f64 * per_char * 0.5;
    }
    Some(score)
}

/// The similarity of Jaro, raised by what the first four characters have in common (Winkler).
fn jaro_winkler(one: &str, other: &str) -> f64 {
    if one == other {
        return 1.0;
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let (short, long) = if one.len() > other.len() { (other, one) } else { (one, other) };
    if short.is_empty() {
        return 0.0;
    }
    let reach = (long.len() / 2).saturating_sub(1);
    let mut is_taken = vec![false; long.len()];
    let mut in_short = Vec::new();
    for (at, char) in short.iter().enumerate() {
        let near = at.saturating_sub(reach)..(at + reach + 1).min(long.len());
        if let Some(found) = near.clone().find(|other| !is_taken[*other] && long[*other] == *char) {
            is_taken[found] = true;
            in_short.push(*char);
        }
    }
    if in_short.is_empty() {
        return 0.0;
    }
    let in_long = long.iter().zip(&is_taken).filter(|(_, taken)| **taken).map(|(char, _)| *char);
    let moved = in_short.iter().zip(in_long).filter(|(a, b)| **a != *b).count() as f64;
    let matches = in_short.len() as f64;
    let (of_short, of_long) = (1.0 / short.len() as f64, 1.0 / long.len() as f64);
    let jaro = (matches * of_short + matches * of_long + (matches - moved * 0.5) / matches) / 3.0;
    let prefix = short.iter().zip(&long).take(4).take_while(|(a, b)| a == b).count();
    jaro + prefix as f64 * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_rewarded_and_gaps_cost() {
        // 2² + 1² in runs, 2 between them, 3 behind, of 8 characters; by 3².
        assert_eq!(subsequence("abe", "abcdefgh"), (5.0 - 2.0 / 8.0 - 3.0 / 8.0 * 0.5) / 9.0);
        // The later place to begin is the better one.
        assert_eq!(subsequence("ab", "axab"), (4.0 - 2.0 / 4.0) / 4.0);
        assert_eq!((subsequence("ba", "ab"), subsequence("abc", "ab"), subsequence("ab", "ab")), (0.0, 0.0, 1.0));
        assert_eq!(subsequence("äö", "xäyö"), (1.0 + 1.0 - 2.0 / 4.0) / 4.0);
    }

    #[test]
    fn similarity_is_that_of_the_textbook() {
        // Values of Winkler's own table, to its four places.
        for (one, other, wanted) in
            [("MARTHA", "MARHTA", 0.9611), ("DWAYNE", "DUANE", 0.8400), ("DIXON", "DICKSONX", 0.8133)]
        {
            assert!((jaro_winkler(one, other) - wanted).abs() < 5e-5, "{one} {other}: {}", jaro_winkler(one, other));
            assert_eq!(jaro_winkler(one, other), jaro_winkler(other, one));
        }
        assert_eq!((jaro_winkler("a", "b"), jaro_winkler("a", "a"), jaro_winkler("a", "")), (0.0, 1.0, 0.0));
    }

    #[test]
    fn any_term_finds_and_the_best_score_counts() {
        let terms = |terms: &[&str], algorithm, threshold, minds_case| {
            Terms::new(terms.iter().map(|term| (*term).to_owned()).collect(), algorithm, threshold, minds_case)
        };
        let of = |terms: Terms, text: &str| terms.score(text);
        use Algorithm::{JaroWinkler, Subsequence};
        assert_eq!(of(terms(&[], Subsequence, 1.0, true), "up"), Some(1.0));
        assert_eq!(of(terms(&["nod", "xyz"], Subsequence, 0.9, true), "node_load1"), Some(1.0));
        assert_eq!(of(terms(&["NOD"], Subsequence, 0.0, true), "node_load1"), None);
        assert_eq!(of(terms(&["NOD"], Subsequence, 0.0, false), "node_load1"), Some(1.0));
        assert_eq!(of(terms(&["nl1"], Subsequence, 0.9, true), "node_load1"), None);
        assert!(of(terms(&["nl1"], Subsequence, 0.0, true), "node_load1").is_some_and(|score| score < 0.3));
        assert_eq!(of(terms(&["load"], JaroWinkler, 0.0, true), "node_load1"), Some(0.9));
        assert_eq!(of(terms(&["laod"], JaroWinkler, 0.0, true), "load"), None, "not asked to be lenient");
        assert!(of(terms(&["laod"], JaroWinkler, 0.8, true), "load").is_some());
    }
}
