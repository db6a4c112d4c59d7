//! SIGTERM, SIGINT and SIGHUP.

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use crate::failure::Failure;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Stop(Signal),
    Reload,
}

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

/// All three, caught from [`listen`](Self::listen) on.
pub(super) struct Signals {
    interrupt: Listener,
    terminate: Listener,
    hangup: Listener,
}

impl Signals {
    pub(super) fn listen() -> Result<Signals, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::because("cannot listen for signals", &error));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop(Signal::Interrupt),
            _ = self.terminate.recv() => Asked::Stop(Signal::Terminate),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next request to stop; there is nothing to reload meanwhile.
    pub(super) async fn stop(&mut self) -> Signal {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }

    /// Ends the process at the next request to stop, whatever it is doing. What was acknowledged is in the log.
    pub(super) fn leave_at_next(mut self) {
        tokio::spawn(async move {
            let signal = self.stop().await;
            tracing::warn!(signal = signal.name(), "leaving at once, without a flush");
            std::process::exit(signal.exit_status());
        });
    }
}
