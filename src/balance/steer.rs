use std::sync::Arc;

use crate::contract::Instance;

/// What a request knows about the instances: which of them to avoid, and which one it got.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use mainstay::{balance::Steer, contract::Instance};
///
/// struct Request { tried: Mutex<Vec<Arc<Instance>>> }
///
/// /// A retry goes to another instance, when there is one.
/// struct Elsewhere;
///
/// impl Steer<Request> for Elsewhere {
///     fn avoids(&self, request: &Request, instance: &Instance) -> bool {
///         request.tried.lock().unwrap().iter().any(|tried| tried.id() == instance.id())
///     }
///     fn picked(&self, request: &Request, instance: &Arc<Instance>) {
///         request.tried.lock().unwrap().push(Arc::clone(instance));
///     }
/// }
/// ```
pub trait Steer<Req> {
    /// Whether anything here does something. The default is `true`; where it is `false`, a call pays for nothing.
    const LISTENS: bool = true;

    /// Whether the request would rather go to another instance. It is a wish: when only instances are left that are to
    /// be avoided, one of them gets it.
    fn avoids(&self, request: &Req, instance: &Instance) -> bool {
        let _ = (request, instance);
        false
    }

    /// The request is about to be handed to this instance.
    fn picked(&self, request: &Req, instance: &Arc<Instance>) {
        let _ = (request, instance);
    }
}

/// Every instance is as good as another. The default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoSteer;

impl<Req> Steer<Req> for NoSteer {
    const LISTENS: bool = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steer_that_does_not_say_so_avoids_nobody() {
        struct Listens;

        impl Steer<u32> for Listens {}

        let instance = Arc::new(crate::balance::core::tests::instance(0));
        assert!(!Listens.avoids(&7, &instance));
        Listens.picked(&7, &instance);
    }
}
