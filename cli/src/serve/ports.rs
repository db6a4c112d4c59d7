//! The ports file: where a server that was given port 0 can be found.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::failure::Failure;

/// Writes `{"http": PORT}`. A reader sees all of it or nothing: it is written beside and moved into place.
pub(super) fn write(file: &Path, http: SocketAddr) -> Result<(), Failure> {
    let text = format!("{}\n", serde_json::json!({ "http": http.port() }));
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, file));
    written.map_err(|error| {
        Failure::because(format_args!("cannot write the ports file {}", file.display()), &error)
            .hint("choose a file in a directory that exists and can be written with --ports-file")
    })
}
