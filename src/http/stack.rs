use crate::{
    fallback::NoFallback,
    http::{Idempotent, StatusClassify},
    retry::Classified,
    stack::{Config, Hook, Judges, Stack, StackBuilder},
};

/// Who judges in a stack for HTTP: [`StatusClassify::new`] for the breaker, where 4xx says nothing about the service,
/// and [`StatusClassify::retryable`] for the retry, which tries a 429 again all the same.
pub type HttpRules = Judges<StatusClassify, Classified<StatusClassify>>;

/// The stack of an HTTP client, as [`Stack::http_client`] makes it.
pub type HttpStack<F = NoFallback> = Stack<HttpRules, F, Hook<Idempotent>>;

impl Stack {
    /// Good for a service that is called over HTTP: see [`Config::http_client`] for its policies.
    ///
    /// 5xx counts against the service, 4xx does not. What passes by itself is tried again (408, 425, 429, 500, 502,
    /// 503, 504, and errors), not before the time in `Retry-After`, and only if the request [may be sent
    /// twice](Idempotent). A [deadline](crate::Deadline) in the request's extensions cuts the call short.
    ///
    /// The bodies of requests have to be `Clone`, as buffered ones are; over those that stream, put a
    /// [`ReplayBodyLayer`](crate::http::ReplayBodyLayer) outside of the stack.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use mainstay::{Error, Stack};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # tokio_test::block_on(async {
    /// # let client = service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new("Ada")));
    /// let stack = Stack::http_client("users");
    /// let users = ServiceBuilder::new().layer(stack.layer()).map_err(Error::Inner).service(client);
    /// let answer = users.oneshot(Request::get("/users/7").body(String::new()).unwrap()).await?;
    /// assert_eq!(answer.status(), 200);
    /// # Ok::<(), Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// When the name is none: see [`Name::new`](crate::Name::new). For names from outside, or other settings, build
    /// one: `Config::http_client().builder(name).http()`.
    #[must_use]
    #[track_caller]
    pub fn http_client(name: &str) -> HttpStack {
        Config::http_client().builder(name).http().build()
    }
}

impl<C, F, R> StackBuilder<Classified<C>, F, R> {
    /// Judges and sends again as [`Stack::http_client`] does, whatever the policies and their settings are.
    ///
    /// ```
    /// use mainstay::stack::Config;
    ///
    /// let config: Config = toml::from_str("preset = 'http_client'\ntimeout = '15s'")?;
    /// let stack = config.builder("users").http().try_build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn http(self) -> StackBuilder<HttpRules, F, Hook<Idempotent>> {
        self.classify(StatusClassify::new()).retry_rule(Classified(StatusClassify::retryable())).replay(Idempotent)
    }
}
