//! Limits of what is kept, and from where on a service is no longer healthy.

use std::time::Duration;

/// Services kept at most. Names come from outside, so they must not grow memory without end.
pub const SERVICES_MAX_DEFAULT: usize = 4_096;
/// Operations of one service kept at most; a route with an id in its name makes many.
pub const OPERATIONS_OF_SERVICE_MAX_DEFAULT: usize = 256;
/// Operations of all services kept at most.
pub const OPERATIONS_MAX_DEFAULT: usize = 16_384;
/// Edges kept at most.
pub const EDGES_MAX_DEFAULT: usize = 16_384;

/// Bytes of all of it. A busy operation takes some 20 kB, so that is about as many as there may be.
pub const HEALTH_BYTES_MAX_DEFAULT: usize = 256 << 20;

/// How much is kept, and how it is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthOptions {
    /// Services; those beyond count as the service [`OVERFLOW`](super::OVERFLOW).
    pub services_max: usize,
    /// Operations of one service; those beyond count as its operation [`OVERFLOW`](super::OVERFLOW).
    pub operations_of_service_max: usize,
    /// Operations of all services; those beyond count as the operation [`OVERFLOW`](super::OVERFLOW) of their service.
    pub operations_max: usize,
    /// Edges; those beyond count as one from [`OVERFLOW`](super::OVERFLOW) to it.
    pub edges_max: usize,
    /// Bytes of all of it, as found out once a second; where they are used up, new services, operations and edges count as
    /// [`OVERFLOW`](super::OVERFLOW), until some are forgotten.
    pub bytes_max: usize,
    /// How long a service is remembered that nobody asks anything.
    pub forget_after: Duration,
    /// From where on a service is no longer healthy.
    pub thresholds: HealthThresholds,
}

impl Default for HealthOptions {
    fn default() -> HealthOptions {
        HealthOptions {
            services_max: SERVICES_MAX_DEFAULT,
            operations_of_service_max: OPERATIONS_OF_SERVICE_MAX_DEFAULT,
            operations_max: OPERATIONS_MAX_DEFAULT,
            edges_max: EDGES_MAX_DEFAULT,
            bytes_max: HEALTH_BYTES_MAX_DEFAULT,
            forget_after: Duration::from_secs(24 * 3_600),
            thresholds: HealthThresholds::default(),
        }
    }
}

/// From where on a service is no longer healthy.
///
/// A service gets worse at once and better slowly: only after it was for [`recovery`](Self::recovery) on end below
/// [`leave`](Self::leave) times what made it worse.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthThresholds {
    /// Errors per request from which on it is degraded. Default 0.01.
    pub errors_degraded: f64,
    /// Errors per request from which on it is unhealthy. Default 0.05.
    pub errors_unhealthy: f64,
    /// How many times the p99 of its own last hour its p99 is when it is degraded. Default 2.
    pub slower_degraded: f64,
    /// How many times the p99 of its own last hour its p99 is when it is unhealthy. Default 4.
    pub slower_unhealthy: f64,
    /// A p99 below this is never slow, whatever it was before. Default 50 ms: who waits for less does not feel it.
    pub slower_floor: Duration,
    /// The p99 from which on it is degraded whatever its last hour was. Default none.
    pub p99_degraded: Option<Duration>,
    /// The p99 from which on it is unhealthy whatever its last hour was. Default none.
    pub p99_unhealthy: Option<Duration>,
    /// Requests that it takes to judge: of the shortest window with so many. Default 20, so that one error is never more
    /// than a twentieth.
    pub requests_min: u64,
    /// Share of a threshold below which a figure must fall to be better. Default 0.8.
    pub leave: f64,
    /// For how long on end figures must be better. Default one minute.
    pub recovery: Duration,
    /// A service without requests for so long is neither healthy nor not. Default five minutes.
    pub silent: Duration,
}

impl Default for HealthThresholds {
    fn default() -> HealthThresholds {
        HealthThresholds {
            errors_degraded: 0.01,
            errors_unhealthy: 0.05,
            slower_degraded: 2.0,
            slower_unhealthy: 4.0,
            slower_floor: Duration::from_millis(50),
            p99_degraded: None,
            p99_unhealthy: None,
            requests_min: 20,
            leave: 0.8,
            recovery: Duration::from_secs(60),
            silent: Duration::from_secs(300),
        }
    }
}
