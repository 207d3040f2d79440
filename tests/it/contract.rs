//! Contracts: what is read from files and what is refused, look-ups, names.

use mainstay::contract::{
    AnyMethod, Capability, Contract, Endpoint, Health, HealthStatus, Instance, Invocation, Parameter, Protocol,
    Response, ServiceContract, ServiceName, Version,
};
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};

fn instance() -> Instance {
    Instance::new("users", "users-1", "10.0.0.7", 8080).unwrap()
}

#[test]
fn a_contract_finds_its_endpoints_and_capabilities_by_name() {
    let contract = Contract::new("users", Version::new(1, 4, 0))
        .unwrap()
        .with_capability(Capability::new("search").unwrap().with_version(Version::new(2, 0, 0)))
        .unwrap()
        .with_endpoint(Endpoint::new("get_user").unwrap().with_route("GET", "/users/{id}"))
        .unwrap()
        .with_endpoint(Endpoint::new("put_user").unwrap())
        .unwrap();
    let get = contract.endpoint("get_user").unwrap();
    assert_eq!((get.verb(), get.path()), (Some("GET"), Some("/users/{id}")));
    assert!(contract.endpoint("GET_USER").is_none());
    assert_eq!(contract.capability("search").and_then(Capability::version), Some(&Version::new(2, 0, 0)));
    assert!(contract.capability("fuzzy").is_none());

    let twice = contract.clone().with_endpoint(Endpoint::new("get_user").unwrap()).unwrap_err();
    assert_eq!(twice.to_string(), r#"method = "get_user": is there already"#);
    let twice = contract.with_capability(Capability::new("search").unwrap()).unwrap_err();
    assert_eq!(twice.to_string(), r#"capability = "search": is there already"#);
}

#[test]
fn a_contract_behind_a_pointer_is_one() {
    let shared: std::sync::Arc<dyn ServiceContract> =
        std::sync::Arc::new(Contract::new("users", Version::default()).unwrap().with_health(Health::degraded("slow")));
    assert_eq!(shared.name(), &"users");
    assert_eq!(shared.health().message(), Some("slow"));
}

#[test]
fn what_is_written_is_read_back() {
    let contract = Contract::new("user service", "2.0.0-rc.1+5".parse().unwrap())
        .unwrap()
        .with_health(Health::degraded("slow").with_detail("p99", "2s"))
        .with_endpoint(
            Endpoint::new("find")
                .unwrap()
                .with_description("finds")
                .with_parameter(Parameter::required("q", "text").unwrap().with_description("what"))
                .with_parameter(Parameter::optional("limit", "u32").unwrap())
                .with_response(Response::new("200", "[User]").unwrap()),
        )
        .unwrap();
    let text = serde_json::to_string(&contract).unwrap();
    let read: Contract = serde_json::from_str(&text).unwrap();
    // Moments are whole milliseconds in files.
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&contract).unwrap());
    assert_eq!(read.endpoints(), contract.endpoints());

    let instance = instance()
        .with_version(Version::new(1, 0, 0))
        .with_protocol(Protocol::Grpc)
        .with_weight(0)
        .unwrap()
        .with_draining(true)
        .with_metadata("zone", "eu-1")
        .unwrap()
        .with_health(HealthStatus::Unhealthy);
    let value = serde_json::to_value(&instance).unwrap();
    let read: Instance = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
    assert!(read.says_the_same(&instance));
    assert!(!read.takes_calls());
}

#[test]
fn what_is_left_out_of_a_file_has_its_default() {
    let read: Instance = serde_json::from_value(json!({"service": "s", "id": "i", "host": "h", "port": 1})).unwrap();
    assert_eq!((read.weight(), read.is_draining(), read.protocol()), (100, false, Protocol::Http));
    assert_eq!((read.health().status(), read.version()), (HealthStatus::Healthy, &Version::new(0, 0, 0)));
    assert!(read.takes_calls() && read.metadata().is_empty());
}

