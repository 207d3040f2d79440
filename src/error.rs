//! What a layer answers when it does not call the service, and how that answer travels in *your* error type.
//!
//! No layer of this crate changes the error type of the service it wraps. Each asks one thing of it: that it
//! [can carry a rejection](CarryRejection). Boxed errors can, [`Error<E>`] can for every `E`, and an enum of yours can
//! with one impl. So a stack of ten layers has the same error type as a stack of one.
//!
//! A service whose error cannot carry a rejection (a foreign type, [`Infallible`](std::convert::Infallible)) is mapped
//! once, at the bottom: `.map_err(mainstay::Error::Inner)`.

use std::{error, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Why a call was turned away.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The call was ended by the one who made it.
    Aborted,
    /// The bulkhead has no free place, and its queue none either.
    BulkheadFull,
    /// The circuit is open.
    CircuitOpen,
    /// The circuit is half-open and every probe is taken.
    CircuitProbing,
    /// The caller's deadline had passed before the service was called.
    DeadlinePassed,
    /// There is no instance that may be called.
    NoInstance,
    /// Load was shed.
    Overloaded,
    /// The quota is used up.
    RateLimited,
    /// The call took too long.
    TimedOut,
    /// The service is known to be unhealthy, and was not asked.
    Unhealthy,
    /// No method can have the name that was given.
    UnknownMethod,
    /// No service of that name is registered.
    UnknownService,
}

impl Reason {
    /// The reason in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::BulkheadFull => "bulkhead_full",
            Self::CircuitOpen => "circuit_open",
            Self::CircuitProbing => "circuit_probing",
            Self::DeadlinePassed => "deadline_passed",
            Self::NoInstance => "no_instance",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::TimedOut => "timed_out",
            Self::Unhealthy => "unhealthy",
            Self::UnknownMethod => "unknown_method",
            Self::UnknownService => "unknown_service",
        }
    }

    /// Whether the reason speaks of the service behind the policy, and not of the policy itself.
    ///
    /// Only a time-out does: the service was called and did not answer. Everything else was refused before the
    /// service was asked, so a breaker further out must not count it against the service.
    #[must_use]
    pub const fn blames_service(self) -> bool {
        matches!(self, Self::TimedOut)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call was turned away by a policy: which one, why, and when to come back.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{Name, Reason, Rejection};
///
/// let rejection = Rejection::new(Reason::CircuitOpen, Name::new("payments")?)
///     .with_retry_after(Duration::from_millis(4_200));
/// assert_eq!(rejection.to_string(), "circuit breaker \"payments\" is open, retry in 4.2s");
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Rejection {
    policy: Name,
    // Nanoseconds, all ones for "unknown": a rejected call costs less when no `Option<Duration>` is built for it.
    retry_after: u64,
    reason: Reason,
}

impl Rejection {
    /// A rejection by the policy of that name.
    #[must_use]
    #[inline]
    pub const fn new(reason: Reason, policy: Name) -> Self {
        Self { policy, retry_after: u64::MAX, reason }
    }

    /// Says when the caller may come back. Waits beyond 584 years count as unknown.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.with_retry_nanos(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) fn with_retry_nanos(mut self, wait: u64) -> Self {
        self.retry_after = wait;
        self
    }

    /// Why the call was turned away.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The name of the policy that turned it away.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.policy.as_str()
    }

    /// How long to wait before trying again, where the policy can know.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.retry_after {
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("policy", &self.policy)
            .field("reason", &self.reason)
            .field("retry_after", &self.retry_after())
            .finish()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.policy;
        match self.reason {
            Reason::Aborted => write!(f, "the call of \"{policy}\" was aborted"),
            Reason::BulkheadFull => write!(f, "bulkhead \"{policy}\" is full"),
            Reason::CircuitOpen => write!(f, "circuit breaker \"{policy}\" is open"),
            Reason::CircuitProbing => write!(f, "circuit breaker \"{policy}\" is half-open and all probes are taken"),
            Reason::DeadlinePassed => write!(f, "the deadline had passed before \"{policy}\" began"),
            Reason::NoInstance => write!(f, "\"{policy}\" has no instance to call"),
            Reason::Overloaded => write!(f, "\"{policy}\" is overloaded"),
            Reason::RateLimited => write!(f, "rate limit \"{policy}\" is used up"),
            Reason::TimedOut => write!(f, "\"{policy}\" timed out"),
            Reason::Unhealthy => write!(f, "\"{policy}\" is unhealthy"),
            Reason::UnknownMethod => write!(f, "\"{policy}\" has no method of that name"),
            Reason::UnknownService => write!(f, "no service \"{policy}\" is registered"),
        }?;
        match self.retry_after() {
            // Up to the millisecond: who comes back then does not come too early, and a log line stays readable.
            Some(wait) if wait > Duration::from_millis(1) => {
                let millis = wait.as_nanos().div_ceil(1_000_000);
                write!(f, ", retry in {:?}", Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
            }
            Some(wait) => write!(f, ", retry in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Rejection {}

/// An error type that can carry a [`Rejection`].
///
/// This is all that a layer asks of the error of the service below it. An enum of yours needs one impl:
///
/// ```
/// use mainstay::{CarryRejection, Rejection};
///
/// enum UserError {
///     NotFound,
///     Unavailable(Rejection),
/// }
///
/// impl CarryRejection for UserError {
///     fn from_rejection(rejection: Rejection) -> Self {
///         Self::Unavailable(rejection)
///     }
///     fn rejection(&self) -> Option<&Rejection> {
///         match self {
///             Self::Unavailable(rejection) => Some(rejection),
///             Self::NotFound => None,
///         }
///     }
/// }
/// ```
///
/// A type without the impl is refused by the compiler, with the fix in the message:
///
/// ```compile_fail
/// use mainstay::breaker::{CircuitBreakerLayer, Config, Handle};
/// use tower::{Layer, Service, service_fn};
///
/// fn serve<S: Service<u32>>(service: S) {}
///
/// struct Foreign;
/// let layer = CircuitBreakerLayer::new(Handle::new("x", Config::new()));
/// // error: `Foreign` cannot carry a rejection by mainstay
/// serve(layer.layer(service_fn(async |n: u32| Err::<(), _>(Foreign))));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a rejection by mainstay",
    label = "a layer of mainstay needs an error type that can carry its rejections",
    note = "map the error once, at the bottom of the stack: `.map_err(mainstay::Error::Inner)`",
    note = "or implement `mainstay::CarryRejection` for `{Self}`: one variant that holds a `Rejection`"
)]
pub trait CarryRejection {
    /// Wraps a rejection by a layer.
    fn from_rejection(rejection: Rejection) -> Self;

    /// The rejection inside, if this error is one.
    ///
    /// Layers further out look here: a breaker does not count what an inner bulkhead turned away, and a retry does not
    /// retry an open circuit.
    fn rejection(&self) -> Option<&Rejection>;
}

/// The error of a protected call: turned away, or failed by itself.
///
/// [`source`](error::Error::source) is kept: a downcast along the chain finds the rejection or the service's own error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error<E> {
    /// A policy turned the call away, or cut it off.
    Rejected(Rejection),
    /// The service's own error, untouched.
    Inner(E),
}

