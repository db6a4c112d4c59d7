//! A connection whose peer must keep reading.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// After the last answer what the client is still sending is thrown away for so long. To close a connection that has unread bytes
/// resets it, and a reset may take the answer away before it is read: who sends a request that is too long would not learn that it
/// is. Go's servers wait as long, for the same reason.
const PARTING_MAX: Duration = Duration::from_millis(500);
/// Bytes that are thrown away at once.
const PARTING_BYTES: usize = 1 << 13;

/// Fails a write that has made no progress for `stall_max`: a client that asks and does not read would
/// hold its connection, and the memory of its answer, for as long as it likes.
///
/// Reads pass through: what may be waited for there is known to the layers above. Shutting down ends when the client has closed
/// its side too, or half a second later.
pub(super) struct Written {
    stream: TcpStream,
    stall_max: Duration,
    /// Set while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    parting_max: Duration,
    /// Set once our side is closed.
    parting: Option<Pin<Box<Sleep>>>,
}

impl Written {
    pub(super) fn new(stream: TcpStream, stall_max: Duration) -> Written {
        Written { stream, stall_max, stalled: None, parting_max: PARTING_MAX, parting: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall_max = self.stall_max;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for Written {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Written {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.parting.is_none() {
            let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.watch(cx, shut))?;
        }
        let Written { stream, parting_max, parting, .. } = &mut *self;
        // First, since a client that sends without end uses up what a task may do at once.
        if parting.get_or_insert_with(|| Box::pin(sleep(*parting_max))).as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [MaybeUninit::uninit(); PARTING_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Closed, in one way or another.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Long enough for any machine.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_answer_given_early_reaches_who_is_still_sending() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || {
            let mut client = std::net::TcpStream::connect(address)?;
            // More than the system's buffers of both sides hold.
            client.write_all(&vec![b'x'; 32 << 20])?;
            client.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            client.read_to_string(&mut answer).map(|_| answer)
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut served = Written { parting_max: LONG, ..Written::new(stream, LONG) };
        served.write_all(b"too long").await.unwrap();
        served.shutdown().await.unwrap();
        drop(served);
        assert_eq!(client.await.unwrap().unwrap(), "too long");
    }

    #[tokio::test]
    async fn a_client_that_stays_is_left_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut served = Written { parting_max: Duration::from_millis(1), ..Written::new(stream, LONG) };
        served.shutdown().await.unwrap();
        drop(client);
    }
}
