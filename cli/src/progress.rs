//! How far long work has come, on a terminal; nothing where standard error is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line is drawn again.
const TICK: Duration = Duration::from_millis(120);

/// A line on standard error that goes away with the work.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Bytes of a number of bytes that is known, or becomes so.
    pub(crate) fn bytes(doing: &str) -> Progress {
        Progress::styled(doing, "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}")
    }

    /// Samples, however many there will be.
    pub(crate) fn samples(doing: &str) -> Progress {
        Progress::styled(doing, "{spinner} {msg} {human_pos} samples {per_sec} {elapsed}")
    }

    fn styled(doing: &str, template: &str) -> Progress {
        // Hides itself where standard error is no terminal.
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(TICK);
        Progress { bar }
    }

    /// Says how much is done of how much.
    pub(crate) fn at(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Says how much is done.
    pub(crate) fn done(&self, done: u64) {
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