#[test]
fn instances_that_cannot_be_are_refused_with_field_value_and_reason() {
    let with = |field: &str, value: Value| {
        let mut instance = json!({"service": "s", "id": "i", "host": "h", "port": 80});
        instance[field] = value;
        serde_json::from_value::<Instance>(instance).unwrap_err().to_string()
    };
    for (field, value, why) in [
        ("service", json!(""), "service = \"\": must not be empty"),
        ("id", json!("a\u{0}"), "id = \"a\\0\": must not hold control characters"),
        ("host", json!(""), "host = \"\": must not be empty"),
        ("host", json!("x".repeat(254)), "must be at most 253 bytes"),
        ("host", json!("http://h"), "without brackets, user or path"),
        ("host", json!("user@h"), "without brackets, user or path"),
        ("host", json!("[::1]"), "without brackets"),
        ("host", json!("a b"), "must be a name or an address"),
        ("host", json!("h:80"), "the port is a field of its own"),
        ("host", json!("0.0.0.0"), "nobody answers at this address"),
        ("host", json!("::"), "nobody answers at this address"),
        ("host", json!("224.0.0.1"), "nobody answers at this address"),
        ("host", json!("::ffff:0.0.0.0"), "nobody answers at this address"),
        ("host", json!("::ffff:224.0.0.1"), "nobody answers at this address"),
        ("port", json!(0), "port = 0: must be in 1..=65535"),
        ("port", json!(65536), "65536"),
        ("weight", json!(10_001), "weight = 10001: must be in 0..=10000"),
        ("weight", json!(-1), "-1"),
        ("metadata", json!({"a": "x".repeat(4_096)}), "metadata = 4097 bytes: must be at most 4096 bytes"),
        ("metadata", json!({"": "x"}), "metadata = \"\": must not be empty"),
        ("health", json!({"status": "fine"}), "fine"),
        ("protocol", json!("smtp"), "smtp"),
        ("version", json!("1.2"), "must be MAJOR.MINOR.PATCH"),
        ("wieght", json!(1), "unknown field `wieght`"),
        ("last_seen_unix_ms", json!(-1), "-1"),
    ] {
        let told = with(field, value);
        assert!(told.contains(why), "{field}: {told}");
    }
    let all = Instance::new("", "\n", "h", 1).unwrap_err();
    assert_eq!(all.problems().count(), 2, "{all}");
    let all = Instance::new("s", "i", "", 0).unwrap_err();
    assert_eq!(all.to_string(), "host = \"\": must not be empty; port = 0: must be in 1..=65535");
}

#[test]
fn contracts_that_cannot_be_are_refused() {
    for (text, why) in [
        (json!({"name": "a", "version": "1"}), "MAJOR.MINOR.PATCH"),
        (json!({"name": "a"}), "missing field `version`"),
        (json!({"name": "a", "version": "1.0.0", "endpoints": [{"method": "m"}, {"method": "m"}]}), "is there already"),
        (json!({"name": "a", "version": "1.0.0", "endpoints": [{"method": "m", "pth": "/"}]}), "unknown field `pth`"),
        (json!({"name": "a", "version": "1.0.0", "endpoints": [{"method": ""}]}), "method = \"\": must not be empty"),
        (json!({"name": "a", "version": "1.0.0", "capabilities": [{"name": "\n"}]}), "control characters"),
        (
            json!({"name": "a", "version": "1.0.0", "endpoints": [{"method": "m", "parameters": [
                {"name": "id", "type": "u32"}, {"name": "id", "type": "u64"}]}]}),
            "parameter = \"id\": is there already",
        ),
        (
            json!({"name": "a", "version": "1.0.0", "endpoints": [{"method": "m", "responses": [
                {"code": "200", "type": "A"}, {"code": "200", "type": "B"}]}]}),
            "code = \"200\": is there already",
        ),
    ] {
        let told = serde_json::from_value::<Contract>(text).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
    assert!(Parameter::required("", "u32").unwrap_err().to_string().contains("parameter"));
    assert!(Parameter::required("a", "\n").unwrap_err().to_string().contains("type"));
    assert!(Response::new("", "User").unwrap_err().to_string().contains("code"));
}

#[test]
fn an_address_is_written_as_uris_have_it() {
    assert_eq!(instance().authority(), "10.0.0.7:8080");
    assert_eq!(Instance::new("s", "i", "::1", 80).unwrap().authority(), "[::1]:80");
    assert_eq!(Instance::new("s", "i", "users.internal", 80).unwrap().authority(), "users.internal:80");
}

#[test]
fn when_something_was_seen_is_no_difference() {
    let (then, now) = (instance().seen_at(std::time::SystemTime::UNIX_EPOCH), instance());
    assert!(then.says_the_same(&now) && then != now);
    assert!(!now.says_the_same(&now.clone().with_health(HealthStatus::Degraded)));
    assert!(!now.says_the_same(&now.clone().with_draining(true)));
}

#[tokio::test]
async fn a_service_that_needs_no_method_gets_the_request_alone() {
    let double = AnyMethod(service_fn(async |n: u32| Ok::<_, std::io::Error>(n * 2)));
    assert_eq!(double.oneshot(Invocation::of("double", 4).unwrap()).await.unwrap(), 8);
    assert!(Invocation::of("", 4).is_err());
}

#[test]
fn names_of_services_are_names_of_policies_where_they_can_be() {
    let policy = |text: &str| ServiceName::new(text).unwrap().policy_name().as_str().to_owned();
    assert_eq!(policy("users"), "users");
    let slug = policy("user service");
    assert!(slug.starts_with("user_service-") && slug.len() <= 64, "{slug}");
}
