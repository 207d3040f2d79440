//! How a request is sent again. It lies on the ground, because a retry, a hedge and a fallback all ask it.

use crate::time::Tick;

/// How a request is sent again.
///
/// [`Cloned`] is the default and clones it. A closure `Fn(&Req) -> Option<Req>` decides for each request whether there
/// is a copy. For more, implement the trait: what is kept may be less than the request, or more, and whether it can be
/// sent again may only be known when it has failed, as with a body that is recorded while it is sent, up to a limit.
///
/// ```
/// use mainstay::retry::Replay;
///
/// struct Order { id: u64, attempt: u32 }
///
/// /// Keeps the id and numbers the attempts.
/// struct Numbered;
///
/// impl Replay<Order> for Numbered {
///     type Kept = u64;
///
///     fn keep(&self, request: &mut Order) -> Option<u64> {
///         Some(request.id)
///     }
///     fn again(&self, kept: &u64, attempt: u32) -> Option<Order> {
///         Some(Order { id: *kept, attempt })
///     }
/// }
/// ```
///
/// A hook that panics is one that says `None`.
pub trait Replay<Req> {
    /// What is kept of a request while an attempt runs.
    type Kept;

    /// Before the first attempt: what to keep, `None` for a request that is sent once only. It may change the request,
    /// for example to record its body.
    fn keep(&self, request: &mut Req) -> Option<Self::Kept>;

    /// Before a further attempt: the request for the one with this number, 2 or more. `None` when it cannot be sent
    /// again.
    fn again(&self, kept: &Self::Kept, attempt: u32) -> Option<Req>;

    /// When the caller stops waiting for the answer, where the request says so. No wait of a retry that ends then or
    /// later is begun, and no hedge is sent.
    fn deadline(&self, request: &Req) -> Option<Tick> {
        let _ = request;
        None
    }
}

/// Clones requests: one copy is kept of each, and one more is made for each further attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cloned;

impl<Req: Clone> Replay<Req> for Cloned {
    type Kept = Req;

    #[inline]
    fn keep(&self, request: &mut Req) -> Option<Req> {
        Some(request.clone())
    }

    fn again(&self, kept: &Req, _attempt: u32) -> Option<Req> {
        Some(kept.clone())
    }
}

impl<Req, F: Fn(&Req) -> Option<Req>> Replay<Req> for F {
    type Kept = Req;

    fn keep(&self, request: &mut Req) -> Option<Req> {
        self(request)
    }

    fn again(&self, kept: &Req, _attempt: u32) -> Option<Req> {
        self(kept)
    }
}
