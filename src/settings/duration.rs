use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ConfigError, error::short};

const UNITS: [(&str, u128); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// A duration in a configuration file: `"250ms"`, `"1.5s"`, `"1h30m"`.
///
/// Text that is no duration is kept until [`or_refuse`](Self::or_refuse) is told the name of the field it stands in,
/// because a deserializer does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span(Result<Duration, Refused>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    value: String,
    why: String,
}

impl Span {
    pub(crate) fn parse(text: &str) -> Self {
        Self(parse(text).map_err(|why| Refused { value: format!("\"{}\"", text.escape_debug()), why }))
    }

    pub(crate) fn or_refuse(self, field: &'static str) -> Result<Duration, ConfigError> {
        self.0.map_err(|refused| ConfigError::new(field, refused.value, refused.why))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(Ok(duration))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = match &self.0 {
            Ok(Duration::ZERO) => return f.write_str("0s"),
            Ok(duration) => duration.as_nanos(),
            Err(refused) => return f.write_str(&refused.value),
        };
        // Days and hours read worse than they save: "90s" is clearer than "1m30s", but "1d" than "86400s".
        let whole = UNITS.iter().find(|(_, unit)| nanos % unit == 0);
        let (name, unit) = whole.unwrap_or(&("ns", 1));
        write!(f, "{}{name}", nanos / unit)
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a duration must not be empty, write \"10s\" or \"10ms\"".into());
    }
    if rest.starts_with('-') {
        return Err("a duration must not be negative".into());
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        nanos = nanos.checked_add(part(number, unit)?).ok_or("the duration is too long")?;
        rest = tail.trim_start();
    }
    let whole = u64::try_from(nanos).map_err(|_| "the duration is too long, the longest is 365d")?;
    Ok(Duration::from_nanos(whole))
}

fn part(number: &str, unit: &str) -> Result<u128, String> {
    if number.is_empty() {
        return Err("expected a number and a unit, such as \"10s\" or \"10ms\"".into());
    }
    if unit.is_empty() {
        let number = short(number);
        return Err(format!("missing unit, write \"{number}s\" or \"{number}ms\""));
    }
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or_else(|| format!("unknown unit \"{}\", one of d, h, m, s, ms, us, ns", short(unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = u32::try_from(fraction.len()).ok().filter(|n| (1..=9).contains(n));
    let read =
        |digits: &str| digits.parse::<u64>().map_err(|_| format!("\"{}\" is no number that fits", short(number)));
    let divisor = 10_u128.pow(digits.ok_or("expected one to nine digits after the point")?);
    Ok(u128::from(read(whole)?) * scale + u128::from(read(fraction)?) * scale / divisor)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Ok(Span::parse(text))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
                let why = format!("missing unit, write \"{number}s\" or \"{number}ms\"");
                Ok(Span(Err(Refused { value: number.to_string(), why })))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => {
                        let why = "a duration must not be negative".to_owned();
                        Ok(Span(Err(Refused { value: number.to_string(), why })))
                    }
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            (" 2 m 5 s ", 125_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("7µs"), Ok(Duration::from_micros(7)));
        assert_eq!(parse("1.000000001s"), Ok(Duration::from_nanos(1_000_000_001)));
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("", "must not be empty"),
            ("10", "missing unit, write \"10s\" or \"10ms\""),
            ("-5s", "must not be negative"),
            ("5s ago", "expected a number"),
            ("5 fortnight", "unknown unit \"fortnight\", one of d, h, m, s, ms, us, ns"),
            ("10S", "unknown unit \"S\""),
            ("99999999999999999y", "unknown unit \"y\""),
            ("99999999999999999d", "too long"),
            ("99999999999999999999999d", "no number that fits"),
            ("1..5s", "no number that fits"),
            (".5s", "no number that fits"),
            ("1.s", "digits after the point"),
            ("NaN", "expected a number"),
        ] {
            let error = Span::parse(text).or_refuse("timeout").unwrap_err();
            assert!(error.why().contains(why), "{text}: {error}");
            assert_eq!(error.field(), "timeout");
        }
    }

    #[test]
    fn text_comes_back_as_the_same_duration() {
        for nanos in [0, 1, 999, 1_000, 1_500_000, 250_000_000, 90_000_000_000, 86_400_000_000_000, u64::MAX] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(Span::parse(&Span::from(duration).to_string()), Span::from(duration), "{nanos}");
        }
    }
}
