//! What is told after the lock of the set is released.

use std::time::Duration;

use crate::{
    balance::{hub::Hub, tier::Tier},
    contract::InstanceId,
    observe::{Ejection, EjectionCause, Event},
    sync::atomic::Ordering::Relaxed,
};

#[derive(Debug)]
pub(super) enum Notice {
    Ejected { id: InstanceId, cause: EjectionCause, ejections: u32, ejected_for: Option<Duration>, enforced: bool },
    Readmitted(InstanceId),
    Panic(Tier),
}

impl Notice {
    pub(super) fn publish(&self, hub: &Hub) {
        let (service, counts) = (hub.name.as_str(), &hub.counts);
        match self {
            Self::Ejected { id, cause, ejections, ejected_for, enforced } => {
                let counter = if *enforced { &counts.ejections } else { &counts.shadow_ejections };
                counter.fetch_add(1, Relaxed);
                let instance = id.as_str();
                let (cause, for_secs) = (*cause, ejected_for.map(|time| time.as_secs_f64()));
                tracing::warn!(service, instance, %cause, ejections, for_secs, enforced, "instance ejected");
                hub.sink.tell(&hub.name, || {
                    let ejection = Ejection::new(service, instance, cause, *ejections);
                    Event::Ejected(Ejection { ejected_for: *ejected_for, enforced: *enforced, ..ejection })
                });
            }
            Self::Readmitted(id) => {
                counts.readmissions.fetch_add(1, Relaxed);
                let instance = id.as_str();
                tracing::info!(service, instance, "instance readmitted");
                hub.sink.tell(&hub.name, || Event::Readmitted { policy: service, instance });
            }
            Self::Panic(tier) => {
                let Tier { panics, usable, taking: instances, .. } = *tier;
                counts.panics.fetch_add(u64::from(panics), Relaxed);
                tracing::warn!(service, panics, usable, instances, "so few instances are usable that all are used");
                hub.sink.tell(&hub.name, || Event::Panic { policy: service, panics, usable, instances });
            }
        }
    }
}
