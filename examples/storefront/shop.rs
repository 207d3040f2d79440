//! The three upstreams and the gateway in front of them.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use hyper::Uri;
use mainstay::{BoxError, breaker::Handle, observe::Event};
use tokio::{sync::watch, time::Instant};

use crate::{
    gateway::{Gateway, Part},
    http::{Client, Server},
    incident::{Phase, Stage},
    report::{Change, Load},
    upstream::Upstream,
};

/// How long a worker of orders needs for a call.
const ORDERS_WORK: Duration = Duration::from_millis(20);

/// A running shop.
pub struct Shop {
    users: Upstream,
    orders: Upstream,
    recommendations: Upstream,
    gateway: Arc<Gateway>,
    front: Server,
}

impl Shop {
    /// Opens a shop for `rate` pages a second, where orders and recommendations do what the stage says.
    pub async fn open(rate: u32, protected: bool, stage: &Stage) -> Result<Self, BoxError> {
        let (_, healthy) = watch::channel(Phase::Healthy);
        let (orders_phase, recommendations_phase) = (stage.orders.subscribe(), stage.recommendations.subscribe());
        // Orders has twice the workers that it needs for its load; the others have plenty.
        let workers = (ORDERS_WORK * rate * 2).as_secs_f64().ceil() as usize;
        let orders = Upstream::start("orders", ORDERS_WORK, workers, orders_phase.clone()).await?;
        let users = Upstream::start("users", Duration::from_millis(5), 64, healthy.clone()).await?;
        let work = Duration::from_millis(10);
        let recommendations = Upstream::start("recommendations", work, 64, recommendations_phase.clone()).await?;

        let protected = protected.then_some(rate);
        let gateway = Arc::new(Gateway {
            client: Client::new(),
            users: Part::new("users", users.uri()?, protected, healthy),
            orders: Part::new("orders", orders.uri()?, protected, orders_phase),
            recommendations: Part::new("recommendations", recommendations.uri()?, protected, recommendations_phase),
        });
        let pages = Arc::clone(&gateway);
        let front = Server::start(move || {
            let gateway = Arc::clone(&pages);
            async move { gateway.page().await }
        })
        .await?;
        Ok(Self { users, orders, recommendations, gateway, front })
    }

    pub fn uri(&self) -> Result<Uri, BoxError> {
        self.front.uri()
    }

    /// The breakers around the calls to orders and to recommendations, if the shop is protected.
    pub fn breakers(&self) -> [Option<&Handle>; 2] {
        [self.gateway.orders.breaker(), self.gateway.recommendations.breaker()]
    }

    /// Hears of every change of state of a breaker from now on.
    pub fn changes(&self, start: Instant) -> mpsc::Receiver<Change> {
        let (tell, changes) = mpsc::channel();
        for breaker in self.gateway.parts().into_iter().filter_map(Part::breaker) {
            let tell = tell.clone();
            breaker.observe(move |event: &Event<'_>| {
                if let Event::Transition(change) = event {
                    // Nobody listens any more when the run is over.
                    let _ = tell.send(Change::new(start.elapsed(), change));
                }
            });
        }
        changes
    }

    /// How many calls reached orders while it was failing or hanging.
    pub fn calls_in_outage(&self) -> u64 {
        let calls = self.orders.calls();
        calls.of(Phase::Failing) + calls.of(Phase::Hanging)
    }

    /// What recommendations got in one phase of the retry storm.
    pub fn storm(&self, phase: Phase) -> Load {
        let (pages, calls) = (self.gateway.recommendations.asks(), self.recommendations.calls());
        Load { pages: pages.of(phase), calls: calls.of(phase) }
    }

    /// Stops everything, the gateway first.
    pub async fn close(self) {
        self.front.stop().await;
        for upstream in [self.users, self.orders, self.recommendations] {
            upstream.stop().await;
        }
    }
}
