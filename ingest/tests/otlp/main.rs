//! OTLP from the outside: bytes in, status and samples out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "modules of a test share their helpers")]

mod faults;
mod grpc;
mod hostile;
mod http;
mod increments;
mod known;
mod protobuf;
mod sdk;
mod support;
mod traces;
mod translation;
