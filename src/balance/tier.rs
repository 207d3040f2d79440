//! Who is given calls: healthy instances first, degraded ones when those are too few, all when hardly any is left. The
//! pure rule.

use crate::{contract::HealthStatus, settings::Ratio};

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// It is not draining, has a weight, and nobody has taken it out by hand.
    pub(super) takes_calls: bool,
    pub(super) health: HealthStatus,
    pub(super) ejected: bool,
}

/// What a member is to the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is picked from.
    Chosen,
    /// It is taken when nobody who is chosen can be called.
    Spare,
    /// It gets no calls.
    Out,
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tier {
    /// Those that take calls at all.
    pub(super) taking: usize,
    /// Of them, those that are neither unhealthy nor ejected.
    pub(super) usable: usize,
    /// Of those that take calls, the ejected ones.
    pub(super) ejected: usize,
    /// So few are usable that nothing is believed about the others.
    pub(super) panics: bool,
    /// There are enough healthy ones, and degraded ones only fill in. Where one is usable, one of them is healthy.
    healthy_suffice: bool,
}

impl Tier {
    pub(super) fn of(members: impl Iterator<Item = Standing>, panic_threshold: f64) -> Self {
        let (mut tier, mut healthy) = (Self::default(), 0);
        for member in members.filter(|member| member.takes_calls) {
            let usable = !member.ejected && member.health != HealthStatus::Unhealthy;
            tier.taking += 1;
            tier.usable += usize::from(usable);
            healthy += u64::from(usable && member.health == HealthStatus::Healthy);
            tier.ejected += usize::from(member.ejected);
        }
        let (taking, usable) = (tier.taking as u64, tier.usable as u64);
        let enough = panic_threshold <= 0.0 || Ratio::of(panic_threshold).reached_by(usable, taking);
        tier.panics = taking > 0 && !enough;
        // Envoy's overprovisioning: the healthy carry all as long as each has to carry 1.4 times its share at most.
        tier.healthy_suffice = healthy * 14 >= taking * 10 || healthy == usable;
        tier
    }

    pub(super) fn role(&self, member: Standing) -> Role {
        if !member.takes_calls {
            return Role::Out;
        }
        if self.panics {
            return Role::Chosen;
        }
        match member.health {
            _ if member.ejected => Role::Out,
            HealthStatus::Unhealthy => Role::Out,
            HealthStatus::Degraded if self.healthy_suffice => Role::Spare,
            HealthStatus::Degraded | HealthStatus::Healthy => Role::Chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(kind: char) -> Standing {
        let health = match kind {
            'd' => HealthStatus::Degraded,
            'u' => HealthStatus::Unhealthy,
            _ => HealthStatus::Healthy,
        };
        Standing { takes_calls: kind != 'o', health, ejected: kind == 'e' }
    }

    /// Members as letters: healthy, degraded, unhealthy, ejected, out; their roles as letters: chosen, spare, out.
    fn roles(members: &str, panic_threshold: f64) -> (String, bool) {
        let tier = Tier::of(members.chars().map(standing), panic_threshold);
        let role = |kind| match tier.role(standing(kind)) {
            Role::Chosen => 'C',
            Role::Spare => 's',
            Role::Out => '-',
        };
        (members.chars().map(role).collect(), tier.panics)
    }

    #[test]
    fn members_by_health() {
        for (members, threshold, expected, panics) in [
            ("", 0.5, "", false),
            ("hhh", 0.5, "CCC", false),
            ("hhd", 0.5, "CCC", false),
            ("hhhd", 0.5, "CCCs", false),
            ("hhhhhhhhdd", 0.5, "CCCCCCCCss", false),
            ("hhhhhhhddd", 0.5, "CCCCCCCCCC", false),
            ("ddd", 0.5, "CCC", false),
            ("hhhu", 0.5, "CCC-", false),
            ("hhuu", 0.5, "CC--", false),
            ("huuu", 0.5, "CCCC", true),
            ("hueo", 0.5, "CCC-", true),
            ("uuuo", 0.5, "CCC-", true),
            ("uuuo", 0.0, "----", false),
            ("hueo", 0.0, "C---", false),
            ("hhee", 0.5, "CC--", false),
            ("heee", 0.5, "CCCC", true),
            ("hoooooo", 0.5, "C------", false),
            ("ooo", 1.0, "---", false),
            ("hhhe", 1.0, "CCCC", true),
        ] {
            assert_eq!(roles(members, threshold), (expected.to_owned(), panics), "{members} at {threshold}");
        }
    }

    proptest::proptest! {
        #[test]
        fn somebody_is_chosen_whenever_somebody_is_usable(members in "[hdueo]{0,20}", threshold in 0.0..1.0_f64) {
            let (roles, panics) = roles(&members, threshold);
            let usable = members.contains(['h', 'd']);
            proptest::prop_assert_eq!(roles.contains('C'), usable || panics);
            proptest::prop_assert!(members.chars().zip(roles.chars()).all(|(kind, role)| kind != 'o' || role == '-'));
        }
    }
}
