use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    admission::{Admission, Parts, Policy},
    outcome::OnError,
};

/// Puts a [`Policy`] in front of a service.
///
/// All state is in the policy's handle, which the layer holds: a host may call `layer` as often as it likes, and all
/// the services it makes are one to the policy.
pub struct AdmissionLayer<P, C = OnError> {
    parts: Arc<Parts<P, C>>,
}

impl<P: Policy> AdmissionLayer<P> {
    /// A layer that takes every error for a failure of the service, except other policies' rejections: see [`OnError`].
    ///
    /// It needs to know nothing of request and response types.
    #[must_use]
    pub fn new(policy: P) -> Self {
        Self { parts: Arc::new(Parts { policy, classify: Arc::new(OnError) }) }
    }
}

impl<P: Policy, C> AdmissionLayer<P, C> {
    /// The same layer with another classifier: a type that implements [`Classify`](crate::Classify), or a closure.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AdmissionLayer<P, D> {
        AdmissionLayer { parts: Arc::new(Parts { policy: self.parts.policy.clone(), classify: Arc::new(classify) }) }
    }

    /// The policy this layer puts in front.
    #[must_use]
    pub fn policy(&self) -> &P {
        &self.parts.policy
    }

    pub(crate) fn parts(&self) -> &Arc<Parts<P, C>> {
        &self.parts
    }
}

impl<S, P: Policy, C> Layer<S> for AdmissionLayer<P, C> {
    type Service = Admission<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission::new(inner, Arc::clone(&self.parts))
    }
}

impl<P, C> Clone for AdmissionLayer<P, C> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<P: fmt::Debug, C> fmt::Debug for AdmissionLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionLayer").field("policy", &self.parts.policy).finish_non_exhaustive()
    }
}
