use std::task::{Context, Poll};

use tower::Service;

use crate::{contract::name::Method, settings::ConfigError};

/// One call of one method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invocation<Req> {
    /// Which method.
    pub method: Method,
    /// What it is asked.
    pub request: Req,
}

impl<Req> Invocation<Req> {
    /// A call of a method.
    #[must_use]
    pub const fn new(method: Method, request: Req) -> Self {
        Self { method, request }
    }

    /// A call of a method whose name is yet to be checked.
    ///
    /// # Errors
    ///
    /// When it is none: see [`Method::new`].
    pub fn of(method: &str, request: Req) -> Result<Self, ConfigError> {
        Ok(Self::new(Method::new(method)?, request))
    }
}

/// A service that is the same for every method: it gets the request alone.
///
/// ```
/// use mainstay::contract::{AnyMethod, Invocation};
/// use tower::{ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let double = AnyMethod(service_fn(async |n: u32| Ok::<_, std::io::Error>(n * 2)));
/// assert_eq!(double.oneshot(Invocation::of("double", 4)?).await?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyMethod<S>(pub S);

impl<S: Service<Req>, Req> Service<Invocation<Req>> for AnyMethod<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, invocation: Invocation<Req>) -> S::Future {
        self.0.call(invocation.request)
    }
}
