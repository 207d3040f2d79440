use std::time::Duration;

use serde::Serialize;

use crate::{
    balance,
    client::metrics::ServiceMetrics,
    contract::{HealthStatus, ServiceName},
    observe::{CircuitState, optional_millis},
    stack,
};

/// How well a service is, as its client sees it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceName,
    /// Healthy when all is well; unhealthy when a call would be turned away; degraded in between.
    pub status: HealthStatus,
    /// What is wrong, for people.
    pub message: Option<String>,
    /// How many instances there are.
    pub instances: usize,
    /// How many of them may be given calls.
    pub callable: usize,
    /// The circuit of the whole service, if it has one.
    pub circuit: Option<CircuitState>,
    /// For how long nothing was heard of the instances, when discovery fails: these are the last that were known.
    #[serde(rename = "stale_for_ms", serialize_with = "optional_millis")]
    pub stale_for: Option<Duration>,
}

/// All that a client knows of a service.
#[non_exhaustive]
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSnapshot {
    /// How well it is.
    pub health: ServiceHealth,
    /// What was counted of its calls.
    pub metrics: ServiceMetrics,
    /// The policies of the service.
    pub stack: stack::Snapshot,
    /// Its instances.
    pub balance: balance::Snapshot,
}

/// What a health is made of.
pub(super) struct Signs {
    pub(super) service: ServiceName,
    pub(super) known: bool,
    pub(super) instances: usize,
    pub(super) callable: usize,
    pub(super) circuit: Option<CircuitState>,
    pub(super) stale: Option<(Duration, String)>,
}

impl Signs {
    pub(super) fn health(self) -> ServiceHealth {
        let (status, message) = self.judge();
        let stale_for = self.stale.map(|(since, _)| since);
        let Self { service, instances, callable, circuit, .. } = self;
        ServiceHealth { service, status, message, instances, callable, circuit, stale_for }
    }

    fn judge(&self) -> (HealthStatus, Option<String>) {
        use CircuitState::{ForcedOpen, HalfOpen, Open};
        use HealthStatus::{Degraded, Healthy, Unhealthy};
        let ill = self.instances - self.callable.min(self.instances);
        let (status, message) = match (self.circuit, &self.stale) {
            (Some(Open | ForcedOpen), _) => (Unhealthy, "its circuit is open".to_owned()),
            _ if !self.known => (Degraded, "its instances are not known yet".to_owned()),
            _ if self.instances == 0 => (Unhealthy, "it has no instance".to_owned()),
            _ if self.callable == 0 => (Unhealthy, "none of its instances may be called".to_owned()),
            (_, Some((_, why))) => (Degraded, format!("its instances are the last that were known: {why}")),
            (Some(HalfOpen), None) => (Degraded, "its circuit is half-open".to_owned()),
            _ if ill > 0 => (Degraded, format!("{ill} of its {} instances are not called", self.instances)),
            _ => return (Healthy, None),
        };
        (status, Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_sign_decides() {
        use CircuitState::{Closed, HalfOpen, Open};
        use HealthStatus::{Degraded, Healthy, Unhealthy};
        let stale = || Some((Duration::from_secs(3), "timed out".to_owned()));
        for (known, instances, callable, circuit, stale, status) in [
            (true, 3, 3, Closed, None, Healthy),
            (true, 3, 2, Closed, None, Degraded),
            (true, 3, 3, HalfOpen, None, Degraded),
            (true, 3, 3, Closed, stale(), Degraded),
            (true, 3, 0, Closed, None, Unhealthy),
            (true, 0, 0, Closed, stale(), Unhealthy),
            (true, 3, 3, Open, stale(), Unhealthy),
            (false, 0, 0, Closed, None, Degraded),
        ] {
            let service = ServiceName::new("users").unwrap();
            let signs = Signs { service, known, instances, callable, circuit: Some(circuit), stale };
            let health = signs.health();
            assert_eq!(health.status, status, "{health:?}");
            assert_eq!(health.message.is_none(), status == Healthy);
            let why = health.message.unwrap_or_default();
            assert_eq!(why == "it has no instance", known && instances == 0, "{why}");
        }
    }
}
