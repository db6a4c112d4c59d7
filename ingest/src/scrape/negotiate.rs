//! Which format is asked for, and which one an answer is in.

use serde::{Deserialize, Serialize};

use crate::exposition::Format;

/// A format that targets can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub enum ScrapeProtocol {
    /// Delimited protobuf.
    PrometheusProto,
    /// Text 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    /// Text 1.0.0: names in quotes.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText100,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText001,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
}

impl ScrapeProtocol {
    /// What is asked for unless the job says something else.
    #[must_use]
    pub fn defaults(native_histograms: bool) -> Vec<ScrapeProtocol> {
        let mut protocols = vec![
            ScrapeProtocol::OpenMetricsText100,
            ScrapeProtocol::OpenMetricsText001,
            ScrapeProtocol::PrometheusText100,
            ScrapeProtocol::PrometheusText004,
        ];
        if native_histograms {
            protocols.insert(0, ScrapeProtocol::PrometheusProto);
        }
        protocols
    }

    /// The name in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::PrometheusText004 => "PrometheusText0.0.4",
            ScrapeProtocol::PrometheusText100 => "PrometheusText1.0.0",
            ScrapeProtocol::OpenMetricsText001 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetricsText100 => "OpenMetricsText1.0.0",
        }
    }

    /// The parser for it.
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            ScrapeProtocol::PrometheusProto => Format::Protobuf,
            ScrapeProtocol::PrometheusText004 | ScrapeProtocol::PrometheusText100 => Format::Text,
            ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100 => Format::OpenMetrics,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            ScrapeProtocol::PrometheusText004 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText100 => "text/plain;version=1.0.0",
            ScrapeProtocol::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
        }
    }
}

/// Which names of metrics and labels are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum NameValidation {
    /// Any UTF-8 text.
    #[default]
    Utf8,
    /// Letters, digits and underscores, and colons in names of metrics.
    Legacy,
}

/// How targets are asked to write names that are not legacy ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum NameEscaping {
    /// As they are.
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    /// With underscores in the place of what is not allowed.
    Underscores,
    /// With `_dot_` and the like.
    Dots,
    /// With the code points of what is not allowed.
    Values,
}

impl NameEscaping {
    /// What is asked for unless the job says something else.
    #[must_use]
    pub fn default_of(names: NameValidation) -> NameEscaping {
        match names {
            NameValidation::Utf8 => NameEscaping::AllowUtf8,
            NameValidation::Legacy => NameEscaping::Underscores,
        }
    }

    /// The name in a configuration and in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }
}

/// Formats there are; the best one asked for has one more as its weight in tenths.
const PROTOCOLS: usize = 5;

/// The `Accept` header, as Prometheus 3 writes it: weights fall with the order, anything else is accepted last.
pub(super) fn accept_header(protocols: &[ScrapeProtocol], escaping: NameEscaping) -> String {
    let mut header = String::new();
    let mut weight = PROTOCOLS + 1;
    for protocol in protocols {
        header += protocol.media_type();
        if matches!(protocol, ScrapeProtocol::PrometheusText100 | ScrapeProtocol::OpenMetricsText100) {
            header += &format!(";escaping={}", escaping.as_str());
        }
        header += &format!(";q=0.{weight},");
        weight -= 1;
    }
    header + &format!("*/*;q=0.{weight}")
}

/// An answer whose format is not known and for which the job names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    /// No content type.
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    Blank,
    /// Something that is no content type.
    #[error("cannot parse Content-Type {content_type:?} and no fallback_scrape_protocol for target")]
    Malformed {
        /// What was sent.
        content_type: String,
    },
    /// A content type of something else.
    #[error("received unsupported Content-Type {content_type:?} and no fallback_scrape_protocol specified for target")]
    Unsupported {
        /// What was sent.
        content_type: String,
    },
}

/// The format of an answer by its content type, or else by the job's fallback.
///
/// # Errors
/// [`ContentTypeError`] without a fallback.
pub(super) fn format_of(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Format, ContentTypeError> {
    let known = media_type(content_type).and_then(|media_type| match media_type.as_str() {
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => Ok(Format::Protobuf),
        "text/plain" => Ok(Format::Text),
        _ => Err(ContentTypeError::Unsupported { content_type: content_type.to_owned() }),
    });
    match (known, fallback) {
        (Err(_), Some(fallback)) => Ok(fallback.format()),
        (known, _) => known,
    }
}

/// Type and subtype in lower case; the parameters must be `name=value`, and are otherwise not looked at.
fn media_type(content_type: &str) -> Result<String, ContentTypeError> {
    if content_type.is_empty() {
        return Err(ContentTypeError::Blank);
    }
    let malformed = || ContentTypeError::Malformed { content_type: content_type.to_owned() };
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    let whole = media_type.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    let parameters = parts.map(str::trim).filter(|part| !part.is_empty());
    let sound = |part: &str| {
        part.split_once('=').is_some_and(|(name, value)| is_token(name.trim()) && !value.trim().is_empty())
    };
    if !whole || !parameters.into_iter().all(sound) {
        return Err(malformed());
    }
    Ok(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_own_header_is_sent() {
        assert_eq!(
            accept_header(&ScrapeProtocol::defaults(false), NameEscaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        let with_protobuf = accept_header(&ScrapeProtocol::defaults(true), NameEscaping::Underscores);
        assert!(with_protobuf.starts_with("application/vnd.google.protobuf;") && with_protobuf.ends_with("*/*;q=0.1"));
        assert!(with_protobuf.contains("text/plain;version=1.0.0;escaping=underscores;q=0.3"), "{with_protobuf}");
    }

    #[test]
    fn a_bad_content_type_is_a_failure_unless_the_job_names_a_format() {
        let text = Some(ScrapeProtocol::PrometheusText004);
        let unsupported = |content_type: &str| ContentTypeError::Unsupported { content_type: content_type.to_owned() };
        let malformed = |content_type: &str| ContentTypeError::Malformed { content_type: content_type.to_owned() };
        let table = [
            ("text/plain", None, Ok(Format::Text)),
            ("Text/Plain; charset=utf-8", None, Ok(Format::Text)),
            ("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", None, Ok(Format::Text)),
            ("text/plain;", None, Ok(Format::Text)),
            ("application/openmetrics-text; version=1.0.0", text, Ok(Format::OpenMetrics)),
            ("application/vnd.google.protobuf; proto=\"x\"", None, Ok(Format::Protobuf)),
            ("", None, Err(ContentTypeError::Blank)),
            ("", text, Ok(Format::Text)),
            ("text/html", None, Err(unsupported("text/html"))),
            ("text/html", text, Ok(Format::Text)),
            ("text/plain; version", None, Err(malformed("text/plain; version"))),
            ("text/plain; version", text, Ok(Format::Text)),
            ("/", None, Err(malformed("/"))),
            ("plain", None, Err(malformed("plain"))),
        ];
        for (content_type, fallback, wanted) in table {
            assert_eq!(format_of(content_type, fallback), wanted, "{content_type:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for protocol in ScrapeProtocol::defaults(true) {
            let json = format!("{:?}", protocol.as_str());
            assert_eq!(serde_json::from_str::<ScrapeProtocol>(&json).unwrap(), protocol);
        }
    }
}
