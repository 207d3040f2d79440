use crate::{
    retry::{
        backoff::{Growth, Jitter},
        config::Config,
    },
    settings::{Checks, ConfigError, LONGEST, Span},
};

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with field, value and reason. Settings read with serde have been checked.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.range("attempts", self.attempts, 1..=100);
        self.check_backoff(&mut checks);
        if let Jitter::Range(share) = self.jitter {
            checks.fraction("jitter.range", share);
        }
        self.budget.iter().for_each(|budget| budget.check_into(&mut checks));
        checks.duration("max_retry_after", self.max_retry_after);
        self.deadline.into_iter().for_each(|deadline| checks.duration("deadline", deadline));
        checks.finish()
    }

    /// No wait at all is a wait: who tries again at once says so.
    fn check_backoff(&self, checks: &mut Checks) {
        const CAP: &str = "backoff.cap";
        let initial = self.backoff.initial();
        if let Some(initial) = initial.filter(|initial| *initial > LONGEST) {
            checks.refuse("backoff.initial", Span::from(initial), "must be at most 365d");
        }
        if let Growth::Exponential { factor, .. } = self.backoff.growth {
            checks.range("backoff.factor", factor, 1.0..=100.0);
        }
        let Some(cap) = self.backoff.cap else { return };
        checks.duration(CAP, cap);
        if let Some(initial) = initial.filter(|initial| *initial > cap) {
            let why = format!("must be at least backoff.initial, {}", Span::from(initial));
            checks.refuse(CAP, Span::from(cap), why);
        }
    }
}
