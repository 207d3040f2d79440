//! What a proxy changes in the head of a message.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Version,
    header::{CONNECTION, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA},
    response,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Makes what a client sent into what a server gets, but for its address.
pub fn prepare_request<B>(request: &mut Request<B>, client: IpAddr) {
    let host = requested_host(request);
    // First of all: a client that lists `X-Forwarded-For` in `Connection` loses what it sent, not what we say.
    let via = via(request.version());
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    // Our server has asked the client for the body already, or does so when it is read.
    headers.remove(EXPECT);
    add_to_list(headers, X_FORWARDED_FOR, &client.to_canonical().to_string());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    match host {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    add_to_list(headers, VIA, via);
    *request.version_mut() = Version::HTTP_11;
    // What the server half of hyper has put there is not for the client half.
    request.extensions_mut().clear();
}

/// Makes what a server sent into what the client gets.
pub fn prepare_response(head: &mut response::Parts) {
    remove_hop_by_hop(&mut head.headers);
    add_to_list(&mut head.headers, VIA, via(head.version));
    head.version = Version::HTTP_11;
}

/// Whom the client wanted to talk to: an absolute URI counts for more than `Host`.
fn requested_host<B>(request: &Request<B>) -> Option<HeaderValue> {
    match request.uri().authority() {
        // Without what stands before the @: it is no part of the host, and may be a password.
        Some(authority) => authority.as_str().rsplit('@').next().and_then(|host| HeaderValue::from_str(host).ok()),
        None => request.headers().get(HOST).cloned(),
    }
}

/// Removes what concerns one connection only: the headers known for it, and those that `Connection` lists.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let proxy = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned();
    let known = [CONNECTION, KEEP_ALIVE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    for name in proxy.chain(known).chain(listed).collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn via(received: Version) -> &'static str {
    if received == Version::HTTP_10 { "1.0 mainstay-gateway" } else { "1.1 mainstay-gateway" }
}

/// Adds to a header that is a list, on one line: not every server reads a second one.
fn add_to_list(headers: &mut HeaderMap, name: HeaderName, entry: &str) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(entry.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}
