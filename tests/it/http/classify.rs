//! What a status means, and `Retry-After`.

use std::{
    future::ready,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use mainstay::{
    Classify, Error, Name, Outcome, Reason, Rejection,
    breaker::{CircuitBreakerLayer, Config, Handle, State},
    fallback::{self, Fallback, FallbackLayer},
    hedge::{self, HedgeLayer},
    http::{Idempotent, StatusClassify, retry_after, retry_after_date, retry_after_seconds},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

fn response(code: u16, wait: Option<&'static str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status(code);
    response.headers_mut().extend(wait.map(|wait| (RETRY_AFTER, HeaderValue::from_static(wait))));
    response
}

#[test]
fn without_settings_5xx_fails_4xx_is_ignored_and_the_rest_succeeds() {
    let classify = StatusClassify::new();
    for code in 100..=999 {
        let expected = match code {
            400..=499 => Outcome::Ignored,
            500..=599 => Outcome::Failure,
            _ => Outcome::Success,
        };
        assert_eq!(classify.outcome(status(code)), expected, "{code}");
        assert_eq!(Classify::<_, Error<Boom>>::classify(&classify, Ok(&response(code, None))), expected, "{code}");
    }
}

#[test]
fn any_status_can_be_given_another_meaning_and_the_last_one_counts() {
    let classify = StatusClassify::new()
        .failure([429, 200, 404].map(status))
        .success([404, 503].map(status))
        .ignore([200, 501].map(status))
        .failure([501].map(status));
    for (code, expected) in [
        (429, Outcome::Failure),
        (200, Outcome::Ignored),
        (404, Outcome::Success),
        (503, Outcome::Success),
        (501, Outcome::Failure),
        (500, Outcome::Failure),
        (204, Outcome::Success),
    ] {
        assert_eq!(classify.outcome(status(code)), expected, "{code}");
    }
}

#[test]
fn settings_come_back_from_a_file_as_they_were() {
    let built = StatusClassify::new()
        .ignore([501].map(status))
        .success([404, 410].map(status))
        .failure([429, 999, 100, 429].map(status));
    let text = serde_json::to_string(&built).unwrap();
    assert_eq!(serde_json::from_str::<StatusClassify>(&text).unwrap(), built, "{text}");
    assert_eq!(toml::from_str::<StatusClassify>("").unwrap(), StatusClassify::new());
    let read: StatusClassify = toml::from_str("failure = [429]\nsuccess = [404]\nignore = [501]").unwrap();
    let [failure, success, ignored] = [429, 404, 501].map(|code| read.outcome(status(code)));
    assert_eq!((failure, success, ignored), (Outcome::Failure, Outcome::Success, Outcome::Ignored));
}

#[test]
fn settings_that_mean_the_same_are_the_same() {
    let [a, b] = [429, 404].map(status);
    let one = StatusClassify::new().failure([a]).success([b]);
    assert_eq!(one, StatusClassify::new().success([b]).failure([a]));
    assert_eq!(one, StatusClassify::new().failure([b, a, a]).success([b]));
    assert_eq!(toml::from_str::<StatusClassify>("failure = [429, 429]\nsuccess = [404]").unwrap(), one);
    assert_ne!(one, StatusClassify::new().failure([a]));
}

#[test]
fn impossible_settings_are_refused_by_name_value_and_reason() {
    for (text, parts) in [
        ("failure = [99]", ["failure = 99", "must be in 100..=999"]),
        ("success = [1000]", ["success = 1000", "must be in 100..=999"]),
        ("ignore = [0]", ["ignore = 0", "must be in 100..=999"]),
        ("failure = [429]\nsuccess = [429]", ["success = 429", "another meaning"]),
        ("success = [404]\nignore = [200, 404]", ["ignore = 404", "another meaning"]),
        ("failures = [500]", ["unknown field `failures`", "`failure`"]),
        ("failure = [-1]", ["-1", "u16"]),
        ("failure = [70000]", ["70000", "u16"]),
        ("failure = 500", ["500", "sequence"]),
    ] {
        let error = toml::from_str::<StatusClassify>(text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
    let both = toml::from_str::<StatusClassify>("failure = [1]\nignore = [2]").unwrap_err().to_string();
    assert!(both.contains("failure = 1") && both.contains("ignore = 2"), "all that is wrong is told at once: {both}");
}

#[test]
fn errors_are_judged_as_without_http() {
    let judge = |error: Error<Boom>| {
        let classify = StatusClassify::new();
        let result: Result<&Response<()>, _> = Err(&error);
        (classify.classify(result), classify.retry_after(result))
    };
    let rejected = |reason| Rejection::new(reason, Name::new("inner").unwrap()).with_retry_after(ms(250));
    assert_eq!(judge(Error::Inner(Boom)), (Outcome::Failure, None));
    for reason in [Reason::BulkheadFull, Reason::CircuitOpen, Reason::RateLimited, Reason::NoInstance] {
        assert_eq!(judge(Error::Rejected(rejected(reason))), (Outcome::Ignored, Some(ms(250))), "{reason}");
    }
    assert_eq!(judge(Error::Rejected(rejected(Reason::TimedOut))), (Outcome::Failure, Some(ms(250))));
}

/// How long a circuit stays open that a response has opened.
async fn open_after(config: Config, code: u16, wait: Option<&'static str>) -> Duration {
    let breaker = Handle::new("x", config);
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new());
    let service = layer.layer(service_fn(move |_: u32| ready(Ok::<_, Error<Boom>>(response(code, wait)))));
    let answer = service.oneshot(1).await.unwrap();
    assert_eq!(answer.status(), code, "the caller gets the response");
    assert_eq!(breaker.state(), State::Open);
    breaker.snapshot().open_remaining.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_says_how_long_the_circuit_stays_open() {
    let honest = || consecutive(1).honor_retry_after(ms(60_000));
    for (wait, expected) in [
        (Some("7"), 7_000),
        (Some("3600"), 60_000),
        (Some("99999999999999999999999"), 60_000),
        (Some("Fri, 31 Dec 9999 23:59:59 GMT"), 60_000),
        // Nothing that can be honoured: the period of the settings.
        (Some("0"), 10_000),
        (Some("Sun, 06 Nov 1994 08:49:37 GMT"), 10_000),
        (Some("1e10"), 10_000),
        (Some("-1"), 10_000),
        (Some("soon"), 10_000),
        (None, 10_000),
    ] {
        assert_eq!(open_after(honest(), 503, wait).await, ms(expected), "{wait:?}");
    }
    assert_eq!(open_after(consecutive(1), 503, Some("7")).await, ms(10_000), "off by default");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_failure_is_not_asked_how_long() {
    let breaker = Handle::new("x", consecutive(1).honor_retry_after(ms(60_000)));
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(StatusClassify::new());
    let service = layer.layer(service_fn(|code: u16| {
        ready(Ok::<_, Error<Boom>>(response(code, if code == 500 { None } else { Some("45") })))
    }));
    for code in [200, 301, 404, 429, 500] {
        service.clone().oneshot(code).await.unwrap();
    }
    let snapshot = breaker.snapshot();
    let totals = snapshot.totals;
    assert_eq!((totals.calls.success, totals.ignored, totals.calls.failure), (2, 2, 1));
    assert_eq!(snapshot.open_remaining, Some(ms(10_000)));
}

#[test]
fn retry_after_is_read_or_left() {
    let read = |values: &[&'static str]| {
        retry_after(&HeaderMap::from_iter(values.iter().map(|value| (RETRY_AFTER, HeaderValue::from_static(value)))))
    };
    let seconds = Duration::from_secs;
    for (value, expected) in [
        ("0", Some(seconds(0))),
        ("120", Some(seconds(120))),
        ("  5\t", Some(seconds(5))),
        ("007", Some(seconds(7))),
        ("31536001", Some(YEAR)),
        ("18446744073709551616", Some(YEAR)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(seconds(0))),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(seconds(0))),
        ("Sun Nov  6 08:49:37 1994", Some(seconds(0))),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(YEAR)),
        ("", None),
        (" ", None),
        ("1e10", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("0x10", None),
        ("5 seconds", None),
        ("5, 7", None),
        ("nan", None),
        ("inf", None),
        ("Sun, 06 Nov 1994", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("1994-11-06T08:49:37Z", None),
    ] {
        assert_eq!(read(&[value]), expected, "{value:?}");
    }
    assert_eq!(read(&[]), None);
    assert_eq!(read(&["5", "5"]), None, "a sender that repeats itself says nothing");
    let odd = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(b"\xff5").unwrap())]);
    assert_eq!(retry_after(&odd), None);
}

#[test]
fn what_is_written_is_read_back_as_no_shorter_and_less_than_a_second_longer() {
    for nanos in [0, 1, 999_999_999, 1_000_000_000, 1_000_000_001, 4_200_000_000, 86_399_999_999_999] {
        let wait = Duration::from_nanos(nanos);
        let read = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, retry_after_seconds(wait))])).unwrap();
        assert!(read >= wait && read - wait < Duration::from_secs(1), "{wait:?} became {read:?}");
    }
    let epoch = SystemTime::UNIX_EPOCH;
    for (millis, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1, "Thu, 01 Jan 1970 00:00:01 GMT"),
        (1_000, "Thu, 01 Jan 1970 00:00:01 GMT"),
        (784_111_776_001, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (253_402_300_799_000, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(retry_after_date(epoch + ms(millis)).unwrap(), text);
    }
    assert_eq!(retry_after_date(epoch + ms(253_402_300_799_001)), None);
    assert_eq!(retry_after_date(epoch - ms(1)), None);
    let far = epoch + Duration::from_secs(253_402_300_799);
    let read = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, retry_after_date(far).unwrap())]));
    assert_eq!(read, Some(YEAR), "a date beyond a year is a year");
}

