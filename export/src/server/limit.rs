//! How long a request body may be.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};

/// Refuses bodies longer than `bytes_max` with 413.
///
/// The answer does not depend on what the route makes of the error it reads: under several limits an
/// error is wrapped several times, and axum's extractors no longer recognise it.
pub(super) async fn body<F: Future<Output = Response>>(
    bytes_max: usize,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let need = announced.map(|length| format!(" of {length} bytes")).unwrap_or_default();
        let text = format!(
            "the request body{need} is longer than the limit of {bytes_max} bytes, which is fixed; send it in parts\n"
        );
        (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
    };
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return too_large();
    }
    let exceeded = Arc::new(AtomicBool::new(false));
    let watched = exceeded.clone();
    let response = next(request.map(|body| Body::new(Watched { body: Limited::new(body, bytes_max), exceeded }))).await;
    // Relaxed: body and answer belong to one task.
    if watched.load(Ordering::Relaxed) && response.status() != StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    response
}

/// A limited body that remembers that it was too long.
struct Watched {
    body: Limited<Body>,
    exceeded: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &frame {
            if error.is::<LengthLimitError>() {
                self.exceeded.store(true, Ordering::Relaxed);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
