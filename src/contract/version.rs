use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::settings::ConfigError;

/// A version by [SemVer 2.0](https://semver.org): `1.4.0`, `2.0.0-rc.1+build.5`.
///
/// Ordered by precedence: a pre-release comes before its release, numbers in it compare as numbers. What follows a `+`
/// counts for nothing there; it decides last, so that the order agrees with equality.
///
/// ```
/// use mainstay::contract::Version;
///
/// let old: Version = "1.9.3".parse()?;
/// let candidate: Version = "1.10.0-rc.1".parse()?;
/// assert!(old < candidate && candidate < Version::new(1, 10, 0));
/// assert!(Version::new(1, 10, 0).serves(&old) && !Version::new(2, 0, 0).serves(&old));
/// assert_eq!("1.2".parse::<Version>().unwrap_err().why(), "must be MAJOR.MINOR.PATCH, such as 1.4.0");
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    pre: String,
    build: String,
}

impl Version {
    /// A release.
    #[must_use]
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self { major, minor, patch, pre: String::new(), build: String::new() }
    }

    /// Reads a version.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] on the field `version`, with what is wrong.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        read(text).map_err(|why| ConfigError::new("version", format_args!("\"{}\"", text.escape_debug()), why))
    }

    /// The first number: changes when callers have to.
    #[must_use]
    pub const fn major(&self) -> u64 {
        self.major
    }

    /// The second number: changes when something was added.
    #[must_use]
    pub const fn minor(&self) -> u64 {
        self.minor
    }

    /// The third number: changes when something was mended.
    #[must_use]
    pub const fn patch(&self) -> u64 {
        self.patch
    }

    /// What follows the `-`, empty for a release.
    #[must_use]
    pub fn pre_release(&self) -> &str {
        &self.pre
    }

    /// What follows the `+`.
    #[must_use]
    pub fn build(&self) -> &str {
        &self.build
    }

    /// Whether a service of this version does what a caller needs who was written for `needed`: it is as new, and its
    /// leftmost number that is not zero is the same. A pre-release serves only those who need one of the same release.
    #[must_use]
    pub fn serves(&self, needed: &Self) -> bool {
        let same_line = match (needed.major, needed.minor) {
            (0, 0) => (self.major, self.minor, self.patch) == (0, 0, needed.patch),
            (0, minor) => (self.major, self.minor) == (0, minor),
            (major, _) => self.major == major,
        };
        let same_release = (self.minor, self.patch) == (needed.minor, needed.patch) && !needed.pre.is_empty();
        same_line && (self.pre.is_empty() || same_release) && self.precedence(needed).is_ge()
    }

    fn precedence(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => identifiers(&self.pre, &other.pre),
        })
    }
}

/// Identifiers one after the other: numbers as numbers and before words, and who has more of them is the later.
fn identifiers(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        let order = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => match (is_number(one), is_number(other)) {
                // Without leading zeros the longer number is the larger, however many digits there are.
                (true, true) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => one.cmp(other),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read(text: &str) -> Result<Version, &'static str> {
    const LONGEST: usize = 256;
    if text.len() > LONGEST {
        return Err("must be at most 256 bytes");
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let mut numbers = core.split('.').map(number);
    let mut next = || numbers.next().unwrap_or(Err("must be MAJOR.MINOR.PATCH, such as 1.4.0"));
    let (major, minor, patch) = (next()?, next()?, next()?);
    if numbers.next().is_some() {
        return Err("must be MAJOR.MINOR.PATCH, such as 1.4.0");
    }
    let words = |words: Option<&str>| words.is_none_or(|words| words.split('.').all(is_identifier));
    if !words(pre) || !words(build) {
        return Err("a pre-release or a build must be words of [0-9A-Za-z-] with points between");
    }
    if pre.is_some_and(|pre| pre.split('.').any(|word| is_number(word) && has_leading_zero(word))) {
        return Err("numbers must not begin with 0");
    }
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(Version { major, minor, patch, pre: owned(pre), build: owned(build) })
}

fn number(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() || !is_number(text) {
        return Err("must be MAJOR.MINOR.PATCH, such as 1.4.0");
    }
    if has_leading_zero(text) {
        return Err("numbers must not begin with 0");
    }
    text.parse().map_err(|_| "numbers must fit into 64 bits")
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence(other).then_with(|| self.build.cmp(&other.build))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch, pre, build } = self;
        let (dash, plus) = (if pre.is_empty() { "" } else { "-" }, if build.is_empty() { "" } else { "+" });
        f.pad(&format!("{major}.{minor}.{patch}{dash}{pre}{plus}{build}"))
    }
}

