//! The addresses a server listens on: all bound before anything else is touched, or none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use kymo_core::registry::Registry;
use kymo_export::server::{Drained, Refusals, Server, ServerError, ServerOptions, guard};
use kymo_export::{MetricsServer, MetricsServerError};
use kymo_ingest::otlp::{self, OtlpState};
use kymo_storage::ReplayProgress;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::plan::Plan;
use crate::failure::Failure;

/// Where the server really listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) otlp_grpc: Option<SocketAddr>,
    pub(super) otlp_http: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
}

/// Sockets that are bound and not yet served.
pub(super) struct Listeners {
    http: Server,
    otlp_http: Option<Server>,
    otlp_grpc: Option<TcpListener>,
    metrics: Option<MetricsServer>,
    addresses: Addresses,
    /// Of all of them.
    options: ServerOptions,
}

impl Listeners {
    /// `registry` is what the listener for metrics shows, if there is one.
    pub(super) async fn bind(plan: &Plan, registry: &Registry) -> Result<Listeners, Failure> {
        let http =
            server(plan, plan.listen).await.map_err(|error| refused(error, "--listen", "port 0 picks a free one"))?;
        let otlp_http = match plan.otlp_http {
            Some(address) => {
                Some(server(plan, address).await.map_err(|error| refused(error, "--otlp-http", "off for none"))?)
            }
            None => None,
        };
        let otlp_grpc = match plan.otlp_grpc {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                let bound = bound.map_err(|source| ServerError::Listen { address, source });
                Some(bound.map_err(|error| refused(error, "--otlp-grpc", "off for none"))?)
            }
            None => None,
        };
        let metrics = plan.config.as_ref().and_then(|config| config.metrics.clone());
        let metrics = metrics.map(|endpoint| MetricsServer::bind(endpoint, registry.clone()));
        let metrics = metrics.transpose().map_err(without_metrics)?;
        let grpc_address = otlp_grpc.as_ref().map(TcpListener::local_addr).transpose();
        let addresses = Addresses {
            http: http.addresses()[0],
            otlp_grpc: grpc_address.map_err(|error| Failure::because("cannot start", &error))?,
            otlp_http: otlp_http.as_ref().map(|server| server.addresses()[0]),
            metrics: metrics.as_ref().and_then(MetricsServer::address),
        };
        Ok(Listeners { http, otlp_http, otlp_grpc, metrics, addresses, options: options(plan) })
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves both HTTP listeners from now on, each behind its door; a gRPC client is let in by [`Serving::open`].
    pub(super) fn serve(self, stop: CancellationToken) -> Serving {
        let (door, otlp_door) = (Door::main(), Door::of_ways_in());
        Serving {
            http: tokio::spawn(self.http.run(door.clone(), stop.clone())),
            otlp_http: self.otlp_http.map(|server| tokio::spawn(server.run(otlp_door.clone(), stop.clone()))),
            otlp_grpc: Grpc::Waiting(self.otlp_grpc),
            // Its page needs no engine.
            metrics: self.metrics.map(|server| tokio::spawn(server.run(stop.clone()))),
            door,
            otlp_door,
            options: self.options,
            stop,
        }
    }
}

/// The listeners at work.
pub(super) struct Serving {
    http: JoinHandle<Drained>,
    otlp_http: Option<JoinHandle<Drained>>,
    otlp_grpc: Grpc,
    metrics: Option<JoinHandle<Result<Drained, MetricsServerError>>>,
    door: Door,
    otlp_door: Door,
    options: ServerOptions,
    stop: CancellationToken,
}

enum Grpc {
    /// Connections wait in the system's queue.
    Waiting(Option<TcpListener>),
    Serving(JoinHandle<io::Result<()>>),
}

impl Serving {
    /// Lets HTTP requests in, to wait until the engine is open.
    pub(super) fn make_ready(&self, replay: Arc<ReplayProgress>) {
        self.door.make_ready(replay.clone());
        self.otlp_door.make_ready(replay);
    }

