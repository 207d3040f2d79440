//! Names, addresses, versions and weights, and headers.

use mainstay::{
    ConfigError, Name,
    contract::{
        Capability, Contract, Endpoint, Instance, InstanceId, Method, Parameter, Response, ServiceName, Version,
    },
    keyed::{Operation, Tenant},
};

const ODD: [&str; 12] = [
    "",
    "a\nb",
    "a\u{0}",
    "a\u{7f}b",
    "</script>\u{1}",
    "a\u{202e}b\u{8}",
    "\u{1b}[31mred",
    "a\tb",
    "\u{85}",
    "\r",
    "a\u{9c}",
    "\u{0}",
];

#[test]
fn names_with_control_characters_are_refused_by_every_type_of_name() {
    type Parse = fn(&str) -> Result<(), ConfigError>;
    let types: [(&str, Parse); 11] = [
        ("name", |text| Name::new(text).map(drop)),
        ("service", |text| ServiceName::new(text).map(drop)),
        ("id", |text| InstanceId::new(text).map(drop)),
        ("method", |text| Method::new(text).map(drop)),
        ("tenant", |text| Tenant::new(text).map(drop)),
        ("operation", |text| Operation::new(text).map(drop)),
        ("capability", |text| Capability::new(text).map(drop)),
        ("method", |text| Endpoint::new(text).map(drop)),
        ("parameter", |text| Parameter::required(text, "u32").map(drop)),
        ("code", |text| Response::new(text, "User").map(drop)),
        ("service", |text| Contract::new(text, Version::new(1, 0, 0)).map(drop)),
    ];
    for (field, parse) in types {
        for text in ODD {
            let error = parse(text).expect_err(field);
            assert_eq!(error.field(), field);
            assert!(!error.why().is_empty() && !error.to_string().contains(char::is_control), "{error:?}");
            assert!(!error.to_string().contains('\u{202e}'), "what turns the text round is shown as its number");
        }
        assert!(parse("plain").is_ok());
    }
}

#[test]
fn names_of_policies_and_keys_are_plain() {
    for text in [
        "</script>",
        "a\u{202e}b",
        "\u{2028}",
        "\u{1f980}",
        "ä",
        "a b",
        "-a",
        ".a",
        "\"a\"",
        "a'b",
        "{a}",
        "a,b",
        "a=b",
    ] {
        let error = Name::new(text).unwrap_err();
        assert_eq!((error.field(), error.why().starts_with("must be 1..=64 characters of")), ("name", true));
    }
    for text in ["</script>", "a\u{202e}b", "\u{2028}", "\u{1f980}", "ä", " a", "a ", "\"a\"", "a'b", "a\\b", "a&b"] {
        assert_eq!(Tenant::new(text).unwrap_err().field(), "tenant");
        assert_eq!(Operation::new(text).unwrap_err().field(), "operation");
    }
    for (most, parse) in [
        (64, (|text| Name::new(text).is_ok()) as fn(&str) -> bool),
        (128, |text| Tenant::new(text).is_ok()),
        (253, |text| ServiceName::new(text).is_ok()),
        (253, |text| InstanceId::new(text).is_ok()),
        (253, |text| Method::new(text).is_ok()),
    ] {
        assert!(parse(&"x".repeat(most)) && !parse(&"x".repeat(most + 1)), "{most}");
    }
}

#[test]
fn addresses_weights_and_metadata() {
    let new = |host: &str, port| Instance::new("users", "users-1", host, port);
    for (made, field, value, why) in [
        (new("127.0.0.1", 0), "port", "0", "must be in 1..=65535"),
        (new("0.0.0.0", 80), "host", "0.0.0.0", "nobody answers"),
        (new("::ffff:0.0.0.0", 80), "host", "::ffff:0.0.0.0", "nobody answers"),
        (new("ff02::1", 80), "host", "ff02::1", "nobody answers"),
        (new("239.1.2.3", 80), "host", "239.1.2.3", "nobody answers"),
        (new("http://[::1", 80), "host", "http://[::1", "a name or an address"),
        (new("a b", 80), "host", "a b", "a name or an address"),
        (new("a\nb", 80), "host", "a\\nb", "control characters"),
        (new("h:65536", 80), "host", "h:65536", "the port is a field of its own"),
        (new("h/../x", 80), "host", "h/../x", "a name or an address"),
        (new("h?x", 80), "host", "h?x", "a name or an address"),
        (new("h#x", 80), "host", "h#x", "a name or an address"),
        (new("", 80), "host", "\"\"", "must not be empty"),
        (new("h", 80).unwrap().with_weight(u32::MAX), "weight", "4294967295", "must be in 0..=10000"),
        (new("h", 80).unwrap().with_metadata("k", "v".repeat(4_096)), "metadata", "4097 bytes", "at most 4096 bytes"),
        (new("h", 80).unwrap().with_metadata("", "v"), "metadata", "\"\"", "must not be empty"),
        (new("h", 80).unwrap().with_metadata("k\u{0}", "v"), "metadata", "k\\0", "control characters"),
    ] {
        let error = made.unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.value().contains(value) && error.why().contains(why), "{error}");
    }
    // No weight is a way to drain an instance, and what is near may be called: a side-car, a node's own cache.
    assert!(!new("h", 80).unwrap().with_weight(0).unwrap().takes_calls());
    assert!(["127.0.0.1", "::1", "169.254.20.10", "localhost", "1.2.3"].iter().all(|host| new(host, 80).is_ok()));
    let all = Instance::new("", "\u{0}", "h", 80).unwrap_err();
    assert_eq!(all.problems().map(ConfigError::field).collect::<Vec<_>>(), ["service", "id"]);
}

