//! Recordings: what was drawn and what was typed, with times, in the format of asciinema (version 2), so that a bug
//! report or a demonstration plays here and in any other player of it.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest pause of a replay; nobody waits for longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CastError {
    /// It cannot be read, or what it shows cannot be written.
    #[error("cannot read or show the recording")]
    Io(#[from] io::Error),
    /// A line is none of a recording.
    #[error("line {line} is none of a recording")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A recording of another version.
    #[error("this is a recording of version {version}, only version 2 is known")]
    Version {
        /// What it says.
        version: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    width: u16,
    height: u16,
    #[serde(default)]
    timestamp: i64,
}

/// Writes a recording.
#[derive(Clone)]
pub struct Recorder {
    /// The file, and the newest moment written, seconds.
    to: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Recorder {
    /// Begins a recording of a terminal of this size.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(mut to: Box<dyn Write + Send>, size: (u16, u16), now_ms: i64) -> io::Result<Recorder> {
        let header = Header { version: 2, width: size.0, height: size.1, timestamp: now_ms / 1_000 };
        writeln!(to, "{}", serde_json::to_string(&header)?)?;
        Ok(Recorder { to: Arc::new(Mutex::new(to)) })
    }

    /// Notes something: `o` was drawn, `i` was typed, `r` is a new size (`80x24`).
    ///
    /// # Errors
    /// The writer's.
    pub fn note(&self, at: Duration, kind: &str, data: &str) -> io::Result<()> {
        let line = serde_json::to_string(&(at.as_secs_f64(), kind, data))?;
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(to, "{line}")?;
        to.flush()
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Since the beginning.
    pub at: Duration,
    /// What was drawn.
    pub drawn: String,
}

/// Reads a recording: the size of its terminal, and what was drawn when.
///
/// # Errors
/// [`CastError`].
pub(super) fn read(from: impl BufRead) -> Result<((u16, u16), Vec<Recording>), CastError> {
    let mut size = (80, 24);
    let mut drawn = Vec::new();
    for (number, line) in from.lines().enumerate() {
        let line = line?;
        let fault = |source| CastError::Line { line: number + 1, source };
        if number == 0 {
            let header: Header = serde_json::from_str(&line).map_err(fault)?;
            if header.version != 2 {
                return Err(CastError::Version { version: header.version });
            }
            size = (header.width, header.height);
        } else if !line.trim().is_empty() {
            let (at, kind, data): (f64, String, String) = serde_json::from_str(&line).map_err(fault)?;
            if kind == "o" {
                let at = Duration::try_from_secs_f64(at).unwrap_or_default();
                drawn.push(Recording { at, drawn: data });
            }
        }
    }
    Ok((size, drawn))
}

/// Plays a recording to `to`; `wait` is called with each pause, and ends the replay by answering `false`.
///
/// # Errors
/// [`CastError`].
pub fn replay(from: impl BufRead, to: &mut dyn Write, mut wait: impl FnMut(Duration) -> bool) -> Result<(), CastError> {
    let mut now = Duration::ZERO;
    for Recording { at, drawn } in read(from)?.1 {
        if !wait(at.saturating_sub(now).min(PAUSE_MAX)) {
            break;
        }
        now = at;
        to.write_all(drawn.as_bytes())?;
        to.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_drawn_is_played_with_its_pauses() {
        let file = Shared::default();
        let recorder = Recorder::begin(Box::new(file.clone()), (80, 24), 1_700_000_000_000).unwrap();
        recorder.note(Duration::from_millis(500), "o", "\x1b[2Jone").unwrap();
        recorder.note(Duration::from_millis(700), "i", "q").unwrap();
        recorder.note(Duration::from_secs(60), "o", "two").unwrap();
        let bytes = file.0.lock().unwrap().clone();
        let (size, _) = read(&bytes[..]).unwrap();
        assert_eq!(size, (80, 24));
        let (mut shown, mut pauses) = (Vec::new(), Vec::new());
        replay(&bytes[..], &mut shown, |pause| {
            pauses.push(pause);
            true
        })
        .unwrap();
        assert_eq!(shown, b"\x1b[2Jonetwo");
        assert_eq!(pauses, [Duration::from_millis(500), PAUSE_MAX]);
    }

    #[test]
    fn what_is_no_recording_is_named() {
        assert!(matches!(
            read(&b"{\"version\":1,\"width\":1,\"height\":1}\n"[..]),
            Err(CastError::Version { version: 1 })
        ));
        let bad = b"{\"version\":2,\"width\":1,\"height\":1}\nx\n";
        assert!(matches!(read(&bad[..]), Err(CastError::Line { line: 2, .. })));
    }
}
