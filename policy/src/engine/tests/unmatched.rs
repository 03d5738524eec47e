//! What passes as unmatched, and what looks as if it did.

use super::*;

#[test]
fn no_spelling_of_a_services_path_passes_as_unmatched() {
    let tables = tables(POLICY);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |path: &str| {
        let verdict = decided(&tables, &settings, &request(path, &[], None));
        code(&verdict)
    };
    assert_eq!(ask("/api/v2/crm/_table/orders"), Some(Code::CredentialMissing));
    for path in [
        "//api/v2/crm/x",
        "/api//v2/crm/x",
        "/./api/v2/crm/x",
        "/health/../api/v2/crm/x",
        "/api/v2/crm;a=b/x",
        "/%61pi/v2/crm/x",
        "/%2561pi/v2/crm/x",
        "/api%2fv2/crm/x",
        "/api/v2%5ccrm/x",
        "\\api\\v2\\crm",
        "/API/v2/crm/x",
        "/api/v2/crm%3fx",
        "/api/v2/%20crm/x",
        // A server that keeps empty segments takes back the empty one (RFC 3986, section 5.2.4).
        "/api/v2//../crm/x",
        "/api/v2/%2f%2e%2e/crm/x",
        // Encoded more often than anybody looks: nobody knows what it names.
        "/%2525252561pi/v2/crm/x",
    ] {
        assert_eq!(ask(path), Some(Code::NoRoute), "{path}");
    }
    for path in ["/health", "/api/v2/other", "/api/v2/crmx", "/", "*", "/x%zz", "/\u{fffd}"] {
        assert_eq!(ask(path), None, "{path}");
    }
}

#[test]
fn no_header_that_some_framework_takes_for_the_path_leads_an_unmatched_request_to_a_service() {
    let tables = tables(POLICY);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |name: &str, value: &[u8]| {
        let headers = [Header { name, value }];
        let ask = request("/health", &headers, None);
        let verdict = decided(&tables, &settings, &ask);
        code(&verdict)
    };
    for name in ["x-original-url", "x-rewrite-url", "x_original_url"] {
        for path in ["/api/v2/crm/_table/orders", "/API/crm", "/%61pi/v2/crm", "http://h/api/v2/crm"] {
            assert_eq!(ask(name, path.as_bytes()), Some(Code::NoRoute), "{name} {path}");
        }
        assert_eq!(ask(name, b"/api/v2/crm/\xff"), Some(Code::NoRoute));
        assert_eq!(ask(name, b"/health"), None);
    }
    assert_eq!(ask("x-other", b"/api/v2/crm"), None);
}

#[test]
fn no_path_under_which_dreamfactory_serves_a_declared_service_too_passes_as_unmatched() {
    let matches = |matches: &str| tables(&POLICY.replace("match: [{ path: /api/v2/crm }]", matches));
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |tables: &Tables, authority: &str, path: &str| {
        let ask = HttpRequest { authority, ..request(path, &[], None) };
        let verdict = decided(tables, &settings, &ask);
        code(&verdict)
    };
    let declared = ["/api/v2/crm", "/api/crm", "/api/v2/CRM", "/index.php/api/v1/Crm"];
    for path in declared {
        let tables = matches(&format!("match: [{{ hosts: [data.example.com], path: {path} }}]"));
        let ask = |path: &str| ask(&tables, "data.example.com", path);
        assert_eq!(ask(path), Some(Code::CredentialMissing), "{path}");
        for other in [
            "/api/crm/_table/orders",
            "/api/crm",
            "/api/crm?x=1",
            "/api/v1/crm/_table/orders",
            "/api/v2/crm/_table/orders",
            "/api/v2.0/CRM/_table/orders",
            "/api/v.../crm",
            "/api/v/crm",
            "/api/%76%31/crm",
            "/API/V3/Crm",
            "/index.php/api/v2/crm/_table/orders",
            "/index.php/api/crm",
            "/INDEX.PHP/api/v1/crm",
            "/index%2ephp/api/crm",
            "/index.php/index.php/api/crm",
            "/index.phpapi/v2/crm",
            "/api/v1/v2/crm",
        ] {
            let expected = if other.starts_with(path) { Code::CredentialMissing } else { Code::NoRoute };
            assert_eq!(ask(other), Some(expected), "{path} {other}");
        }
        for other in ["/", "/index.php", "/index.php/health", "/api", "/api/v2", "/api/v2/other", "/api/crmx", "/crm"] {
            assert_eq!(ask(other), None, "{path} {other}");
        }
    }
    // Of other hosts nothing is known.
    let tables = matches("match: [{ hosts: [data.example.com], path: /api/v2/crm }]");
    assert_eq!(ask(&tables, "www.example.com", "/api/crm"), None);
    let tables = matches("match: [{ hosts: [\"*.example.com\"], path: /api/v2/crm }]");
    assert_eq!(ask(&tables, "data.example.com", "/api/crm"), Some(Code::NoRoute));
    // Other servers have no such paths; and a path of a version alone stands for no other.
    let text = POLICY.replace("dialect: dreamfactory", "dialect: datasette").replace("_table/orders", "crm/orders");
    assert_eq!(ask(&self::tables(&text), "h", "/api/crm"), None);
    let tables = matches("match: [{ path: /v2 }]");
    assert_eq!((ask(&tables, "h", "/health"), ask(&tables, "h", "/v2/x")), (None, Some(Code::CredentialMissing)));
}