    /// Lets requests through.
    pub(super) fn open(&mut self, routes: Router, otlp: OtlpState) {
        self.door.open(routes);
        self.otlp_door.open(otlp::standalone_routes(otlp.clone()));
        if let Grpc::Waiting(listener) = &mut self.otlp_grpc
            && let Some(listener) = listener.take()
        {
            let service = guard(otlp::grpc_service(otlp), &self.options);
            self.otlp_grpc = Grpc::Serving(tokio::spawn(otlp::serve_http2(listener, service, self.stop.clone())));
        }
    }

    /// Waits until a listener ends, which none does before it is told to.
    pub(super) async fn ended(&mut self) {
        let Serving { http, otlp_http, otlp_grpc, .. } = self;
        let otlp_http = async {
            match otlp_http {
                Some(task) => drop(task.await),
                None => std::future::pending().await,
            }
        };
        let otlp_grpc = async {
            match otlp_grpc {
                Grpc::Serving(task) => {
                    if let Ok(Err(error)) = task.await {
                        tracing::error!(%error, "OTLP over gRPC cannot be served any more");
                    }
                }
                Grpc::Waiting(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = http => {}
            () = otlp_http => {}
            () = otlp_grpc => {}
        }
    }

    /// Takes no new requests and waits for those in flight. What has ended before is not waited for.
    pub(super) async fn drain(self) {
        self.stop.cancel();
        let mut drained = Drained::default();
        for task in [Some(self.http), self.otlp_http].into_iter().flatten().filter(|task| !task.is_finished()) {
            if let Ok(Drained { finished, cut_off }) = task.await {
                drained.finished += finished;
                drained.cut_off += cut_off;
            }
        }
        if let Some(task) = self.metrics
            && let Ok(Ok(Drained { finished, cut_off })) = task.await
        {
            drained.finished += finished;
            drained.cut_off += cut_off;
        }
        if let Grpc::Serving(mut task) = self.otlp_grpc
            && !task.is_finished()
            && tokio::time::timeout(self.options.grace, &mut task).await.is_err()
        {
            task.abort();
            drained.cut_off += 1;
        }
        tracing::info!(finished = drained.finished, cut_off = drained.cut_off, "requests are done");
    }
}

fn options(plan: &Plan) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.tokens = plan.tokens.clone();
    options.cors = plan.cors.clone();
    options.refusals = Some(Refusals {
        concern: otlp::is_path,
        restate: |headers, response| Box::pin(otlp::restate(headers, response)),
    });
    options
}

async fn server(plan: &Plan, address: SocketAddr) -> Result<Server, ServerError> {
    let mut options = options(plan);
    options.listen = vec![address];
    Server::bind(options).await
}

/// Why there is no listener for metrics.
fn without_metrics(error: MetricsServerError) -> Failure {
    let failure = Failure::because("cannot start", &error);
    match error {
        MetricsServerError::Listen { .. } => {
            failure.hint("choose another `port` or `address` in the section `metrics` of the configuration file")
        }
        _ => failure.hint("see the section `metrics` of the configuration file"),
    }
}

/// Why an address cannot be had, and with which flag to choose another.
fn refused(error: ServerError, flag: &str, or: &str) -> Failure {
    let failure = Failure::because("cannot start", &error);
    let ServerError::Listen { source, address } = &error else { return failure };
    match source.kind() {
        io::ErrorKind::AddrInUse => failure
            .hint(format!("another process has port {}; stop it, or choose a port with {flag} ({or})", address.port())),
        io::ErrorKind::AddrNotAvailable => {
            failure.hint(format!("{} is no address of this machine; choose another with {flag}", address.ip()))
        }
        io::ErrorKind::PermissionDenied => {
            failure.hint(format!("ports below 1024 are kept for root; choose another with {flag}"))
        }
        _ => failure,
    }
}
