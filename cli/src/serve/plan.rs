//! The flags of `kymo serve`, checked and completed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kymo_export::server::BearerTokens;
use kymo_storage::SyncPolicy;

use super::memory::MemoryLimit;
use super::options::{AddressOrOff, Collect, ServeArgs};
use crate::failure::Failure;

/// What a server is to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) data_dir: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) tokens: BearerTokens,
    pub(super) retention: Option<Duration>,
    pub(super) memory_limit: MemoryLimit,
    pub(super) sync: SyncPolicy,
    pub(super) ports_file: Option<PathBuf>,
    /// Flags that were given and have no effect yet, each with what is missing.
    pub(super) not_served: Vec<String>,
}

impl Plan {
    pub(super) fn new(args: ServeArgs) -> Result<Plan, Failure> {
        let not_served = not_served(&args);
        let tokens = match &args.auth_token_file {
            Some(file) => tokens(file)?,
            None => BearerTokens::default(),
        };
        Ok(Plan {
            data_dir: args.data_dir,
            listen: args.listen,
            tokens,
            retention: args.retention.0,
            memory_limit: args.memory_limit.map_or_else(MemoryLimit::of_this_process, MemoryLimit::asked_for),
            sync: args.sync,
            ports_file: args.ports_file,
            not_served,
        })
    }

    /// Whether others on the network can ask without a token.
    pub(super) fn is_open_to_the_network(&self) -> bool {
        self.tokens.is_open() && !self.listen.ip().is_loopback()
    }
}

fn tokens(file: &Path) -> Result<BearerTokens, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::because(format_args!("cannot read the token file {}", file.display()), &error))?;
    let tokens = BearerTokens::new(text.lines());
    if tokens.is_open() {
        return Err(Failure::new(format!("the token file {} holds no token", file.display()))
            .hint("write one token a line into it; without --auth-token-file the server is open to all who reach it"));
    }
    Ok(tokens)
}

/// Doors that are asked for and do not exist yet.
fn not_served(args: &ServeArgs) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(file) = &args.config {
        missing.push(format!("--config {}: configuration files are not read", file.display()));
    }
    if let Some(AddressOrOff::At(address)) = args.otlp_grpc {
        missing.push(format!("--otlp-grpc {address}: there is no OTLP listener"));
    }
    if let Some(AddressOrOff::At(address)) = args.otlp_http {
        missing.push(format!("--otlp-http {address}: there is no OTLP listener"));
    }
    if let Some(Collect { host, itself }) = args.collect {
        let asked = [("host", host), ("self", itself)];
        for (name, _) in asked.iter().filter(|(_, asked)| *asked) {
            missing.push(format!("--collect {name}: there are no collectors"));
        }
    }
    if args.enable_admin_api {
        missing.push("--enable-admin-api: series cannot be deleted over HTTP".to_owned());
    }
    if args.enable_lifecycle {
        missing.push("--enable-lifecycle: there is nothing to reload, and signals stop the server".to_owned());
    }
    missing
}
