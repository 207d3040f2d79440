use std::future::Future;

use crate::{
    error::Reason,
    fallback::{
        alternative::Alternative,
        cache_config::CacheConfig,
        cached::Cached,
        chain::Or,
        cover::{On, When},
        last_good::LastGood,
        made::{OfRequest, Run, Value, With, WithResult},
        strategy::{NoFallback, Strategy},
    },
    replay::Cloned,
    settings::ConfigError,
};

/// Makes a [`Strategy`]: where an answer comes from when the service has none.
///
/// ```
/// use std::{io, time::Duration};
/// use mainstay::{Error, Reason, fallback::{CacheConfig, Fallback, Handle}};
///
/// #[derive(Debug, Clone, PartialEq)]
/// struct User(String);
///
/// // Always the same.
/// let guest = Fallback::value(User("guest".into()));
///
/// // Made from the error.
/// let told = Fallback::with(|error: &Error<io::Error>| User(format!("unknown ({error})")));
///
/// // From elsewhere, for some failures only, and if there is nothing, something else.
/// let users = Fallback::cached(CacheConfig::new().max_age(Duration::from_secs(60)), |id: &u64| Some(*id))
///     .on([Reason::CircuitOpen, Reason::TimedOut])
///     .or(told);
///
/// # tokio_test::block_on(async {
/// let fetch = async |_id| Err(Error::Inner(io::Error::other("down")));
/// let user = Handle::new("user-db").run_for(&users, 7, fetch).await?;
/// assert_eq!(user, User("unknown (down)".into()));
/// # Ok::<(), Error<io::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Fallback<S = NoFallback> {
    strategy: S,
}

impl Fallback {
    /// Always the same answer, which is cloned for each use.
    #[must_use]
    pub fn value<T: Clone>(answer: T) -> Fallback<Value<T>> {
        Fallback::by(Value(answer))
    }

    /// An answer made from the error. Not for [responses that count as failures](super::FallbackLayer::classify): see
    /// [`with_result`](Self::with_result).
    #[must_use]
    pub fn with<T, E, F: Fn(&E) -> T>(answer: F) -> Fallback<With<F>> {
        Fallback::by(With(answer))
    }

    /// An answer made from the error, or from the response that counts as a failure.
    ///
    /// ```
    /// use mainstay::{Error, fallback::{Fallback, FallbackLayer, Handle}, Outcome, classify_fn};
    ///
    /// struct Page { status: u16, text: String }
    ///
    /// let sorry = Fallback::with_result(|failed: Result<&Page, &Error<std::io::Error>>| match failed {
    ///     Ok(page) => Page { status: 200, text: format!("please come back later ({})", page.status) },
    ///     Err(error) => Page { status: 200, text: format!("please come back later ({error})") },
    /// });
    /// let by_status = classify_fn(|result: Result<&Page, &Error<std::io::Error>>| match result {
    ///     Ok(page) if page.status < 500 => Outcome::Success,
    ///     _ => Outcome::Failure,
    /// });
    /// let layer = FallbackLayer::new(Handle::new("pages"), sorry).classify(by_status);
    /// ```
    #[must_use]
    pub fn with_result<T, E, F: Fn(Result<&T, &E>) -> T>(answer: F) -> Fallback<WithResult<F>> {
        Fallback::by(WithResult(answer))
    }

