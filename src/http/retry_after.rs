use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};

use crate::{settings::LONGEST, time::wall};

/// Reads `Retry-After`: seconds, or a date, which is compared with the wall clock.
///
/// A date in the past is no wait. Waits are capped at a year. What is neither a whole number of seconds nor an HTTP
/// date is as good as no header, and so are two headers: a sender that contradicts itself says nothing.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, header::RETRY_AFTER};
///
/// let mut headers = HeaderMap::new();
/// headers.insert(RETRY_AFTER, "120".parse()?);
/// assert_eq!(mainstay::http::retry_after(&headers), Some(Duration::from_secs(120)));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    parse(value.to_str().ok()?.trim(), wall())
}

fn parse(text: &str, now: SystemTime) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long wait, not a mistake.
        return Some(text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// A wait as whole seconds, rounded up: who comes back then does not come too early.
#[must_use]
pub fn retry_after_seconds(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    HeaderValue::from(seconds)
}

/// A moment as an HTTP date, rounded up to the second. `None` outside the years 1970 to 9999, for which there is no
/// such date.
#[must_use]
pub fn retry_after_date(at: SystemTime) -> Option<HeaderValue> {
    const YEAR_10000: u64 = 253_402_300_800;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let seconds = since.as_secs().checked_add(u64::from(since.subsec_nanos() > 0)).filter(|s| *s < YEAR_10000)?;
    HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_garbage_is_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("99999999999999999999999", Some(LONGEST.as_secs())),
            ("1e10", None),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(parse(text, now), wait.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_no_earlier() {
        for (wait, text) in [(0, "0"), (1, "1"), (999, "1"), (1_000, "1"), (1_001, "2"), (4_200, "5")] {
            assert_eq!(retry_after_seconds(Duration::from_millis(wait)), text);
        }
        assert_eq!(retry_after_seconds(Duration::MAX), u64::MAX.to_string().as_str());
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_776_001);
        assert_eq!(retry_after_date(at).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(retry_after_date(SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)), None);
        assert_eq!(retry_after_date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.append(RETRY_AFTER, HeaderValue::from_static(" 5 "));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(5)));
        headers.append(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), None);
    }
}
