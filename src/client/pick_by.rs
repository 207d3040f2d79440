use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    balance::{Candidates, LeastLoaded, PeakEwma, Pick, Picker, Random, RoundRobin, Weighted},
    contract::Instance,
};

/// How one of the instances of a service is picked, as far as a file can say it. For a picker that looks at the
/// request, see [`ClientBuilder::picker`](super::ClientBuilder::picker).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PickBy {
    /// The one with fewer calls running, of two: [`LeastLoaded`]. The default.
    #[default]
    LeastLoaded,
    /// The one that is expected to answer earlier, of two: [`PeakEwma`].
    PeakEwma,
    /// One after the other: [`RoundRobin`].
    RoundRobin,
    /// Any, by its weight: [`Random`].
    Random,
    /// Each by its weight, evenly: [`Weighted`].
    Weighted,
}

/// Makes the picker of a service.
pub trait PickerOf {
    /// The picker.
    type Picker: Picker;

    #[doc(hidden)]
    fn picker(&self, by: PickBy) -> Self::Picker;
}

/// As the settings of each service say: the default of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByConfig;

impl PickerOf for ByConfig {
    type Picker = Configured;

    fn picker(&self, by: PickBy) -> Configured {
        Configured(match by {
            PickBy::LeastLoaded => Kind::LeastLoaded(LeastLoaded),
            PickBy::PeakEwma => Kind::PeakEwma(PeakEwma),
            PickBy::RoundRobin => Kind::RoundRobin(RoundRobin::new()),
            PickBy::Random => Kind::Random(Random),
            PickBy::Weighted => Kind::Weighted(Weighted::new()),
        })
    }
}

/// The same picker for every service, whatever the settings say.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<K>(pub(super) K);

impl<K: Picker + Clone> PickerOf for Fixed<K> {
    type Picker = K;

    fn picker(&self, _: PickBy) -> K {
        self.0.clone()
    }
}

/// A picker that the settings chose.
#[derive(Debug, Clone)]
pub struct Configured(Kind);

#[derive(Debug, Clone)]
enum Kind {
    LeastLoaded(LeastLoaded),
    PeakEwma(PeakEwma),
    RoundRobin(RoundRobin),
    Random(Random),
    Weighted(Weighted),
}

impl Picker for Configured {
    type Plan = ();

    const MEASURES: bool = true;

    fn plan(&self, _: &[Arc<Instance>]) {}
}

impl<Req> Pick<Req> for Configured {
    fn pick(&self, request: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
        match &self.0 {
            Kind::LeastLoaded(picker) => picker.pick(request, &(), candidates),
            Kind::PeakEwma(picker) => picker.pick(request, &(), candidates),
            Kind::RoundRobin(picker) => picker.pick(request, &(), candidates),
            Kind::Random(picker) => picker.pick(request, &(), candidates),
            Kind::Weighted(picker) => picker.pick(request, &(), candidates),
        }
    }
}
