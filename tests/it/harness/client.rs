//! Calls of services by name.

use std::{convert::Infallible, future::ready};

use mainstay::{
    client::{Client, Config},
    contract::{Instance, Method},
    discovery::{Discovery, InMemory},
    retry, stack,
};
use tower::service_fn;

use super::{Case, End, Failure, Lab, sweep_all};
use crate::support::*;

pub(super) type Users = Client<(), u32, Failure>;

/// Two instances of one service.
pub(super) async fn client(lab: &Lab) -> Users {
    let discovery = InMemory::new();
    for id in ["a", "b"] {
        let instance = Instance::new("users", id, id, 80).unwrap();
        discovery.register(instance, ms(3_600_000)).await.unwrap();
    }
    let mut policies = stack::Config::new();
    let backoff = retry::Backoff::fixed(ms(2));
    policies.retry = Some(retry::Config::new().attempts(2).backoff(backoff).no_budget());
    let lab = lab.clone();
    let transport = service_fn(move |_: Instance| ready(Ok::<_, Infallible>(lab.clone())));
    Client::builder(discovery, transport).config(Config::new().stack(policies)).build()
}

fn of_client(case: Case, client: &Users) -> Case {
    let (one, two, three) = (client.clone(), client.clone(), client.clone());
    case.gauge("in flight", move || one.metrics("users").map_or(0, |known| known.total.in_flight))
        .gauge("pending", move || {
            let members = |known: mainstay::client::ServiceSnapshot| known.balance.members;
            two.snapshot("users").map_or(0, |known| members(known).iter().map(|member| member.pending).sum())
        })
        .check(move |end| of_metrics(&three, end))
}

fn of_metrics(client: &Users, end: End) {
    let Some(known) = client.metrics("users").map(|known| known.total) else {
        return assert_eq!(end.begun, 0, "{end:?}");
    };
    // Two attempts fail as one call. A call in a task of its own may have ended though nobody has asked yet.
    let (good, bad) = end.counted();
    assert_eq!((known.successes, known.errors), (good, bad / 2), "{end:?}");
    assert_eq!(known.cancelled, known.requests - good - bad / 2, "{end:?} {known:?}");
    assert!(known.requests <= 1 && (end.begun == 0 || known.requests == 1), "{end:?} {known:?}");
}

pub(super) async fn response() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let client = client(&lab).await;
        let mine = client.clone();
        of_client(Case::new(&lab, move || mine.call("users", "get", ())), &client)
    })
    .await;
}

pub(super) async fn pending() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let client = client(&lab).await;
        let mine = client.clone();
        let call = move || {
            // Begun with the first poll: what nobody began holds nothing.
            let client = mine.clone();
            async move { client.call_async("users", "get", ()).unwrap().await }
        };
        of_client(Case::new(&lab, call), &client)
    })
    .await;
}

pub(super) async fn traced() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let client = client(&lab).await;
        let mine = client.clone();
        let call = move || {
            let caller = mine.service("users").unwrap();
            async move { caller.call_traced(Method::new("get").unwrap(), ()).await.0 }
        };
        of_client(Case::new(&lab, call), &client)
    })
    .await;
}
