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
    ready: Arc<AtomicUsize>,
    threads: usize,
    report: mpsc::Sender<Done>,
}

pub struct Crew {
    threads: Vec<mpsc::Sender<Job>>,
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
        Self { threads: Vec::new(), timers, runtimes: Vec::new() }
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
            self.threads.push(worker(self.timers(), self.threads.len()));
        }
        let (report, reports) = mpsc::channel();
        let ready = Arc::new(AtomicUsize::new(0));
        for thread in &self.threads[..threads] {
            let job = Job { work: make(), calls, ready: Arc::clone(&ready), threads, report: report.clone() };
            thread.send(job).expect("a thread ends with the run");
        }
        drop(report);
        reports.iter().reduce(Done::and).expect("at least one")
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

/// On a core of its own, as long as there are enough: or the scheduler would let two threads run one after the other, and
/// what they share would seem to cost nothing.
fn worker(timers: Handle, index: usize) -> mpsc::Sender<Job> {
    let (jobs, queue) = mpsc::channel();
    thread::spawn(move || {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(core) = cores.get(index % cores.len().max(1)) {
            core_affinity::set_for_current(*core);
        }
        let _entered = timers.enter();
        queue.into_iter().for_each(do_job);
    });
    jobs
}

fn do_job(job: Job) {
    let Job { mut work, calls, ready, threads, report } = job;
    work(untimed(calls));
    ready.fetch_add(1, SeqCst);
    // Not a barrier, which wakes one thread long after the other.
    while ready.load(SeqCst) < threads {
        spin_loop();
    }
    let begin = Instant::now();
    let answered = work(calls);
    let done = Done::now(begin, answered);
    drop(work);
    let _ = report.send(done);
}
