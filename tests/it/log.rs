//! What goes to `tracing`, for all tests of this binary.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, OnceLock},
};

use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

pub(crate) type Line = (tracing::Level, BTreeMap<String, String>);

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

struct Log;

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields<'a>(&'a mut BTreeMap<String, String>);

        impl tracing::field::Visit for Fields<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                self.0.insert(field.name().to_owned(), format!("{value:?}"));
            }

            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0.insert(field.name().to_owned(), value.to_owned());
            }
        }

        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        LINES.lock().unwrap().push((*event.metadata().level(), fields));
    }
}

/// Begins to listen. For the whole binary: while a subscriber of one thread comes up, `tracing` may learn from another
/// thread that nobody listens.
pub(crate) fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        // Nothing below `info`: tests that count allocations run beside these.
        let registry = tracing_subscriber::registry().with(LevelFilter::INFO).with(Log);
        tracing::subscriber::set_global_default(registry).unwrap();
    });
}

/// The lines in which a field has a value; a name of its own tells a test's lines from those of the others.
pub(crate) fn lines(field: &str, value: &str) -> Vec<Line> {
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|(_, fields)| fields.get(field).is_some_and(|found| found == value)).cloned().collect()
}
