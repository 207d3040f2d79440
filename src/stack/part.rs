use std::time::Duration;

use crate::{breaker, bulkhead, concurrency, hedge, load_shed, rate_limit, retry, timeout};

/// A policy of a stack: its settings, or a handle that exists already.
#[derive(Debug, Clone)]
pub enum Part<C, H> {
    /// A policy is made from these, under the name of the stack.
    Config(C),
    /// This one, under its own name, and shared with whoever else has it.
    Handle(H),
}

impl<C, H> Part<C, H> {
    pub(super) const fn config(&self) -> Option<&C> {
        match self {
            Self::Config(config) => Some(config),
            Self::Handle(_) => None,
        }
    }

    /// The handle, made if need be.
    pub(super) fn all<E>(part: Option<Self>, make: impl FnOnce(C) -> Result<H, E>) -> Result<Option<H>, E> {
        part.map(|part| match part {
            Self::Config(config) => make(config),
            Self::Handle(handle) => Ok(handle),
        })
        .transpose()
    }
}

macro_rules! parts {
    ($($config:ty => $handle:ty),* $(,)?) => {$(
        impl From<$config> for Part<$config, $handle> {
            fn from(config: $config) -> Self {
                Self::Config(config)
            }
        }

        impl From<$handle> for Part<$config, $handle> {
            fn from(handle: $handle) -> Self {
                Self::Handle(handle)
            }
        }
    )*};
}

parts! {
    load_shed::Config => load_shed::Handle,
    rate_limit::Config => rate_limit::Handle,
    Duration => timeout::Handle,
    retry::Config => retry::Handle,
    hedge::Config => hedge::Handle,
    breaker::Config => breaker::Handle,
    concurrency::Config => concurrency::Handle,
    bulkhead::Config => bulkhead::Handle,
}
