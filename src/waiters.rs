//! Tasks that wait for a policy to change its mind: each is woken once, all of them, on time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use crate::{
    guarded::guarded,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst, fence},
    },
};

/// The tasks that wait. Looking whether there are any costs one load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    // By the number of the place. Not a list: each that leaves would look through all that wait.
    wakers: BTreeMap<u64, Waker>,
}

/// One task's place among the waiters, left when dropped.
#[derive(Default)]
pub(crate) struct Place(Option<(Waiters, u64)>);

/// Wakes one task after the other, under no lock: a waker may run its task right here. It is the code of whoever waits,
/// and one that panics keeps nobody else from being woken, nor whoever gives back what they wait for from doing so,
/// which may happen while something else panics.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        guarded("waker", || waker.wake());
    }
}

impl Waiters {
    /// Bytes on the heap while nobody waits: the queue and two reference counts.
    pub(crate) const HEAP_SIZE: usize = size_of::<Shared>() + 2 * size_of::<usize>();

    /// Wakes all that wait; they leave their places.
    pub(crate) fn wake_all(&self) {
        // Against the one in `wait`: either we see who waits, or who waits sees what has changed.
        fence(SeqCst);
        if self.0.waiting.load(SeqCst) == 0 {
            return;
        }
        let wakers = {
            let mut queue = self.0.queue.lock();
            self.0.waiting.store(0, SeqCst);
            std::mem::take(&mut queue.wakers)
        };
        wake(wakers.into_values());
    }
}

impl Place {
    /// Waits in this place, whatever it waited for before. The caller looks again whether it still has to wait, since
    /// what it waits for may have come just before.
    pub(crate) fn wait(&mut self, waiters: &Waiters, cx: &Context<'_>) {
        // Wakers are cloned before the lock and dropped after it: both may run code of the task.
        let mut waker = cx.waker().clone();
        if let Some((same, id)) = self.0.as_ref().filter(|(same, _)| Arc::ptr_eq(&same.0, &waiters.0)) {
            let mut queue = same.0.queue.lock();
            if let Some(waiting) = queue.wakers.get_mut(id) {
                std::mem::swap(waiting, &mut waker);
                drop(queue);
                return;
            }
        }
        self.leave();
        let mut queue = waiters.0.queue.lock();
        let id = queue.next;
        queue.next += 1;
        queue.wakers.insert(id, waker);
        waiters.0.waiting.store(queue.wakers.len() as u64, SeqCst);
        drop(queue);
        fence(SeqCst);
        self.0 = Some((waiters.clone(), id));
    }

    /// Waits no more.
    #[inline]
    pub(crate) fn leave(&mut self) {
        if let Some((waiters, id)) = self.0.take() {
            Self::leave_queue(&waiters, id);
        }
    }

    fn leave_queue(waiters: &Waiters, id: u64) {
        let mut queue = waiters.0.queue.lock();
        if let Some(left) = queue.wakers.remove(&id) {
            waiters.0.waiting.store(queue.wakers.len() as u64, SeqCst);
            drop(queue);
            drop(left);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.as_ref().map(|(_, id)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_waiter_is_woken_once_and_one_that_left_is_not() {
        let waiters = Waiters::default();
        let mut tasks: Vec<_> = (0..3).map(|_| (tokio_test::task::spawn(()), Place::default())).collect();
        for (task, place) in &mut tasks {
            task.enter(|cx, _| place.wait(&waiters, cx));
            task.enter(|cx, _| place.wait(&waiters, cx));
        }
        assert_eq!(waiters.0.queue.lock().wakers.len(), 3);
        tasks[1].1.leave();
        waiters.wake_all();
        let woken: Vec<bool> = tasks.iter().map(|(task, _)| task.is_woken()).collect();
        assert_eq!(woken, [true, false, true]);
        let (task, place) = &mut tasks[0];
        task.enter(|cx, _| place.wait(&waiters, cx));
        drop(tasks);
        assert_eq!(waiters.0.waiting.load(SeqCst), 0);
    }

    #[test]
    fn a_waker_that_looks_at_the_waiters_when_it_is_dropped_does_not_wait_for_itself() {
        struct Nosy(Waiters);

        impl std::task::Wake for Nosy {
            fn wake(self: Arc<Self>) {}
        }

        impl Drop for Nosy {
            fn drop(&mut self) {
                self.0.0.queue.lock().next += 1;
            }
        }

        let waiters = Waiters::default();
        let waker = |waiters: &Waiters| Waker::from(Arc::new(Nosy(waiters.clone())));
        let mut place = Place::default();
        place.wait(&waiters, &Context::from_waker(&waker(&waiters)));
        place.wait(&waiters, &Context::from_waker(&waker(&waiters)));
        place.leave();
        place.wait(&waiters, &Context::from_waker(&waker(&waiters)));
        waiters.wake_all();
        assert!(waiters.0.queue.lock().next >= 5, "each of the three was dropped");
    }
}
