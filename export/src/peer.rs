//! Who sent a request.

use std::net::SocketAddr;

/// The other end of the connection, among a request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);
