use crate::{
    lanes::Seat,
    time::{Moment, Tick},
    window::{CountWindow, Counts, Kind, TimeWindow, time::Entry},
};

/// A window of either kind.
#[derive(Debug)]
pub enum SlidingWindow {
    /// The last so many calls.
    Count(CountWindow),
    /// The calls of the last so much time.
    Time(TimeWindow),
}

impl SlidingWindow {
    /// Counts one call in `epoch`. Only a time window reads the clock of `now`.
    ///
    /// Returns whether it was counted: a record of another epoch than the window's is not.
    pub fn record(&self, now: &mut Moment, epoch: u64, kind: Kind) -> bool {
        self.record_in(Seat::here(), now, epoch, kind)
    }

    #[inline(always)]
    pub(crate) fn record_in(&self, seat: Seat, now: &mut Moment, epoch: u64, kind: Kind) -> bool {
        match self {
            Self::Count(window) => window.record_in(seat, epoch, kind),
            Self::Time(window) => window.add(seat, Entry { at: now.tick().as_nanos(), epoch, kind, calls: 1 }),
        }
    }

    /// Counts saved calls anew, all at once. Of more calls than a count window holds it takes each kind by its share.
    pub(crate) fn restore(&self, now: &mut Moment, epoch: u64, saved: Counts) {
        for kind in Kind::ALL {
            let calls = saved.of(kind);
            match self {
                Self::Count(window) => {
                    let (size, all) = (window.size() as u128, u128::from(saved.calls()));
                    let share = if all > size { u128::from(calls) * size / all } else { calls.into() };
                    (0..share).for_each(|_| {
                        window.record(epoch, kind);
                    });
                }
                Self::Time(window) => {
                    window.add(Seat::here(), Entry { at: now.tick().as_nanos(), epoch, kind, calls });
                }
            }
        }
    }

    /// What the window holds.
    #[must_use]
    pub fn counts(&self, now: &mut Moment) -> Counts {
        match self {
            Self::Count(window) => window.counts(),
            Self::Time(window) => window.counts(now.tick()),
        }
    }

    /// Empties the window and moves it to a later epoch. Epochs only grow; an earlier one is ignored.
    pub fn advance(&self, epoch: u64) {
        match self {
            Self::Count(window) => window.advance(epoch),
            Self::Time(window) => window.advance(epoch),
        }
    }

    /// When counts may next drop out without any call: never for a count window, at the end of the bucket for a time
    /// window.
    pub(crate) fn next_slide(&self, now: &mut Moment) -> Tick {
        match self {
            Self::Count(_) => Tick::NEVER,
            Self::Time(window) => window.bucket_end(now.tick()),
        }
    }

    pub(crate) fn heap_size(&self) -> usize {
        match self {
            Self::Count(window) => window.heap_size(),
            Self::Time(window) => window.heap_size(),
        }
    }
}
