//! Watches as streams, and as what Tower's balancer reads.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tower::discover::Change;

use crate::{
    contract::{Instance, InstanceId},
    discovery::{
        callable::{Callable, Step},
        update::Update,
        watch::Watch,
    },
};

impl Stream for Watch {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        Self::poll_next(self.get_mut(), cx)
    }
}

/// A watch as a [`Discover`](tower::discover::Discover): inserts a service for every instance that may be called, and
/// removes it when the instance is gone, drains, has a weight of 0 or is unhealthy.
///
/// The service is made by a function. It is made anew when the instance is another than before (its address, version or
/// metadata), and not for a change of its health. Where a connection is needed first, make a service that connects when
/// it is first called: a balancer ends at the first error that its discovery tells, so this one tells none.
///
/// ```
/// use std::{convert::Infallible, sync::Arc, time::Duration};
/// use mainstay::{contract::Instance, discovery::{Changes, Discovery, InMemory}};
/// use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
/// use tower::{Service, ServiceExt, balance::p2c::Balance, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let fleet = InMemory::new();
/// let lease = fleet.register(Instance::new("users", "a", "10.0.0.7", 80)?, Duration::from_secs(30)).await?;
///
/// let connect = |instance: Arc<Instance>| {
///     service_fn(move |id: u32| std::future::ready(Ok::<_, Infallible>(format!("user {id} from {}", instance.id()))))
/// };
/// let changes = Changes::new(fleet.watch(lease.service()).await?, connect);
/// let mut users = Balance::new(PendingRequestsDiscover::new(changes, CompleteOnResponse::default()));
/// assert_eq!(users.ready().await?.call(7).await?, "user 7 from a");
/// # Ok(())
/// # }
/// ```
pub struct Changes<F> {
    watch: Watch,
    make: F,
    callable: Callable,
    steps: VecDeque<Step>,
}

impl<F> Changes<F> {
    /// Makes services for what a watch tells.
    #[must_use]
    pub fn new<S>(watch: Watch, make: F) -> Self
    where
        F: Fn(Arc<Instance>) -> S,
    {
        Self { watch, make, callable: Callable::default(), steps: VecDeque::new() }
    }
}

impl<F, S> Stream for Changes<F>
where
    F: Fn(Arc<Instance>) -> S + Unpin,
{
    type Item = Result<Change<InstanceId, S>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.steps.pop_front() {
                Some(Step::Insert(instance)) => {
                    let id = instance.id().clone();
                    return Poll::Ready(Some(Ok(Change::Insert(id, (this.make)(instance)))));
                }
                Some(Step::Remove(id)) => return Poll::Ready(Some(Ok(Change::Remove(id)))),
                None => {}
            }
            let Some(update) = ready!(this.watch.poll_next(cx)) else { return Poll::Ready(None) };
            this.callable.apply(&update, &mut this.steps);
        }
    }
}

impl<F> fmt::Debug for Changes<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("watch", &self.watch).finish_non_exhaustive()
    }
}
