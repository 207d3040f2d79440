use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    contract::{
        name::{Method, check},
        version::Version,
    },
    settings::ConfigError,
};

/// Something a service can do, as callers who look for it know it: `"search.fuzzy"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCapability")]
pub struct Capability {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCapability {
    name: String,
    version: Option<Version>,
    description: Option<String>,
}

impl TryFrom<RawCapability> for Capability {
    type Error = ConfigError;

    fn try_from(raw: RawCapability) -> Result<Self, ConfigError> {
        Ok(Self { version: raw.version, description: raw.description, ..Self::new(&raw.name)? })
    }
}

impl Capability {
    /// A capability.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 253 bytes or holds a control character.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        check("capability", name)?;
        Ok(Self { name: name.to_owned(), version: None, description: None })
    }

    /// The same with the version of it that the service has.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// The same with a description for people.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of it that the service has.
    #[must_use]
    pub const fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// What it is, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

/// A method of a service: what it is asked and what it answers.
///
/// ```
/// use mainstay::contract::{Endpoint, Parameter, Response};
///
/// let get_user = Endpoint::new("get_user")?
///     .with_route("GET", "/users/{id}")
///     .with_parameter(Parameter::required("id", "u64")?)
///     .with_response(Response::new("200", "User")?)
///     .with_response(Response::new("404", "Problem")?);
/// assert_eq!(get_user.parameters()[0].name(), "id");
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawEndpoint")]
pub struct Endpoint {
    method: Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    verb: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Parameter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<Response>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEndpoint {
    method: Method,
    verb: Option<String>,
    path: Option<String>,
    description: Option<String>,
    #[serde(default)]
    parameters: Vec<Parameter>,
    #[serde(default)]
    responses: Vec<Response>,
}

impl TryFrom<RawEndpoint> for Endpoint {
    type Error = ConfigError;

    fn try_from(raw: RawEndpoint) -> Result<Self, ConfigError> {
        let RawEndpoint { method, verb, path, description, parameters, responses } = raw;
        once("parameter", parameters.iter().map(Parameter::name))?;
        once("code", responses.iter().map(Response::code))?;
        Ok(Self { method, verb, path, description, parameters, responses })
    }
}

/// In code a later one takes the place of the one before; in a file it is a slip.
fn once<'a>(field: &'static str, mut names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut known = BTreeSet::new();
    match names.find(|name| !known.insert(*name)) {
        Some(name) => Err(ConfigError::new(field, format_args!("\"{}\"", name.escape_debug()), "is there already")),
        None => Ok(()),
    }
}

impl Endpoint {
    /// A method without parameters.
    ///
    /// # Errors
    ///
    /// When the name is none: see [`Method::new`].
    pub fn new(method: &str) -> Result<Self, ConfigError> {
        let (parameters, responses) = (Vec::new(), Vec::new());
        Ok(Self { method: Method::new(method)?, verb: None, path: None, description: None, parameters, responses })
    }

    /// The same with the way it is reached over HTTP: a verb, and a path in which `{name}` stands for a parameter.
    #[must_use]
    pub fn with_route(mut self, verb: impl Into<String>, path: impl Into<String>) -> Self {
        self.verb = Some(verb.into());
        self.path = Some(path.into());
        self
    }

    /// The same with a description for people.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The same with one more parameter; one of the same name is replaced.
    #[must_use]
    pub fn with_parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.retain(|known| known.name != parameter.name);
        self.parameters.push(parameter);
        self
    }

    /// The same with one more response; one of the same code is replaced.
    #[must_use]
    pub fn with_response(mut self, response: Response) -> Self {
        self.responses.retain(|known| known.code != response.code);
        self.responses.push(response);
        self
    }

    /// The method's name: what a [call](super::Invocation) says.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The HTTP verb, where it has a route.
    #[must_use]
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The path, where it has a route.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What it does, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// What it is asked.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// What it may answer.
    #[must_use]
    pub fn responses(&self) -> &[Response] {
        &self.responses
    }
}

/// A parameter of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawParameter")]
pub struct Parameter {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParameter {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    required: bool,
    description: Option<String>,
}

impl TryFrom<RawParameter> for Parameter {
    type Error = ConfigError;

    fn try_from(raw: RawParameter) -> Result<Self, ConfigError> {
        let parameter = Self::new(&raw.name, &raw.kind, raw.required)?;
        Ok(Self { description: raw.description, ..parameter })
    }
}

impl Parameter {
    /// A parameter that has to be there.
    ///
    /// # Errors
    ///
    /// When the name or the type is empty, longer than 253 bytes or holds a control character.
    pub fn required(name: &str, kind: &str) -> Result<Self, ConfigError> {
        Self::new(name, kind, true)
    }

    /// A parameter that may be left out.
    ///
    /// # Errors
    ///
    /// As [`required`](Self::required).
    pub fn optional(name: &str, kind: &str) -> Result<Self, ConfigError> {
        Self::new(name, kind, false)
    }

    fn new(name: &str, kind: &str, required: bool) -> Result<Self, ConfigError> {
        check("parameter", name)?;
        check("type", kind)?;
        Ok(Self { name: name.to_owned(), kind: kind.to_owned(), required, description: None })
    }

    /// The same with a description for people.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, in the words of the service.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether it has to be there.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// What it means, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

/// What a method may answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawResponse")]
pub struct Response {
    code: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    code: String,
    #[serde(rename = "type")]
    kind: String,
    description: Option<String>,
}

impl TryFrom<RawResponse> for Response {
    type Error = ConfigError;

    fn try_from(raw: RawResponse) -> Result<Self, ConfigError> {
        Ok(Self { description: raw.description, ..Self::new(&raw.code, &raw.kind)? })
    }
}

impl Response {
    /// A response: by its code, an HTTP status or a word of the protocol, and its type.
    ///
    /// # Errors
    ///
    /// When the code or the type is empty, longer than 253 bytes or holds a control character.
    pub fn new(code: &str, kind: &str) -> Result<Self, ConfigError> {
        check("code", code)?;
        check("type", kind)?;
        Ok(Self { code: code.to_owned(), kind: kind.to_owned(), description: None })
    }

    /// The same with a description for people.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Its type, in the words of the service.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it means, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}