impl<E> Error<E> {
    /// The service's own error, if it is one.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Whether a policy turned the call away.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// When to come back, if a policy turned the call away and knows.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejection) => rejection.retry_after(),
            Self::Inner(_) => None,
        }
    }

    /// Takes the wrapper off, for an `E` that adopts rejections by `From`, as `anyhow::Error`, boxed errors and enums
    /// with a `#[from]` variant do: `.map_err(mainstay::Error::flatten)` at the top of a stack.
    ///
    /// ```
    /// let rejected: mainstay::Error<anyhow::Error> = mainstay::Error::Rejected(mainstay::Rejection::new(
    ///     mainstay::Reason::CircuitOpen,
    ///     mainstay::Name::new("payments")?,
    /// ));
    /// let error: anyhow::Error = rejected.flatten();
    /// assert!(error.downcast_ref::<mainstay::Rejection>().is_some());
    /// # Ok::<(), mainstay::ConfigError>(())
    /// ```
    #[must_use]
    pub fn flatten(self) -> E
    where
        E: From<Rejection>,
    {
        match self {
            Self::Rejected(rejection) => E::from(rejection),
            Self::Inner(error) => error,
        }
    }

    /// The rejection or the service's error, boxed without a wrapper around it, so that a host which looks for its own
    /// type in the box finds it. Works for an `E` that is itself a boxed error.
    #[must_use]
    pub fn into_boxed(self) -> BoxError
    where
        E: Into<BoxError>,
    {
        match self {
            Self::Rejected(rejection) => rejection.into(),
            Self::Inner(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(error) => Some(error),
        }
    }
}

impl<E> From<Rejection> for Error<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> CarryRejection for Error<E> {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(_) => None,
        }
    }
}

/// The boxed error that tower, axum, tonic and reqwest use.
pub type BoxError = Box<dyn error::Error + Send + Sync>;

fn find_rejection<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Rejection> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

impl CarryRejection for BoxError {
    fn from_rejection(rejection: Rejection) -> Self {
        rejection.into()
    }

    fn rejection(&self) -> Option<&Rejection> {
        find_rejection(&**self)
    }
}

impl CarryRejection for Box<dyn error::Error + Send> {
    fn from_rejection(rejection: Rejection) -> Self {
        Box::new(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        find_rejection(&**self)
    }
}

impl CarryRejection for Box<dyn error::Error> {
    fn from_rejection(rejection: Rejection) -> Self {
        rejection.into()
    }

    fn rejection(&self) -> Option<&Rejection> {
        find_rejection(&**self)
    }
}
