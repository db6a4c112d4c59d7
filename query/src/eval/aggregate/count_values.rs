//! `count_values`: as many series per group as there are different values.

use std::collections::HashMap;

use kymo_core::query::QueryError;
use kymo_core::text::write_float_plain;
use kymo_core::{Labels, LabelsBuilder};

use super::projection;
use crate::eval::column::{Column, Series, Vector};
use crate::eval::labels::Projection;
use crate::eval::{Evaluator, invalid};
use crate::parser::{Aggregate, NodeId, string_literal_bytes};

impl Evaluator<'_> {
    pub(super) fn count_values(&mut self, id: NodeId, what: &Aggregate) -> Result<Vector, QueryError> {
        let steps = self.grid(id).steps();
        let param = what.param.expect("the parser gives count_values its label");
        let label = self.value_label(param)?;
        let vector = self.take_vector(what.expr);
        let mut grouping = what.grouping.clone();
        if !what.without {
            grouping.push(label.clone());
        }
        let by = match projection(what) {
            Projection::Drop(_) => Projection::Drop(&grouping),
            Projection::Keep(_) => Projection::Keep(&grouping),
        };
        let mut out = self.empty()?;
        let mut at: HashMap<Labels, usize> = HashMap::new();
        let mut known: HashMap<u64, usize> = HashMap::new();
        let mut text = String::new();
        for series in &vector.series {
            self.meter.check()?;
            let mut place = |text: &str, out: &mut Vector| -> Result<usize, QueryError> {
                let labels = LabelsBuilder::from_labels(series.labels.as_ref()).set(&label, text).labels();
                let labels = by.of(&labels);
                if let Some(&idx) = at.get(&labels) {
                    return Ok(idx);
                }
                out.hold.grow_bytes(Column::bytes(steps))?;
                let column = Column::empty(steps);
                out.series.push(Series { labels: labels.clone(), drop_name: false, column });
                at.insert(labels, out.series.len() - 1);
                Ok(out.series.len() - 1)
            };
            known.clear();
            for step in series.column.floats.iter() {
                let value = series.column.values[step];
                let idx = match known.get(&value.to_bits()) {
                    Some(&idx) => idx,
                    None => {
                        text.clear();
                        write_float_plain(&mut text, value);
                        let idx = place(&text, &mut out)?;
                        known.insert(value.to_bits(), idx);
                        idx
                    }
                };
                count(&mut out.series[idx].column, step);
            }
            for (step, histogram) in &series.column.histograms {
                let idx = place(&histogram.to_string(), &mut out)?;
                count(&mut out.series[idx].column, *step as usize);
            }
        }
        out.hold.grow_samples(out.series.iter().map(|s| s.column.len()).sum())?;
        Ok(out)
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
