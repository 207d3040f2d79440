use std::{collections::BTreeMap, fmt, net::IpAddr, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    contract::{
        health::Health,
        moment,
        name::{InstanceId, ServiceName, check},
        version::Version,
    },
    settings::{Checks, ConfigError},
    time::wall,
};

const DEFAULT_WEIGHT: u32 = 100;
const LARGEST_WEIGHT: u32 = 10_000;
/// Keys and values together: an instance is copied to every watcher's snapshot.
const LARGEST_METADATA: usize = 4_096;

/// How an instance is spoken to.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP. The default.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
    /// gRPC.
    Grpc,
    /// Bytes over TCP.
    Tcp,
}

impl Protocol {
    /// The protocol in `snake_case`, for logs, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One running copy of a service: where it is, how well it is, and how much it may be given.
///
/// ```
/// use mainstay::contract::{Instance, Version};
///
/// let instance = Instance::new("users", "users-1", "10.0.0.7", 8080)?
///     .with_version(Version::new(1, 4, 0))
///     .with_metadata("zone", "eu-1")?
///     .with_weight(50)?;
/// assert_eq!(instance.authority(), "10.0.0.7:8080");
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Instance {
    id: InstanceId,
    service: ServiceName,
    version: Version,
    host: String,
    port: u16,
    protocol: Protocol,
    health: Health,
    weight: u32,
    draining: bool,
    metadata: BTreeMap<String, String>,
    #[serde(rename = "last_seen_unix_ms", with = "moment")]
    last_seen: SystemTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: InstanceId,
    service: ServiceName,
    #[serde(default)]
    version: Version,
    host: String,
    port: u16,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    health: Health,
    #[serde(default = "default_weight")]
    weight: u32,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(rename = "last_seen_unix_ms", with = "moment", default = "wall")]
    last_seen: SystemTime,
}

const fn default_weight() -> u32 {
    DEFAULT_WEIGHT
}

impl TryFrom<Raw> for Instance {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let Raw { id, service, version, host, port, protocol, health, weight, draining, metadata, last_seen } = raw;
        let instance =
            Self { id, service, version, host, port, protocol, health, weight, draining, metadata, last_seen };
        instance.check()?;
        Ok(instance)
    }
}

impl Instance {
    /// A healthy instance, seen now.
    ///
    /// # Errors
    ///
    /// All that is wrong: names that are none, a port of 0, a host that is empty, longer than 253 bytes, holds control
    /// characters, spaces or one of `/?#@`, or is an address that nobody answers at (`0.0.0.0`, multicast).
    pub fn new(service: &str, id: &str, host: &str, port: u16) -> Result<Self, ConfigError> {
        let (service, id) = both(ServiceName::new(service), InstanceId::new(id))?;
        let instance = Self {
            id,
            service,
            version: Version::default(),
            host: host.to_owned(),
            port,
            protocol: Protocol::default(),
            health: Health::healthy(),
            weight: DEFAULT_WEIGHT,
            draining: false,
            metadata: BTreeMap::new(),
            last_seen: wall(),
        };
        instance.check()?;
        Ok(instance)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        if let Err(why) = check_host(&self.host) {
            checks.refuse("host", shown_host(&self.host), why);
        }
        checks.range("port", self.port, 1..=u16::MAX);
        checks.range("weight", self.weight, 0..=LARGEST_WEIGHT);
        let size = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if size > LARGEST_METADATA {
            checks.refuse(
                "metadata",
                format_args!("{size} bytes"),
                format!("must be at most {LARGEST_METADATA} bytes"),
            );
        }
        for key in self.metadata.keys() {
            if let Err(error) = check("metadata", key) {
                checks.refuse("metadata", error.value(), error.why());
            }
        }
        checks.finish()
    }

    fn checked(self) -> Result<Self, ConfigError> {
        self.check()?;
        Ok(self)
    }

    /// The same of this version. Default 0.0.0.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The same by this protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same with this health.
    #[must_use]
    pub fn with_health(mut self, health: impl Into<Health>) -> Self {
        self.health = health.into();
        self
    }

    /// The same with this share of the calls, in relation to the weights of the others. From 0 to 10 000, default 100;
    /// 0 is given no new calls.
    ///
    /// # Errors
    ///
    /// When it is larger.
    pub fn with_weight(mut self, weight: u32) -> Result<Self, ConfigError> {
        self.weight = weight;
        self.checked()
    }

    /// The same, about to go: it finishes the calls it has and is given no new ones.
    #[must_use]
    pub fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }

    /// The same with one more fact; one of the same key is replaced. At most 4 KiB in all.
    ///
    /// # Errors
    ///
    /// When the key is empty, longer than 253 bytes or holds a control character, or all are larger than 4 KiB.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self, ConfigError> {
        self.metadata.insert(key.into(), value.into());
        self.checked()
    }

    /// The same, last seen then.
    #[must_use]
    pub fn seen_at(mut self, at: SystemTime) -> Self {
        self.last_seen = at;
        self
    }

    /// What tells it from the others of its service.
    #[must_use]
    pub const fn id(&self) -> &InstanceId {
        &self.id
    }

    /// The service it is one of.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// A name or an address, an IPv6 one without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, as a URI has them.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How well it is.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Its share of the calls, in relation to the weights of the others.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether it is about to go.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether it may be given new calls at all: it is not about to go, and its weight is not 0. How well it is, is
    /// another question.
    #[must_use]
    pub const fn takes_calls(&self) -> bool {
        !self.draining && self.weight > 0
    }

    /// Facts about it, by key.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// When it last gave a sign, by the wall clock, for people.
    #[must_use]
    pub const fn last_seen(&self) -> SystemTime {
        self.last_seen
    }

    /// Whether it says the same as another, whenever either was seen.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let facts = |of: &Self| (of.port, of.protocol, of.weight, of.draining);
        facts(self) == facts(other)
            && (&self.id, &self.service, &self.version) == (&other.id, &other.service, &other.version)
            && (&self.host, &self.metadata) == (&other.host, &other.metadata)
            && self.health.says_the_same(&other.health)
    }
}

/// Both, or what is wrong with either.
fn both<A, B>(a: Result<A, ConfigError>, b: Result<B, ConfigError>) -> Result<(A, B), ConfigError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.and(b)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

/// A host for an error. Where a whole URL was given, what stands before its `@` may be a password.
fn shown_host(host: &str) -> String {
    match host.rsplit_once('@') {
        Some((_, host)) => format!("\"***@{}\"", host.escape_debug()),
        None => format!("\"{}\"", host.escape_debug()),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    check("host", host).map_err(|error| error.why().to_owned())?;
    if host.contains(|c: char| c.is_whitespace() || "/?#@[]".contains(c)) {
        return Err("must be a name or an address, without brackets, user or path".into());
    }
    // An IPv4 address written as an IPv6 one is the same address.
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            Err("nobody answers at this address".into())
        }
        Err(_) if host.contains(':') => Err("must be a name or an address; the port is a field of its own".into()),
        Ok(_) | Err(_) => Ok(()),
    }
}
