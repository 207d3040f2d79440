use crate::{
    breaker::config::{Config, Window},
    settings::{Checks, ConfigError},
};

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason. Settings read with serde have been checked.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        self.check_window(&mut checks);
        self.check_periods(&mut checks);
        for (field, rate) in [
            ("failure_rate", self.failure_rate),
            ("slow_rate", Some(self.slow_rate)),
            ("probe_failure_rate", self.probe_failure_rate),
        ] {
            rate.into_iter().for_each(|rate| checks.rate(field, rate));
        }
        checks.fraction("open_jitter", self.open_jitter);
        checks.range("open_growth", self.open_growth, 1.0..=100.0);
        checks.range("probes", self.probes, 1..=10_000);
        self.close_after.into_iter().for_each(|n| checks.range("close_after", n, 1..=10_000));
        self.consecutive_failures.into_iter().for_each(|n| checks.range("consecutive_failures", n, 1..=1 << 40));
        checks.finish()
    }

    /// A window that was made for other settings cannot keep what it knows.
    pub(super) fn keeps_window_of(&self, current: &Self) -> Result<(), ConfigError> {
        if self.window == current.window {
            return Ok(());
        }
        let why = format!("cannot change while in use, it is {:?}; make a new breaker", current.window);
        Err(ConfigError::new("window", format_args!("{:?}", self.window), why))
    }

    fn check_window(&self, checks: &mut Checks) {
        const FIELD: &str = "window";
        checks.range("minimum_calls", self.minimum_calls, 1..=1 << 40);
        match self.window {
            Window::Calls(calls) => {
                checks.range("window.calls", calls, 1..=1_000_000);
                if self.minimum_calls > calls as u64 {
                    let why = format!("must be at most the {calls} calls that the {FIELD} holds");
                    checks.refuse("minimum_calls", self.minimum_calls, why);
                }
            }
            Window::Time { length, buckets } => {
                checks.duration("window.time", length);
                checks.range("window.buckets", buckets, 1..=3_600);
            }
        }
    }

    fn check_periods(&self, checks: &mut Checks) {
        for (field, period) in [
            ("slow_after", self.slow_after),
            ("open_for", Some(self.open_for)),
            ("honor_retry_after", self.honor_retry_after),
            ("half_open_for", Some(self.half_open_for)),
            ("count_cancelled_after", self.count_cancelled_after),
        ] {
            period.into_iter().for_each(|period| checks.duration(field, period));
        }
        if self.open_growth != 1.0 {
            checks.duration("open_cap", self.open_cap);
            if self.open_cap < self.open_for {
                checks.refuse(
                    "open_cap",
                    format_args!("{:?}", self.open_cap),
                    format!("must be at least open_for, {:?}", self.open_for),
                );
            }
        }
    }
}
