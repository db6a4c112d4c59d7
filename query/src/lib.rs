//! PromQL over any metric storage.

pub mod parser;
