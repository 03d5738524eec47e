//! What goes upstream of who calls, and of what clients say of it.

use super::*;
use crate::{
    dialect::Rewrite,
    engine::upstream::{Caller, identity_headers},
};

#[test]
fn what_says_who_calls_or_names_another_path_is_misleading_in_any_spelling() {
    for name in
        ["x-doorward-user", "x_doorward_user", "x-doorward-role", "x-original-url", "x_original-url", "x-rewrite-url"]
    {
        assert!(is_misleading(name), "{name}");
    }
    for name in ["x-original", "x-request-id", "x-forwarded-host", "x-doorwar"] {
        assert!(!is_misleading(name), "{name}");
    }
}

/// What goes upstream of these headers, for this service's `upstream`; or the code of the denial.
fn sent(upstream: &str, principal: Principal, headers: &[(&str, &str)]) -> Result<Vec<(String, String)>, Code> {
    let text = POLICY.replace("  match:", &format!("  upstream: {upstream}\n  match:"))
        + "---\nkind: AccessBinding\nmetadata: { name: all }\nspec: { role: app-reader, subjects: [{ anyUser: true }] }\n";
    let tables = tables(&text);
    let headers: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let principal = Arc::new(principal);
    let verdict = explain(&tables, &TestHost::new(), &Settings::default(), &principal, &ask, &mut Trace::default());
    match verdict.outcome {
        Outcome::Allow(rewrite) => {
            let kept = headers.iter().filter(|header| {
                let is = |name: &String| name == header.name;
                !rewrite.remove_headers.iter().any(is) && !rewrite.set_headers.iter().any(|(name, _)| is(name))
            });
            let kept = kept.map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
            Ok(kept.chain(rewrite.set_headers.iter().cloned()).collect())
        }
        Outcome::Deny(denial) => {
            assert!(verdict.record.sent.is_none(), "{:?}", verdict.record);
            Err(denial.code)
        }
        Outcome::Pass => panic!("passed"),
    }
}

fn alice() -> Principal {
    Principal { user: Some("alice".into()), ..Principal::default() }
}

#[test]
fn a_header_says_exactly_what_was_decided_on_or_the_request_is_denied() {
    use crate::identity::{Agent, Attribute};
    let headers = "{ headers: { x-u: user, x-t: tenant, x-g: groups, x-a: agent, x-r: { attribute: region } } }";
    let of = |principal: Principal| {
        sent(headers, principal, &[]).map(|all| {
            let all = all.into_iter().filter(|(name, _)| name != "accept" && name != "wrap");
            let mut all: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
            all.sort();
            all.join(" ")
        })
    };
    assert_eq!(of(alice()), Ok("x-u=alice".into()));
    let full = Principal {
        tenant: Some("Łódź".into()),
        groups: vec!["a b".into(), "c".into()],
        attributes: vec![("region".into(), Attribute::One("Doe, John".into()))],
        ..alice()
    };
    assert_eq!(of(full), Ok("x-g=a b,c x-r=Doe, John x-t=Łódź x-u=alice".into()));
    let empty = Principal { attributes: vec![("region".into(), Attribute::Many(vec![]))], ..alice() };
    assert_eq!(of(empty), Ok("x-u=alice".into()));
    for bad in [
        " ",
        " x",
        "x ",
        "x\t",
        "x\u{a0}",
        "\u{feff}x",
        "x\u{200b}",
        "x\ry",
        "x\ny",
        "x\0y",
        "x\u{7f}",
        "x\u{85}",
        "x\u{3000}",
    ] {
        for (list, principal) in [
            (false, Principal { user: Some(bad.into()), ..Principal::default() }),
            (false, Principal { tenant: Some(bad.into()), ..alice() }),
            (true, Principal { groups: vec!["a".into(), bad.into()], ..alice() }),
            (true, Principal { attributes: vec![("region".into(), Attribute::Many(vec![bad.into()]))], ..alice() }),
            (false, Principal { attributes: vec![("region".into(), Attribute::One(bad.into()))], ..alice() }),
        ] {
            assert_eq!(of(principal), Err(Code::AttributeInvalid), "{bad:?} {list}");
        }
    }
    // A comma in a member would make two of it.
    for principal in [
        Principal { groups: vec!["a,b".into()], ..alice() },
        Principal { attributes: vec![("region".into(), Attribute::Many(vec!["a".into(), "b,c".into()]))], ..alice() },
    ] {
        assert_eq!(of(principal), Err(Code::AttributeInvalid));
    }
    // Agents need roles of their own, so only the header's side is looked at here.
    let tables = tables(&POLICY.replace("  match:", "  upstream: { headers: { x-a: agent } }\n  match:"));
    let service = tables.service("crm").unwrap();
    let agents = |name: &str| {
        let principal =
            Principal { agents: vec![Agent { name: "first".into() }, Agent { name: name.into() }], ..alice() };
        let settings = identity::Settings::default();
        let caller =
            Caller { service, principal: Some(&principal), role: None, decision_id: "id", settings: &settings };
        let mut rewrite = Rewrite::default();
        identity_headers(&mut rewrite, &caller, &request("/", &[], None)).map(|()| rewrite.set_headers)
    };
    assert_eq!(agents("bot").unwrap(), [("x-a".to_owned(), "first,bot".to_owned())]);
    assert!(agents("b,ot").is_err() && agents("bot ").is_err());
}

