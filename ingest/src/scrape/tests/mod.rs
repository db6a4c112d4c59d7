mod config;
mod end_to_end;
mod http;
mod store;
pub(in crate::scrape) mod support;
