//! SIGTERM and SIGINT.

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use crate::failure::Failure;

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    /// What a shell reports of a process that such a signal ended.
    fn exit_status(self) -> i32 {
        match self {
            Signal::Interrupt => 128 + 2,
            Signal::Terminate => 128 + 15,
        }
    }
}

/// Both signals, caught from [`listen`](Self::listen) on.
pub(super) struct Signals {
    interrupt: Listener,
    terminate: Listener,
}

impl Signals {
    pub(super) fn listen() -> Result<Signals, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::because("cannot listen for signals", &error));
        Ok(Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }

    /// Ends the process at the next signal, whatever it is doing. What was acknowledged is in the log.
    pub(super) fn leave_at_next(mut self) {
        tokio::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal = signal.name(), "leaving at once, without a flush");
            std::process::exit(signal.exit_status());
        });
    }
}
