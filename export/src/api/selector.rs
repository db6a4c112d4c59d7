//! `match[]` read by the PromQL parser.

use kymo_core::Matcher;
use kymo_query::parser::{ParseOptions, parse_metric_selector};

/// The matchers of one selector such as `up{job=~"a|b"}`.
///
/// The refusal is the parser's text with its position: `1:4: parse error: …`.
pub(super) fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let matchers = parse_metric_selector(text, &ParseOptions::default()).map_err(|e| e.to_string())?;
    matchers.into_iter().map(|m| Matcher::new(m.name, m.op, m.value).map_err(|e| e.to_string())).collect()
}
