//! A server asked to do something to its own data, or the data directory itself when no server has it open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::QueryContext;
use kymo_core::query::QueryError;
use kymo_core::text::write_size_rounded;
use kymo_export::client::{ClientOptions, PrometheusClient};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Options, RetentionPolicy};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::query::bearer;
use crate::serve::refused;

/// How long a server may take: as long as it likes.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that was started with `--enable-admin-api`.
pub(crate) struct Administered {
    /// Drives the client's connections: the client waits on the calling thread.
    _runtime: Runtime,
    client: PrometheusClient,
    server: String,
}

impl Administered {
    pub(crate) fn new(server: &str, token: Option<&Path>) -> Result<Administered, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::because("cannot start the async threads", &error))?;
        let mut options = ClientOptions::new(server);
        options.timeout = PATIENCE;
        options.http.authorization = token.map(bearer).transpose()?;
        let client = PrometheusClient::new(options, runtime.handle().clone())
            .map_err(|error| Failure::because("cannot ask the server", &error))?;
        Ok(Administered { _runtime: runtime, client, server: server.to_owned() })
    }

    /// Asks and waits, however long it takes; `refusal` is what the server did not do.
    pub(crate) fn ask<T>(
        &self,
        refusal: &str,
        ask: impl FnOnce(&PrometheusClient, &QueryContext) -> Result<T, QueryError>,
    ) -> Result<T, Failure> {
        ask(&self.client, &QueryContext::unlimited()).map_err(|error| {
            Failure::new(format!("{} did not {refusal}: {}", self.server, error.message))
                .hint("is it running, and with --enable-admin-api?")
        })
    }
}

/// Opens a data directory that no server has open.
pub(crate) fn open(dir: &Path) -> Result<Engine, Failure> {
    if !dir.join("MANIFEST").is_file() {
        return Err(Failure::new(format!("{} is no data directory", dir.display()))
            .hint("name one that kymo serve has written with --data-dir"));
    }
    // What is kept is for the server to say: nothing is retired here.
    let options = Options { retention: RetentionPolicy::of_age(None), ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(RealFs), dir, options).map_err(|error| refused(dir, &error))?;
    Ok(engine)
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let mut text = String::new();
    write_size_rounded(&mut text, bytes);
    text
}
