//! The ports file: where a server that was given port 0 can be found.

use std::fs;
use std::path::Path;

use super::listeners::Addresses;
use crate::failure::Failure;

/// Writes `{"http": PORT, "otlp_grpc": PORT, "otlp_http": PORT, "metrics": PORT}`, without what is off. A reader sees all of it or
/// nothing: it is written beside and moved into place.
pub(super) fn write(file: &Path, addresses: Addresses) -> Result<(), Failure> {
    let mut ports = serde_json::json!({ "http": addresses.http.port() });
    for (name, address) in
        [("otlp_grpc", addresses.otlp_grpc), ("otlp_http", addresses.otlp_http), ("metrics", addresses.metrics)]
    {
        if let Some(address) = address {
            ports[name] = address.port().into();
        }
    }
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let written = fs::write(&partial, format!("{ports}\n")).and_then(|()| fs::rename(&partial, file));
    written.map_err(|error| {
        Failure::because(format_args!("cannot write the ports file {}", file.display()), &error)
            .hint("choose a file in a directory that exists and can be written with --ports-file")
    })
}
