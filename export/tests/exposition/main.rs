//! Pages as others read them, and pages made again and again.

mod again;
mod back;
mod peers;
mod reference;
#[cfg(feature = "metrics-server")]
mod scraped;

use kymo_export::exposition::{Escaping, Format};

/// Every format there is.
pub(crate) fn formats() -> impl Iterator<Item = Format> {
    let escapings = [Escaping::Underscores, Escaping::Dots, Escaping::Values, Escaping::AllowUtf8];
    let of_each = escapings
        .into_iter()
        .flat_map(|escaping| [Format::Text100(escaping), Format::OpenMetrics100(escaping), Format::Protobuf(escaping)]);
    [Format::Text004, Format::OpenMetrics001].into_iter().chain(of_each)
}
