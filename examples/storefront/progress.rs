//! How far a run has come, on stderr: a bar on a terminal, else a line for each phase.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use mainstay::breaker::Handle;
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep_until, timeout_at},
};

use crate::incident::Phase;

const BAR: usize = 30;

/// What there is to show.
pub struct Progress<'a> {
    pub title: &'a str,
    pub start: Instant,
    pub length: Duration,
    pub orders: watch::Receiver<Phase>,
    pub breaker: Option<&'a Handle>,
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
        let circuit = self.breaker.map(|breaker| format!(", circuit {}", breaker.state())).unwrap_or_default();
        let phase = *self.orders.borrow();
        format!("{:<11} [{bar}] {:>4.1} s  orders {phase}{circuit}", self.title, done.as_secs_f64())
    }

    async fn tell(&mut self) -> io::Result<()> {
        loop {
            let phase = *self.orders.borrow_and_update();
            writeln!(io::stderr(), "{:<11} {:>4.1} s  orders {phase}", self.title, self.start.elapsed().as_secs_f64())?;
            let Ok(Ok(())) = timeout_at(self.start + self.length, self.orders.changed()).await else { return Ok(()) };
        }
    }
}
