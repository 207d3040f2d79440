use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::settings::ConfigError;

/// How much stands between a service and those who call it. Each level has all of the one before.
///
/// ```
/// use mainstay::isolation::Level;
///
/// assert!(Level::Basic < Level::Full);
/// assert_eq!("enhanced".parse(), Ok(Level::Enhanced));
/// let error = "extreme".parse::<Level>().unwrap_err();
/// assert_eq!(error.to_string(), r#"level = "extreme": must be none, basic, enhanced or full"#);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing: calls go to the service directly, whatever its health.
    None,
    /// A timeout, retries, and the fallback.
    Basic,
    /// A circuit breaker too.
    Enhanced,
    /// A bulkhead, a rate limit and load shedding too. The default: whoever asks for isolation gets it.
    #[default]
    Full,
}

impl Level {
    /// All levels, from the lowest.
    pub const ALL: [Self; 4] = [Self::None, Self::Basic, Self::Enhanced, Self::Full];

    /// The level in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Enhanced => "enhanced",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| {
            let value = format_args!("\"{}\"", text.escape_debug()).to_string();
            ConfigError::new("level", value, "must be none, basic, enhanced or full")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written_and_nothing_else_is() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            let json = serde_json::to_string(&level).unwrap();
            assert_eq!(json, format!("\"{level}\""));
            assert_eq!(serde_json::from_str::<Level>(&json).unwrap(), level);
        }
        for bad in ["", "None", "FULL", " basic", "basic\n", "3"] {
            let error = bad.parse::<Level>().unwrap_err();
            assert_eq!(error.field(), "level");
            assert!(!error.to_string().contains('\n'));
        }
        assert!(Level::ALL.is_sorted());
    }
}
