//! `# HELP`, `# TYPE`, `# UNIT`: what both text formats say alike.

use kymo_core::FamilyType;

use super::error::Fault;
use super::scan::{Newlines, Scan};
use super::{Escapes, RawText};

/// What a metadata line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Help,
    Type,
    Unit,
}

impl Keyword {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Keyword::Help => "HELP",
            Keyword::Type => "TYPE",
            Keyword::Unit => "UNIT",
        }
    }
}

/// The name of a family, bare or in quotes.
pub(super) fn family<'a>(scan: &mut Scan<'a>, keyword: Keyword) -> Result<RawText<'a>, Fault> {
    let missing = Fault::FamilyName { keyword: keyword.as_str() };
    let start = scan.at;
    let (name, escapes) = match scan.quoted(Newlines::Allowed) {
        Some(name) => (name, Escapes::Quoted),
        None if scan.metric_name() => ((start, scan.at), Escapes::No),
        None => return Err(missing),
    };
    if name.0 == name.1 {
        return Err(missing);
    }
    Ok(RawText::new(scan.text(name.0, name.1, "metric name")?, escapes))
}

/// A type by the name OpenMetrics gives it.
pub(super) fn open_metrics_type(name: &[u8]) -> Option<FamilyType> {
    (0..=7).filter_map(FamilyType::from_u8).find(|known| known.as_str().as_bytes() == name)
}

/// A type by the name text 0.0.4 gives it.
pub(super) fn text_type(name: &[u8]) -> Option<FamilyType> {
    Some(match name {
        b"counter" => FamilyType::Counter,
        b"gauge" => FamilyType::Gauge,
        b"histogram" => FamilyType::Histogram,
        b"summary" => FamilyType::Summary,
        b"untyped" => FamilyType::Unknown,
        _ => return None,
    })
}
