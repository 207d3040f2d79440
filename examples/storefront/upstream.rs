//! A service behind the gateway: a queue, and a bounded number of workers that take from it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{Response, StatusCode, Uri};
use mainstay::BoxError;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    http::{Answer, Server},
    incident::Phase,
};

/// A call that waits for a worker to say that its work is done.
type Job = oneshot::Sender<()>;

/// A running upstream.
pub struct Upstream {
    server: Server,
    workers: JoinSet<()>,
    calls_in_outage: Arc<AtomicU64>,
}

/// What a call needs to know.
struct Desk {
    name: &'static str,
    phase: watch::Receiver<Phase>,
    queue: mpsc::UnboundedSender<Job>,
    calls_in_outage: Arc<AtomicU64>,
}

impl Upstream {
    /// Starts `workers` workers, each of which needs `work` for a call.
    pub async fn start(
        name: &'static str,
        work: Duration,
        workers: usize,
        phase: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let (queue, jobs) = mpsc::unbounded_channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..workers).map(|_| worker(Arc::clone(&jobs), phase.clone(), work)).collect();
        let calls_in_outage = Arc::new(AtomicU64::new(0));
        let desk = Arc::new(Desk { name, phase, queue, calls_in_outage: Arc::clone(&calls_in_outage) });
        let server = Server::start(move || Arc::clone(&desk).answer()).await?;
        Ok(Self { server, workers, calls_in_outage })
    }

    pub fn uri(&self) -> Result<Uri, BoxError> {
        self.server.uri()
    }

    /// How many calls have come in while the service was failing or hanging.
    pub fn calls_in_outage(&self) -> u64 {
        self.calls_in_outage.load(Relaxed)
    }

    pub async fn stop(mut self) {
        self.server.stop().await;
        self.workers.shutdown().await;
    }
}

impl Desk {
    async fn answer(self: Arc<Self>) -> Answer {
        let phase = *self.phase.borrow();
        if phase.is_outage() {
            self.calls_in_outage.fetch_add(1, Relaxed);
        }
        let served = phase != Phase::Failing && self.serve().await;
        let mut answer = Response::new(Full::from(format!("<section>{}</section>\n", self.name)));
        if !served {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    }

    /// Queues for a worker. False when there are none left, because the upstream is being stopped.
    async fn serve(&self) -> bool {
        let (job, done) = oneshot::channel();
        self.queue.send(job).is_ok() && done.await.is_ok()
    }
}

async fn worker(jobs: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>, mut phase: watch::Receiver<Phase>, work: Duration) {
    loop {
        // A statement of its own, so that the lock is released before the work begins.
        let job = jobs.lock().await.recv().await;
        let Some(job) = job else { return };
        // Stuck for as long as the service hangs. The error says that there is no incident for this service.
        let _ = phase.wait_for(|phase| *phase != Phase::Hanging).await;
        tokio::time::sleep(work).await;
        // Whoever asked may be gone by now. Like most servers this one does not know before the work is done, which is
        // why it needs so long to come back from a pile of calls that nobody waits for any more.
        let _ = job.send(());
    }
}
