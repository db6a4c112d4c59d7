//! What is timed within this process: ours, and the floors it is held against. Nothing here looks at a clock.

pub mod append;
pub mod context;
pub mod decode;
pub mod exposition;
pub mod floors;
pub mod handles;
pub mod otlp;
pub mod pages;
pub mod requests;
mod work;
