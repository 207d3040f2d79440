use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pin_project! {
    /// Copies of one call that run at once. The first is part of this; each further one is put in a box when it begins.
    ///
    /// Every wake-up polls all of them: there are two, hardly ever four, and to tell them apart would take a waker and
    /// an allocation for each.
    pub(crate) struct Race<P, H> {
        #[pin]
        first: First<P>,
        others: Vec<(u32, Pin<Box<H>>)>,
    }
}

pin_project! {
    #[project = FirstProjection]
    enum First<P> {
        Runs { #[pin] future: P },
        Over,
    }
}

impl<P, H> Race<P, H> {
    #[inline]
    pub(crate) fn new(first: P) -> Self {
        Self { first: First::Runs { future: first }, others: Vec::new() }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        usize::from(self.first_runs()) + self.others.len()
    }

    pub(crate) fn first_runs(&self) -> bool {
        matches!(self.first, First::Runs { .. })
    }

    /// Another copy begins. It is not polled here.
    pub(crate) fn begin(self: Pin<&mut Self>, number: u32, copy: H) {
        self.project().others.push((number, Box::pin(copy)));
    }

    /// The first copy is dropped.
    pub(crate) fn end_first(self: Pin<&mut Self>) {
        self.project().first.set(First::Over);
    }

    /// All that run are dropped. Says how many that were.
    pub(crate) fn end(mut self: Pin<&mut Self>) -> usize {
        let running = self.running();
        self.as_mut().end_first();
        self.project().others.clear();
        running
    }
}

impl<P: Future, H: Future<Output = P::Output>> Race<P, H> {
    /// Polls the first copy alone, and leaves it where it is when it has ended.
    #[inline]
    pub(crate) fn poll_first(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<P::Output> {
        match self.project().first.project() {
            FirstProjection::Runs { future } => future.poll(cx),
            FirstProjection::Over => Poll::Pending,
        }
    }

    /// Polls the copies in the order in which they began. One that has ended is dropped, and its number and result
    /// given back.
    pub(crate) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(u32, P::Output)> {
        if let Poll::Ready(result) = self.as_mut().poll_first(cx) {
            self.end_first();
            return Poll::Ready((1, result));
        }
        let others = self.project().others;
        for (at, (number, copy)) in others.iter_mut().enumerate() {
            if let Poll::Ready(result) = copy.as_mut().poll(cx) {
                let number = *number;
                others.remove(at);
                return Poll::Ready((number, result));
            }
        }
        Poll::Pending
    }
}

impl<P, H> fmt::Debug for Race<P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").field("running", &self.running()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
        rc::Rc,
    };

    use super::*;

    #[test]
    fn copies_end_one_by_one_in_the_order_in_which_they_began() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut race = std::pin::pin!(Race::new(ready("first")));
        race.as_mut().begin(2, ready("second"));
        race.as_mut().begin(3, ready("third"));
        assert_eq!(race.running(), 3);
        for (number, result) in [(1, "first"), (2, "second"), (3, "third")] {
            assert_eq!(race.as_mut().poll(&mut cx), Poll::Ready((number, result)));
        }
        assert_eq!(race.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(race.running(), 0);
    }

    #[test]
    fn the_end_drops_all_that_run() {
        let left = Rc::new(Cell::new(0));
        struct Held(Rc<Cell<u32>>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let copy = || {
            let held = Held(Rc::clone(&left));
            async move {
                let _held = held;
                pending::<()>().await;
            }
        };
        let mut race = std::pin::pin!(Race::new(copy()));
        race.as_mut().begin(2, copy());
        assert_eq!((race.as_mut().end(), left.get()), (2, 2));
        assert_eq!((race.as_mut().end(), left.get()), (0, 2));
    }
}
