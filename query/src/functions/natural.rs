//! Natural order of label values: runs of digits compare as numbers.
//!
//! The order of the Go package `natsort`, which `sort_by_label` uses.

use std::cmp::Ordering;

/// Compares two values.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut left, mut right) = (Chunks(a), Chunks(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) => {
                let order = match (is_number(x), is_number(y)) {
                    (true, true) => numbers(x, y),
                    _ => x.cmp(y),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

fn is_number(chunk: &str) -> bool {
    chunk.starts_with(|c: char| c.is_ascii_digit())
}

/// By value; of equal values the one written shorter comes first.
fn numbers(x: &str, y: &str) -> Ordering {
    let (a, b) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b)).then_with(|| x.len().cmp(&y.len()))
}

/// Runs of digits and of other characters, in turn.
struct Chunks<'a>(&'a str);

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let digits = self.0.chars().next()?.is_ascii_digit();
        let end = self.0.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(self.0.len());
        let (chunk, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_text_sort_by_value() {
        let mut values = ["v10", "v9", "v1.10", "v1.9", "", "a", "v010", "12", "3"];
        values.sort_by(|a, b| compare(a, b));
        assert_eq!(values, ["", "3", "12", "a", "v1.9", "v1.10", "v9", "v10", "v010"]);
    }
}
