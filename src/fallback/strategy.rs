use std::{
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

/// Where an answer comes from when the service has none.
///
/// [`Fallback`](super::Fallback) makes the usual ones. Implement it for what they cannot say; nothing is boxed, and
/// what is not overridden costs nothing. `Req` is `()` for a [future that is run](super::Handle::run) without a
/// request.
///
/// ```
/// use std::{future::{Ready, ready}, io};
/// use mainstay::fallback::{Handle, Strategy};
///
/// /// Says where else to ask.
/// struct Mirror(String);
///
/// impl<E> Strategy<String, String, E> for Mirror {
///     type Kept = String;
///     type Future = Ready<Result<String, E>>;
///
///     fn keep(&self, request: &mut String) -> String {
///         request.clone()
///     }
///     fn fall_back(&self, path: &mut String, _: Result<&String, &E>) -> Option<Self::Future> {
///         Some(ready(Ok(format!("see https://{}/{path}", self.0))))
///     }
/// }
///
/// # tokio_test::block_on(async {
/// let fallback = Handle::new("downloads");
/// let fetch = async |_path| Err::<String, _>(io::Error::other("disk full"));
/// let answer = fallback.run_for(&Mirror("mirror.example".into()), "a.zip".to_owned(), fetch).await?;
/// assert_eq!(answer, "see https://mirror.example/a.zip");
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
///
/// A strategy that panics has nothing to give: the caller gets what the service answered.
pub trait Strategy<Req, T, E> {
    /// What is kept of a request while the service is asked, `()` for nothing.
    type Kept;

    /// The answer on its way.
    type Future: Future<Output = Result<T, E>>;

    /// There is no fallback, and nothing is asked of this one. Only [`NoFallback`] says so.
    #[doc(hidden)]
    const NONE: bool = false;

    /// Nothing is kept and nothing is learnt, by code of this crate: no panic has to be caught on the way of a call
    /// that succeeds.
    #[doc(hidden)]
    const PLAIN: bool = false;

    /// Before the call: what to keep of the request. It may change the request, for example to record its body.
    fn keep(&self, request: &mut Req) -> Self::Kept;

    /// Whether this is a failure to fall back for: by default every one.
    #[inline]
    fn covers(&self, failed: Result<&T, &E>) -> bool {
        let _ = failed;
        true
    }

    /// The service gave a good answer, which is a chance to learn it.
    #[inline]
    fn succeeded(&self, kept: &Self::Kept, response: &T) {
        let _ = (kept, response);
    }

    /// An answer in place of a failed one: an error, or a response that counts as a failure. `None` when there is
    /// nothing to give. Asked once for a call.
    fn fall_back(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future>;

    /// Another answer, when the one before failed too; asked until there is none. By default there is none: this is for
    /// strategies that consist of several.
    #[inline]
    fn next(&self, kept: &mut Self::Kept, failed: Result<&T, &E>) -> Option<Self::Future> {
        let _ = (kept, failed);
        None
    }
}

/// No fallback: what the service answers is the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoFallback;

impl<Req, T, E> Strategy<Req, T, E> for NoFallback {
    type Kept = ();
    type Future = Never<Result<T, E>>;

    const NONE: bool = true;
    const PLAIN: bool = true;

    #[inline]
    fn keep(&self, _: &mut Req) {}

    #[inline]
    fn covers(&self, _: Result<&T, &E>) -> bool {
        false
    }

    #[inline]
    fn fall_back(&self, (): &mut (), _: Result<&T, &E>) -> Option<Self::Future> {
        None
    }
}

/// The answer of [`NoFallback`], of which there is none.
pub struct Never<T> {
    never: Infallible,
    output: PhantomData<fn() -> T>,
}

impl<T> Future for Never<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let _ = self.output;
        match self.never {}
    }
}

impl<T> fmt::Debug for Never<T> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}
