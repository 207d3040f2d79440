//! What happens to the fleet, and when.

use std::time::Duration;

use mainstay::{BoxError, isolation::Level};
use tokio::time::{Instant, sleep_until};

use crate::{fleet::Fleet, server::Mode, timeline::Timeline};

/// How long a slow instance takes for a call.
const SLOW: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy)]
enum Step {
    Kill(&'static str),
    Start(&'static str),
    Stop(&'static str),
    Set(&'static str, Mode),
    SetAll(&'static str, Mode),
    Level(Level),
}

/// When each step comes, in eighteenths of the run: seconds, in a run of the usual length.
const SCRIPT: [(f64, &str, Step); 10] = [
    (2.0, "users-1 is killed: nobody tells discovery, its lease runs out", Step::Kill("users-1")),
    (5.0, "users-4 starts", Step::Start("users-4")),
    (6.5, "users-2 grows slow: 150 ms a call", Step::Set("users-2", Mode::Slow(SLOW))),
    (8.5, "users-2 is well again", Step::Set("users-2", Mode::Well)),
    (9.5, "orders-1 fails all its calls", Step::Set("orders-1", Mode::Failing)),
    (11.0, "all of orders fails", Step::SetAll("orders", Mode::Failing)),
    (12.0, "orders: isolation level full", Step::Level(Level::Full)),
    (14.0, "all of orders is well again", Step::SetAll("orders", Mode::Well)),
    (16.0, "orders: isolation level none", Step::Level(Level::None)),
    (16.5, "orders-3 drains and stops", Step::Stop("orders-3")),
];

/// Plays the script once, to the end of the run.
pub async fn play(fleet: &mut Fleet, timeline: &Timeline, start: Instant, length: Duration) -> Result<(), BoxError> {
    for (eighteenths, what, step) in SCRIPT {
        sleep_until(start + length.mul_f64(eighteenths / 18.0)).await;
        timeline.tell(what);
        match step {
            Step::Kill(id) => fleet.kill(id).await,
            Step::Start(id) => fleet.start(id).await?,
            Step::Stop(id) => fleet.stop(id).await?,
            Step::Set(id, mode) => fleet.set(|server| server.id() == id, mode),
            Step::SetAll(service, mode) => fleet.set(|server| server.id().starts_with(service), mode),
            Step::Level(level) => fleet.set_level(level)?,
        }
    }
    sleep_until(start + length).await;
    Ok(())
}
