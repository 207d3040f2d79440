//! The threads that make the calls. They live as long as the run does, as those of a server do: what a policy keeps
//! for each thread is made once.

use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    case::{Calls, Work},
    tasks::{Done, untimed},
};

struct Job {
    work: Calls,
    calls: u64,
    threads: usize,
}

pub struct Crew {
    /// Channels with room made beforehand: what the crew allocates must not be taken for what calls allocate.
    threads: Vec<mpsc::SyncSender<Job>>,
    report: mpsc::SyncSender<Done>,
    reports: mpsc::Receiver<Done>,
    /// Threads that wait for the others of a sample.
    ready: Arc<AtomicUsize>,
    /// For the timers of the threads.
    timers: Runtime,
    /// With so many workers each.
    runtimes: Vec<(usize, Runtime)>,
}

impl Crew {
    pub fn new() -> Self {
        let timers = runtime(1);
        // A runtime whose driver sleeps without end would be woken by each timer that is armed; in a server there is
        // always one that is due sooner.
        timers.spawn(async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let (report, reports) = mpsc::sync_channel(64);
        Self { threads: Vec::new(), report, reports, ready: Arc::default(), timers, runtimes: Vec::new() }
    }

    /// What has the timers: to be entered where services are made.
    pub fn timers(&self) -> Handle {
        self.timers.handle().clone()
    }

    /// A sample: `calls` calls by each of `threads` threads that run at once, after some that are not timed.
    pub fn sample(&mut self, work: &Work, threads: usize, calls: u64) -> Done {
        match work {
            Work::Threads(make) => self.on_threads(make, threads, calls),
            Work::Tasks(run) => run(self.runtime(threads), threads, calls),
        }
    }

    fn on_threads(&mut self, make: &dyn Fn() -> Calls, threads: usize, calls: u64) -> Done {
        while self.threads.len() < threads {
            let (jobs, queue) = mpsc::sync_channel(1);
            let worker =
                Worker { index: self.threads.len(), report: self.report.clone(), ready: Arc::clone(&self.ready) };
            let timers = self.timers();
            thread::spawn(move || worker.run(queue, &timers));
            self.threads.push(jobs);
        }
        self.ready.store(0, SeqCst);
        for thread in &self.threads[..threads] {
            thread.send(Job { work: make(), calls, threads }).expect("a thread ends with the run");
        }
        self.reports.iter().take(threads).reduce(Done::and).expect("at least one thread")
    }

    fn runtime(&mut self, workers: usize) -> &Runtime {
        if let Some(at) = self.runtimes.iter().position(|(of, _)| *of == workers) {
            return &self.runtimes[at].1;
        }
        self.runtimes.push((workers, runtime(workers)));
        &self.runtimes[self.runtimes.len() - 1].1
    }
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("a runtime")
}

struct Worker {
    index: usize,
    report: mpsc::SyncSender<Done>,
    ready: Arc<AtomicUsize>,
}

impl Worker {
    /// On a core of its own, as long as there are enough: or the scheduler would let two threads run one after the
    /// other, and what they share would seem to cost nothing.
    fn run(self, jobs: mpsc::Receiver<Job>, timers: &Handle) {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(core) = cores.get(self.index % cores.len().max(1)) {
            core_affinity::set_for_current(*core);
        }
        let _entered = timers.enter();
        for Job { mut work, calls, threads } in jobs {
            work(untimed(calls));
            self.ready.fetch_add(1, SeqCst);
            // Not a barrier, which wakes one thread long after the other.
            while self.ready.load(SeqCst) < threads {
                spin_loop();
            }
            let begin = Instant::now();
            let answered = work(calls);
            let done = Done::now(begin, answered);
            drop(work);
            let _ = self.report.send(done);
        }
    }
}
