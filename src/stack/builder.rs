use std::{fmt, sync::Arc, time::Duration};

use crate::{
    breaker, bulkhead, concurrency,
    fallback::{self, NoFallback},
    hedge, load_shed,
    name::Name,
    outcome::OnError,
    rate_limit,
    retry::{self, Classified, Cloned},
    settings::ConfigError,
    stack::{
        config::Config,
        judges::Judges,
        part::Part,
        policies::{Parts, Policies},
        replays::{Hook, Once, Resend},
        whole::Stack,
    },
    timeout,
};

/// Puts a stack together. The order of the calls does not matter: the order of the policies is fixed, as
/// [the stack](super) says.
///
/// Each policy takes its settings, and is then made under the name of the stack, or a handle that exists already, and
/// is then shared with whoever else has it: a breaker that a balancer knows too, a retry with a common budget.
///
/// ```
/// use std::time::Duration;
/// use mainstay::{Stack, breaker, bulkhead, retry};
///
/// let everywhere = breaker::Handle::new("user-db", breaker::Config::new().failure_rate(0.3));
/// let stack = Stack::builder("user-db/read")
///     .timeout(Duration::from_secs(2))
///     .retry(retry::Config::new().attempts(3))
///     .breaker(everywhere)
///     .bulkhead(bulkhead::Config::new(64))
///     .attempt_timeout(Duration::from_millis(250))
///     .build();
/// assert_eq!(stack.breaker().map(|breaker| breaker.name().as_str()), Some("user-db"));
/// ```
///
/// # Requests
///
/// A stack without retry and hedge asks nothing of its requests. With one of them, requests are cloned, unless
/// [`replay`](Self::replay) says how else they are sent again, or [`once`](Self::once) that they are not. The type of
/// the stack says which it is: `Stack` is one that clones, `Stack<Classified<OnError>, NoFallback, Once>` one that
/// sends nothing twice.
#[must_use = "a builder does nothing until `build`"]
pub struct StackBuilder<C = Classified<OnError>, F = NoFallback, R = Once> {
    name: String,
    given: Given,
    rule: C,
    strategy: F,
    replay: R,
}

#[derive(Debug, Default)]
struct Given {
    load_shed: Option<Part<load_shed::Config, load_shed::Handle>>,
    rate_limit: Option<Part<rate_limit::Config, rate_limit::Handle>>,
    timeout: Option<Part<Duration, timeout::Handle>>,
    retry: Option<Part<retry::Config, retry::Handle>>,
    hedge: Option<Part<hedge::Config, hedge::Handle>>,
    breaker: Option<Part<breaker::Config, breaker::Handle>>,
    concurrency: Option<Part<concurrency::Config, concurrency::Handle>>,
    bulkhead: Option<Part<bulkhead::Config, bulkhead::Handle>>,
    attempt_timeout: Option<Part<Duration, timeout::Handle>>,
    fallback: Option<fallback::Handle>,
}

impl StackBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            given: Given::default(),
            rule: Classified(OnError),
            strategy: NoFallback,
            replay: Once,
        }
    }
}

impl Config {
    /// A builder with these policies, for what a file cannot say: the classifier, the fallback, how requests are sent
    /// again. They are cloned if nothing else is said.
    pub fn builder(self, name: &str) -> StackBuilder<Classified<OnError>, NoFallback, Cloned> {
        let given = Given {
            load_shed: self.load_shed.map(Part::Config),
            rate_limit: self.rate_limit.map(Part::Config),
            timeout: self.timeout.map(Part::Config),
            retry: self.retry.map(Part::Config),
            hedge: self.hedge.map(Part::Config),
            breaker: self.breaker.map(Part::Config),
            concurrency: self.concurrency.map(Part::Config),
            bulkhead: self.bulkhead.map(Part::Config),
            attempt_timeout: self.attempt_timeout.map(Part::Config),
            fallback: None,
        };
        StackBuilder { given, ..StackBuilder::new(name).with_replay(Cloned) }
    }
}

impl<C, F, R> StackBuilder<C, F, R> {
    /// Turns calls away early when there are too many. Calls wait in its queue, if it has one.
    pub fn load_shed(mut self, load_shed: impl Into<Part<load_shed::Config, load_shed::Handle>>) -> Self {
        self.given.load_shed = Some(load_shed.into());
        self
    }

    /// Limits how many calls are made in a time. Calls wait for their turn within the limit's
    /// [`max_wait`](rate_limit::Config::max_wait).
    pub fn rate_limit(mut self, limit: impl Into<Part<rate_limit::Config, rate_limit::Handle>>) -> Self {
        self.given.rate_limit = Some(limit.into());
        self
    }

