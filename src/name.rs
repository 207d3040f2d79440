//! Policy names: checked once at the edge, cheap to copy into every rejection.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::settings::ConfigError;

const INLINE: usize = 22;
const LONGEST: usize = 64;

/// The name of a policy, a service or an operation.
///
/// 1 to 64 characters of `[A-Za-z0-9._:/-]`, the first a letter or a digit. The alphabet is narrow because names end
/// up in log lines, metric labels, HTTP headers and JSON, and must mean the same in all of them.
///
/// Copying a name of up to 22 bytes copies 24 bytes and touches no shared memory, so that a rejection can carry it at
/// full speed; longer names share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<str>),
}

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] on the field `name` when it is empty, longer than 64 characters, starts with something other
    /// than a letter or a digit, or holds a character outside `[A-Za-z0-9._:/-]`.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
        if !starts_well || !plain || name.len() > LONGEST {
            return Err(ConfigError::new(
                "name",
                format_args!("\"{}\"", name.escape_debug()),
                "must be 1..=64 characters of [A-Za-z0-9._:/-], the first a letter or a digit",
            ));
        }
        Ok(Self::of_checked(name))
    }

    /// A name, unless it or the settings that go with it are wrong; all that is wrong is reported together.
    pub(crate) fn with_settings(name: &str, checked: Result<(), ConfigError>) -> Result<Self, ConfigError> {
        match (Self::new(name), checked) {
            (Ok(name), Ok(())) => Ok(name),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
            (Err(name), Err(settings)) => Err(name.and(settings)),
        }
    }

    fn of_checked(name: &str) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(head), Ok(len)) => {
                head.copy_from_slice(name.as_bytes());
                Self(Repr::Inline { len, bytes })
            }
            _ => Self(Repr::Shared(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Inline { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).expect("an inline name was copied whole from a str")
            }
            Repr::Shared(name) => name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl FromStr for Name {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for Name {
    type Error = ConfigError;

    fn try_from(name: &str) -> Result<Self, ConfigError> {
        Self::new(name)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(de::Error::custom)
    }
}

/// What every checked name is beside its own: text to look at, and made of text by `new`, also in files.
macro_rules! text_impls {
    ($name:ident) => {
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ConfigError;

            fn from_str(text: &str) -> Result<Self, $crate::ConfigError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::ConfigError;

            fn try_from(text: &str) -> Result<Self, $crate::ConfigError> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use text_impls;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_allowed_length_come_back_as_they_were() {
        for len in 1..=LONGEST {
            let text = "a".repeat(len);
            let name = Name::new(&text).unwrap();
            assert_eq!(name.as_str(), text);
            assert_eq!(name.clone(), name);
            assert!(name == *text.as_str() && name != *"b");
        }
        assert_eq!(size_of::<Name>(), 24);
    }

    #[test]
    fn odd_names_are_refused_with_the_name_escaped() {
        let long = "x".repeat(65);
        for bad in ["", " ", "-a", ".a", "a b", "a\nb", "a\0", "a\"b", "</script>", "\u{202e}abc", "naïve", "😀", &long]
        {
            let error = Name::new(bad).unwrap_err();
            assert_eq!(error.field(), "name");
            assert!(error.value().contains(&bad.escape_debug().to_string()), "{error}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}
