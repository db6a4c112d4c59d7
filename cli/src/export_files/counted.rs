//! Where the bytes of an export go.

use std::io::{self, BufWriter, Write};

use kymo_export::files::{Destination, ExportPlace};

use crate::progress::Progress;

/// Counts what is written, shows how far it is, and asks `reached` after each series, which is given the writer and the bytes
/// that were written to it.
pub(super) struct Counted<W: Write, R> {
    pub(super) out: BufWriter<W>,
    pub(super) bytes: u64,
    progress: Progress,
    reached: R,
}

impl<W, R> Counted<W, R>
where
    W: Write,
    R: FnMut(&mut BufWriter<W>, u64, &ExportPlace) -> io::Result<()>,
{
    /// Behind `bytes` that are there already.
    pub(super) fn new(out: W, bytes: u64, reached: R) -> Counted<W, R> {
        let out = BufWriter::with_capacity(1 << 20, out);
        Counted { out, bytes, progress: Progress::samples("exporting"), reached }
    }
}

impl<W: Write, R> Write for Counted<W, R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W, R> Destination for Counted<W, R>
where
    W: Write,
    R: FnMut(&mut BufWriter<W>, u64, &ExportPlace) -> io::Result<()>,
{
    fn reached(&mut self, place: &ExportPlace) -> io::Result<()> {
        self.progress.done(place.exported().samples);
        (self.reached)(&mut self.out, self.bytes, place)
    }
}