    /// What an async closure answers to the error. The future cannot borrow the error: take out of it what is needed.
    /// Not for responses that count as failures: see [`request`](Self::request).
    ///
    /// ```
    /// use std::io;
    /// use mainstay::fallback::{Fallback, Handle};
    ///
    /// # tokio_test::block_on(async {
    /// let from_disk = Fallback::run(|error: &io::Error| {
    ///     let kind = error.kind();
    ///     async move {
    ///         if kind == io::ErrorKind::NotFound { Ok("from disk".to_owned()) } else { Err(io::Error::from(kind)) }
    ///     }
    /// });
    /// let read = async { Err::<String, _>(io::Error::from(io::ErrorKind::NotFound)) };
    /// assert_eq!(Handle::new("pages").run(&from_disk, read).await?, "from disk");
    /// # Ok::<(), io::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn run<T, E, F, Fut>(answer: F) -> Fallback<Run<F>>
    where
        F: Fn(&E) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Fallback::by(Run(answer))
    }

    /// What an async closure answers to the request and the failure. `keep` takes what is needed out of each request,
    /// before anybody knows whether it will be needed.
    ///
    /// ```
    /// use std::io;
    /// use mainstay::fallback::{Fallback, Handle};
    ///
    /// struct Order { id: u64, text: String }
    ///
    /// # tokio_test::block_on(async {
    /// let later = Fallback::request(
    ///     |order: &Order| order.id,
    ///     |id, _: Result<&String, &io::Error>| async move { Ok(format!("order {id} will be seen to")) },
    /// );
    /// let order = Order { id: 7, text: "tea".into() };
    /// let send = async |order: Order| Err(io::Error::other(order.text));
    /// assert_eq!(Handle::new("orders").run_for(&later, order, send).await?, "order 7 will be seen to");
    /// # Ok::<(), io::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn request<Req, Q, T, E, K, F, Fut>(keep: K, answer: F) -> Fallback<OfRequest<K, F>>
    where
        K: Fn(&Req) -> Q,
        F: Fn(Q, Result<&T, &E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Fallback::by(OfRequest { keep, answer })
    }

    /// Asks another service with the same request, of which a clone is kept; or what a [hook](Fallback::replay) makes
    /// of it. A failure may mean that the request was carried out all the same: another service is for what may be done
    /// twice.
    ///
    /// Each use clones the service and makes the clone ready. A layer is `Sync`, as axum asks, when this service is: in
    /// a box, take tower's `BoxCloneSyncService`.
    ///
    /// ```
    /// use mainstay::fallback::{Fallback, FallbackLayer, Handle};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # tokio_test::block_on(async {
    /// let primary = service_fn(async |_: u32| Err("down"));
    /// let replica = service_fn(async |id: u32| Ok(format!("user {id}")));
    /// let users = FallbackLayer::new(Handle::new("user-db"), Fallback::service(replica)).layer(primary);
    /// assert_eq!(users.oneshot(7).await?, "user 7");
    /// # Ok::<(), &str>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn service<S>(alternative: S) -> Fallback<Alternative<S>> {
        Fallback::by(Alternative { service: alternative, replay: Cloned })
    }

    /// The last good answer to the same question: to a request with the same key. `None` for a request whose answers
    /// are not to be kept.
    ///
    /// A good answer costs a hash, a clock reading and a short lock of one part of the map; and every
    /// [so often](CacheConfig::refresh) a clone of the answer. An answer with a body that streams cannot be cloned:
    /// keep what was made of it.
    ///
    /// ```
    /// use mainstay::fallback::{CacheConfig, Fallback, FallbackLayer, Handle};
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # tokio_test::block_on(async {
    /// let mut answers = [Ok(1.07), Err("down"), Err("down")].into_iter();
    /// let last_good = Fallback::cached(CacheConfig::new(), |name: &&str| Some(name.to_string()));
    /// let mut rates = ServiceBuilder::new()
    ///     .layer(FallbackLayer::new(Handle::new("rates"), last_good))
    ///     .service(service_fn(|_: &str| std::future::ready(answers.next().unwrap())));
    /// assert_eq!(rates.ready().await?.call("EUR").await, Ok(1.07));
    /// assert_eq!(rates.ready().await?.call("EUR").await, Ok(1.07));
    /// assert_eq!(rates.ready().await?.call("GBP").await, Err("down"));
    /// # Ok::<(), &str>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// When a setting is impossible. For settings from outside, use [`try_cached`](Self::try_cached).
    #[must_use]
    #[track_caller]
    pub fn cached<Req, K, T, F: Fn(&Req) -> Option<K>>(
        config: CacheConfig,
        key: F,
    ) -> Fallback<Cached<LastGood<K, T>, F>> {
        Self::stored(LastGood::new(config), key)
    }

    /// Like [`cached`](Self::cached), with settings from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    #[allow(clippy::type_complexity, reason = "the type says what it consists of")]
    pub fn try_cached<Req, K, T, F: Fn(&Req) -> Option<K>>(
        config: CacheConfig,
        key: F,
    ) -> Result<Fallback<Cached<LastGood<K, T>, F>>, ConfigError> {
        Ok(Self::stored(LastGood::try_new(config)?, key))
    }

    /// Like [`cached`](Self::cached), with a [`Store`](super::Store) of your own, or one that is shared.
    #[must_use]
    pub fn stored<Req, K, M, F: Fn(&Req) -> Option<K>>(store: M, key: F) -> Fallback<Cached<M, F>> {
        Fallback::by(Cached { store, key })
    }
}

