//! Scraping as the server runs it: its HTTP clients, its phases, its task.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kymo_core::config::HttpClientConfig;
use kymo_export::client::http_client;
use kymo_ingest::scrape::{BoxError, ClientFactory, ScrapeClient};

/// Makes the clients of jobs; what is in files is read again for each request.
pub(super) fn clients() -> ClientFactory {
    Arc::new(|config: &HttpClientConfig| -> Result<ScrapeClient, BoxError> {
        let client = http_client(config)?;
        Ok(ScrapeClient::new(move |request| {
            let client = client.clone();
            async move { client.send(request).await.map_err(BoxError::from) }
        }))
    })
}

/// The same for every run on this machine, and another one on the next, so that two servers with one file do not ask
/// their targets at the same moments. The hasher is keyed with zeros.
pub(super) fn seed() -> u64 {
    let mut hasher = DefaultHasher::new();
    kymo_ingest::collect::hostname().hash(&mut hasher);
    hasher.finish()
}
