//! A service behind the gateway: a queue, and a bounded number of workers that take from it.

use std::{io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Response, StatusCode, Uri};
use mainstay::BoxError;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    http::{Answer, Server},
    incident::{FLAKY, Phase, Tally},
};

/// A call that waits for a worker to say that its work is done.
type Job = oneshot::Sender<()>;

/// A running upstream.
pub struct Upstream {
    server: Server,
    workers: JoinSet<()>,
    calls: Arc<Tally>,
}

/// What a call needs to know.
struct Desk {
    name: &'static str,
    queue: mpsc::UnboundedSender<Job>,
    calls: Arc<Tally>,
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
        let calls = Arc::new(Tally::new(phase));
        let desk = Arc::new(Desk { name, queue, calls: Arc::clone(&calls) });
        let server = Server::start(move || Arc::clone(&desk).answer()).await?;
        Ok(Self { server, workers, calls })
    }

    pub fn uri(&self) -> Result<Uri, BoxError> {
        self.server.uri()
    }

    /// How many calls have come in.
    pub fn calls(&self) -> &Tally {
        &self.calls
    }

    pub async fn stop(mut self) {
        self.server.stop().await;
        self.workers.shutdown().await;
    }
}

impl Desk {
    async fn answer(self: Arc<Self>) -> Answer {
        let refused = match self.calls.count() {
            Phase::Failing => true,
            Phase::Flaky => rand::random_bool(FLAKY),
            Phase::Healthy | Phase::Hanging | Phase::Recovered => false,
        };
        let served = !refused && self.serve().await;
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
