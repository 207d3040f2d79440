//! Whether, and how, the requests of a stack are sent again.

use crate::{
    retry::{Cloned, Replay},
    time::Tick,
};

/// Sends no request twice, and so asks nothing of it: what a stack without retry and hedge does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Once;

impl<Req> Replay<Req> for Once {
    type Kept = ();

    #[inline]
    fn keep(&self, _request: &mut Req) -> Option<()> {
        None
    }

    fn again(&self, (): &(), _attempt: u32) -> Option<Req> {
        None
    }
}

/// A way to send requests again that was [asked for](super::StackBuilder::replay).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hook<R>(pub(super) R);

impl<Req, R: Replay<Req>> Replay<Req> for Hook<R> {
    type Kept = R::Kept;

    #[inline]
    fn keep(&self, request: &mut Req) -> Option<R::Kept> {
        self.0.keep(request)
    }

    fn again(&self, kept: &R::Kept, attempt: u32) -> Option<Req> {
        self.0.again(kept, attempt)
    }

    #[inline]
    fn deadline(&self, request: &Req) -> Option<Tick> {
        self.0.deadline(request)
    }
}

/// How requests are sent again once there is a retry or a hedge: by cloning, if nothing else was asked for. Sealed.
pub trait Resend: sealed::Sealed {
    /// The way that is taken then.
    type Resent;

    #[doc(hidden)]
    fn resend(self) -> Self::Resent;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Once {}
    impl Sealed for super::Cloned {}
    impl<R> Sealed for super::Hook<R> {}
}

impl Resend for Once {
    type Resent = Cloned;

    fn resend(self) -> Cloned {
        Cloned
    }
}

impl Resend for Cloned {
    type Resent = Self;

    fn resend(self) -> Self {
        self
    }
}

impl<R> Resend for Hook<R> {
    type Resent = Self;

    fn resend(self) -> Self {
        self
    }
}
