//! What the formats have in common: where names, labels and values stand in a line.

use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};
use kymo_core::text::{is_legacy_label_name, is_legacy_metric_name, write_escaped_label_value};

use super::format::Escaping;
use super::names::Names;

/// Writes a number as the format does.
pub(super) type WriteFloat = fn(&mut Vec<u8>, f64);

/// Every family with its name as it is written.
pub(super) fn named(
    escaping: Escaping,
    families: &[FamilySnapshot],
) -> impl Iterator<Item = (String, &FamilySnapshot)> {
    let mut names = Names::of_metrics(escaping, families.iter().map(|family| family.name.as_str()));
    families.iter().map(move |family| (names.written(&family.name).into_owned(), family))
}

/// `# TYPE name `, or another keyword.
pub(super) fn start_comment(out: &mut Vec<u8>, keyword: &str, name: &str) {
    out.extend_from_slice(b"# ");
    out.extend_from_slice(keyword.as_bytes());
    out.push(b' ');
    write_name(out, name, is_legacy_metric_name(name));
    out.push(b' ');
}

/// `a="1","b.c"="2"`, shared by all lines of a series.
pub(super) fn label_text<'a>(escaping: Escaping, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let mut text = Vec::new();
    let mut names = Names::of_labels(escaping, labels.clone().map(|(name, _)| name));
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(b',');
        }
        let name = names.written(name);
        write_name(&mut text, &name, is_legacy_label_name(&name));
        text.extend_from_slice(b"=\"");
        write_escaped_label_value(&mut text, value);
        text.push(b'"');
    }
    text
}

fn write_name(out: &mut Vec<u8>, name: &str, is_plain: bool) {
    if is_plain {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        write_escaped_label_value(out, name);
        out.push(b'"');
    }
}

/// The lines of one series.
pub(super) struct Lines<'a> {
    out: &'a mut Vec<u8>,
    name: &'a str,
    labels: Vec<u8>,
    write_float: WriteFloat,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        escaping: Escaping,
        name: &'a str,
        series: &SeriesSnapshot,
        write_float: WriteFloat,
    ) -> Lines<'a> {
        let labels = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Lines { out, name, labels: label_text(escaping, labels), write_float }
    }

    /// `name_suffix{labels,extra="bound"} value`, without the line's end.
    pub(super) fn sample(
        &mut self,
        suffix: &str,
        extra: Option<(&str, f64)>,
        write_value: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Vec<u8> {
        let is_plain = is_legacy_metric_name(self.name);
        let out = &mut *self.out;
        if is_plain {
            out.extend_from_slice(self.name.as_bytes());
            out.extend_from_slice(suffix.as_bytes());
        }
        if !is_plain || extra.is_some() || !self.labels.is_empty() {
            out.push(b'{');
            let start = out.len();
            if !is_plain {
                // Suffixes need no escape, so the closing quote is all that comes behind one.
                write_name(out, self.name, false);
                out.pop();
                out.extend_from_slice(suffix.as_bytes());
                out.push(b'"');
            }
            let separate = |out: &mut Vec<u8>| {
                if out.len() > start {
                    out.push(b',');
                }
            };
            if !self.labels.is_empty() {
                separate(out);
                out.extend_from_slice(&self.labels);
            }
            if let Some((label, bound)) = extra {
                separate(out);
                out.extend_from_slice(label.as_bytes());
                out.extend_from_slice(b"=\"");
                (self.write_float)(out, bound);
                out.push(b'"');
            }
            out.push(b'}');
        }
        out.push(b' ');
        write_value(out);
        out
    }

    pub(super) fn float(&mut self, suffix: &str, extra: Option<(&str, f64)>, value: f64) -> &mut Vec<u8> {
        let write_float = self.write_float;
        self.sample(suffix, extra, |out| write_float(out, value))
    }
}
