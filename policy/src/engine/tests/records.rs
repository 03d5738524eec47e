//! What records hold, and what they never hold.

use super::*;

#[test]
fn a_credential_in_the_query_is_in_no_record_also_where_queries_are_recorded() {
    let policy = POLICY.replace("  match:", "  recordRequestText: true\n  match:");
    let tables = tables(&(policy + &access_key("reader", "reader", "app-reader", "")));
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let record = |path: &str| {
        let ask = request(path, &headers, None);
        let verdict = decided(&tables, &Settings::default(), &ask);
        (code(&verdict), verdict.record)
    };
    let (_, plain) = record("/api/v2/crm/_table/orders?limit=1");
    assert!(plain.asked.as_ref().unwrap().path.ends_with("?limit=1") && plain.erased.is_empty());
    let (denied, record) = record("/api/v2/crm/_table/orders?limit=1&%61pi_key=hush-hush");
    assert_eq!(denied, Some(Code::CredentialInvalid));
    assert!(!format!("{record:?}").contains("hush"), "{record:?}");
    assert_eq!(record.erased, ["asked.query"]);
}

#[test]
fn the_record_of_a_refused_key_names_the_key_if_there_is_one_and_nothing_of_an_unknown_one() {
    let text = [
        access_key("gone", "gone", "app-reader", ", revoked: true"),
        access_key("old", "old", "app-reader", ", notAfter: \"2020-01-01T00:00:00Z\""),
        access_key("early", "early", "app-reader", ", notBefore: \"2090-01-01T00:00:00Z\""),
        access_key("locked", "locked", "app-reader", ", networks: [198.51.100.0/24]"),
        access_key("good", "good", "app-reader", ""),
    ];
    let tables = tables(&(POLICY.to_owned() + &text.concat()));
    let ask = |headers: &[Header<'_>]| {
        let request = request("/api/v2/crm/_table/orders", headers, None);
        let verdict = decided(&tables, &Settings::default(), &request);
        (code(&verdict), verdict.record.principal.unwrap().key, format!("{:?}", verdict.record.decision))
    };
    for (presented, code, name) in [
        ("gone", Code::CredentialRevoked, "gone"),
        ("old", Code::CredentialExpired, "old"),
        ("early", Code::CredentialExpired, "early"),
        ("locked", Code::CredentialLocked, "locked"),
        ("s3cr3t-guess", Code::CredentialInvalid, ""),
    ] {
        let (denied, key, decision) = ask(&[Header { name: "x-doorward-key", value: presented.as_bytes() }]);
        assert_eq!((denied, key.as_str()), (Some(code), name), "{presented}");
        assert!(!decision.contains("s3cr3t"), "{decision}");
    }
    // A good key beside a token that is none.
    let both =
        [Header { name: "x-doorward-key", value: b"good" }, Header { name: "authorization", value: b"Bearer a.b.c" }];
    let (denied, key, _) = ask(&both);
    assert_eq!((denied, key.as_str()), (Some(Code::CredentialInvalid), "good"));
}

#[test]
fn no_caller_makes_a_record_larger_than_its_bound_and_the_hashes_cover_what_was_cut() {
    use crate::audit::bounds::MAX_RECORD_BYTES;
    use prost::Message as _;
    let recording = POLICY.replace("  match:", "  recordRequestText: true\n  match:");
    let tables = tables(&(recording + &access_key("reader", "reader", "app-reader", "")));
    let long = |unit: &str| unit.repeat(57_000 / unit.len());
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let paths = [
        format!("/{}", long("a")),
        format!("/{}", long("ü")),
        format!("/api/v2/crm/{}", long("a")),
        format!("/api/v2/crm/_table/{}", long("a")),
        format!("/api/v2/crm/_table/orders?{}", long("a")),
        format!("/api/v2/crm/_table/orders?fields={}", long("a,")),
        format!("/api/v2/crm/_table/orders?filter=status='{}'", long("a")),
        format!("/api/v2/crm/_table/orders?related={}", long("b_by_id,")),
        format!("/api/v2/crm/_table/orders/{}", long("1")),
    ];
    for path in &paths {
        for headers in [&headers[..], &[]] {
            for (method, authority) in [("GET", "x"), (&long("M"), &long("h."))] {
                let ask = HttpRequest { method, authority, ..request(path, headers, None) };
                let begun = begin(&tables, &TestHost::new(), &Settings::default(), &mut TokenCache::default(), &ask);
                let Begin::Done(verdict) = begun else { continue };
                let size = verdict.record.encoded_len();
                assert!(size < 8 << 10, "{size}: {}", &path[..40]);
                let asked = verdict.record.asked.unwrap();
                assert_eq!(asked.sha256, crate::audit::fingerprint(method, authority, path));
                // Of a request for no host no query is recorded: no service says that it may be.
                let cut = asked.path.ends_with('…') && verdict.record.cut.contains(&"asked.path".into());
                assert!(cut || (authority != "x" && path.starts_with(&asked.path)), "{path:.40}");
            }
        }
    }
    // What a token may say of its holder.
    let names = |count: usize, length: usize| (0..count).map(move |at| format!("{at:0length$}").into());
    let principal = Arc::new(Principal {
        user: names(1, 16_000).next(),
        tenant: names(1, 16_000).next(),
        groups: names(512, 300).collect(),
        attributes: names(256, 300).map(|name| (name, identity::Attribute::Many(names(512, 40).collect()))).collect(),
        agents: names(9, 16_000).map(|name| identity::Agent { name }).collect(),
        mesh: names(1, 16_000).next(),
        ..Principal::default()
    });
    let verdict = explain(
        &tables,
        &TestHost::new(),
        &Settings::default(),
        &principal,
        &request(&paths[5], &headers, None),
        &mut Trace::default(),
    );
    let record = verdict.record;
    assert!(record.encoded_len() < MAX_RECORD_BYTES - 4096, "{}", record.encoded_len());
    for place in ["principal.user", "principal.agents", "principal.groups", "principal.attributes", "asked.path"] {
        assert!(record.cut.contains(&place.to_owned()), "{place}: {:?}", record.cut);
    }
    assert!(record.principal.unwrap().groups.len() > 30);
}
