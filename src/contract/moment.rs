//! Moments in files: whole milliseconds since 1970.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let millis = u64::deserialize(deserializer)?;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    at.ok_or_else(|| serde::de::Error::custom(format_args!("{millis} ms since 1970 is beyond what a clock can say")))
}
