//! Which message a request carries, from its headers alone.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use super::Version;

/// Why the headers do not name a message that is understood here; the answer is 415.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NegotiationError {
    #[error(
        "content type {found:?} is not supported; send application/x-protobuf, with proto=prometheus.WriteRequest or \
         proto=io.prometheus.write.v2.Request"
    )]
    ContentType { found: String },
    #[error("content encoding {found:?} is not supported; send snappy")]
    ContentEncoding { found: String },
}

/// Decides by content type and encoding; the version header is never asked.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Version, NegotiationError> {
    let encoding = single(headers, &CONTENT_ENCODING);
    let content_type = single(headers, &CONTENT_TYPE);
    let version = content_type.as_deref().ok().and_then(version).ok_or_else(|| {
        let found = content_type.unwrap_or_else(|found| found);
        NegotiationError::ContentType { found }
    })?;
    match encoding {
        Ok(encoding) if encoding.trim().eq_ignore_ascii_case("snappy") => Ok(version),
        Ok(found) | Err(found) => Err(NegotiationError::ContentEncoding { found }),
    }
}

/// The text of a header that stands exactly once; `Err` holds whatever was found instead.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<String, String> {
    let texts: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    match <[String; 1]>::try_from(texts) {
        Ok([text]) => Ok(text),
        Err(texts) => Err(texts.join(", ")),
    }
}

/// Reads a content type as RFC 9110 writes it. Unknown parameters are ignored; one that is not `name=value`, an
/// unknown message, or two different messages make it unknown.
fn version(content_type: &str) -> Option<Version> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
        return None;
    }
    let mut version = None;
    for parameter in parts.filter(|part| !part.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        if !name.eq_ignore_ascii_case("proto") {
            continue;
        }
        let value = value.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"')).unwrap_or(value);
        let named = [Version::V1, Version::V2].into_iter().find(|version| version.message() == value)?;
        if version.replace(named).is_some_and(|before| before != named) {
            return None;
        }
    }
    Some(version.unwrap_or(Version::V1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_names_the_message_and_anything_else_is_unknown() {
        let table = [
            ("application/x-protobuf", Some(Version::V1)),
            ("Application/X-Protobuf ", Some(Version::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Version::V1)),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Version::V2)),
            ("application/x-protobuf ; Proto=\"io.prometheus.write.v2.Request\"; charset=x", Some(Version::V2)),
            ("application/x-protobuf;charset=utf-8;", Some(Version::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest;proto=io.prometheus.write.v2.Request", None),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/x-protobuf;proto=", None),
            ("application/x-protobuf;proto", None),
            ("application/x-protobufs", None),
            ("application/json", None),
            ("text/plain;proto=prometheus.WriteRequest", None),
            ("", None),
        ];
        for (content_type, wanted) in table {
            assert_eq!(version(content_type), wanted, "{content_type:?}");
        }
    }

    #[test]
    fn only_snappy_once_is_an_encoding() {
        let negotiated = |encodings: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_TYPE, "application/x-protobuf".parse().unwrap());
            headers.append("x-prometheus-remote-write-version", "2.0.0".parse().unwrap());
            for encoding in encodings {
                headers.append(CONTENT_ENCODING, encoding.parse().unwrap());
            }
            negotiate(&headers)
        };
        assert_eq!(negotiated(&["snappy"]), Ok(Version::V1));
        assert_eq!(negotiated(&["Snappy"]), Ok(Version::V1));
        for bad in [&[] as &[_], &["gzip"], &["identity"], &["zstd"], &["snappy, gzip"], &["snappy", "snappy"]] {
            assert!(matches!(negotiated(bad), Err(NegotiationError::ContentEncoding { .. })), "{bad:?}");
        }
    }
}
