//! The program as its users meet it: started, asked, killed, misused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api_peers;
mod config;
mod copies;
mod describe;
mod differential;
mod doors;
mod durability;
mod features;
mod grafana;
mod http;
mod import;
mod otlp;
mod peers;
mod process;
mod promqltest;
mod queries;
mod query;
mod refusals;
mod remote_write;
mod resume;
mod routes;
mod scrape_peers;
mod serve;
mod services;
mod state;
mod status;
mod tending;
mod top;
mod verify;
