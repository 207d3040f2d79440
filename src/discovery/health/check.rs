//! One check of one instance, whatever service does it.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tower::Service;

use crate::contract::{Health, Instance};

/// In a box, so that [`Checked`](super::Checked) does not have the types of its checks in its own: a check goes over a
/// network, and an allocation is nothing beside it.
pub(super) type Checking = Pin<Box<dyn Future<Output = Health> + Send>>;

pub(super) trait Check: Send + Sync {
    fn check(&self, instance: Arc<Instance>) -> Checking;
}

/// A service as a check, and what its answers mean.
pub(super) struct ByService<S, J> {
    pub(super) service: S,
    pub(super) judge: J,
}

impl<S, J> Check for ByService<S, J>
where
    S: Service<Arc<Instance>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: fmt::Display,
    J: Fn(&S::Response) -> Health + Clone + Send + Sync + 'static,
{
    fn check(&self, instance: Arc<Instance>) -> Checking {
        let (mut service, judge) = (self.service.clone(), self.judge.clone());
        Box::pin(async move {
            // As text at once: an error need not be one that may go to another thread.
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx).map_err(|error| failed(&error))).await {
                return error;
            }
            match service.call(instance).await {
                Ok(answer) => judge(&answer),
                Err(error) => failed(&error),
            }
        })
    }
}

/// An error may hold a whole page, and goes to every watcher.
fn failed(error: &dyn fmt::Display) -> Health {
    const LONGEST: usize = 256;
    let message = error.to_string();
    let end = message.char_indices().nth(LONGEST).map_or(message.len(), |(end, _)| end);
    Health::unhealthy(&message[..end])
}

/// Runs a check for so long at most. One that panics has failed.
pub(super) async fn run(check: Arc<dyn Check>, instance: Arc<Instance>, limit: Duration) -> Health {
    let begin = catch_unwind(AssertUnwindSafe(|| check.check(instance)));
    let Ok(mut checking) = begin else { return panicked() };
    let guarded = poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| checking.as_mut().poll(cx))).unwrap_or_else(|_| Poll::Ready(panicked()))
    });
    match tokio::time::timeout(limit, guarded).await {
        Ok(health) => health,
        Err(_) => Health::unhealthy("the check took too long"),
    }
}

pub(super) fn panicked() -> Health {
    Health::unhealthy("the check panicked")
}