impl FromStr for Version {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_version_says_why() {
        for (text, why) in [
            ("", "MAJOR.MINOR.PATCH"),
            ("1", "MAJOR.MINOR.PATCH"),
            ("1.2", "MAJOR.MINOR.PATCH"),
            ("1.2.3.4", "MAJOR.MINOR.PATCH"),
            ("v1.2.3", "MAJOR.MINOR.PATCH"),
            (" 1.2.3", "MAJOR.MINOR.PATCH"),
            ("1.2.-3", "MAJOR.MINOR.PATCH"),
            ("01.2.3", "must not begin with 0"),
            ("1.2.3-01", "must not begin with 0"),
            ("1.2.3-", "words of"),
            ("1.2.3-a..b", "words of"),
            ("1.2.3+", "words of"),
            ("1.2.3-ä", "words of"),
            ("18446744073709551616.0.0", "64 bits"),
            (&format!("1.2.3-{}", "a".repeat(300)), "at most 256"),
        ] {
            let error = Version::parse(text).unwrap_err();
            assert!(error.field() == "version" && error.why().contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn who_serves_whom() {
        for (service, needed, serves) in [
            ("1.4.0", "1.4.0", true),
            ("1.9.9", "1.4.0", true),
            ("1.3.9", "1.4.0", false),
            ("2.0.0", "1.4.0", false),
            ("0.4.2", "0.4.1", true),
            ("0.5.0", "0.4.1", false),
            ("0.0.3", "0.0.3", true),
            ("0.0.4", "0.0.3", false),
            ("1.0.0-rc.1", "1.0.0", false),
            ("1.0.0", "1.0.0-rc.1", true),
            ("1.0.0-rc.2", "1.0.0-rc.1", true),
            ("1.1.0-rc.2", "1.0.0-rc.1", false),
            ("1.4.0+a", "1.4.0+b", true),
        ] {
            let (service, needed) = (Version::parse(service).unwrap(), Version::parse(needed).unwrap());
            assert_eq!(service.serves(&needed), serves, "{service} for {needed}");
            let requirement = semver::VersionReq::parse(&format!("^{needed}")).unwrap();
            assert_eq!(requirement.matches(&semver::Version::parse(&service.to_string()).unwrap()), serves);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let number = prop_oneof!["0|[1-9][0-9]{0,2}", "[0-9]{1,3}"];
        let core = proptest::collection::vec(number, 3).prop_map(|numbers| numbers.join("."));
        let word = "[0-9]{1,3}|[0-9a-bA-B-]{0,3}";
        let words = |mark: &'static str| {
            proptest::option::of(proptest::collection::vec(word, 1..4))
                .prop_map(move |words| words.map(|words| format!("{mark}{}", words.join("."))).unwrap_or_default())
        };
        (core, words("-"), words("+")).prop_map(|(core, pre, build)| format!("{core}{pre}{build}"))
    }

    proptest! {
        #[test]
        fn versions_are_those_of_the_semver_crate(one in text(), other in text(), junk in "[0-9.+a-]{0,12}") {
            for text in [&one, &other, &junk] {
                let (ours, theirs) = (Version::parse(text), semver::Version::parse(text));
                prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", text);
                if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                    prop_assert_eq!(ours.to_string(), theirs.to_string());
                    prop_assert_eq!(&Version::parse(&ours.to_string()).unwrap(), &ours);
                }
            }
            if let (Ok(a), Ok(b)) = (semver::Version::parse(&one), semver::Version::parse(&other)) {
                let (x, y) = (Version::parse(&one).unwrap(), Version::parse(&other).unwrap());
                prop_assert_eq!(x.precedence(&y), a.cmp_precedence(&b), "{} {}", one, other);
                prop_assert_eq!(x.cmp(&y).is_eq(), x == y);
                let requirement = semver::VersionReq::parse(&format!("^{b}")).unwrap();
                prop_assert_eq!(x.serves(&y), requirement.matches(&a), "{} for {}", one, other);
            }
        }
    }
}
