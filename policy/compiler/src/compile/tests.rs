//! Rules across documents: one table of mistakes, and what the bundle of a sound policy holds.
use super::*;
use crate::document::{Parsed, parse_file};
use doorward_policy::bundle::Tables;
use proptest::prelude::*;

/// RFC 7517 appendix A.1 keys, and weak or wrong ones made from them.
const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;
const RSA: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

struct Keys(&'static str);
impl KeySource for Keys {
    fn jwks(&self, _: &str, _: KeyLocation<'_>) -> Option<String> {
        (!self.0.is_empty()).then(|| format!("{{\"keys\":[{}]}}", self.0))
    }
}

const BASE: &str = r#"apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: {name: corp}
spec:
  issuer: https://idp.example.com
  audiences: [data-api]
  algorithms: [ES256, RS256]
  claims: {user: email, attributes: {region: region}}
---
kind: DataService
metadata: {name: db}
spec:
  dialect: dreamfactory
  match: [{hosts: [data.example.com], path: /api/v2/db}]
  components:
    _table/Customers:
      key: [id]
      fields: {id: integer, region: string, status: string, email: {type: string, class: pii}, ssn: string}
      relations: {orders_by_customer_id: _table/orders}
    _table/orders:
      fields: {id: integer, region: string, total: number}
    _proc/get_summary: {parameters: {year: integer, region: string}}
    files/*: {}
---
kind: AccessRole
metadata: {name: ai-support}
spec:
  lookups: {department: sales, years: [2023, 2024]}
  grants:
    - service: db
      components: [_table/customers]
      verbs: [GET]
      fields: {read: [id, region, status, email], mask: {email: email}}
      rows: region = {user.region} AND status = 'active'
---
kind: AccessKey
metadata: {name: tool}
spec: {hash: "sha256:0000000000000000000000000000000000000000000000000000000000000001", role: ai-support, attributes: {team: x}}
---
kind: AccessBinding
metadata: {name: support}
spec:
  role: ai-support
  subjects: [{group: support}, {user: alice@example.com}, {claim: {path: department, equals: Support}}, {key: tool}]
"#;

fn read(text: &str) -> Vec<Document> {
    let Parsed { documents, diagnostics } = parse_file("p.yaml", text);
    assert!(diagnostics.is_empty(), "{text}\n{}", diagnostics.iter().map(|d| format!("{d}\n")).collect::<String>());
    documents
}

fn found(text: &str, keys: &'static str) -> String {
    let compiled = compile(&read(text), &Keys(keys), "default");
    compiled.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn role(name: &str, grant: &str) -> String {
    format!(
        "{BASE}---\nkind: AccessRole\nmetadata: {{name: {name}}}\nspec:\n  lookups: {{regions: [w, e], year: 2024}}\n  grants:\n    - service: db\n{grant}"
    )
}

const GET: &str = "      components: [_table/customers]\n      verbs: [GET]\n";

#[test]
fn a_sound_policy_has_no_findings_and_its_bundle_can_be_put_in_force() {
    assert_eq!(found(BASE, EC), "");
    let compiled = compile(&read(BASE), &Keys(EC), "default");
    assert_eq!(compiled.accepted.len(), 5);
    let bundle = Bundle::decode(compiled.bytes.as_slice()).unwrap();
    assert_eq!(bundle, compiled.bundle);
    assert!(bundle.strings.is_sorted() && bundle.strings[0].is_empty());
    let text = |index: u32| bundle.strings[index as usize].as_str();
    let service = &bundle.services[0];
    let names: Vec<_> = service.components.iter().map(|component| text(component.name)).collect();
    assert_eq!(names, ["_proc/get_summary", "_table/customers", "_table/orders", "files/*"]);
    let role = &bundle.roles[0];
    assert_eq!((role.max_rows, text(role.department)), (1000, "sales"));
    let grant = &role.grants[0];
    assert_eq!(text(grant.pattern), "_table/customers");
    let read: Vec<_> = grant.read.as_ref().unwrap().fields.iter().map(|field| text(*field)).collect();
    assert_eq!(read, ["email", "id", "region", "status"]);
    assert_eq!(bundle.providers[0].keys.len(), 1);
    assert_eq!(bundle.bindings[0].subjects.len(), 4);
    Tables::build(&bundle, compiled.digest, 1).unwrap();
}

#[test]
fn the_checks_collect_the_strings_that_encoding_needs_and_no_others() {
    let tests = "---\nkind: PolicyTest\nmetadata: {name: t}\nspec: {tests: []}\n";
    let broken = "---\nkind: AccessBinding\nmetadata: {name: broken}\nspec: {role: nobody, subjects: [{user: u}]}\n";
    let documents = read(&format!("{BASE}{tests}{broken}"));
    let mut unique: Vec<&Document> = documents.iter().collect();
    unique.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let Checked { context, accepted, strings } = check(&unique, &Keys(EC), &mut Vec::new());
    assert_eq!(accepted.len(), 6, "all but the broken one");
    let mut needed = Interner::collecting();
    lower(&context, &accepted, &mut needed, "default");
    assert_eq!(strings, needed);
}

#[test]
fn a_string_that_the_checks_missed_has_an_index_all_the_same() {
    let documents = read(BASE);
    let mut unique: Vec<&Document> = documents.iter().collect();
    unique.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let Checked { context, accepted, .. } = check(&unique, &Keys(EC), &mut Vec::new());
    let without = encode(&context, &accepted, Interner::collecting(), "default");
    assert_eq!(without, compile(&documents, &Keys(EC), "default").bundle);
}

/// A provider beside the others.
fn provider(spec: &str) -> String {
    format!("{BASE}---\nkind: IdentityProvider\nmetadata: {{name: more}}\nspec: {spec}\n")
}

#[test]
fn keys_of_another_use_or_issuer_are_passed_over() {
    let usable = |spec: &str, key: String| {
        let parsed = read(&provider(spec));
        let found = parsed.iter().find_map(|document| match &document.spec {
            Spec::IdentityProvider(spec) if document.name == "more" => {
                Some(has_usable_key(spec, &format!("{{\"keys\":[{key}]}}"), true))
            }
            _ => None,
        });
        found.unwrap()
    };
    let rsa = |more: &str| RSA.replace("\"kty\"", &format!("{more}\"kty\""));
    let entra = "{preset: entra, tenants: [aaaabbbb-0000-cccc-1111-dddd2222eeee], audiences: [a]}";
    let of = |tenant: &str| rsa(&format!("\"issuer\":\"https://login.microsoftonline.com/{tenant}/v2.0\","));
    assert!(
        usable(entra, rsa(""))
            && usable(entra, of("{tenantid}"))
            && usable(entra, of("aaaabbbb-0000-cccc-1111-dddd2222eeee"))
    );
    assert!(!usable(entra, of("9188040d-6c67-4c5b-b112-36a304b66dad")), "the keys of personal accounts");
    let spiffe = "{preset: spiffe, trustDomain: x, audiences: [a], jwks: {uri: 'https://x'}}";
    assert!(usable(spiffe, rsa("\"use\":\"jwt-svid\",")) && !usable(spiffe, rsa("\"use\":\"x509-svid\",")));
    assert!(!usable(entra, rsa("\"use\":\"jwt-svid\",")));
    assert!(!usable(entra, EC.to_owned()) && !usable(entra, String::new()) && !usable(entra, "7".to_owned()));
}

/// The secret is written by its bytes, so that nobody copies it from here.
#[test]
fn a_secret_that_is_published_is_none() {
    use base64::Engine;
    let published = [
        104, 98, 121, 102, 73, 66, 110, 107, 89, 78, 81, 118, 51, 113, 97, 66, 89, 113, 71, 100, 50, 57, 88, 106, 98,
        82, 103, 109, 57, 112, 52, 72,
    ];
    let found = |secret: &[u8]| {
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
        found(
            &provider(&format!(
                "{{preset: dreamfactory, issuer: x, jwks: {{inline: {{keys: [{{kty: oct, k: {secret}}}]}}}}}}"
            )),
            EC,
        )
    };
    assert!(found(&published).contains("publishes as its default"));
    assert_eq!(found(&[7; 32]), "");
}

#[test]
fn every_example_of_the_page_on_providers_compiles() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/identity-providers.md")).unwrap();
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(
        examples.len(),
        crate::document::identity_provider::Preset::ALL.len(),
        "entra-v1 has none, no preset has one"
    );
    for example in examples {
        let compiled = compile(&read(example), &Keys(RSA), "default");
        let errors: Vec<_> = compiled.diagnostics.iter().filter(|found| found.is_error()).collect();
        assert!(errors.is_empty() && compiled.bundle.providers.len() == 1, "{example}\n{errors:?}");
    }
    for preset in crate::document::identity_provider::Preset::ALL {
        assert!(page.contains(&format!("preset: {}\n", preset.as_str())) || preset.as_str() == "entra-v1");
    }
}

#[test]
fn demands_of_a_provider_reach_the_bundle_in_one_order() {
    let compiled = |spec: &str| compile(&read(&provider(spec)), &Keys(RSA), "default");
    let a =
        compiled("{preset: google, audiences: [b, a], requiredClaims: [{hd: [x, w], acr: 2, mfa: true}, [p, q], s]}");
    let b =
        compiled("{preset: google, audiences: [a, b], requiredClaims: [s, [q, p], {mfa: true, acr: 2, hd: [w, x]}]}");
    assert_eq!(a.digest, b.digest);
    let tables = Tables::build(&a.bundle, a.digest, 1).unwrap();
    let google = tables.provider("accounts.google.com").unwrap();
    assert_eq!(&*google.name, "more");
    assert_eq!((google.required_claims.len(), google.required.len()), (1, 5));
    assert!(google.required.iter().any(|demand| demand.yes && &*demand.claims[0] == "email_verified"));
}

#[test]
fn every_mistake_across_documents_has_its_code_path_and_line() {
    let first = BASE.lines().count() + 1;
    let line = |n: usize| format!("p.yaml:{}", first + n);
    let get = |more: &str| role("app-x", &format!("{GET}{more}"));
    let read = "      fields: {read: [id, region]}\n";
    let cases: Vec<(String, String)> = vec![
        (get("      fields: {read: [regoin]}\n"), format!("{}: AccessRole app-x: spec.grants[0].fields.read[0]: unknown field \"regoin\" of _table/customers; did you mean \"region\"? [unknown_field]", line(9))),
        (get(&format!("{read}      rows: regoin = 'w'\n")), format!("{}: AccessRole app-x: spec.grants[0].rows: unknown field \"regoin\" of _table/customers; did you mean \"region\"? [unknown_field]", line(10))),
        (get(&format!("{read}      rows: region = 7\n")), "spec.grants[0].rows: field \"region\" of type string needs a string".into()),
        (get(&format!("{read}      rows: region =\n")), "[predicate_syntax]".into()),
        (get(&format!("{read}      rows: 'region = {{user.regoin}}'\n")), format!("{}: AccessRole app-x: spec.grants[0].rows: {{user.regoin}} can never be filled: no provider maps the attribute \"regoin\"; did you mean \"region\"? [placeholder_unfillable]", line(10))),
        (get(&format!("{read}      rows: 'region = {{role.nothing}}'\n")), "[placeholder_unfillable]".into()),
        (get(&format!("{read}      rows: 'region = {{role.regions}}'\n")), "[placeholder_list]".into()),
        (get(&format!("{read}      rows: 'id IN ({{role.regions}})'\n")), "[type_mismatch]".into()),
        (get(&format!("{read}      rows: 'region = {{key.team}}'\n")), "no key of this role has the attribute \"team\" [placeholder_unfillable]".into()),
        (get(&format!("{read}      rows: 'region = {{agent.region}}'\n")), "[placeholder_unfillable]".into()),
        (get(&format!("{read}      rows: 'region = {{tenant}}'\n")), "[placeholder_unfillable]".into()),
        (get(&format!("{read}      rows: 'TRUE'\n      check: status = 1\n")), format!("{}: AccessRole app-x: spec.grants[0].check", line(11))),
        (get(""), format!("{}: AccessRole app-x: spec.grants[0].fields: _table/customers declares fields;", line(6))),
        (get("      fields: {read: [id], hide: [ssn]}\n"), "[fields_conflict]".into()),
        (get("      fields: {hide: [snn]}\n"), "unknown field \"snn\" of _table/customers; did you mean \"ssn\"? [unknown_field]".into()),
        (get("      fields: {read: [id], mask: {email: email}}\n"), "spec.grants[0].fields.mask.email: field \"email\" is masked but not visible; add it to read [mask_hidden]".into()),
        (get("      fields: {read: [email], mask: {email: {with: email, length: 3}}}\n"), "[invalid_mask]".into()),
        (get("      fields: {read: [id], write: [idd]}\n"), "spec.grants[0].fields.write[0]: unknown field \"idd\"".into()),
        (get(&format!("{read}      set: {{regoin: w}}\n")), "spec.grants[0].set.regoin: unknown field \"regoin\" of _table/customers; did you mean \"region\"? [unknown_field]".into()),
        (get(&format!("{read}      set: {{id: w}}\n")), "spec.grants[0].set.id: the value is not of type integer [type_mismatch]".into()),
        (get(&format!("{read}      set: {{region: '{{usr.region}}'}}\n")), "[unknown_placeholder]".into()),
        (get(&format!("{read}      arguments: {{year: 1}}\n")), "spec.grants[0].arguments.year: _table/customers has no parameter \"year\" [unknown_parameter]".into()),
        (get(&format!("{read}      unchecked: true\n")), format!("{}: warning: AccessRole app-x: spec.grants[0].unchecked: what cannot be limited soundly is let through; review it [unchecked]", line(10))),
        (role("app-x", "      components: [_proc/get_summary]\n      verbs: [POST]\n      arguments: {year: x}\n"), "spec.grants[0].arguments.year: the value is not of type integer [type_mismatch]".into()),
        (role("app-x", "      components: [_table/custmers]\n      verbs: [GET]\n"), format!("{}: AccessRole app-x: spec.grants[0].components[0]: db declares no component \"_table/custmers\"; did you mean \"_table/customers\"? [unknown_component]", line(7))),
        (role("app-x", "      components: [_view/*]\n      verbs: [GET]\n"), "[unknown_component]".into()),
        (role("app-x", "      components: ['_table/c*']\n      verbs: [GET]\n"), "[invalid_component]".into()),
        (role("app-x", &format!("{GET}{read}")).replace("    - service: db\n      components: [_table/customers]\n      verbs: [GET]\n      fields: {read: [id, region]}", "    - service: bd\n      components: [_table/customers]\n      verbs: [GET]"), "spec.grants[0].service: there is no DataService \"bd\"; did you mean \"db\"? [unknown_service]".into()),
        (role("ai-x", "      components: ['*']\n      verbs: [DELETE]\n"), "AccessRole ai-x: spec.grants[0].components[0]: a role for AI agents may not use *".into()),
        (role("ai-x", &format!("{GET}      fields: {{read: ['*']}}\n")), "AccessRole ai-x: spec.grants[0].fields.read[0]: a role for AI agents may not use *".into()),
        (role("app-x", &format!("{GET}{read}    - service: db\n      components: ['_table/*']\n      verbs: [DELETE, GET]\n      fields: {{hide: [ssn]}}\n")), format!("{}: AccessRole app-x: spec.grants[1]: grants[0] already decides _table/customers for the same verb", line(10))),
        (role("app-x", "      components: ['files/*']\n      verbs: [GET]\n    - service: db\n      components: ['files/a/b']\n      verbs: [GET]\n"), "[grant_overlap]".into()),
        (role("x", &format!("{GET}{read}")), "[role_prefix]".into()),
        (role("app-x", "      components: [_table/customers]\n      verbs: [POST]\n"), "[write_missing]".into()),
        (format!("{BASE}---\nkind: AccessRole\nmetadata: {{name: app-x}}\nspec: {{active: false}}\n"), format!("{}: warning: AccessRole app-x: spec.active: the role is inactive", line(3))),
        (format!("{BASE}---\nkind: AccessRole\nmetadata: {{name: app-x}}\nspec: {{}}\n"), "[role_never_grants]".into()),
        (role("app-x", "      components: [_table/customers]\n      verbs: []\n"), "no grant has verbs and components; the role can never allow anything [role_never_grants]".into()),
        (format!("{BASE}---\nkind: AccessRole\nmetadata: {{name: ai-support}}\nspec: {{}}\n"), format!("{}: AccessRole ai-support: metadata.name: the name is already taken by p.yaml:25; this document is left out [duplicate_name]", line(2))),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-suport, subjects: [{{user: a}}]}}\n"), format!("{}: AccessBinding b: spec.role: there is no AccessRole \"ai-suport\"; did you mean \"ai-support\"? [unknown_role]", line(3))),
        (format!("{}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: app-x, subjects: [{{user: a}}]}}\n", get("")), "AccessBinding b: spec.role: AccessRole \"app-x\" is left out because of its own errors [unknown_role]".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{user: a, group: b}}]}}\n"), "spec.subjects[0]: a subject has exactly one of".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{token: a}}]}}\n"), "[invalid_subject]".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{anyUser: false}}]}}\n"), "[invalid_subject]".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{key: tol}}]}}\n"), "there is no AccessKey \"tol\"; did you mean \"tool\"? [unknown_key]".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: []}}\n"), "[never_matches]".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{user: a}}], from: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z}}\n"), "[time_range]".into()),
        (format!("{}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: admin-x, subjects: [{{agent: bot}}]}}\n", role("admin-x", &format!("{GET}{read}"))), "warning: AccessBinding b: spec.subjects[0]: an admin- role is bound to an agent".into()),
        (BASE.replace("{user: email,", "{user: email, tenant: org,"), "warning: AccessBinding support: spec: the role is held in every tenant; name the tenants if that is not meant [binding_without_tenants]".into()),
        (format!("{BASE}---\nkind: AccessKey\nmetadata: {{name: k}}\nspec: {{hash: 'sha256:{:064}', role: ai-support}}\n", 1), "[duplicate_hash]".into()),
        (format!("{BASE}---\nkind: AccessRestriction\nmetadata: {{name: r}}\nspec: {{subjects: [{{user: a}}], effect: deny, services: [bd]}}\n"), "spec.services[0]: there is no DataService \"bd\"".into()),
        (format!("{BASE}---\nkind: AccessRestriction\nmetadata: {{name: r}}\nspec: {{subjects: [{{user: a}}], effect: deny, verbs: [GET]}}\n"), "[effect_mismatch]".into()),
        (format!("{BASE}---\nkind: AccessRestriction\nmetadata: {{name: r}}\nspec: {{subjects: [{{user: a}}], effect: allowOnly}}\n"), "[effect_mismatch]".into()),
        (format!("{BASE}---\nkind: DataService\nmetadata: {{name: db2}}\nspec: {{dialect: http, match: [{{hosts: [DATA.example.com], path: /api/v2/db/}}]}}\n"), format!("{}: DataService db2: spec.match[0]: DataService \"db\" already has data.example.com with path \"/api/v2/db/\" [match_overlap]", line(3))),
        (BASE.replace("key: [id]", "key: [idd]"), "spec.components._table/Customers.key[0]: unknown field \"idd\"".into()),
        (BASE.replace("customer_id: _table/orders", "customer_id: _table/order"), "[unknown_component]".into()),
        (BASE.replace("    _table/orders:", "    _table/customers:"), "[duplicate_component]".into()),
        (BASE.replace("path: /api/v2/db}", "path: /api/../db}"), "[invalid_match]".into()),
        (BASE.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  upstream: {headers: {Host: user}}"), "[invalid_header]".into()),
        (BASE.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  upstream: {keepHeaders: [Cookie]}"), "spec.upstream.keepHeaders[0]: cookies have a setting of their own; say cookies: true [invalid_header]".into()),
        (BASE.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  upstream: {keepHeaders: [x-doorward-user]}"), "[invalid_header]".into()),
        (BASE.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  upstream: {keepHeaders: [x-request-id]}"), "[never_removed]".into()),
        (BASE.replace("hosts: [data.example.com]", "hosts: ['data.example.com:443']"), "[invalid_match]".into()),
        (BASE.replace("hosts: [data.example.com]", "hosts: ['user@data.example.com']"), "[invalid_match]".into()),
        (BASE.replace("hosts: [data.example.com]", "hosts: ['*.[::1]']"), "[invalid_match]".into()),
        (format!("{BASE}---\nkind: AccessKey\nmetadata: {{name: k2}}\nspec: {{hash: 'sha256:{:064}', role: ai-support, tenant: 'acme '}}\n", 2), "spec.tenant: the value begins or ends with white space".into()),
        (format!("{BASE}---\nkind: AccessKey\nmetadata: {{name: k2}}\nspec: {{hash: 'sha256:{:064}', role: ai-support, agent: \"\\u00a0bot\"}}\n", 2), "spec.agent: the value begins or ends with white space".into()),
        (format!("{BASE}---\nkind: AccessKey\nmetadata: {{name: k2}}\nspec: {{hash: 'sha256:{:064}', role: ai-support, attributes: {{a: [x, ' ']}}}}\n", 2), "spec.attributes.a: the value begins or ends with white space".into()),
        (format!("{BASE}---\nkind: AccessKey\nmetadata: {{name: k2}}\nspec: {{hash: 'sha256:{:064}', role: ai-support, hosts: ['a@b']}}\n", 2), "spec.hosts: a host is an exact authority".into()),
        (format!("{BASE}---\nkind: AccessRestriction\nmetadata: {{name: r}}\nspec: {{subjects: [{{user: 'a '}}], effect: deny}}\n"), "spec.subjects[0]: the value begins or ends with white space".into()),
        (format!("{BASE}---\nkind: AccessBinding\nmetadata: {{name: b}}\nspec: {{role: ai-support, subjects: [{{user: a}}], tenants: [' acme']}}\n"), "spec.tenants: the value begins or ends with white space".into()),
        (BASE.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  upstream: {headers: {x-dept: {attribute: dept}}}"), "[attribute_unmapped]".into()),
        (BASE.replace("algorithms: [ES256, RS256]", "algorithms: [ES256, HS256]"), "p.yaml:7: IdentityProvider corp: spec.algorithms: HMAC and public-key algorithms cannot be mixed".into()),
        (BASE.replace("{region: region}", "{region: region, name: cn}"), "[attribute_reserved]".into()),
        (BASE.replace("audiences: [data-api]", "audiences: []"), "spec.audiences: name at least one audience".into()),
        (BASE.replace("  audiences: [data-api]\n", ""), "spec.audiences: name at least one audience, or tokens meant for others would be accepted; the word any alone demands none [missing_field]".into()),
        (BASE.replace("audiences: [data-api]", "audiences: [any]"), "spec.audiences: this names an audience called any; to demand none, write audiences: any".into()),
        (BASE.replace("audiences: [data-api]", "audiences: any\n  audienceClaim: azp"), "[audience_conflict]".into()),
        (BASE.replace("  audiences", "  audienceClaim: []\n  audiences"), "spec.audienceClaim: name a claim".into()),
        (BASE.replace("  issuer: https://idp.example.com\n", ""), "spec.issuer: name the issuer: the exact iss of its tokens [missing_field]".into()),
        (BASE.replace("https://idp.example.com", "[]"), "spec.issuer: name the issuer".into()),
        (BASE.replace("  algorithms: [ES256, RS256]\n", ""), "spec.algorithms: name at least one algorithm".into()),
        (BASE.replace("https://idp.example.com", "'https://login.microsoftonline.com/{tenantid}/v2.0'"), "spec.issuer: {tenantid} in an issuer stands for each of tenants, and there are none; name the tenants [issuer_pattern]".into()),
        (BASE.replace("https://idp.example.com", "'https://idp.example.com/{tenant}'\n  tenants: [a]"), "spec.issuer: an issuer has no braces; only {tenantid} is known".into()),
        (BASE.replace("  audiences", "  tenants: [a]\n  audiences"), "spec.tenants: no issuer has {tenantid}".into()),
        (BASE.replace("https://idp.example.com", "'https://idp.example.com/{tenantid}'\n  tenants: [a/b]"), "spec.tenants[0]: a tenant has letters".into()),
        (BASE.replace("https://idp.example.com", "[https://idp.example.com, https://idp.example.org]"), "spec.issuer: keys are discovered at a single issuer, and there are several; give jwks [keys_source]".into()),
        (provider("{preset: entra, tenants: [common], audiences: [a]}"), "spec.tenants[0]: a tenant of Entra is written as its GUID in lower case".into()),
        (provider("{preset: entra, tenants: [AAAABBBB-0000-cccc-1111-dddd2222eeee], audiences: [a]}"), "spec.tenants[0]: a tenant of Entra".into()),
        (provider("{preset: entra, audiences: [a]}"), "name the tenants [issuer_pattern]".into()),
        (provider("{preset: entra, tenants: [aaaabbbb-0000-cccc-1111-dddd2222eeee]}"), "spec.audiences: name at least one audience".into()),
        (provider("{preset: okta, audiences: [a]}"), "spec.issuer: name the issuer".into()),
        (provider("{preset: github-actions, audiences: [a]}"), "spec.requiredClaims: every repository of GitHub has tokens of this issuer".into()),
        (provider("{preset: github-actions, audiences: [a], requiredClaims: [repository_owner_id]}"), "[shared_issuer]".into()),
        (provider("{preset: spiffe, audiences: [a], jwks: {uri: 'https://x'}}"), "spec.trustDomain: name the trust domain".into()),
        (provider("{preset: spiffe, trustDomain: 'spiffe://x', audiences: [a], jwks: {uri: 'https://x'}}"), "spec.trustDomain: a trust domain is its bare name".into()),
        (provider("{preset: spiffe, trustDomain: x, audiences: [a]}"), "spec.issuer: the issuer is no URL, so its keys cannot be discovered; give jwks".into()),
        (format!("{}---\nkind: IdentityProvider\nmetadata: {{name: twin}}\nspec: {{issuer: [https://b.example, https://idp.example.com], audiences: [a], algorithms: [ES256], jwks: {{uri: 'https://x'}}}}\n", BASE), "spec.issuer: IdentityProvider \"corp\" already has this issuer, https://idp.example.com [duplicate_issuer]".into()),
        (BASE.replace("  audiences", "  tokenTypes: []\n  audiences"), "spec.tokenTypes: name the types".into()),
        (BASE.replace("  audiences", "  tokenTypes: ['at jwt']\n  audiences"), "spec.tokenTypes: name the types".into()),
        (BASE.replace("  audiences", "  requiredClaims: ['']\n  audiences"), "spec.requiredClaims: a claim has a name".into()),
        (BASE.replace("  audiences", "  requiredClaims: [[]]\n  audiences"), "spec.requiredClaims: a claim has a name".into()),
        (BASE.replace("  audiences", "  delegation: {scopePrefix: ''}\n  audiences"), "spec.delegation.scopePrefix: an empty prefix".into()),
        (BASE.replace("  audiences", "  delegation: {scope: '', scopePrefix: 'role:'}\n  audiences"), "spec.delegation.scope: name a claim".into()),
        (BASE.replace("  audiences", "  delegation: {actor: ''}\n  audiences"), "spec.delegation.actor: name a claim".into()),
        (BASE.replace("  audiences", "  delegation: {actor: azp}\n  audiences"), "warning: IdentityProvider corp: spec.delegation.actor: the claim \"azp\" is text".into()),
        (BASE.replace("  audiences", "  jwks: {keepLastGood: 31d}\n  audiences"), "spec.jwks.keepLastGood".into()),
        (BASE.replace("  audiences", "  clockSkew: 11m\n  audiences"), "spec.clockSkew".into()),
        (BASE.replace("  audiences", "  jwks: {uri: 'https://x', file: y}\n  audiences"), "[keys_source]".into()),
        (BASE.replace("  audiences", "  jwks: {uri: 'http://x'}\n  audiences"), "[keys_insecure]".into()),
        (format!("{BASE}---\nkind: IdentityProvider\nmetadata: {{name: twin}}\nspec: {{issuer: 'https://idp.example.com', audiences: [a], algorithms: [ES256]}}\n"), "[duplicate_issuer]".into()),
        (format!("{BASE}---\nkind: PolicyTest\nmetadata: {{name: t}}\nspec: {{tests: [{{name: n, request: {{path: /}}, expect: {{decision: deny, code: field_denid}}}}]}}\n"), "unknown code \"field_denid\"; did you mean \"field_denied\"? [unknown_code]".into()),
    ];
    for (text, want) in cases {
        let got = found(&text, EC);
        assert!(got.contains(&want), "{}\n got {got}\nwant {want}", text.strip_prefix(BASE).unwrap_or(&text));
    }
}

#[test]
fn patterns_stand_for_what_is_declared_now_and_families_stay_patterns() {
    let text = role("app-x", "      components: ['*']\n      verbs: [GET]\n      fields: {hide: [ssn, total]}\n");
    let compiled = compile(&read(&text), &Keys(EC), "default");
    let bundle = &compiled.bundle;
    let name = |index: &u32| bundle.strings[*index as usize].clone();
    let role = bundle.roles.iter().find(|role| name(&role.name) == "app-x").unwrap();
    let show: Vec<_> = role
        .grants
        .iter()
        .map(|grant| {
            let fields = grant.read.as_ref().map(|read| read.fields.iter().map(name).collect::<Vec<_>>().join(","));
            format!("{} {}", name(&grant.pattern), fields.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        show,
        ["_proc/get_summary ", "_table/customers email,id,region,status", "_table/orders id,region", "files/* "],
        "{:?}",
        compiled.diagnostics
    );
    let exact = role_patterns("      components: [files/a/b, 'files/c/*']\n      verbs: [GET]\n");
    assert_eq!(exact, ["files/a/b", "files/c/*"]);
}

fn role_patterns(grant: &str) -> Vec<String> {
    let compiled = compile(&read(&role("app-x", grant)), &Keys(EC), "default");
    let name = |index: u32| compiled.bundle.strings[index as usize].clone();
    let role = compiled.bundle.roles.iter().find(|role| name(role.name) == "app-x");
    role.map(|role| role.grants.iter().map(|grant| name(grant.pattern)).collect()).unwrap_or_default()
}

#[test]
fn an_error_leaves_out_its_document_and_nothing_else() {
    let text = role("app-x", &format!("{GET}      fields: {{read: [nothing]}}\n"));
    let compiled = compile(&read(&text), &Keys(EC), "default");
    assert_eq!(compiled.bundle, compile(&read(BASE), &Keys(EC), "default").bundle);
    assert_eq!(compiled.accepted.len(), 5);
    assert!(!compiled.accepted.contains(&DocumentId { kind: Kind::AccessRole, name: "app-x".into() }));
}

#[test]
fn weak_wrong_or_private_keys_are_not_used_and_never_quoted() {
    let ec = |from: &str, to: &str| EC.replace(from, to);
    let cases: Vec<(String, &str)> = vec![
        (RSA.into(), ""),
        (EC.into(), ""),
        (String::new(), "the set holds no usable key"),
        (
            RSA.replace("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_", ""),
            "too weak",
        ),
        (RSA.replace("\"RS256\"", "\"ES256\""), "its alg does not fit its type"),
        (RSA.replace("\"RS256\"", "\"PS256\""), "not among the provider's algorithms"),
        (ec("\"kid\"", "\"d\":\"c2VjcmV0LXBhcnQ\",\"kid\""), "private key material"),
        (ec("\"kid\"", "\"use\":\"enc\",\"kid\""), "its use is not sig"),
        (ec("4Etl6SRW", "5Etl6SRW"), "its point is not on the curve"),
        (ec("P-256", "P-384"), "its point is not on the curve"),
        (ec("P-256", "secp256k1"), "its curve is not"),
        (r#"{"kty":"oct","k":"c2VjcmV0LXBhcnQ"}"#.into(), "fetched from a public place"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"c2VjcmV0LXBhcnQ"}"#.into(), "not an Ed25519 key"),
    ];
    for (key, want) in cases {
        let shown = key.clone();
        let got = found(BASE, Box::leak(format!("{key} ").into_boxed_str()));
        assert!(if want.is_empty() { got.is_empty() } else { got.contains(want) }, "{shown}\n got {got}\nwant {want}");
        assert!(!got.contains("c2VjcmV0"), "{got}");
    }
    assert!(found(BASE, "").contains("spec.issuer: the keys are not there yet"));
}

#[test]
fn secrets_are_as_long_as_their_hash() {
    let inline = |algorithm: &str, length: usize| {
        use base64::Engine;
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![7; length]);
        let jwks = format!("  jwks: {{inline: {{keys: [{{kty: oct, k: {secret}}}]}}}}\n  audiences");
        found(&BASE.replace("[ES256, RS256]", &format!("[{algorithm}]")).replace("  audiences", &jwks), "")
    };
    for (algorithm, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        assert_eq!(inline(algorithm, least), "", "{algorithm}");
        assert!(inline(algorithm, least - 1).contains("[key_skipped]"), "{algorithm}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_same_documents_in_any_order_give_the_same_bytes(
        order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut text = role("app-x", &format!("{GET}      fields: {{hide: [ssn]}}\n"));
        text.push_str("---\nkind: AccessRole\nmetadata: {name: app-x}\nspec: {}\n");
        for n in 0..4 {
            let priority = n % 2;
            text.push_str(&format!("---\nkind: AccessBinding\nmetadata: {{name: b{n}}}\nspec: {{role: app-x, priority: {priority}, subjects: [{{group: g{n}}}, {{claim: {{path: c{n}.d, equals: v}}}}]}}\n"));
        }
        text.push_str("---\nkind: AccessRestriction\nmetadata: {name: r}\nspec: {subjects: [{user: a}], effect: deny}\n");
        let documents = read(&text);
        prop_assert_eq!(documents.len(), 12);
        let shuffled: Vec<Document> = order.iter().map(|at| documents[*at].clone()).collect();
        let (one, two) = (compile(&documents, &Keys(EC), "default"), compile(&shuffled, &Keys(EC), "default"));
        prop_assert_eq!(&one.bytes, &two.bytes);
        prop_assert_eq!(one.digest, two.digest);
        prop_assert_eq!(one.diagnostics, two.diagnostics);
        prop_assert_eq!(one.accepted.len(), 11);
    }
}

#[test]
fn names_that_a_server_reads_as_something_else_are_told() {
    let customers =
        "fields: {id: integer, region: string, status: string, email: {type: string, class: pii}, ssn: string}";
    let db = |from: &str, to: &str| found(&BASE.replace(from, to), EC);
    let field = db(customers, &customers.replace("ssn:", "api_key: string, ssn:"));
    assert!(field.contains("warning: DataService db: spec.components._table/Customers.fields.api_key:"), "{field}");
    assert!(field.contains("[credential_name]"), "{field}");
    let years = "{year: integer, region: string}";
    for (parameters, code) in [
        ("{year: integer, region: string, session_token: string}", "[credential_name]"),
        ("{year: integer, region: string, the.year: integer}", "[invalid_name]"),
        ("{year: integer, region: string, 'a b': integer}", "[invalid_name]"),
    ] {
        let said = db(years, parameters);
        assert!(said.contains(code) && !said.contains("warning: DataService"), "{parameters}: {said}");
    }
    assert!(db("{orders_by_customer_id:", "{orders.by:").contains("[invalid_name]"));
    for (wrapper, code) in [
        ("data", ""),
        ("my-rows_2", ""),
        ("''", "[invalid_value]"),
        ("a.b", "[invalid_value]"),
        ("filter", "[invalid_value]"),
        ("api_key", "[invalid_value]"),
    ] {
        let said =
            db("  dialect: dreamfactory\n", &format!("  dialect: dreamfactory\n  resourcesWrapper: {wrapper}\n"));
        assert!(if code.is_empty() { said.is_empty() } else { said.contains(code) }, "{wrapper}: {said}");
    }
    let set =
        role("app-x", &format!("{GET}      fields: {{read: [id], write: [api_key]}}\n      set: {{api_key: w}}\n"))
            .replace(customers, &customers.replace("ssn:", "api_key: string, ssn:"));
    assert!(found(&set, EC).contains("spec.grants[0].set.api_key: servers take a credential"), "{}", found(&set, EC));
    let http = "kind: DataService\nmetadata: {name: web}\nspec:\n  dialect: http\n  match: [{path: /web}]\n  components:\n    orders:\n      fields: {id: integer}\n      operations: [{path: /orders, verbs: [GET], parameters: PARAMETERS}]\n";
    for (parameters, code) in [
        ("{a.b: string, a_b: string}", "[same_name]"),
        ("{access_token: string}", "[credential_name]"),
        ("{_method: string}", "[invalid_name]"),
        ("{/auth/api_key: {type: string, body: true}}", "[credential_name]"),
        ("{token: string, page: integer}", ""),
    ] {
        let said = found(&format!("{BASE}---\n{}", http.replace("PARAMETERS", parameters)), EC);
        assert!(if code.is_empty() { said.is_empty() } else { said.contains(code) }, "{parameters}: {said}");
    }
    let wrapped =
        http.replace("  dialect: http", "  dialect: http\n  resourcesWrapper: data").replace("PARAMETERS", "{}");
    assert!(found(&format!("{BASE}---\n{wrapped}"), EC).contains("[wrong_dialect]"));
}

/// DreamFactory casts what it compares and stores: literals that would become others are errors, and integers that may be
/// booleans to it a warning where rows are written.
#[test]
fn literals_that_dreamfactory_would_cast_to_others_are_told() {
    let service = "kind: DataService\nmetadata: {name: df}\nspec:\n  dialect: DIALECT\n  match: [{path: /api/v2/df}]\n  components:\n    _table/t:\n      fields: {id: integer, flag: boolean, level: {type: integer, bits: 16}, price: {type: decimal, digits: 20, scale: 3}, score: number, photo: binary}\n";
    let found = |dialect: &str, grant: &str| {
        let role = format!(
            "---\nkind: AccessRole\nmetadata: {{name: r}}\nspec:\n  lookups: {{prices: [1.5, 0.0000001]}}\n  grants:\n    - service: df\n      components: [_table/t]\n      fields: {{read: [id], write: [id, score]}}\n      {}\n",
            grant.replace(" | ", "\n      ")
        );
        let text = format!("apiVersion: doorward.dev/v1alpha1\n{}{role}", service.replace("DIALECT", dialect));
        let Parsed { documents, diagnostics } = parse_file("p.yaml", &text);
        assert_eq!(diagnostics, [], "{text}");
        let compiled = compile(&documents, &Keys(""), "default");
        let said = |found: &Diagnostic| (found.code, found.message.clone());
        let of_types = |(code, _): &(&str, String)| matches!(*code, "value_cast" | "integer_size" | "type_mismatch");
        compiled.diagnostics.iter().map(said).filter(of_types).collect::<Vec<_>>()
    };
    for (grant, field, why) in [
        ("verbs: [GET] | rows: price > 0.0000001", "price", "six places"),
        ("verbs: [GET] | rows: id = 1 OR NOT price IN (1, 123456789012.34)", "price", "six places"),
        ("verbs: [GET] | rows: score = 0.123456789012345", "score", "14 digits"),
        ("verbs: [GET] | rows: score = 123456789012345", "score", "14 digits"),
        ("verbs: [GET] | rows: level < 65536", "level", "more digits"),
        ("verbs: [GET] | rows: 'price IN ({role.prices})'", "price", "six places"),
        ("verbs: [POST] | set: {price: 0.0001}", "price", "more digits"),
        ("verbs: [POST] | set: {level: 70000}", "level", "more digits"),
        ("verbs: [POST] | set: {score: 0.123456789012345}", "score", "14 digits"),
    ] {
        let found = found("dreamfactory", grant);
        let told = |(code, message): &(&str, String)| {
            *code == "value_cast" && message.contains(&format!("\"{field}\"")) && message.contains(why)
        };
        assert!(found.iter().any(told), "{grant}: {found:?}");
    }
    for grant in [
        "verbs: [GET] | rows: id > 5 AND price = 1.5 AND score < 0.25 AND flag = true AND level > 3",
        "verbs: [GET, POST] | rows: id IN (0, 1) AND level > 3",
        "verbs: [GET, POST] | rows: id > 5 | check: id = 1",
        "verbs: [POST] | set: {id: 1, level: 7, price: 1.125, flag: true}",
    ] {
        assert_eq!(found("dreamfactory", grant), [], "{grant}");
    }
    for grant in [
        "verbs: [GET, PATCH] | rows: id > 5",
        "verbs: [POST] | rows: id = 7",
        "verbs: [POST] | check: id >= 1",
        "verbs: [POST] | set: {id: 2}",
        "verbs: [POST] | set: {id: '{key.name}'}",
    ] {
        let found = found("dreamfactory", grant);
        let told = |(code, message): &(&str, String)| *code == "integer_size" && message.contains("bits: 32");
        assert!(found.iter().any(told), "{grant}: {found:?}");
    }
    // Other servers cast nothing.
    assert_eq!(found("datasette", "verbs: [GET, POST] | rows: id > 5 AND price > 0.0000001"), []);
    // Nothing is compared with bytes, and none are preset.
    for grant in [
        "verbs: [GET] | rows: photo = 'aGk='",
        "verbs: [POST] | set: {photo: aGk=}",
        "verbs: [GET] | rows: photo = {user.name}",
    ] {
        assert!(found("dreamfactory", grant).iter().any(|(code, _)| *code == "type_mismatch"), "{grant}");
    }
}

#[test]
fn a_size_is_one_that_the_type_has() {
    for (field, sound) in [
        ("{type: decimal, digits: 12, scale: 2}", true),
        ("{type: decimal, digits: 12}", true),
        ("{type: integer, bits: 64}", true),
        ("{type: decimal, digits: 2, scale: 3}", false),
        ("{type: decimal, scale: 3}", false),
        ("{type: decimal, digits: 66}", false),
        ("{type: number, digits: 5}", false),
        ("{type: integer, bits: 1}", false),
        ("{type: number, bits: 32}", false),
    ] {
        let text = format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{name: df}}\nspec:\n  dialect: dreamfactory\n  match: [{{path: /api/v2/df}}]\n  components: {{_table/t: {{fields: {{a: {field}}}}}}}\n"
        );
        let Parsed { documents, diagnostics } = parse_file("p.yaml", &text);
        assert_eq!(diagnostics, [], "{text}");
        let compiled = compile(&documents, &Keys(""), "default");
        assert_eq!(!compiled.diagnostics.iter().any(Diagnostic::is_error), sound, "{field}");
        if sound {
            let declared = &compiled.bundle.services[0].components[0].fields[0];
            let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
            let size = tables.services()[0].components["_table/t"].fields[0].size;
            assert_eq!((size.bits, size.digits, size.scale), (declared.bits, declared.digits, declared.scale));
        }
    }
}
