use std::{fmt, ops::RangeInclusive, time::Duration};

use super::{ConfigError, Span};

/// The longest duration any setting takes: a year. Sums with it stay far from overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Collects all that is wrong with a configuration.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<ConfigError>);

impl Checks {
    pub(crate) fn refuse(&mut self, field: &'static str, value: impl fmt::Display, why: impl Into<String>) {
        self.0.push(ConfigError::new(field, value, why.into()));
    }

    /// A share of calls: more than none, at most all.
    pub(crate) fn rate(&mut self, field: &'static str, rate: f64) {
        if !rate.is_finite() {
            self.refuse(field, rate, "must be a finite number in (0, 1]");
        } else if rate > 1.0 && rate <= 100.0 {
            self.refuse(field, rate, format!("must be in (0, 1]; did you mean {}? (percent given)", rate / 100.0));
        } else if rate <= 0.0 || rate > 1.0 {
            self.refuse(field, rate, "must be in (0, 1]");
        }
    }

    /// A share that may be nothing.
    pub(crate) fn fraction(&mut self, field: &'static str, fraction: f64) {
        if !(0.0..=1.0).contains(&fraction) {
            self.refuse(field, fraction, "must be a finite number in [0, 1]");
        }
    }

    pub(crate) fn range<T: PartialOrd + fmt::Display>(
        &mut self,
        field: &'static str,
        value: T,
        allowed: RangeInclusive<T>,
    ) {
        if !allowed.contains(&value) {
            self.refuse(field, value, format!("must be in {}..={}", allowed.start(), allowed.end()));
        }
    }

    /// A duration from 1 ms to a year.
    pub(crate) fn duration(&mut self, field: &'static str, value: Duration) {
        if value < Duration::from_millis(1) {
            self.refuse(field, Span::from(value), "must be at least 1ms");
        } else if value > LONGEST {
            self.refuse(field, Span::from(value), "must be at most 365d");
        }
    }

    /// A duration that is no longer than another, where both are set.
    pub(crate) fn at_most(
        &mut self,
        field: &'static str,
        value: Option<Duration>,
        other: &'static str,
        most: Option<Duration>,
    ) {
        let Some((value, most)) = value.zip(most) else { return };
        if value > most {
            self.refuse(field, Span::from(value), format!("must be at most {other}, {}", Span::from(most)));
        }
    }

    /// What is wrong with a section, if there is one.
    pub(crate) fn section(&mut self, name: &'static str, checked: Option<Result<(), ConfigError>>) {
        self.0.extend(checked.and_then(Result::err).into_iter().flat_map(|error| error.within(name).split()));
    }

    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        ConfigError::all(self.0).map_or(Ok(()), Err)
    }
}
