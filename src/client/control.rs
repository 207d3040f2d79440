use std::sync::Arc;

use crate::{
    balance::{self, MemberState},
    contract::{HealthStatus, InstanceId},
    observe::{self, CircuitState, Event, Observer},
    stack::{self, Stack},
};

/// The policies of one service, whatever they are made of.
pub(super) trait Control: Send + Sync {
    fn stack(&self) -> stack::Snapshot;
    fn balance(&self) -> balance::Snapshot;
    fn circuit(&self) -> Option<CircuitState>;
    fn has_members(&self) -> bool;
    /// How many instances there are, and how many of them may be called.
    fn members(&self) -> (usize, usize);
    fn eject(&self, id: &InstanceId) -> bool;
    fn readmit(&self, id: &InstanceId) -> bool;
    fn observe(&self, observer: &Arc<dyn Observer>);
}

pub(super) struct Controls<C, F, R, S> {
    pub(super) stack: Stack<C, F, R>,
    pub(super) members: balance::Handle<S>,
}

impl<C, F, R, S> Control for Controls<C, F, R, S>
where
    C: Send + Sync,
    F: Send + Sync,
    R: Send + Sync,
    S: Send + Sync,
{
    fn stack(&self) -> stack::Snapshot {
        self.stack.snapshot()
    }

    fn balance(&self) -> balance::Snapshot {
        self.members.snapshot()
    }

    fn circuit(&self) -> Option<CircuitState> {
        self.stack.breaker().map(crate::breaker::Handle::state)
    }

    fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    fn members(&self) -> (usize, usize) {
        let snapshot = self.members.snapshot();
        let shut = |breaker: &observe::Snapshot| matches!(breaker.state, CircuitState::Open | CircuitState::ForcedOpen);
        let open = |member: &&balance::MemberSnapshot| {
            member.state == MemberState::Active
                && member.health != HealthStatus::Unhealthy
                && !member.breaker.as_ref().is_some_and(shut)
        };
        (snapshot.members.len(), snapshot.members.iter().filter(open).count())
    }

    fn eject(&self, id: &InstanceId) -> bool {
        self.members.eject(id)
    }

    fn readmit(&self, id: &InstanceId) -> bool {
        self.members.readmit(id)
    }

    fn observe(&self, observer: &Arc<dyn Observer>) {
        let told = |observer: &Arc<dyn Observer>| {
            let observer = Arc::clone(observer);
            move |event: &Event<'_>| observer.on_event(event)
        };
        self.members.observe(told(observer));
        self.stack.observe(told(observer));
    }
}