#[test]
fn what_clients_say_of_who_they_are_goes_on_only_where_the_service_keeps_it() {
    let headers = [
        ("prefer", "a"),
        ("x-forwarded-user", "root"),
        ("x_forwarded_user", "root"),
        ("x-hasura-role", "admin"),
        ("x-tenant-id", "other"),
        ("x_tenant_id", "third"),
        ("remote_user", "root"),
        ("proxy-authorization", "Basic cm9vdDo="),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let names = |upstream: &str| {
        let mut all = sent(upstream, alice(), &headers).unwrap();
        all.retain(|(name, _)| !name.starts_with("x-doorward-") && name != "accept" && name != "wrap");
        all
    };
    let plain = [("prefer", "a"), ("x-forwarded-for", "192.0.2.1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(names("{}"), plain);
    assert_eq!(names("{ forwardToken: true }"), plain);
    let kept = names("{ keepHeaders: [X-Tenant-ID] }");
    assert!(kept.contains(&("x-tenant-id".into(), "other".into())) && kept.len() == 3, "{kept:?}");
    // What the service maps is the proxy's, whatever is kept beside it.
    let mapped = names("{ headers: { x-hasura-user-id: user, x-forwarded-user: user } }");
    assert!(mapped.contains(&("x-forwarded-user".into(), "alice".into())) && mapped.len() == 4, "{mapped:?}");
    assert!(mapped.contains(&("x-hasura-user-id".into(), "alice".into())), "{mapped:?}");
}

#[test]
fn cookies_go_on_where_the_service_says_so_and_never_with_the_callers_credential() {
    let cookies = |upstream: &str, headers: &[(&str, &str)]| {
        let all = sent(upstream, alice(), headers).unwrap();
        all.into_iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value).collect::<Vec<_>>()
    };
    let plain = [("cookie", "theme=dark"), ("authorization", "Bearer aaa.bbb.ccc"), ("x-api-key", "dwk_1")];
    assert!(cookies("{}", &plain).is_empty());
    assert_eq!(cookies("{ cookies: true }", &plain), ["theme=dark"]);
    for cookie in [
        "session=aaa.bbb.ccc",
        "a=b; t=aaa.bbb.ccc; c=d",
        "key=\"dwk_1\"",
        "t=Bearer%20aaa.bbb.ccc",
        "t=%61aa%2Ebbb.ccc",
    ] {
        let headers = [("cookie", cookie), plain[1], plain[2]];
        assert!(cookies("{ cookies: true }", &headers).is_empty(), "{cookie}");
        assert!(cookies("{ cookies: true, forwardToken: true }", &headers).is_empty(), "{cookie}");
    }
    let blank = [("cookie", "t=aaa.bbb.ccc"), ("authorization", "Bearer  aaa.bbb.ccc  ")];
    assert!(cookies("{ cookies: true }", &blank).is_empty());
}

/// A preflight as browsers send it, and what of it goes upstream.
#[test]
fn a_preflight_goes_upstream_without_anything_but_its_question_and_only_where_the_service_says_so() {
    let preflight = [
        Header { name: "origin", value: b"https://app.example.com" },
        Header { name: "access-control-request-method", value: b"PATCH" },
        Header { name: "access-control-request-headers", value: b"x-dreamfactory-api-key" },
        Header { name: "user-agent", value: b"browser" },
        Header { name: "cookie", value: b"session=1" },
        Header { name: "authorization", value: b"Bearer x" },
        Header { name: "x-http-method", value: b"GET" },
        Header { name: "x-doorward-user", value: b"evil" },
        Header { name: "x-anything", value: b"1" },
    ];
    let ask = |text: &str, method: &str, path: &str, headers: &[Header<'_>], body: Option<&[u8]>| {
        let request = HttpRequest { method, body, ..request(path, headers, None) };
        decided(&tables(text), &Settings::default(), &request)
    };
    let path = "/api/v2/crm/_table/orders?filter=x&api_key=hush";
    let denied = ask(POLICY, "OPTIONS", path, &preflight, None);
    let Outcome::Deny(denial) = &denied.outcome else { panic!("{:?}", denied.outcome) };
    assert!(denial.code == Code::Unsupported && denial.detail.contains("cors: pass"), "{denial}");
    let open = POLICY.replace("  match:", "  cors: pass\n  match:");
    let verdict = ask(&open, "OPTIONS", path, &preflight, None);
    let Outcome::Allow(rewrite) = &verdict.outcome else { panic!("{:?}", verdict.outcome) };
    assert_eq!(rewrite.path.as_deref(), Some("/api/v2/crm/_table/orders"));
    for name in ["cookie", "authorization", "x-http-method", "x-doorward-user", "x-anything"] {
        assert!(rewrite.remove_headers.iter().any(|removed| removed == name), "{name}");
    }
    assert!(!rewrite.remove_headers.iter().any(|name| name == "origin" || name.starts_with("access-control-")));
    assert!(rewrite.set_headers.is_empty() && rewrite.body.is_none(), "{rewrite:?}");
    assert!(rewrite.response.preflight && !rewrite.response.is_passthrough());
    let record = &verdict.record;
    assert_eq!(record.principal.as_ref().unwrap().user, "unidentified");
    assert_eq!((record.service.as_str(), record.decision.as_ref().unwrap().outcome.as_str()), ("crm", "rewrite"));
    assert!(!format!("{record:?}").contains("hush"));
    let required = open.replace("  match:", "  audit: required\n  match:");
    assert!(ask(&required, "OPTIONS", path, &preflight, None).audit_required);
    // What is no preflight by its form needs a credential as anything else does.
    let (origin, method) = (preflight[0], preflight[1]);
    let length = Header { name: "content-length", value: b"3" };
    let chunked = Header { name: "transfer-encoding", value: b"chunked" };
    for (verb, headers) in [
        ("OPTIONS", vec![origin]),
        ("OPTIONS", vec![method]),
        ("OPTIONS", vec![origin, origin, method]),
        ("OPTIONS", vec![origin, method, method]),
        ("OPTIONS", vec![origin, method, length]),
        ("OPTIONS", vec![origin, method, chunked]),
        ("GET", vec![origin, method]),
        ("POST", vec![origin, method]),
        ("options", vec![origin, method]),
    ] {
        assert_eq!(code(&ask(&open, verb, "/api/v2/crm/_table/orders", &headers, None)), Some(Code::CredentialMissing));
    }
    // A path that servers read differently goes nowhere.
    for path in ["/api/v2/crm/../x", "/api/v2/crm/%2e%2e/x", "/api/v2/crm//x", "/api/v2/crm/a%2fb", "/api/v2/crm/a;b"] {
        assert_eq!(code(&ask(&open, "OPTIONS", path, &preflight, None)), Some(Code::Unparsable), "{path}");
    }
}
