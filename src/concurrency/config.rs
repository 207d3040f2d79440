use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    concurrency::{Aimd, Algorithm, Gradient, Vegas, raw::Raw},
    settings::{Checks, ConfigError},
};

const MOST: u32 = 1_000_000;

/// The settings of an adaptive limit.
///
/// ```
/// use std::time::Duration;
/// use mainstay::concurrency::{Config, Gradient};
///
/// let config = Config::new()
///     .algorithm(Gradient::new().tolerance(2.0))
///     .initial(50)
///     .floor(10)
///     .ceiling(500)
///     .window(Duration::from_millis(250));
/// assert!(config.check().is_ok());
/// ```
///
/// From a file, a part of the settings is enough; the others keep their defaults. `kind` says which algorithm, and only
/// its own parameters are allowed:
///
/// ```
/// let config: mainstay::concurrency::Config = toml::from_str(r#"
///     kind = "aimd"
///     initial = 50
///     floor = 10
///     ceiling = 500
///     max_latency = "800ms"
/// "#)?;
///
/// let error = toml::from_str::<mainstay::concurrency::Config>("kind = 'aimd'\ntolerance = 2.0").unwrap_err();
/// assert!(error.to_string().contains("tolerance = 2: only a gradient has it"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    pub(super) rule: Rule,
    pub(super) initial: u32,
    pub(super) floor: u32,
    pub(super) ceiling: u32,
    pub(super) window: Duration,
    pub(super) min_calls: u32,
    pub(super) percentile: f64,
    pub(super) drops: Drops,
    pub(super) tolerated_drops: f64,
}

/// Which failures are drops. Only drops and latencies say something about capacity: a failure that is no drop counts as
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drops {
    /// A failure that took longer than 95 of 100 successes in the window before, as a time-out does, or that asked to
    /// be left alone for a while (`Retry-After`). Right whatever the classifier, for an error that comes quickly says
    /// nothing about how busy a service is. Until there was a window, every failure that took any time.
    #[default]
    Late,
    /// Every failure that the classifier sees, for one that knows what overload looks like:
    /// [`OnOverload`](crate::OnOverload), or a list of statuses.
    Every,
}

/// The algorithm of an adaptive limit: [`Aimd`], [`Vegas`], [`Gradient`], or one of your own.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Aimd(Aimd),
    Vegas(Vegas),
    Gradient(Gradient),
    Custom(Arc<dyn Fn() -> Box<dyn Algorithm> + Send + Sync>),
}

impl Kind {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Aimd(_) => "aimd",
            Self::Vegas(_) => "vegas",
            Self::Gradient(_) => "gradient",
            Self::Custom(_) => "custom",
        }
    }
}

impl Rule {
    /// A fresh one, which has learnt nothing yet.
    pub(super) fn build(&self) -> Box<dyn Algorithm> {
        match &self.0 {
            Kind::Aimd(aimd) => Box::new(*aimd),
            Kind::Vegas(vegas) => Box::new(*vegas),
            Kind::Gradient(gradient) => Box::new(*gradient),
            Kind::Custom(make) => make(),
        }
    }
}

impl From<Aimd> for Rule {
    fn from(aimd: Aimd) -> Self {
        Self(Kind::Aimd(aimd))
    }
}

impl From<Vegas> for Rule {
    fn from(vegas: Vegas) -> Self {
        Self(Kind::Vegas(vegas))
    }
}

impl From<Gradient> for Rule {
    fn from(gradient: Gradient) -> Self {
        Self(Kind::Gradient(gradient))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aimd(one), Self::Aimd(two)) => one == two,
            (Self::Vegas(one), Self::Vegas(two)) => one == two,
            (Self::Gradient(one), Self::Gradient(two)) => one == two,
            (Self::Custom(one), Self::Custom(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aimd(aimd) => aimd.fmt(f),
            Self::Vegas(vegas) => vegas.fmt(f),
            Self::Gradient(gradient) => gradient.fmt(f),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rule: Gradient::new().into(),
            initial: 20,
            floor: 5,
            ceiling: 1_000,
            window: Duration::from_millis(100),
            min_calls: 10,
            percentile: 0.5,
            drops: Drops::Late,
            tolerated_drops: 0.01,
        }
    }
}

