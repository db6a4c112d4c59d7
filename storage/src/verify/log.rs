//! Checking the log: frames, and whether each row's series was defined before it.

use std::path::Path;

use foldhash::{HashSet, HashSetExt};
use kymo_core::SeriesRef;

use super::Checked;
use crate::error::{StorageError, io_error};
use crate::manifest::Manifest;
use crate::wal::{ChainReader, Record, ReplayEnd, SegmentReader, decode, segment_number};

impl Checked<'_> {
    /// Checks the segments that replay would read.
    pub(super) fn log(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        let dir = self.dir.join("wal");
        let entries = self.fs.list(&dir).map_err(io_error(&dir, "listing the log"))?;
        let segments = entries.iter().filter_map(|entry| Some((segment_number(&entry.name)?, dir.join(&entry.name))));
        let mut segments: Vec<_> = segments.filter(|(number, _)| *number >= manifest.replay_from.segment).collect();
        segments.sort_unstable();
        let mut defined = HashSet::new();
        for (at, (number, path)) in segments.iter().enumerate() {
            let is_last = at + 1 == segments.len();
            match self.segment(*number, path, is_last, &mut defined) {
                Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    let now = Manifest::read(self.fs, self.dir).ok().flatten();
                    if now.is_none_or(|now| now.replay_from.segment <= *number) {
                        self.report.fault(path, None, None, "this segment went away, and no block has what it held");
                    }
                }
                Err(error) => self.report.error(path, &error),
                Ok(()) => {}
            }
            self.advance();
        }
        Ok(())
    }

    fn segment(
        &mut self,
        number: u64,
        path: &Path,
        is_last: bool,
        defined: &mut HashSet<SeriesRef>,
    ) -> Result<(), StorageError> {
        let mut reader = SegmentReader::open(self.fs, path, number)?;
        let mut chain = ChainReader::default();
        let (mut at, mut orphans, mut first_orphan) = (0, 0u64, None);
        self.report.segments += 1;
        while let Some(frame) = reader.next()? {
            let (begin, end) = (at, frame.end);
            let mut samples = 0;
            let decoded = decode(frame.payload, &mut chain, frame.footing, |record| {
                let series = match record {
                    Record::Define(definitions, _) => {
                        defined.extend(definitions.iter().map(|(series, _)| series));
                        return;
                    }
                    Record::Float { series, .. } | Record::Histogram { series, .. } | Record::Added { series, .. } => {
                        samples += 1;
                        series
                    }
                    Record::Exemplar(series, _) => series,
                    _ => return,
                };
                if !defined.contains(&series) {
                    orphans += 1;
                    first_orphan.get_or_insert(begin);
                }
            });
            self.report.frames += 1;
            self.report.log_samples += samples;
            self.report.bytes += end.saturating_sub(begin);
            if let Err(fault) = decoded {
                reader.note_malformed(fault.what);
            }
            at = end;
        }
        for damage in &reader.damage {
            let what = format!("{}: {} bytes are lost", damage.what, damage.bytes);
            self.report.fault(path, Some(damage.offset), None, what);
        }
        if orphans > 0 {
            let what = format!("{orphans} samples or exemplars of series that are defined nowhere before");
            self.report.fault(path, first_orphan, None, what);
        }
        match reader.end {
            ReplayEnd::Torn { keep, cut } if cut > 0 => {
                let what = format!("{cut} bytes at the end are no whole frame");
                // A segment without a whole header was never written to.
                if is_last || keep == 0 {
                    self.report.notes.push(format!("{}: byte {keep}: {what}: a start cuts them off", path.display()));
                } else {
                    self.report.fault(path, Some(keep), None, format!("{what}, and the log goes on in another file"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
