//! One request, one page.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::exposition::{Exposition, Format};
use crate::listen::{Answer, BearerTokens};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What is shown, where, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Page {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: String,
    tokens: BearerTokens,
    exposition: Exposition,
}

impl Page {
    pub(super) fn new(path: String, tokens: BearerTokens, exposition: Exposition) -> Page {
        Page { inner: Arc::new(Inner { path, tokens, exposition }) }
    }

    /// The answer to a request, whose body is not looked at.
    pub(super) fn answer_to<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Inner { path, tokens, exposition } = &*self.inner;
        let headers = request.headers();
        if !tokens.is_open() && !tokens.accept(headers) {
            return refused(StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, "Bearer", "a token is needed\n");
        }
        if request.uri().path() != path {
            let text = format!("only {path} is here\n");
            return plain(StatusCode::NOT_FOUND, text);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let text = "metrics can only be read\n";
            return refused(StatusCode::METHOD_NOT_ALLOWED, header::ALLOW, "GET, HEAD", text);
        }
        let ranges: Vec<&str> = all(headers, header::ACCEPT).collect();
        let format = Format::negotiate(&ranges.join(","));
        // Families come from closures of the program, whose faults are not ours to die of.
        let Ok(page) = catch_unwind(AssertUnwindSafe(|| exposition.render(format))) else {
            tracing::error!("making the metrics page failed on a fault of the program");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be made\n".to_owned());
        };
        let mut response = Response::new(Full::default());
        let head = response.headers_mut();
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        head.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
        let page = if accepts_gzip(headers) {
            head.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip(&page)
        } else {
            page
        };
        // Said by hand because of HEAD, whose answer has the length and not the bytes.
        head.insert(header::CONTENT_LENGTH, HeaderValue::from(page.len()));
        if *request.method() != Method::HEAD {
            *response.body_mut() = Full::from(page);
        }
        response
    }
}

impl Answer for Page {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn answer(&self, request: Request<Incoming>, _: SocketAddr) -> Self::Future {
        ready(Ok(self.answer_to(&request)))
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAIN));
    response
}

fn refused(status: StatusCode, name: HeaderName, value: &'static str, text: &str) -> Response<Full<Bytes>> {
    let mut response = plain(status, text.to_owned());
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn all(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// Whether the client says that it takes gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = all(headers, header::ACCEPT_ENCODING).flat_map(|value| value.split(','));
    let mut accepted = None;
    for coding in codings {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_refused = |part: &str| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse::<f64>().is_ok_and(|weight| weight == 0.0))
        };
        let is_wanted = !parts.any(is_refused);
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return is_wanted;
        }
        if name == "*" {
            accepted = Some(is_wanted);
        }
    }
    accepted.unwrap_or(false)
}

fn gzip(page: &[u8]) -> Vec<u8> {
    // A page is text that repeats itself: level 1 takes a third of the default's time for a tenth more bytes.
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8 + 64), Compression::fast());
    // A vector takes all that is written to it.
    let written = encoder.write_all(page).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        for (said, wanted) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("*", true),
            ("br, zstd", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, said.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), wanted, "{said}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
