//! `count_values`: as many series per group as there are different values.

use std::borrow::Cow;
use std::collections::HashMap;

use kymo_core::query::QueryError;
use kymo_core::text::write_float_plain;
use kymo_core::{Labels, LabelsBuilder};

use super::fold::Folding;
use crate::eval::column::{Column, Series, Vector};
use crate::eval::labels::Projection;
use crate::eval::notes::Notes;
use crate::eval::{Evaluator, invalid};
use crate::parser::{Aggregate, NodeId, string_literal_bytes};

/// Groups and values with how often there are such samples.
pub(super) struct ValueCounts<'a> {
    without: bool,
    grouping: Cow<'a, [String]>,
    label: String,
    steps: usize,
    at: HashMap<Labels, usize, foldhash::fast::RandomState>,
    /// Of the series at hand, by the bits of values.
    known: HashMap<u64, usize, foldhash::fast::RandomState>,
    text: String,
    out: Vector,
}

impl ValueCounts<'_> {
    /// The place of a value, whose text is in `text`.
    fn place(&mut self, labels: &Labels) -> Result<usize, QueryError> {
        let by = if self.without { Projection::Drop(&self.grouping) } else { Projection::Keep(&self.grouping) };
        let labels = by.of(&LabelsBuilder::from_labels(labels.as_ref()).set(&self.label, &self.text).labels());
        if let Some(&place) = self.at.get(&labels) {
            return Ok(place);
        }
        self.out.hold.grow_bytes(Column::bytes(self.steps))?;
        let column = Column::empty(self.steps);
        self.out.series.push(Series { labels: labels.clone(), drop_name: false, column });
        self.at.insert(labels, self.out.series.len() - 1);
        Ok(self.out.series.len() - 1)
    }
}

impl Folding for ValueCounts<'_> {
    fn add(&mut self, series: &Series, _: &mut Notes<'_>) -> Result<(), QueryError> {
        self.known.clear();
        for step in series.column.floats.iter() {
            let value = series.column.values[step];
            let place = match self.known.get(&value.to_bits()) {
                Some(&place) => place,
                None => {
                    self.text.clear();
                    write_float_plain(&mut self.text, value);
                    let place = self.place(&series.labels)?;
                    self.known.insert(value.to_bits(), place);
                    place
                }
            };
            count(&mut self.out.series[place].column, step);
        }
        for (step, histogram) in &series.column.histograms {
            self.text = histogram.to_string();
            let place = self.place(&series.labels)?;
            count(&mut self.out.series[place].column, *step as usize);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Notes<'_>) -> Result<Vector, QueryError> {
        let mut out = self.out;
        out.hold.grow_samples(out.series.iter().map(|s| s.column.len()).sum())?;
        Ok(out)
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn value_counts(&self, what: &'a Aggregate, steps: usize) -> Result<ValueCounts<'a>, QueryError> {
        let label = self.value_label(what.param.expect("the parser gives count_values its label"))?;
        let mut grouping = Cow::Borrowed(what.grouping.as_slice());
        if !what.without {
            grouping.to_mut().push(label.clone());
        }
        Ok(ValueCounts {
            without: what.without,
            grouping,
            label,
            steps,
            at: HashMap::default(),
            known: HashMap::default(),
            text: String::new(),
            out: self.empty()?,
        })
    }

    fn value_label(&self, param: NodeId) -> Result<String, QueryError> {
        let span = self.span(param);
        let literal = &self.text[span.start as usize..span.end as usize];
        match String::from_utf8(string_literal_bytes(literal)) {
            Ok(label) if !label.is_empty() => Ok(label),
            Ok(_) => Err(invalid("invalid label name \"\"")),
            Err(error) => Err(invalid(format!("invalid label name {}", quoted_bytes(error.as_bytes())))),
        }
    }
}

fn count(column: &mut Column, step: usize) {
    let so_far = column.float(step).unwrap_or(0.0);
    column.set(step, so_far + 1.0);
}

/// Go's `%q` of bytes that need not be UTF-8.
fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let text = crate::eval::notes::quoted(chunk.valid());
        out.push_str(&text[1..text.len() - 1]);
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_does() {
        assert_eq!(quoted_bytes(b"a\xc5z"), "\"a\\xc5z\"");
        assert_eq!(quoted_bytes("ä\"".as_bytes()), "\"ä\\\"\"");
    }
}