impl<S> Fallback<S> {
    /// A strategy of your own, for the methods here.
    #[must_use]
    pub const fn by(strategy: S) -> Self {
        Self { strategy }
    }

    /// The same for rejections by policies with one of these reasons only. What else fails goes to the caller, or to
    /// [what comes after](Self::or).
    #[must_use]
    pub fn on(self, reasons: impl IntoIterator<Item = Reason>) -> Fallback<On<S>> {
        Fallback::by(On { strategy: self.strategy, reasons: reasons.into_iter().collect() })
    }

    /// The same for some errors only, and for no response. What else fails goes to the caller, or to [what comes
    /// after](Self::or).
    ///
    /// ```
    /// use std::io;
    /// use mainstay::fallback::Fallback;
    ///
    /// let empty = Fallback::value(Vec::<u8>::new()).when(|error: &io::Error| error.kind() == io::ErrorKind::NotFound);
    /// ```
    #[must_use]
    pub fn when<E, P: Fn(&E) -> bool>(self, predicate: P) -> Fallback<When<S, P>> {
        Fallback::by(When { strategy: self.strategy, predicate })
    }

    /// Another one where this one is not for the failure, has nothing to give, or fails too. However many there are, it
    /// is the service's own answer that the caller gets when all fail.
    #[must_use]
    pub fn or<N>(self, next: N) -> Fallback<Or<S, N>> {
        Fallback::by(Or { first: self.strategy, second: next })
    }

    /// What it consists of.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.strategy
    }
}

impl<S, R> Fallback<Alternative<S, R>> {
    /// The same with another way to send requests again: a [`Replay`](super::Replay), or a closure
    /// `Fn(&Req) -> Option<Req>`.
    #[must_use]
    pub fn replay<Q>(self, replay: Q) -> Fallback<Alternative<S, Q>> {
        Fallback::by(Alternative { service: self.strategy.service, replay })
    }
}

impl<M, F> Fallback<Cached<M, F>> {
    /// Where the answers are kept.
    #[must_use]
    pub const fn store(&self) -> &M {
        &self.strategy.store
    }
}

impl<Req, T, E, S: Strategy<Req, T, E>> Strategy<Req, T, E> for Fallback<S> {
    type Kept = S::Kept;
    type Future = S::Future;

    const NONE: bool = S::NONE;
    const PLAIN: bool = S::PLAIN;

    #[inline]
    fn keep(&self, request: &mut Req) -> S::Kept {
        self.strategy.keep(request)
    }

    #[inline]
    fn covers(&self, failed: Result<&T, &E>) -> bool {
        self.strategy.covers(failed)
    }

    #[inline]
    fn succeeded(&self, kept: &S::Kept, response: &T) {
        self.strategy.succeeded(kept, response);
    }

    fn fall_back(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.fall_back(kept, failed)
    }

    fn next(&self, kept: &mut S::Kept, failed: Result<&T, &E>) -> Option<S::Future> {
        self.strategy.next(kept, failed)
    }
}
