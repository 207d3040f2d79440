//! What was said of a service, an instance or a method is told as it was said, by itself and from a file.

use std::{
    cmp::Ordering,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mainstay::contract::{
    Capability, Contract, Endpoint, Health, Instance, Parameter, Response, ServiceContract, Version,
};
use serde_json::json;

#[test]
fn of_a_method() {
    let built = Endpoint::new("find")
        .unwrap()
        .with_route("GET", "/users")
        .with_description("finds users")
        .with_parameter(Parameter::required("q", "i64").unwrap())
        .with_parameter(Parameter::optional("limit", "u32").unwrap().with_description("how many"))
        .with_parameter(Parameter::required("q", "text").unwrap())
        .with_response(Response::new("404", "Problem").unwrap())
        .with_response(Response::new("200", "[User]").unwrap().with_description("all of them"))
        .with_response(Response::new("404", "Nothing").unwrap());
    let read: Endpoint = serde_json::from_value(json!({
        "method": "find", "verb": "GET", "path": "/users", "description": "finds users",
        "parameters": [
            { "name": "limit", "type": "u32", "required": false, "description": "how many" },
            { "name": "q", "type": "text", "required": true },
        ],
        "responses": [
            { "code": "200", "type": "[User]", "description": "all of them" },
            { "code": "404", "type": "Nothing" },
        ],
    }))
    .unwrap();
    assert_eq!(built, read);
    for endpoint in [built, read] {
        assert_eq!(endpoint.description(), Some("finds users"));
        let parameters: Vec<_> = endpoint
            .parameters()
            .iter()
            .map(|given| (given.name(), given.kind(), given.is_required(), given.description()))
            .collect();
        assert_eq!(parameters, [("limit", "u32", false, Some("how many")), ("q", "text", true, None)]);
        let responses: Vec<_> =
            endpoint.responses().iter().map(|given| (given.code(), given.kind(), given.description())).collect();
        assert_eq!(responses, [("200", "[User]", Some("all of them")), ("404", "Nothing", None)]);
    }
}

#[test]
fn of_a_capability() {
    let two = Version::new(2, 0, 0);
    let built = Capability::new("search").unwrap().with_version(two.clone()).with_description("full text");
    let read: Capability =
        serde_json::from_value(json!({ "name": "search", "version": "2.0.0", "description": "full text" })).unwrap();
    assert_eq!(built, read);
    for capability in [built, read] {
        let told = (capability.name(), capability.version(), capability.description());
        assert_eq!(told, ("search", Some(&two), Some("full text")));
    }
    assert_eq!(Capability::new("search").unwrap().description(), None);
}

#[test]
fn of_a_contract_behind_a_pointer() {
    let contract = Contract::new("users", Version::new(1, 4, 0))
        .unwrap()
        .with_capability(Capability::new("search").unwrap())
        .unwrap()
        .with_endpoint(Endpoint::new("get").unwrap())
        .unwrap();
    let shared = Arc::new(contract.clone());
    assert_eq!(ServiceContract::version(&shared), &Version::new(1, 4, 0));
    assert_eq!(ServiceContract::capabilities(&shared), contract.capabilities());
    assert_eq!(ServiceContract::endpoints(&shared), contract.endpoints());
    assert_eq!((contract.capabilities().len(), contract.endpoints().len()), (1, 1));
}

#[test]
fn of_a_version() {
    let version: Version = "12.34.56-rc.1+build.7".parse().unwrap();
    assert_eq!((version.major(), version.minor(), version.patch()), (12, 34, 56));
    assert_eq!((version.pre_release(), version.build()), ("rc.1", "build.7"));
    let release = Version::new(12, 34, 56);
    assert_eq!((release.pre_release(), release.build()), ("", ""));
    let orders = [(&version, &release), (&release, &version), (&release, &release)].map(|(a, b)| a.partial_cmp(b));
    assert_eq!(orders, [Ordering::Less, Ordering::Greater, Ordering::Equal].map(Some));
    let order = ["1.0.0-a", "1.0.0-a.1", "1.0.0-a.1.x", "1.0.0"].map(|text| text.parse::<Version>().unwrap());
    assert!(order.is_sorted_by(|one, next| one < next));
    let longest = format!("1.0.0-{}", "a".repeat(250));
    assert_eq!(longest.parse::<Version>().unwrap().to_string(), longest, "256 bytes");
    assert!(format!("{longest}a").parse::<Version>().is_err());
}

#[test]
fn of_an_instance_and_its_health() {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let health = Health::degraded("slow").known_at(then);
    assert_eq!((health.at(), health.message()), (then, Some("slow")));
    assert_eq!(Instance::new("users", "a", "10.0.0.1", 80).unwrap().seen_at(then).last_seen(), then);
    let instance = |size: usize| {
        Instance::new("users", "a", "10.0.0.1", 80)
            .unwrap()
            .with_version(Version::new(3, 1, 4))
            .with_metadata("key", "x".repeat(size - "key".len()))
    };
    let built = instance(4_096).unwrap();
    assert_eq!((built.version(), built.port(), built.host()), (&Version::new(3, 1, 4), 80, "10.0.0.1"));
    let error = instance(4_097).unwrap_err();
    assert_eq!((error.field(), error.value()), ("metadata", "4097 bytes"));
}
