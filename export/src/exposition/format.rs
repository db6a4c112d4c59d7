//! Which format a client understands.

/// A format, as content types name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text, which every client understands.
    Text004,
    /// Prometheus text in which names may be quoted.
    Text100(Escaping),
    /// The draft of OpenMetrics.
    OpenMetrics001,
    /// OpenMetrics.
    OpenMetrics100(Escaping),
    /// Delimited messages of `io.prometheus.client.MetricFamily`: the only one that holds native histograms.
    Protobuf(Escaping),
}

/// What becomes of names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Escaping {
    /// Odd characters become `_`.
    #[default]
    Underscores,
    /// Dots become `_dot_`, and `_` and all other odd characters `__`.
    Dots,
    /// Odd names become `U__…` with their odd characters' code points, which a reader can undo.
    Values,
    /// Names are written as they are, in quotes.
    AllowUtf8,
}

impl Escaping {
    /// As a content type names it.
    const ALL: [(&'static str, Escaping); 4] = [
        ("underscores", Escaping::Underscores),
        ("dots", Escaping::Dots),
        ("values", Escaping::Values),
        ("allow-utf-8", Escaping::AllowUtf8),
    ];
}

impl Format {
    /// The format that an `Accept` header likes best of those spoken here; of several liked alike, the first. Text 0.0.4
    /// if it names none, as with any header that makes no sense.
    ///
    /// An `escaping` that is not spoken here, or none, means underscores; the answer's content type says so.
    #[must_use]
    pub fn negotiate(accept: &str) -> Format {
        let mut best = (Format::Text004, 0.0);
        for range in accept.split(',') {
            if let Some((format, weight)) = acceptable(range) {
                if weight > best.1 {
                    best = (format, weight);
                }
            }
        }
        best.0
    }

    /// The `Content-Type` of a page.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        use Escaping::{AllowUtf8, Dots, Underscores, Values};
        match self {
            Format::Text004 => "text/plain; version=0.0.4; charset=utf-8",
            Format::Text100(Underscores) => "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
            Format::Text100(Dots) => "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
            Format::Text100(Values) => "text/plain; version=1.0.0; charset=utf-8; escaping=values",
            Format::Text100(AllowUtf8) => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            Format::OpenMetrics001 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Format::OpenMetrics100(Underscores) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
            Format::OpenMetrics100(Dots) => "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
            Format::OpenMetrics100(Values) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=values"
            }
            Format::OpenMetrics100(AllowUtf8) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
            }
            Format::Protobuf(Underscores) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
            }
            Format::Protobuf(Dots) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=dots"
            }
            Format::Protobuf(Values) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=values"
            }
            Format::Protobuf(AllowUtf8) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
            }
        }
    }

    pub(super) const fn is_open_metrics(self) -> bool {
        matches!(self, Format::OpenMetrics001 | Format::OpenMetrics100(_))
    }

    /// Whether it can say what was traced.
    pub(super) const fn has_exemplars(self) -> bool {
        self.is_open_metrics() || matches!(self, Format::Protobuf(_))
    }

    /// How names are written. Formats before 1.0.0 have no other way than underscores.
    #[must_use]
    pub const fn escaping(self) -> Escaping {
        match self {
            Format::Text004 | Format::OpenMetrics001 => Escaping::Underscores,
            Format::Text100(escaping) | Format::OpenMetrics100(escaping) | Format::Protobuf(escaping) => escaping,
        }
    }
}

/// The message that each family is, in the form with lengths.
const MESSAGE: &str = "io.prometheus.client.MetricFamily";

/// The format of a media range, and how much it is liked; `None` if it is none of ours.
fn acceptable(range: &str) -> Option<(Format, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (mut version, mut escaping, mut weight) = ("", Escaping::default(), 1.0);
    let (mut message, mut encoding) = ("", "");
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.parse().ok()?,
            "version" => version = value,
            "escaping" => {
                let known = Escaping::ALL.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
                escaping = known.map(|(_, known)| *known).unwrap_or_default();
            }
            "proto" => message = value,
            "encoding" => encoding = value,
            _ => {}
        }
    }
    let format = match (media_type.as_str(), version) {
        ("text/plain", "" | "0.0.4") | ("text/*" | "*/*", _) => Format::Text004,
        ("text/plain", "1.0.0") => Format::Text100(escaping),
        ("application/openmetrics-text", "" | "0.0.1") => Format::OpenMetrics001,
        ("application/openmetrics-text", "1.0.0") => Format::OpenMetrics100(escaping),
        // Other encodings of the same message are text for people.
        ("application/vnd.google.protobuf", _) if message == MESSAGE && encoding == "delimited" => {
            Format::Protobuf(escaping)
        }
        _ => return None,
    };
    Some((format, weight))
}

#[cfg(test)]
mod tests {
    use super::Escaping::{AllowUtf8, Dots, Underscores, Values};
    use super::Format::{OpenMetrics001, OpenMetrics100, Protobuf, Text004, Text100};
    use super::*;

    #[test]
    fn the_best_liked_format_is_spoken() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let with_protobuf = format!(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,{prometheus}"
        );
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, wanted) in [
            ("", Text004),
            ("*/*", Text004),
            (browser, Text004),
            ("text/plain", Text004),
            ("text/plain;version=1.0.0", Text100(Underscores)),
            ("Text/Plain; Version=\"1.0.0\"; Escaping=allow-utf-8", Text100(AllowUtf8)),
            ("text/plain;version=2.0.0", Text004),
            ("application/openmetrics-text", OpenMetrics001),
            ("application/openmetrics-text; version=0.0.1; escaping=allow-utf-8", OpenMetrics001),
            ("application/openmetrics-text; version=1.0.0", OpenMetrics100(Underscores)),
            ("application/openmetrics-text; version=1.0.0; escaping=dots", OpenMetrics100(Dots)),
            ("application/openmetrics-text; version=1.0.0; escaping=values", OpenMetrics100(Values)),
            ("application/openmetrics-text; version=1.0.0; escaping=commas", OpenMetrics100(Underscores)),
            (prometheus, OpenMetrics100(AllowUtf8)),
            (with_protobuf.as_str(), Protobuf(Underscores)),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Text004),
            ("application/vnd.google.protobuf;proto=some.other.Message;encoding=delimited", Text004),
            ("text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.4", Text004),
            ("text/plain;version=0.0.4;q=0.4, application/openmetrics-text;version=0.0.1;q=0.5", OpenMetrics001),
            ("application/openmetrics-text;version=1.0.0;q=0", Text004),
            ("application/openmetrics-text;version=1.0.0;q=x", Text004),
            ("application/openmetrics-text;version=1.0.0;q=NaN", Text004),
            ("application/json", Text004),
            (";;,=;q=,", Text004),
        ] {
            assert_eq!(Format::negotiate(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn what_is_said_is_what_was_asked() {
        let escapings = Escaping::ALL.map(|(_, escaping)| escaping);
        let all = [Text004, OpenMetrics001].into_iter().chain(escapings.map(Text100));
        for format in all.chain(escapings.map(OpenMetrics100)).chain(escapings.map(Protobuf)) {
            assert_eq!(Format::negotiate(format.content_type()), format);
        }
    }
}
