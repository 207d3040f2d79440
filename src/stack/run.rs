use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use tower::Service;

use crate::{
    admission::Gatekeeper,
    error::{CarryRejection, Error},
    fallback::Strategy,
    outcome::Classify,
    retry::Rule,
    stack::{attempt::Due, future::Call, policies::ByReference, whole::Stack},
};

impl<C, F, R> Stack<C, F, R> {
    /// Runs an operation behind the stack: a query, a command to a cache, any asynchronous work. It is called once for
    /// each attempt.
    ///
    /// Dropping the answer ends it: nothing runs on, and all that it held goes back.
    ///
    /// ```
    /// use mainstay::{Error, Stack};
    ///
    /// # async fn fetch(id: u32) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
    /// # tokio_test::block_on(async {
    /// let stack = Stack::database("user-db");
    /// let user = stack.run(|| fetch(7)).await?;
    /// assert_eq!(user, "user 7");
    /// # Ok::<(), Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when a policy turned the call away or cut it off, [`Error::Inner`] with the operation's own
    /// error, from its last attempt.
    ///
    /// # Panics
    ///
    /// When there is a wait and no tokio runtime with timers.
    pub async fn run<O, A, T, E>(&self, operation: O) -> Result<T, Error<E>>
    where
        O: Fn() -> A,
        A: Future<Output = Result<T, E>>,
        C: Classify<T, Error<E>> + Rule<T, Error<E>>,
        E: fmt::Display,
        F: Strategy<(), T, Error<E>>,
    {
        self.run_carrying(|| {
            let attempt = operation();
            async { attempt.await.map_err(Error::Inner) }
        })
        .await
    }

    /// Like [`run`](Self::run), for an operation whose own error can carry rejections: the error stays as it is.
    ///
    /// # Errors
    ///
    /// The operation's own, or the rejection in it.
    pub async fn run_carrying<O, A, T, E>(&self, operation: O) -> Result<T, E>
    where
        O: Fn() -> A,
        A: Future<Output = Result<T, E>>,
        E: CarryRejection + fmt::Display,
        C: Classify<T, E> + Rule<T, E>,
        F: Strategy<(), T, E>,
    {
        let (mut gate, mut operation) = (Gatekeeper::new(), Operation(&operation));
        let inner = &self.parts.policies.inner;
        poll_fn(|cx| gate.poll_ready(inner, cx, |_| Poll::Ready(Ok::<(), E>(())))).await?;
        let due = Due { gate: &mut gate, service: &mut operation, request: () };
        pin!(Call::begin(ByReference(&*self.parts), due)).await
    }
}

/// An operation as a service: its request is that it be done.
struct Operation<'a, O>(&'a O);

impl<O> Clone for Operation<'_, O> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<O, A, T, E> Service<()> for Operation<'_, O>
where
    O: Fn() -> A,
    A: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = A;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, (): ()) -> A {
        (self.0)()
    }
}
