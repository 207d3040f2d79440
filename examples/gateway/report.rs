//! What the gateway tells on stderr.

use std::{
    fmt::Display,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use mainstay::observe::{Event, Transition};

/// Writes a line. When stderr is gone there is nobody to tell, which is no reason to stop.
pub fn line(text: &impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells of circuits that change their state.
pub fn transitions(event: &Event<'_>) {
    if let Event::Transition(change) = event {
        line(&describe(change));
    }
}

fn describe(change: &Transition<'_>) -> String {
    let Transition { policy, from, to, cause, .. } = change;
    let wait = match change.open_for {
        Some(wait) => format!(", for {:.1} s", wait.as_secs_f64()),
        None => String::new(),
    };
    format!("{} {policy}: {from} -> {to} ({cause}{wait})", time_of_day(change.at))
}

/// Hours, minutes, seconds and milliseconds, in UTC.
fn time_of_day(at: SystemTime) -> String {
    let since: Duration = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", since.subsec_millis())
}