#[test]
fn versions() {
    for text in [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.",
        ".2.3",
        "a.b.c",
        "01.2.3",
        "1.02.3",
        "-1.2.3",
        "+1.2.3",
        "1.2.3-",
        "1.2.3+",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3-ä",
        "1.2.3 ",
        " 1.2.3",
        "v1.2.3",
        "18446744073709551616.0.0",
        "1.2.3-a_b",
        "1.2.3+a+b",
        "\u{661}.2.3",
    ] {
        let error = text.parse::<Version>().unwrap_err();
        assert_eq!((error.field(), error.why().is_empty()), ("version", false), "{text}");
        assert!(serde_json::from_value::<Version>(text.into()).is_err());
    }
    assert!("1.2.3".repeat(100).parse::<Version>().is_err());
}

#[cfg(feature = "http")]
mod headers {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
    use mainstay::http::{GRPC_TIMEOUT, TIMEOUT_MS, retry_after, timeout_header};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn header(name: http::HeaderName, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).expect("it can be sent"))])
    }

    #[test]
    fn what_is_no_wait_is_not_waited_for_and_what_is_too_long_is_a_year() {
        let garbage: [&[u8]; 18] = [
            b"",
            b" ",
            b"-1",
            b"+1",
            b"1.5",
            b"1e10",
            b"0x10",
            b"NaN",
            b"inf",
            b"soon",
            b"1 2",
            b"1,2",
            b"\xff",
            "\u{661}".as_bytes(),
            b"Fri, 31 Dec 1999",
            b"Fri, 32 Dec 1999 23:59:59 GMT",
            b"99999",
            b"1s",
        ];
        for value in garbage {
            let told = retry_after(&header(RETRY_AFTER, value));
            assert!(told.is_none() || value == b"99999", "{value:?}: {told:?}");
        }
        for (value, wait) in [
            ("0", Duration::ZERO),
            ("007", Duration::from_secs(7)),
            (" 5 ", Duration::from_secs(5)),
            ("18446744073709551615", YEAR),
            ("18446744073709551616", YEAR),
            ("99999999999999999999999999999999", YEAR),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Duration::ZERO),
            ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR),
        ] {
            assert_eq!(retry_after(&header(RETRY_AFTER, value.as_bytes())), Some(wait), "{value}");
        }
        let mut two = header(RETRY_AFTER, b"1");
        two.append(RETRY_AFTER, HeaderValue::from_static("2"));
        assert_eq!(retry_after(&two), None, "of two nobody knows which is meant");
    }

    #[test]
    fn what_is_no_deadline_is_none() {
        let garbage: [&[u8]; 17] = [
            b"",
            b"S",
            b"1",
            b"1s",
            b"1 S",
            b"-1S",
            b"+1S",
            b"1.5S",
            b"1e3S",
            b"123456789n",
            b"000000001S",
            b"1SS",
            b"1\xff",
            "1\u{b5}".as_bytes(),
            b"H1",
            b"0x1S",
            b"1D",
        ];
        for value in garbage {
            assert_eq!(timeout_header(&header(GRPC_TIMEOUT, value)), None, "{value:?}");
        }
        for (value, time) in [
            ("1n", Duration::from_nanos(1)),
            ("1u", Duration::from_micros(1)),
            ("1m", Duration::from_millis(1)),
            ("1S", Duration::from_secs(1)),
            ("1M", Duration::from_secs(60)),
            ("1H", Duration::from_secs(3_600)),
            ("0n", Duration::ZERO),
            ("00000000H", Duration::ZERO),
            ("99999999H", YEAR),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(timeout_header(&header(GRPC_TIMEOUT, value.as_bytes())), Some(time), "{value}");
        }
        for value in ["", "-1", "1.5", "1ms", "0x1", "1e3", "one"] {
            assert_eq!(timeout_header(&header(TIMEOUT_MS, value.as_bytes())), None, "{value}");
        }
        for (value, time) in
            [("0", Duration::ZERO), ("18446744073709551616", YEAR), ("250", Duration::from_millis(250))]
        {
            assert_eq!(timeout_header(&header(TIMEOUT_MS, value.as_bytes())), Some(time), "{value}");
        }
    }
}
