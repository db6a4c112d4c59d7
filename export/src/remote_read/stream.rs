//! The streamed answer: a frame for every series, `length (uvarint) · CRC32-C (4 bytes, big-endian) · message`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use kymo_core::storage::CancelFlag;
use kymo_core::{Columns, MetricStorage, QueryContext, Reservation};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::wire::{Chunk, ChunkedReadResponse, ChunkedSeries};
use super::{Asked, Refused, chunk, merged, select};
use crate::api::{ApiState, Place};
use crate::status::ApiError;

/// Frames that are ready before the client takes them.
const READY_MAX: usize = 4;
/// A series is told in several frames if its chunks take more than this: Prometheus' default of
/// `--storage.remote.read-max-bytes-in-frame`.
const FRAME_BYTES_MAX: usize = 1 << 20;

type Ready = Result<(Bytes, Reservation), Failed>;

/// Why an answer was cut short.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(String);

/// The body of a streamed answer. Dropping it cancels what makes it.
pub(super) struct Stream {
    frames: mpsc::Receiver<Ready>,
    cancel: CancelFlag,
    /// Memory of the frame that is being sent.
    sending: Option<Reservation>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.sending = None;
        self.frames.poll_recv(cx).map(|ready| {
            let (bytes, reserved) = match ready? {
                Ok(ready) => ready,
                Err(failed) => return Some(Err(failed)),
            };
            self.sending = Some(reserved);
            Some(Ok(Frame::data(bytes)))
        })
    }
}

/// Begins to make an answer; returns when its first selection is done, so that what is wrong with the request is a status.
pub(super) async fn start(
    state: &ApiState,
    storage: Arc<dyn MetricStorage>,
    asked: Asked,
    place: Place,
) -> Result<Stream, Refused> {
    let (ctx, cancel) = state.context(state.options.timeout_max);
    let (sender, frames) = mpsc::channel(READY_MAX);
    let (began, begun) = oneshot::channel();
    let stream = Stream { frames, cancel, sending: None };
    let work = move || {
        let _place = place;
        let mut began = Some(began);
        if let Err(refused) = write(&*storage, &asked, &ctx, &sender, &mut began) {
            match began.take() {
                // Nobody waits any more: the client went away.
                Some(began) => drop(began.send(Err(refused))),
                None => drop(sender.blocking_send(Err(Failed(refused.1)))),
            }
        }
    };
    state.pool.try_execute(Box::new(work)).map_err(|full| ApiError::of_kind(full.kind(), full.to_string()))?;
    match begun.await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(refused)) => Err(refused),
        Err(_) => Err(ApiError::internal("the query failed on a fault of the server").into()),
    }
}

type Began = Option<oneshot::Sender<Result<(), Refused>>>;

fn write(
    storage: &dyn MetricStorage,
    asked: &Asked,
    ctx: &QueryContext,
    sender: &mpsc::Sender<Ready>,
    began: &mut Began,
) -> Result<(), Refused> {
    let mut columns = Columns::default();
    for (query_index, selector) in (0..).zip(&asked.selectors) {
        let set = select(storage, selector, ctx)?;
        if let Some(began) = began.take() {
            // Nobody waits any more if the client went away; the next frame tells.
            let _ = began.send(Ok(()));
        }
        for index in 0..set.len() {
            ctx.check()?;
            set.read(index, &mut columns)?;
            if columns.times.is_empty() {
                continue;
            }
            let labels = merged(&set.labels(index), &asked.external);
            for chunks in in_frames(chunk::encode(&columns)) {
                let series = ChunkedSeries { labels: labels.clone(), chunks };
                let message = ChunkedReadResponse { chunked_series: vec![series], query_index }.encode_to_vec();
                let reserved = ctx.budget.try_reserve(2 * message.len() as u64)?;
                if sender.blocking_send(Ok((frame(&message), reserved))).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if let Some(began) = began.take() {
        let _ = began.send(Ok(()));
    }
    Ok(())
}

/// Chunks of one series in groups that make frames of bounded size.
fn in_frames(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut frames: Vec<Vec<Chunk>> = Vec::new();
    let mut bytes = usize::MAX;
    for chunk in chunks {
        bytes = bytes.saturating_add(chunk.data.len() + 32);
        if bytes > FRAME_BYTES_MAX {
            frames.push(Vec::new());
            bytes = chunk.data.len() + 32;
        }
        if let Some(last) = frames.last_mut() {
            last.push(chunk);
        }
    }
    frames
}

fn frame(message: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(message.len() + 14);
    let mut left = message.len();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(&crc32c::crc32c(message).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length_and_the_sum_that_the_protocol_names() {
        // The check value of CRC-32C.
        let bytes = frame(b"123456789");
        assert_eq!(bytes[..], [&[9, 0xe3, 0x06, 0x92, 0x83][..], b"123456789"].concat());
        assert_eq!(frame(&[0; 300])[..2], [0xac, 0x02]);
    }

    #[test]
    fn a_long_series_is_told_in_several_frames() {
        let chunk = |bytes: usize| Chunk { data: vec![0; bytes], ..Chunk::default() };
        let lens = |chunks| in_frames(chunks).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(vec![chunk(10), chunk(20)]), [2]);
        assert_eq!(lens(vec![chunk(600_000), chunk(600_000), chunk(10), chunk(2_000_000), chunk(1)]), [1, 2, 1, 1]);
        assert_eq!(lens(vec![]), Vec::<usize>::new());
    }
}