impl Config {
    /// A [`Gradient`] between 5 and 1000 calls: what fits most services, for it needs to be told no latency.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Preset for services that say when they have had enough: [`Aimd`].
    #[must_use]
    pub fn aimd() -> Self {
        Self::new().algorithm(Aimd::new())
    }

    /// Preset for services whose latency is steady while they are not busy: [`Vegas`].
    #[must_use]
    pub fn vegas() -> Self {
        Self::new().algorithm(Vegas::new())
    }

    /// Preset for services under a load that never ends: a [`Gradient`] that [measures](Gradient::remeasure_every) the
    /// base latency every minute, with 5 calls in flight.
    #[must_use]
    pub fn measured() -> Self {
        Self::new().algorithm(Gradient::new().remeasure_every(Duration::from_secs(60)))
    }

    /// An algorithm of your own. Each handle gets a clone. Cannot be read from a file.
    #[must_use]
    pub fn custom(algorithm: impl Algorithm + Clone + Sync) -> Self {
        Self { rule: Rule(Kind::Custom(Arc::new(move || Box::new(algorithm.clone())))), ..Self::default() }
    }

    /// The algorithm, with its parameters.
    #[must_use]
    pub fn algorithm(mut self, rule: impl Into<Rule>) -> Self {
        self.rule = rule.into();
        self
    }

    /// The limit until the first window has shown something; between floor and ceiling, default 20.
    #[must_use]
    pub const fn initial(mut self, calls: u32) -> Self {
        self.initial = calls;
        self
    }

    /// The limit is never lower, whatever happens. From 1 to the ceiling; default 5: a limit of one would learn
    /// nothing, and let one slow call keep all others out.
    #[must_use]
    pub const fn floor(mut self, calls: u32) -> Self {
        self.floor = calls;
        self
    }

    /// The limit is never higher. From the floor to 1 000 000, default 1000.
    #[must_use]
    pub const fn ceiling(mut self, calls: u32) -> Self {
        self.ceiling = calls;
        self
    }

    /// The limit changes once in such a time at most. From 1 ms to a year, default 100 ms: ten steps a second.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// A window with fewer calls goes on, so that no lucky few move the limit; after a hundred times its length what it
    /// holds is too old, and forgotten, unless calls were turned away meanwhile: then it is the limit that keeps them
    /// few. From 1 to 10 000, default 10.
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// The latency of a window is that of this share of its calls; in (0, 1], default 0.5, the median: a few calls that
    /// are slow by nature do not make a service slow, nor a few cached ones fast.
    #[must_use]
    pub const fn percentile(mut self, share: f64) -> Self {
        self.percentile = share;
        self
    }

    /// Which failures are drops. Default [`Drops::Late`].
    #[must_use]
    pub const fn drops(mut self, drops: Drops) -> Self {
        self.drops = drops;
        self
    }

    /// A window with no more than this share of drops counts as one without. In [0, 1], default 0.01: what happens to
    /// one call in a hundred at any load would else drive every limit to its floor.
    #[must_use]
    pub const fn tolerated_drops(mut self, share: f64) -> Self {
        self.tolerated_drops = share;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        match &self.rule.0 {
            Kind::Aimd(aimd) => aimd.check(&mut checks),
            Kind::Vegas(vegas) => vegas.check(&mut checks),
            Kind::Gradient(gradient) => gradient.check(&mut checks),
            Kind::Custom(_) => {}
        }
        checks.range("floor", self.floor, 1..=MOST);
        checks.range("ceiling", self.ceiling, 1..=MOST);
        if self.floor > self.ceiling {
            checks.refuse("floor", self.floor, format!("must be at most the ceiling, {}", self.ceiling));
        } else if !(self.floor..=self.ceiling).contains(&self.initial) {
            let why = format!("must be in {}..={}, from the floor to the ceiling", self.floor, self.ceiling);
            checks.refuse("initial", self.initial, why);
        }
        checks.duration("window", self.window);
        checks.range("min_calls", self.min_calls, 1..=10_000);
        checks.rate("percentile", self.percentile);
        checks.fraction("tolerated_drops", self.tolerated_drops);
        checks.finish()
    }
}