#[test]
fn no_target_that_some_server_reads_as_another_authority_or_path_passes_as_unmatched() {
    let text =
        POLICY.replace("match: [{ path: /api/v2/crm }]", "match: [{ hosts: [data.example.com], path: /API/v2/crm }]");
    let tables = tables(&text);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |authority: &str, path: &str| {
        let ask = HttpRequest { authority, ..request(path, &[], None) };
        let verdict = decided(&tables, &settings, &ask);
        code(&verdict)
    };
    for path in [
        "//data.example.com/API/v2/crm/x",
        "///data.example.com/API/v2/crm/x",
        "/\\data.example.com/API/v2/crm/x",
        "\\\\data.example.com/API/v2/crm/x",
        "/%2fdata.example.com/API/v2/crm/x",
        "/%5cdata.example.com/API/v2/crm/x",
        "/.//data.example.com/API/v2/crm/x",
        "/./%2f/data.example.com/API/v2/crm/x",
        "/;a//data.example.com/API/v2/crm/x",
        "/%20/data.example.com/API/v2/crm/x",
        "//user@data.example.com:443/API/v2/crm/x",
        "http://data.example.com/API/v2/crm/x",
        "HTTP:/data.example.com/API/v2/crm/x",
        "http:data.example.com/API/v2/crm/x",
        "data.example.com/API/v2/crm/x",
        "?/API/v2/crm/x",
        "",
        "/http:/data.example.com/API/v2/crm/x",
        "/http://data.example.com/API/v2/crm/x",
        "/https%3a//data.example.com/API/v2/crm/x",
    ] {
        // Also for a host of which nothing is declared: the path names its own.
        for authority in ["h", "data.example.com"] {
            assert_eq!(ask(authority, path), Some(Code::NoRoute), "{authority} {path}");
        }
    }
    // The path of the service in other letters, for its host.
    for path in [
        "/api/v2/crm/x",
        "/API/V2/CRM",
        "/api/v2/crm",
        "/%61pi/v2/crm/x",
        "/api./v2/crm /x",
        "/api/v2/crm%00/x",
        "/%c1%a1pi/v2/crm/x",
        "/%e0%81%a1pi/v2/crm/x",
        "/%u0061pi/v2/crm/x",
        "/\u{ff41}\u{ff50}\u{ff49}/v2/crm/x",
        "/api\u{2215}v2/crm",
    ] {
        assert_eq!(ask("data.example.com", path), Some(Code::NoRoute), "{path}");
    }
    for (authority, path) in [
        ("h", "/api/v2/crm/x"),
        ("h", "/"),
        ("h", "//"),
        ("h", "/./health"),
        ("h", "/health//x"),
        ("h", "/caf%c3%a9"),
        ("h", "/caf%e9"),
        ("h", "*"),
        ("h", "/a:b/c"),
        ("data.example.com", "/other?next=//data.example.com/API/v2/crm"),
    ] {
        assert_eq!(ask(authority, path), None, "{authority} {path}");
    }
}

#[test]
fn a_request_for_no_host_or_for_two_is_refused_before_anything_is_looked_up() {
    let tables = tables(&(POLICY.to_owned() + &access_key("reader", "reader", "app-reader", "")));
    for unmatched in [Unmatched::Deny, Unmatched::Allow] {
        let settings = Settings { unmatched, ..Settings::default() };
        for authority in
            ["", "h:443@evil.test", "u@h", "h,evil.test", "h evil.test", "h:x", "[::1", "h/..", "h\\x", "h%2e"]
        {
            let headers = [Header { name: "x-doorward-key", value: b"reader" }];
            for path in ["/api/v2/crm/_table/orders", "/health"] {
                let ask = HttpRequest { authority, ..request(path, &headers, None) };
                let verdict = decided(&tables, &settings, &ask);
                assert_eq!(code(&verdict), Some(Code::Unparsable), "{authority:?} {path}");
            }
        }
        // Envoy gives `Host` as `:authority`; one that stands beside it is a second one.
        for (host, good) in [("h", true), ("evil.test", false)] {
            let headers =
                [Header { name: "x-doorward-key", value: b"reader" }, Header { name: "host", value: host.as_bytes() }];
            let ask = request("/api/v2/crm/_table/orders", &headers, None);
            let verdict = decided(&tables, &settings, &ask);
            assert_eq!(code(&verdict), (!good).then_some(Code::Unparsable), "{host}");
        }
    }
}
