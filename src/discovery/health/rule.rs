//! When checks make an instance healthy or not. Pure.

use crate::{
    contract::{Health, HealthStatus, Instance},
    discovery::health::Config,
};

/// What the checks of one instance say.
#[derive(Debug)]
pub(super) struct Standing {
    health: Health,
    // Results in a row against what stands.
    against: u32,
    checked: bool,
}

impl Standing {
    pub(super) fn new(config: &Config) -> Self {
        let health = if config.start_healthy { Health::healthy() } else { Health::unhealthy("it was not checked yet") };
        Self { health, against: 0, checked: false }
    }

    /// A check said this. Returns the status of before where that has changed.
    pub(super) fn record(&mut self, finding: Health, config: &Config) -> Option<HealthStatus> {
        let before = self.health.status();
        let is_down = |status| status == HealthStatus::Unhealthy;
        if is_down(finding.status()) == is_down(before) {
            self.against = 0;
            self.health = finding;
        } else {
            self.against += 1;
            let wanted = match (is_down(before), self.checked) {
                (false, _) => config.down_after,
                (true, true) => config.up_after,
                // Nothing is known against it.
                (true, false) => 1,
            };
            if self.against >= wanted {
                self.against = 0;
                self.health = finding;
            }
        }
        self.checked = true;
        (self.health.status() != before).then_some(before)
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.health.status()
    }

    /// The instance with what is worse: its health by the backend, or by the checks.
    pub(super) fn merged(&self, own: &Instance) -> Instance {
        let worse = self.health.status() > own.health().status();
        let instance = own.clone();
        if worse { instance.with_health(self.health.clone()) } else { instance }
    }
}

#[cfg(test)]
mod tests {
    use HealthStatus::{Degraded, Healthy, Unhealthy};

    use super::*;

    /// `+` a check that finds it healthy, `~` degraded, `-` not; what stands after each, in the same letters.
    fn run(config: &Config, checks: &str) -> String {
        let mut standing = Standing::new(config);
        let letter = |status| match status {
            Healthy => '+',
            Degraded => '~',
            Unhealthy => '-',
        };
        let step = |check| {
            let (before, status) = (
                standing.status(),
                match check {
                    '+' => Healthy,
                    '~' => Degraded,
                    _ => Unhealthy,
                },
            );
            let changed = standing.record(status.into(), config);
            assert_eq!(changed, (standing.status() != before).then_some(before));
            letter(standing.status())
        };
        checks.chars().map(step).collect()
    }

    #[test]
    fn thresholds_are_of_results_in_a_row() {
        let config = Config::new().down_after(3).up_after(2);
        for (checks, expected) in [
            ("+++", "+++"),
            ("--+--+", "++++++"),
            ("---", "++-"),
            ("---+-++", "++----+"),
            ("----~~", "++---~"),
            ("~+~", "~+~"),
            ("~---", "~~~-"),
            ("---+~", "++--~"),
        ] {
            assert_eq!(run(&config, checks), expected, "{checks}");
        }
        let at_once = Config::new().down_after(1).up_after(1);
        assert_eq!(run(&at_once, "-+-~"), "-+-~");
    }

    #[test]
    fn an_instance_that_starts_unhealthy_is_well_after_its_first_good_check() {
        let config = Config::new().start_healthy(false).up_after(3);
        assert_eq!(run(&config, "+"), "+");
        assert_eq!(run(&config, "-+++"), "---+", "it was seen down");
    }

    #[test]
    fn the_worse_of_two_opinions_counts() {
        for own in [Healthy, Degraded, Unhealthy] {
            for checked in [Healthy, Degraded, Unhealthy] {
                let config = Config::new().down_after(1);
                let mut standing = Standing::new(&config);
                standing.record(Health::new(checked).with_message("checked"), &config);
                let instance = Instance::new("users", "a", "h", 1).unwrap();
                let merged = standing.merged(&instance.with_health(Health::new(own).with_message("own")));
                assert_eq!(merged.health().status(), own.max(checked));
                let teller = if checked > own { "checked" } else { "own" };
                assert_eq!(merged.health().message(), Some(teller));
            }
        }
    }
}
