//! The settings of a budget, from code and from files.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::settings::{Checks, ConfigError};

/// The settings of a [`Budget`](super::Budget).
///
/// ```
/// use mainstay::retry::BudgetConfig;
///
/// let settings = BudgetConfig::new().ratio(0.1).min_per_second(5).cap(50);
/// assert!(settings.check().is_ok());
/// assert!(BudgetConfig::new().ratio(20.0).check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct BudgetConfig {
    pub(super) ratio: f64,
    pub(super) min_per_second: u32,
    pub(super) cap: u32,
}

/// As a file has it. A retry and a hedge check it themselves, to tell all that is wrong with them together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unchecked {
    ratio: f64,
    min_per_second: u32,
    cap: u32,
}

impl Default for Unchecked {
    fn default() -> Self {
        let BudgetConfig { ratio, min_per_second, cap } = BudgetConfig::default();
        Self { ratio, min_per_second, cap }
    }
}

impl Unchecked {
    fn settings(self) -> BudgetConfig {
        let Self { ratio, min_per_second, cap } = self;
        BudgetConfig { ratio, min_per_second, cap }
    }
}

impl TryFrom<Unchecked> for BudgetConfig {
    type Error = ConfigError;

    fn try_from(file: Unchecked) -> Result<Self, ConfigError> {
        let settings = file.settings();
        settings.check().map(|()| settings)
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 10, cap: 100 }
    }
}

impl BudgetConfig {
    /// The defaults: 20 % of the calls plus 10 a second, of which 100 are saved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many retries for each call. 0, or from 0.0001 to 10; default 0.2: a service that fails for everybody gets a
    /// fifth more calls, and not three times as many.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// So many retries a second, whatever the number of calls. Up to 1 000 000, default 10: a service that is called
    /// seldom can still be tried again. A budget begins with those of one second.
    #[must_use]
    pub fn min_per_second(mut self, retries: u32) -> Self {
        self.min_per_second = retries;
        self
    }

    /// So many retries are saved for later, the rest is forgotten. From 1 to 1 000 000, and no fewer than `ratio`;
    /// default 100: the quiet of a whole day is not spent in the first second of an outage.
    #[must_use]
    pub fn cap(mut self, retries: u32) -> Self {
        self.cap = retries;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        self.check_into(&mut checks);
        checks.finish()
    }

    pub(crate) fn check_into(&self, checks: &mut Checks) {
        const RATIO: &str = "budget.ratio";
        let ratio = self.ratio;
        if ratio > 10.0 && ratio <= 100.0 {
            let why = format!("must be 0, or in 0.0001..=10; did you mean {}? (percent given)", ratio / 100.0);
            checks.refuse(RATIO, ratio, why);
        } else if ratio != 0.0 && !(0.0001..=10.0).contains(&ratio) {
            checks.refuse(RATIO, ratio, "must be 0, or a finite number in 0.0001..=10");
        } else if self.cap > 0 && ratio > f64::from(self.cap) {
            checks.refuse("budget.cap", self.cap, format!("must be at least budget.ratio, {ratio}"));
        }
        checks.range("budget.min_per_second", self.min_per_second, 0..=1_000_000);
        checks.range("budget.cap", self.cap, 1..=1_000_000);
    }
}

/// A budget in a file, or `"off"`.
#[derive(Debug)]
pub(crate) struct RawBudget(pub(crate) Option<BudgetConfig>);

impl Serialize for RawBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(budget) => budget.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for RawBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawBudget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a budget such as { ratio = 0.2, min_per_second = 10, cap = 100 }, or \"off\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawBudget, E> {
                match text {
                    "off" => Ok(RawBudget(None)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawBudget, A::Error> {
                let read = Unchecked::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawBudget(Some(read.settings())))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