    /// Cuts off a call with all its attempts and the waits between them.
    pub fn timeout(mut self, limit: impl Into<Part<Duration, timeout::Handle>>) -> Self {
        self.given.timeout = Some(limit.into());
        self
    }

    /// Makes a call again that failed.
    pub fn retry(mut self, retry: impl Into<Part<retry::Config, retry::Handle>>) -> StackBuilder<C, F, R::Resent>
    where
        R: Resend,
    {
        self.given.retry = Some(retry.into());
        self.resend()
    }

    /// Sends another copy of an attempt that takes too long. It draws on the budget of the retry, if both have one; a
    /// handle that exists already keeps its own.
    pub fn hedge(mut self, hedge: impl Into<Part<hedge::Config, hedge::Handle>>) -> StackBuilder<C, F, R::Resent>
    where
        R: Resend,
    {
        self.given.hedge = Some(hedge.into());
        self.resend()
    }

    /// Leaves a service alone that fails.
    pub fn breaker(mut self, breaker: impl Into<Part<breaker::Config, breaker::Handle>>) -> Self {
        self.given.breaker = Some(breaker.into());
        self
    }

    /// Limits how many attempts run at a time to what the service is found to bear.
    pub fn concurrency(mut self, limit: impl Into<Part<concurrency::Config, concurrency::Handle>>) -> Self {
        self.given.concurrency = Some(limit.into());
        self
    }

    /// Limits how many attempts run at a time. Attempts wait for a place in the bulkhead's
    /// [queue](bulkhead::Config::max_queue).
    pub fn bulkhead(mut self, bulkhead: impl Into<Part<bulkhead::Config, bulkhead::Handle>>) -> Self {
        self.given.bulkhead = Some(bulkhead.into());
        self
    }

    /// Cuts off a single attempt.
    pub fn attempt_timeout(mut self, limit: impl Into<Part<Duration, timeout::Handle>>) -> Self {
        self.given.attempt_timeout = Some(limit.into());
        self
    }

    fn judge<D>(self, judge: impl FnOnce(C) -> D) -> StackBuilder<D, F, R> {
        let Self { name, given, rule, strategy, replay } = self;
        StackBuilder { name, given, rule: judge(rule), strategy, replay }
    }

    /// Answers in place of a service that failed.
    pub fn fallback<G>(self, strategy: G) -> StackBuilder<C, G, R> {
        let Self { name, given, rule, replay, .. } = self;
        StackBuilder { name, given, rule, strategy, replay }
    }

    /// Counts and tells of the fallback's answers with a handle that exists already: several stacks may share one. By
    /// default the stack has one of its own, under its name.
    pub fn fallback_handle(mut self, fallback: fallback::Handle) -> Self {
        self.given.fallback = Some(fallback);
        self
    }

    /// How requests are sent again, instead of by cloning them: a [`Replay`](retry::Replay), or a closure
    /// `Fn(&Req) -> Option<Req>`. It may also know the [deadline](retry::Replay::deadline) of a request, at which the
    /// call is cut off if the stack has a timeout.
    pub fn replay<Q>(self, replay: Q) -> StackBuilder<C, F, Hook<Q>> {
        self.with_replay(Hook(replay))
    }

    /// Sends no request twice, whatever the retry says: for requests that cannot be cloned.
    pub fn once(self) -> StackBuilder<C, F, Hook<Once>> {
        self.replay(Once)
    }

    fn resend(self) -> StackBuilder<C, F, R::Resent>
    where
        R: Resend,
    {
        let Self { name, given, rule, strategy, replay } = self;
        StackBuilder { name, given, rule, strategy, replay: replay.resend() }
    }

    fn with_replay<Q>(self, replay: Q) -> StackBuilder<C, F, Q> {
        let Self { name, given, rule, strategy, .. } = self;
        StackBuilder { name, given, rule, strategy, replay }
    }

    /// The stack.
    ///
    /// # Panics
    ///
    /// When the name or a setting is impossible, with all that is wrong as the message. For values from outside, use
    /// [`try_build`](Self::try_build).
    #[must_use]
    #[track_caller]
    pub fn build(self) -> Stack<C, F, R> {
        let name = self.name.clone();
        match self.try_build() {
            Ok(stack) => stack,
            Err(error) => panic!("stack {name:?}: {error}"),
        }
    }

