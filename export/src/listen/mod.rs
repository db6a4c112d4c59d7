//! Accepting and serving HTTP/1 connections, whatever answers: what every server of this crate stands on.

mod connection;
mod stream;
mod tokens;

pub(crate) use connection::{Allowance, Answer, serve};
#[cfg_attr(not(feature = "server"), allow(unreachable_pub, reason = "only the server shows them to its users"))]
pub use tokens::BearerTokens;

/// What was left when a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that finished by themselves after the stop was asked for.
    pub finished: usize,
    /// Connections cut off when the grace time was over.
    pub cut_off: usize,
}
