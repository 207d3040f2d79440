//! How far a run has come, on stderr: a bar on a terminal, else a line for each phase.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use mainstay::breaker::Handle;
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep_until},
};

use crate::incident::Phase;

const BAR: usize = 30;

/// What there is to show.
pub struct Progress<'a> {
    pub title: &'a str,
    pub start: Instant,
    pub length: Duration,
    pub orders: watch::Receiver<Phase>,
    pub recommendations: watch::Receiver<Phase>,
    /// Of the two.
    pub breakers: [Option<&'a Handle>; 2],
}

impl Progress<'_> {
    /// Shows it until the run is over. A stderr that cannot be written to is no reason to stop the run.
    pub async fn show(mut self) {
        sleep_until(self.start).await;
        let _ = if io::stderr().is_terminal() { self.draw().await } else { self.tell().await };
    }

    async fn draw(&self) -> io::Result<()> {
        let mut frames = interval(Duration::from_millis(100));
        loop {
            frames.tick().await;
            write!(io::stderr(), "\r{:<79}", self.line())?;
            if self.start.elapsed() >= self.length {
                return writeln!(io::stderr());
            }
        }
    }

    fn line(&self) -> String {
        let done = self.start.elapsed().min(self.length);
        let filled = (done.as_secs_f64() / self.length.as_secs_f64() * BAR as f64) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
        format!("{:<11} [{bar}] {:>4.1} s  {}", self.title, done.as_secs_f64(), self.scene())
    }

    /// What happens to the one that something happens to; to orders, before recommendations has its turn.
    fn scene(&self) -> String {
        let (orders, recommendations) = (*self.orders.borrow(), *self.recommendations.borrow());
        let [of_orders, of_recommendations] = self.breakers;
        let (name, phase, breaker) = match recommendations {
            Phase::Healthy => ("orders", orders, of_orders),
            _ => ("recomm.", recommendations, of_recommendations),
        };
        let circuit = breaker.map(|breaker| format!(", {}", breaker.state())).unwrap_or_default();
        format!("{name} {phase}{circuit}")
    }

    async fn tell(&mut self) -> io::Result<()> {
        let end = self.start + self.length;
        loop {
            let (orders, recommendations) =
                (*self.orders.borrow_and_update(), *self.recommendations.borrow_and_update());
            let at = self.start.elapsed().as_secs_f64();
            writeln!(
                io::stderr(),
                "{:<11} {at:>4.1} s  orders {orders}, recommendations {recommendations}",
                self.title
            )?;
            tokio::select! {
                Ok(()) = self.orders.changed() => {}
                Ok(()) = self.recommendations.changed() => {}
                () = sleep_until(end) => return Ok(()),
            }
        }
    }
}
