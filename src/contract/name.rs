use std::sync::Arc;

use crate::{
    name::{Name, text_impls},
    settings::ConfigError,
};

/// As long as a name in DNS may be.
const LONGEST: usize = 253;

/// What every name of the fleet must be. Wider than [`Name`], because these come from other people's registries.
pub(super) fn check(field: &'static str, text: &str) -> Result<(), ConfigError> {
    let why = match text {
        "" => "must not be empty",
        text if text.len() > LONGEST => "must be at most 253 bytes",
        text if text.chars().any(char::is_control) => "must not hold control characters",
        _ => return Ok(()),
    };
    Err(ConfigError::new(field, format_args!("\"{}\"", text.escape_debug()), why))
}

/// The name for policies: the text itself where it is one, else what is left of it and a hash of all of it, so that two
/// texts are not one policy.
fn policy_name(text: &str) -> Name {
    if let Ok(name) = Name::new(text) {
        return name;
    }
    const KEPT: usize = 47;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._:/-".contains(c) { c } else { '_' };
    let kept: String = text.chars().map(plain).skip_while(|c| !c.is_ascii_alphanumeric()).take(KEPT).collect();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3) // FNV-1a
    });
    let name = if kept.is_empty() { format!("x{hash:016x}") } else { format!("{kept}-{hash:016x}") };
    Name::new(&name).expect("at most 64 plain characters, the first a letter or a digit")
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($field:literal);)*) => {$(
        $(#[$doc])*
        ///
        /// 1 to 253 bytes without control characters. Checked once, here; cloning it counts one reference.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            ///
            #[doc = concat!("[`ConfigError`] on the field `", $field, "` when it is empty, longer than 253 bytes, or")]
            /// holds a control character.
            pub fn new(text: &str) -> Result<Self, ConfigError> {
                check($field, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name for the policies of what bears it: itself where it is a [`Name`], else its plain characters
            /// and a hash.
            #[must_use]
            pub fn policy_name(&self) -> Name {
                policy_name(&self.0)
            }
        }

        text_impls!($name);

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
    )*};
}

names! {
    /// The name of a service: what callers ask for.
    ServiceName("service");
    /// What tells an instance from the others of its service.
    InstanceId("id");
    /// The name of a method of a service.
    Method("method");
}

impl ServiceName {
    /// The name of a service in its rejections, even if no service can have such a name.
    pub(crate) fn policy_of(text: &str) -> Name {
        match Self::new(text) {
            Ok(name) => name.policy_name(),
            Err(_) => Name::new("not-a-service-name").expect("it is one"),
        }
    }
}

/// What names a method in a call: a [`Method`], whose name was checked before, or text, which is checked then.
pub trait AsMethod {
    /// The method.
    ///
    /// # Errors
    ///
    /// When it is none: see [`Method::new`].
    fn as_method(&self) -> Result<Method, ConfigError>;
}

impl AsMethod for Method {
    fn as_method(&self) -> Result<Method, ConfigError> {
        Ok(self.clone())
    }
}

impl AsMethod for str {
    fn as_method(&self) -> Result<Method, ConfigError> {
        Method::new(self)
    }
}

impl AsMethod for String {
    fn as_method(&self) -> Result<Method, ConfigError> {
        Method::new(self)
    }
}

impl<M: AsMethod + ?Sized> AsMethod for &M {
    fn as_method(&self) -> Result<Method, ConfigError> {
        (**self).as_method()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_and_say_what_is_wrong() {
        let long = "x".repeat(254);
        for (text, why) in [
            ("", "must not be empty"),
            (long.as_str(), "must be at most 253 bytes"),
            ("a\nb", "must not hold control characters"),
            ("a\0", "must not hold control characters"),
            ("\u{85}", "must not hold control characters"),
        ] {
            let error = ServiceName::new(text).unwrap_err();
            assert_eq!((error.field(), error.why()), ("service", why));
            assert!(!error.to_string().contains('\n'));
            let error = serde_json::from_value::<Method>(text.into()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        for text in ["a", "user service", "naïve", "😀", &"é".repeat(126), &"x".repeat(253)] {
            let name = InstanceId::new(text).unwrap();
            assert_eq!(name.as_str(), text);
            assert_eq!(serde_json::to_string(&name).unwrap(), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn every_name_has_a_name_for_policies_and_no_two_the_same() {
        let texts = ["users", "user service", "user-service", "user_service", "-a", "a", "😀", "💥", &"y".repeat(253)];
        let names: std::collections::BTreeSet<Name> =
            texts.iter().map(|text| ServiceName::new(text).unwrap().policy_name()).collect();
        assert_eq!(names.len(), texts.len(), "{names:?}");
        assert_eq!(ServiceName::new("users").unwrap().policy_name().as_str(), "users");
        // The same in every version, for dashboards go by it.
        assert_eq!(ServiceName::new("user service").unwrap().policy_name().as_str(), "user_service-bdb6dbd366c96bed");
        assert_eq!(ServiceName::new("-a").unwrap().policy_name().as_str(), "a-07d05b07b498591b");
    }
}