    /// The stack, from settings that come from outside.
    ///
    /// # Errors
    ///
    /// All that is wrong with the name and the settings, each with section and field, value and reason.
    pub fn try_build(self) -> Result<Stack<C, F, R>, ConfigError> {
        let name = Name::with_settings(&self.name, self.given.check())?;
        let policies = self.given.policies(name)?;
        let (rule, strategy, replay) = (Arc::new(self.rule), Arc::new(self.strategy), Arc::new(self.replay));
        Ok(Stack { parts: Arc::new(Parts { policies, rule, strategy, replay }) })
    }
}

impl<C, F, R> StackBuilder<Classified<C>, F, R> {
    /// Decides what results mean: for the breaker, for whether a call is tried again, and for the fallback. Default
    /// [`OnError`].
    pub fn classify<D>(self, classify: D) -> StackBuilder<Classified<D>, F, R> {
        self.judge(|_| Classified(classify))
    }

    /// Decides by a [rule](retry::Rule) of its own which results are worth another attempt; everything else goes by the
    /// [classifier](Self::classify).
    pub fn retry_rule<Q>(self, rule: Q) -> StackBuilder<Judges<C, Q>, F, R> {
        self.judge(|Classified(classify)| Judges { classify, rule })
    }
}

impl<C, Q, F, R> StackBuilder<Judges<C, Q>, F, R> {
    /// Decides what results mean, but for the retry, which has a rule of its own.
    pub fn classify<D>(self, classify: D) -> StackBuilder<Judges<D, Q>, F, R> {
        self.judge(|Judges { rule, .. }| Judges { classify, rule })
    }

    /// Another rule for the retry.
    pub fn retry_rule<P>(self, rule: P) -> StackBuilder<Judges<C, P>, F, R> {
        self.judge(|Judges { classify, .. }| Judges { classify, rule })
    }
}

impl Given {
    fn check(&self) -> Result<(), ConfigError> {
        let config = Config {
            load_shed: self.load_shed.as_ref().and_then(Part::config).copied(),
            rate_limit: self.rate_limit.as_ref().and_then(Part::config).copied(),
            timeout: self.timeout.as_ref().and_then(Part::config).copied(),
            retry: self.retry.as_ref().and_then(Part::config).cloned(),
            hedge: self.hedge.as_ref().and_then(Part::config).copied(),
            breaker: self.breaker.as_ref().and_then(Part::config).cloned(),
            concurrency: self.concurrency.as_ref().and_then(Part::config).cloned(),
            bulkhead: self.bulkhead.as_ref().and_then(Part::config).cloned(),
            attempt_timeout: self.attempt_timeout.as_ref().and_then(Part::config).copied(),
        };
        config.check()
    }

    fn policies(self, name: Name) -> Result<Policies, ConfigError> {
        let of = name.as_str();
        let load_shed = Part::all(self.load_shed, |config| load_shed::Handle::try_new(of, config))?;
        let rate_limit = Part::all(self.rate_limit, |config| rate_limit::Handle::try_new(of, config))?;
        let timeout = Part::all(self.timeout, |limit| timeout::Handle::try_new(of, limit))?;
        let retry = Part::all(self.retry, |config| retry::Handle::try_new(of, config))?;
        let hedge = Part::all(self.hedge, |config| hedge_of(of, config, retry.as_ref()))?;
        let breaker = Part::all(self.breaker, |config| breaker::Handle::try_new(of, config))?;
        let concurrency = Part::all(self.concurrency, |config| concurrency::Handle::try_new(of, config))?;
        let bulkhead = Part::all(self.bulkhead, |config| bulkhead::Handle::try_new(of, config))?;
        let attempt_timeout = Part::all(self.attempt_timeout, |limit| timeout::Handle::try_new(of, limit))?;
        let fallback = self.fallback.map_or_else(|| fallback::Handle::try_new(of), Ok)?;
        let (outer, inner) = ((load_shed, rate_limit), (breaker, (concurrency, bulkhead)));
        Ok(Policies { name, fallback, outer, timeout, retry, hedge, inner, attempt_timeout })
    }
}

/// A hedge that is made for a stack draws on the budget of its retry: together they do not overload the service.
fn hedge_of(name: &str, config: hedge::Config, retry: Option<&retry::Handle>) -> Result<hedge::Handle, ConfigError> {
    let hedge = hedge::Handle::try_new(name, config)?;
    let budget = retry.and_then(|retry| retry.core().budget()).filter(|_| config.has_budget());
    Ok(budget.map_or_else(|| hedge.clone(), |budget| hedge.clone().with_budget(budget)))
}

impl<C, F, R> fmt::Debug for StackBuilder<C, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackBuilder").field("name", &self.name).field("given", &self.given).finish_non_exhaustive()
    }
}
