use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    error::CarryRejection,
    http::retry_after,
    outcome::{Classify, OnError, Outcome},
    settings::{Checks, ConfigError},
};

/// Decides by the status of a response.
///
/// 5xx is a failure, 4xx is ignored (the request was wrong, not the service), everything else is a success. Any status
/// can be given another meaning. Errors are judged as [`OnError`] does. `Retry-After` is read from failed responses.
///
/// ```
/// use mainstay::{Outcome, http::StatusClassify};
/// use http::StatusCode;
///
/// let classify = StatusClassify::new()
///     .failure([StatusCode::TOO_MANY_REQUESTS])
///     .ignore([StatusCode::NOT_IMPLEMENTED]);
/// assert_eq!(classify.outcome(StatusCode::TOO_MANY_REQUESTS), Outcome::Failure);
/// assert_eq!(classify.outcome(StatusCode::BAD_GATEWAY), Outcome::Failure);
/// assert_eq!(classify.outcome(StatusCode::NOT_FOUND), Outcome::Ignored);
/// ```
///
/// From a file: `failure = [429]`, `success = [404]`, `ignore = [501]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct StatusClassify {
    meanings: BTreeMap<u16, Outcome>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    failure: Vec<u16>,
    success: Vec<u16>,
    ignore: Vec<u16>,
}

const CODES: RangeInclusive<u16> = 100..=999;

impl StatusClassify {
    /// 5xx fails, 4xx is ignored, the rest succeeds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a retry: what passes by itself is a failure (408, 425, 429, 500, 502, 503, 504), and every other error
    /// status is the answer, since the same request would get it again.
    ///
    /// ```
    /// use mainstay::{Outcome, http::StatusClassify};
    /// use http::StatusCode;
    ///
    /// let classify = StatusClassify::retryable().failure([StatusCode::CONFLICT]);
    /// assert_eq!(classify.outcome(StatusCode::SERVICE_UNAVAILABLE), Outcome::Failure);
    /// assert_eq!(classify.outcome(StatusCode::CONFLICT), Outcome::Failure);
    /// assert_eq!(classify.outcome(StatusCode::NOT_IMPLEMENTED), Outcome::Ignored);
    /// ```
    #[must_use]
    pub fn retryable() -> Self {
        let retried = [408, 425, 429, 500, 502, 503, 504];
        let codes = retried.into_iter().chain(501..=599).filter_map(|code| StatusCode::from_u16(code).ok());
        let (failures, others): (Vec<_>, Vec<_>) = codes.partition(|code| retried.contains(&code.as_u16()));
        Self::new().ignore(others).failure(failures)
    }

    /// These statuses are failures.
    #[must_use]
    pub fn failure(self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.meaning(codes, Outcome::Failure)
    }

    /// These statuses are successes.
    #[must_use]
    pub fn success(self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.meaning(codes, Outcome::Success)
    }

    /// These statuses say nothing about the service.
    #[must_use]
    pub fn ignore(self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.meaning(codes, Outcome::Ignored)
    }

    /// The last meaning given to a status counts.
    fn meaning(mut self, codes: impl IntoIterator<Item = StatusCode>, outcome: Outcome) -> Self {
        self.meanings.extend(codes.into_iter().map(|code| (code.as_u16(), outcome)));
        self
    }

    /// What a status means.
    #[must_use]
    pub fn outcome(&self, status: StatusCode) -> Outcome {
        match (self.meanings.get(&status.as_u16()), status.as_u16()) {
            (Some(outcome), _) => *outcome,
            (None, 400..=499) => Outcome::Ignored,
            (None, 500..=599) => Outcome::Failure,
            (None, _) => Outcome::Success,
        }
    }
}

impl<B, E: CarryRejection> Classify<Response<B>, E> for StatusClassify {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => self.outcome(response.status()),
            Err(_) => OnError.classify(result),
        }
    }

    fn retry_after(&self, result: Result<&Response<B>, &E>) -> Option<Duration> {
        match result {
            Ok(response) => retry_after(response.headers()),
            Err(_) => OnError.retry_after(result),
        }
    }
}

impl TryFrom<Raw> for StatusClassify {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let mut checks = Checks::default();
        let mut meanings = BTreeMap::new();
        for (field, codes, outcome) in [
            ("failure", raw.failure, Outcome::Failure),
            ("success", raw.success, Outcome::Success),
            ("ignore", raw.ignore, Outcome::Ignored),
        ] {
            for code in codes {
                checks.range(field, code, CODES);
                if meanings.insert(code, outcome).is_some_and(|other| other != outcome) {
                    checks.refuse(field, code, "this status has another meaning in the same settings");
                }
            }
        }
        checks.finish().map(|()| Self { meanings })
    }
}

impl From<StatusClassify> for Raw {
    fn from(classify: StatusClassify) -> Self {
        let with =
            |outcome| classify.meanings.iter().filter(move |(_, o)| **o == outcome).map(|(code, _)| *code).collect();
        Self { failure: with(Outcome::Failure), success: with(Outcome::Success), ignore: with(Outcome::Ignored) }
    }
}
