use std::fmt;

use crate::{
    error::CarryRejection,
    outcome::{Classify, Outcome, classify_error},
};

/// Decides by the kind of an error, with a list of kinds to try again and one of kinds never to. Made by [`by_kind`].
pub struct ByKind<K, F> {
    kind_of: F,
    retryable: Vec<K>,
    never: Vec<K>,
}

/// A classifier that looks at the kind of an error: an [`io::ErrorKind`](std::io::ErrorKind), a database's code, a
/// variant of an enum of yours.
///
/// A kind on the list of those [never](ByKind::never) to be tried again is ignored, and so is one that is not on the
/// list of [retryable](ByKind::retryable) kinds, if there is such a list. All other errors are failures.
///
/// ```
/// use std::io::{self, ErrorKind};
/// use mainstay::{Error, retry::{RetryLayer, Config, Handle, by_kind}};
///
/// let kinds = by_kind(|error: &Error<io::Error>| match error {
///     Error::Inner(error) => Some(error.kind()),
///     Error::Rejected(_) => None,
/// });
/// let layer = RetryLayer::new(Handle::new("files", Config::new()))
///     .classify(kinds.never([ErrorKind::NotFound, ErrorKind::PermissionDenied]));
/// ```
pub fn by_kind<E, K: PartialEq, F: Fn(&E) -> Option<K>>(kind_of: F) -> ByKind<K, F> {
    ByKind { kind_of, retryable: Vec::new(), never: Vec::new() }
}

impl<K, F> ByKind<K, F> {
    /// Only these kinds are failures, and those added before.
    #[must_use]
    pub fn retryable(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.retryable.extend(kinds);
        self
    }

    /// These kinds are no failures, whatever the other list says, nor those added before.
    #[must_use]
    pub fn never(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.never.extend(kinds);
        self
    }
}

impl<T, E, K, F> Classify<T, E> for ByKind<K, F>
where
    E: CarryRejection,
    K: PartialEq,
    F: Fn(&E) -> Option<K>,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        let Err(error) = result else { return Outcome::Success };
        let Some(kind) = (self.kind_of)(error) else { return classify_error(error) };
        let listed = self.retryable.is_empty() || self.retryable.contains(&kind);
        if listed && !self.never.contains(&kind) { Outcome::Failure } else { Outcome::Ignored }
    }
}

impl<K: fmt::Debug, F> fmt::Debug for ByKind<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKind").field("retryable", &self.retryable).field("never", &self.never).finish_non_exhaustive()
    }
}