#[tokio::test]
async fn a_status_that_fails_is_answered_by_a_fallback_and_any_other_is_the_answer() {
    for (code, expected, used) in [(200, 200, 0), (404, 404, 0), (503, 203, 1)] {
        let fallback = fallback::Handle::new("shop");
        let degraded = Fallback::with_result(|_: Result<&Response<()>, &Error<Boom>>| response(203, None));
        let layer = FallbackLayer::new(fallback.clone(), degraded).classify(StatusClassify::new());
        let service = layer.layer(service_fn(|_: Request<()>| ready(Ok(response(code, None)))));
        assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), expected);
        assert_eq!(fallback.snapshot().used, used);
    }
}

#[tokio::test]
async fn only_what_may_be_sent_twice_is_hedged_and_a_server_that_asks_for_quiet_gets_it() {
    for (method, wait, hedges) in [("GET", None, 1), ("PUT", None, 1), ("POST", None, 0), ("GET", Some("1"), 0)] {
        let hedge = hedge::Handle::new("shop", hedge::Config::new());
        let layer = HedgeLayer::new(hedge.clone()).classify(StatusClassify::retryable()).replay(Idempotent);
        let service = layer.layer(service_fn(|_: Request<()>| ready(Ok::<_, Error<Boom>>(response(503, wait)))));
        let request = Request::builder().method(method).body(()).unwrap();
        assert_eq!(service.oneshot(request).await.unwrap().status(), 503);
        assert_eq!(hedge.snapshot().hedges, hedges, "{method}, {wait:?}");
    }
}
