use std::borrow::Cow;

use http::Response;

use crate::{
    client::{Client, ClientBuilder, Config},
    error::CarryRejection,
    http::{HttpRules, HttpTransport, Idempotent, StatusClassify},
    retry::Classified,
    stack::{self, Judges},
};

/// The builder of a client over HTTP: see [`Client::http`].
pub type HttpClientBuilder<D, B, C> =
    ClientBuilder<D, HttpTransport<B, C>, HttpRules, crate::fallback::NoFallback, Idempotent>;

impl Client {
    /// A builder of a client over HTTP, which knows what a [stack for HTTP](crate::Stack::http_client) knows: 5xx
    /// counts against an instance and 4xx does not; what passes by itself is tried again, on another instance, if the
    /// request [may be sent twice](Idempotent).
    ///
    /// Calls are judged at the heads of their responses. The policies of all services are those of
    /// [`stack::Config::http_client`]. Settings of one service stand in place of that: give them
    /// [`stack`](Config::stack)`(stack::Config::http_client())`, or in a file `preset = "http_client"`.
    ///
    /// ```
    /// use http::Request;
    /// use mainstay::{client::Client, discovery::InMemory, http::{HttpTransport, error_kind}};
    ///
    /// # async fn calls() -> Result<(), Box<dyn std::error::Error>> {
    /// let discovery = InMemory::new();
    /// let client = Client::http(discovery, HttpTransport::new()).build().error_kind(error_kind);
    /// let response = client.call("users", "get_user", Request::get("/users/7").body(String::new())?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn http<D, B, C>(discovery: D, transport: HttpTransport<B, C>) -> HttpClientBuilder<D, B, C> {
        let rules = Judges::new(StatusClassify::new(), Classified(StatusClassify::retryable()));
        let config = Config::new().stack(stack::Config::http_client());
        Self::builder(discovery, transport).config(config).rule(rules).replay(Idempotent)
    }
}

/// Names the kinds of errors of an HTTP client by their status: `status_503`. For
/// [`Client::error_kind`](crate::client::Client::error_kind).
pub fn error_kind<B, E: CarryRejection>(result: Result<&Response<B>, &E>) -> Option<Cow<'static, str>> {
    let response = result.ok()?;
    Some(format!("status_{}", response.status().as_u16()).into())
}
