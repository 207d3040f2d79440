use crate::{balance::Steer, client::call::Call, contract::Instance};

/// Sends a retry, and a hedge, to another instance, as long as there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Another;

impl<Req> Steer<Call<Req>> for Another {
    fn avoids(&self, call: &Call<Req>, instance: &Instance) -> bool {
        call.trail.has_been_at(instance.id())
    }
}
