//! Every command that needs no server, as a person runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

const POLICY: &str = r#"apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: {name: dev}
spec:
  issuer: https://dev.doorward.local
  audiences: [doorward]
  algorithms: [ES256]
  jwks: {uri: "https://dev.doorward.local/jwks"}
  claims: {user: sub, groups: groups, attributes: {region: region}}
---
kind: DataService
metadata: {name: db}
spec:
  dialect: dreamfactory
  match: [{hosts: [data.example.com], path: /api/v2/db}]
  components:
    _table/customers:
      key: [id]
      fields: {id: integer, region: string, status: string, ssn: string}
---
kind: AccessRole
metadata: {name: ai-support}
spec:
  grants:
    - service: db
      components: [_table/customers]
      verbs: [GET]
      fields: {read: [id, region, status]}
      rows: region = {user.region}
---
kind: AccessBinding
metadata: {name: support}
spec: {role: ai-support, subjects: [{group: support}]}
"#;
const TESTS: &str = r#"---
kind: PolicyTest
metadata: {name: support}
spec:
  tests:
    - name: sees its region
      as: {user: john, groups: [support], attributes: {region: EMEA}}
      request: {url: "https://data.example.com/api/v2/db/_table/customers"}
      expect: {decision: rewrite, role: ai-support}
    - name: sees no social security number
      as: {user: john, groups: [support], attributes: {region: EMEA}}
      request: {url: "https://data.example.com/api/v2/db/_table/customers?fields=ssn"}
      expect: {decision: deny, code: field_denied}
"#;
const URL: &str = "https://data.example.com/api/v2/db/_table/customers";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }
}

fn run(directory: &Path, args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward")).args(args).current_dir(directory).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn policy(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("policies")).unwrap();
    std::fs::write(directory.path().join("policies/all.yaml"), text).unwrap();
    directory
}

#[test]
fn validate_accepts_a_sound_policy_and_names_file_and_line_of_an_error() {
    let sound = policy(&format!("{POLICY}{TESTS}"));
    let ran = run(sound.path(), &["validate", "policies"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "valid: 5 documents in 1 files, 0 warnings\n"), "{}", ran.err);

    let wrong = policy(&POLICY.replace("fields: {read: [id, region, status]}", "feilds: {}"));
    let ran = run(wrong.path(), &["validate", "policies"]);
    let line = POLICY.lines().position(|line| line.contains("fields: {read")).unwrap() + 1;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains(&format!("policies/all.yaml:{line}: AccessRole ai-support: spec.grants[0].feilds")),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains('\x1b'), "no colour where there is no terminal");
    let json = run(wrong.path(), &["validate", "policies", "--format", "json"]).json();
    assert_eq!((&json["valid"], &json["diagnostics"][0]["line"]), (&Value::Bool(false), &Value::from(line)));
    assert!(run(wrong.path(), &["validate", "policies", "--color", "always"]).out.contains("\x1b["));
}

#[test]
fn exit_codes_tell_a_wrong_command_line_from_a_wrong_path() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(directory.path(), &["validate"]).code, 2);
    let ran = run(directory.path(), &["validate", "nowhere"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: cannot read nowhere"), "{}", ran.err);
}

#[test]
fn doctor_reads_a_dump_from_a_file_or_standard_input_and_tells_by_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let empty = r#"{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"},
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"}]}"#;
    std::fs::write(directory.path().join("dump.json"), empty).unwrap();
    std::fs::write(directory.path().join("other.json"), "{}").unwrap();
    let ran = run(directory.path(), &["doctor", "dump.json"]);
    assert!(ran.code == 1 && ran.out.contains("error: filter_missing\n"), "{}", ran.out);
    assert_eq!(run(directory.path(), &["doctor", "dump.json", "--allow", "filter_missing", "--strict"]).code, 0);
    let json = run(directory.path(), &["doctor", "dump.json", "--output", "json"]).json();
    assert_eq!((&json["errors"], &json["findings"][0]["code"]), (&1.into(), &"filter_missing".into()));

    let file = std::fs::File::open(directory.path().join("dump.json")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    let output = command.args(["doctor", "-"]).stdin(Stdio::from(file)).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), ran.out);

    for (args, code, part) in [
        (&["doctor", "other.json"] as &[&str], 1, "cannot check other.json: it is not a configuration dump"),
        (&["doctor", "nowhere"], 1, "cannot read nowhere"),
        (&["doctor", "."], 1, "it is no regular file"),
        (&["doctor"], 2, "required"),
        (&["doctor", "dump.json", "--admin", "http://127.0.0.1:1"], 2, "cannot be used with"),
        (&["doctor", "--admin", "ftp://127.0.0.1"], 1, "not an address"),
    ] {
        let ran = run(directory.path(), args);
        assert!(ran.code == code && ran.err.contains(part), "{args:?}: {}", ran.err);
    }
}

#[test]
fn compile_writes_the_bundle_that_its_digest_names_and_nothing_on_errors() {
    use sha2::Digest as _;
    let sound = policy(POLICY);
    let ran = run(sound.path(), &["compile", "policies", "-o", "bundle.bin"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let bytes = std::fs::read(sound.path().join("bundle.bin")).unwrap();
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(ran.out.contains(&digest) && ran.out.contains("1 services, 1 roles, 1 bindings"), "{}", ran.out);
    let wrong = policy(&POLICY.replace("role: ai-support", "role: ai-suport"));
    assert_eq!(run(wrong.path(), &["compile", "policies", "-o", "bundle.bin"]).code, 1);
    assert!(!wrong.path().join("bundle.bin").exists());
}

#[test]
fn explain_shows_the_rewritten_request_and_the_line_that_rewrote_it() {
    let directory = policy(POLICY);
    let asker = ["--as-user", "john", "--group", "support", "--attribute", "region=EMEA"];
    let ran = run(directory.path(), &[&["explain", "policies", URL, "--format", "json"][..], &asker].concat());
    let json = ran.json();
    assert_eq!((ran.code, &json["decision"], &json["role"]), (0, &"rewrite".into(), &"ai-support".into()), "{json:#}");
    let path = json["upstream"]["path"].as_str().unwrap();
    assert!(path.contains("region") && path.contains("EMEA"), "{path}");
    let line = POLICY.lines().position(|line| line.contains("rows:")).unwrap() + 1;
    let steps = json["trace"].as_array().unwrap();
    let row = steps.iter().find(|step| step["step"] == "row").unwrap();
    assert_eq!((&row["file"], &row["line"]), (&"policies/all.yaml".into(), &line.into()), "{row:#}");
    let text = run(directory.path(), &[&["explain", "policies", URL][..], &asker].concat());
    assert!(
        text.out.starts_with("REWRITE\n") && text.out.contains(&format!("policies/all.yaml:{line}")),
        "{}",
        text.out
    );
}

#[test]
fn explain_denies_with_code_and_exit_code_3() {
    let directory = policy(POLICY);
    let url = format!("{URL}?fields=ssn");
    let ran = run(
        directory.path(),
        &["explain", "policies", &url, "--as-user", "j", "--group", "support", "--attribute", "region=a"],
    );
    assert_eq!(ran.code, 3);
    assert!(ran.out.starts_with("DENY field_denied (403)\n"), "{}", ran.out);
    let anonymous = run(directory.path(), &["explain", "policies", URL]);
    assert_eq!(anonymous.code, 3);
    assert!(anonymous.out.starts_with("DENY credential_missing (401)\n"), "{}", anonymous.out);
    assert_eq!(run(directory.path(), &["explain", "policies", "not-a-url", "--as-user", "j"]).code, 1);
}

#[test]
fn explain_really_verifies_a_token() {
    let directory = policy(POLICY);
    let at = directory.path();
    let keys = run(at, &["dev", "token", "--jwks"]);
    assert_eq!(keys.code, 0, "{}", keys.err);
    std::fs::write(at.join("jwks.json"), &keys.out).unwrap();
    let mode = std::fs::metadata(at.join("doorward-dev-key.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let private: Value =
        serde_json::from_str(&std::fs::read_to_string(at.join("doorward-dev-key.json")).unwrap()).unwrap();
    assert!(!keys.out.contains(private["d"].as_str().unwrap()), "the key set is public");
    let claims = ["--user", "john", "--group", "support", "--claim", "region=EMEA"];
    let token = run(at, &[&["dev", "token"][..], &claims].concat());
    let explain = |token: &str| {
        run(at, &["explain", "policies", URL, "--jwks", "dev=jwks.json", "--token", token, "--format", "json"])
    };
    let good = explain(token.out.trim());
    assert_eq!((good.code, &good.json()["user"]), (0, &"john".into()), "{}{}", good.out, good.err);
    assert!(!good.out.contains(token.out.trim()), "a token is never printed");
    // The same claims from another key.
    let forged = run(at, &[&["dev", "token", "--key-file", "other.json"][..], &claims].concat());
    let refused = explain(forged.out.trim());
    assert_eq!((refused.code, &refused.json()["code"]), (3, &"credential_invalid".into()));
    let elsewhere = run(at, &[&["dev", "token", "--audience", "another"][..], &claims].concat());
    assert_eq!(explain(elsewhere.out.trim()).json()["code"], "credential_invalid");
}

#[test]
fn identity_check_says_what_each_provider_makes_of_a_token_and_never_prints_it() {
    let other = "---\nkind: IdentityProvider\nmetadata: {name: other}\nspec: {preset: okta, issuer: 'https://o.okta.com', audiences: [a]}\n";
    let directory = policy(&format!("{POLICY}{other}"));
    let at = directory.path();
    std::fs::write(at.join("jwks.json"), run(at, &["dev", "token", "--jwks"]).out).unwrap();
    let mint = |more: &[&str]| {
        let usual = ["dev", "token", "--user", "john", "--group", "support", "--claim", "region=EMEA", "--act", "bot"];
        run(at, &[&usual[..], more].concat()).out
    };
    let token = mint(&[]);
    std::fs::write(at.join("token.jwt"), format!("Bearer {token}")).unwrap();
    let good = run(at, &["identity", "check", "@token.jwt", "policies", "--jwks", "dev=jwks.json"]);
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    for part in [
        "IdentityProvider dev  ACCEPTED",
        "user       john",
        "groups     support",
        "agents     bot",
        "EMEA",
        "IdentityProvider other  REFUSED credential_invalid",
        "that of the provider 'dev'",
    ] {
        assert!(good.out.contains(part), "{part}\n{}", good.out);
    }
    let check = |token: &str, more: &[&str]| {
        run(at, &[&["identity", "check", token, "policies", "--output", "json"][..], more].concat())
    };
    let json = check(token.trim(), &["--jwks", "dev=jwks.json"]).json();
    assert_eq!((&json["verdict"], &json["chosen"]), (&"accepted".into(), &"dev".into()), "{json:#}");
    assert_eq!(json["providers"][0]["principal"]["user"], "john");
    let keyless = check(token.trim(), &[]);
    assert_eq!((keyless.code, &keyless.json()["verdict"]), (3, &"unverified".into()), "{}", keyless.out);
    let wrong = mint(&["--audience", "another", "--expires", "2h"]);
    let refused = check(wrong.trim(), &["--jwks", "dev=jwks.json"]);
    let failed: Vec<String> = refused.json()["providers"][0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["verdict"] == "deny")
        .map(|step| step["step"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((refused.code, failed), (3, vec!["lifetime".to_owned(), "audience".to_owned()]), "{}", refused.out);
    let later = check(token.trim(), &["--jwks", "dev=jwks.json", "--at", "2099-01-01T00:00:00Z"]);
    assert_eq!((later.code, &later.json()["providers"][0]["code"]), (3, &"credential_expired".into()));
    assert_eq!(check("no-token", &[]).code, 3);
    let unquoted = run(at, &["identity", "check", "Bearer", token.trim(), "policies"]);
    let swapped = run(at, &["identity", "check", "policies", token.trim()]);
    assert!(unquoted.err.contains("quotes") && swapped.err.contains("comes first"), "{}{}", unquoted.err, swapped.err);
    assert_eq!((unquoted.code, swapped.code), (1, 1));
    assert_eq!(check("@nowhere", &[]).code, 1);
    assert_eq!(run(at, &["identity", "check", "x", "policies", "--at", "noon"]).code, 2);
    for ran in [&good, &keyless, &refused, &later, &unquoted, &swapped] {
        for part in token.trim().split('.').chain(wrong.trim().split('.')) {
            assert!(!ran.out.contains(part) && !ran.err.contains(part), "a token is never printed, nor a part of it");
        }
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["identity", "check", "-", "policies", "--jwks", "dev=jwks.json"])
        .current_dir(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), token.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "from standard input");
}

#[test]
fn validate_shows_providers_as_they_stand_after_their_presets() {
    let preset = "---\nkind: IdentityProvider\nmetadata: {name: idp}\nspec: {preset: keycloak, issuer: 'https://sso.example.com/realms/corp', audiences: [data-api], maxTokenAge: 5m}\n";
    let directory = policy(&format!("{POLICY}{preset}"));
    let shown = run(directory.path(), &["validate", "policies", "--show"]);
    assert_eq!(shown.code, 0, "{}", shown.out);
    for part in [
        "# IdentityProvider idp\nspec:\n",
        "  preset: \"keycloak\"\n",
        "  maxTokenAge: \"5m\"\n",
        "    roles: \"realm_access.roles\"\n",
        "  requiredClaims: [\"azp\",{\"typ\":\"Bearer\"}]\n",
    ] {
        assert!(shown.out.contains(part), "{part}\n{}", shown.out);
    }
    // What is shown is a spec.
    let spec = shown.out.split("# IdentityProvider idp\n").nth(1).unwrap().split("\n#").next().unwrap();
    let spec = spec.split("\nvalid").next().unwrap();
    let again = policy(&format!("{POLICY}---\nkind: IdentityProvider\nmetadata: {{name: idp}}\n{spec}\n"));
    let twice = run(again.path(), &["validate", "policies", "--show", "--format", "json"]).json();
    let once = run(directory.path(), &["validate", "policies", "--show", "--format", "json"]).json();
    assert_eq!(once["providers"]["idp"], twice["providers"]["idp"], "{spec}");
    assert_eq!(once["providers"]["idp"]["requiredClaims"][1]["typ"], "Bearer");
}

#[test]
fn a_development_key_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(directory.path(), &["dev", "token", "--user", "a", "--act", "x", "--act", "y"]).code, 0);
    let key = directory.path().join("doorward-dev-key.json");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = run(directory.path(), &["dev", "token", "--user", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
}

#[test]
fn test_passes_and_fails_with_a_difference() {
    let good = policy(&format!("{POLICY}{TESTS}"));
    let ran = run(good.path(), &["test", "policies"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.ends_with("2 passed, 0 failed\n"), "{}", ran.out);
    let bad = policy(&format!("{POLICY}{}", TESTS.replace("decision: deny, code: field_denied", "decision: allow")));
    let ran = run(bad.path(), &["test", "policies"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("- decision: allow") && ran.out.contains("+ decision: deny"), "{}", ran.out);
    assert!(ran.out.contains("+ code: field_denied") && ran.out.ends_with("1 passed, 1 failed\n"), "{}", ran.out);
    let json = run(bad.path(), &["test", "policies", "--format", "json", "--only", "region"]).json();
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &0.into()));
    let none = policy(POLICY);
    assert_eq!(run(none.path(), &["test", "policies"]).code, 1, "a run without tests proves nothing");
}

#[test]
fn a_created_key_works_until_it_is_revoked() {
    let directory = policy(POLICY);
    let at = directory.path();
    let create = [
        "key",
        "create",
        "--name",
        "tool",
        "--role",
        "ai-support",
        "--expires",
        "1h",
        "--network",
        "10.0.0.0/8",
        "--write",
        "policies/keys.yaml",
    ];
    let ran = run(at, &create);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let key = ran.out.trim();
    assert!(key.starts_with("dwk_") && key.len() == 47, "{key}");
    let file = || std::fs::read_to_string(at.join("policies/keys.yaml")).unwrap();
    assert!(!file().contains(key), "the policy holds the hash only");
    assert_eq!(run(at, &create).code, 1, "a name is taken once");
    let header = format!("x-doorward-key: {key}");
    let ask = |source: &str| {
        run(at, &["explain", "policies", URL, "-H", &header, "--source", source, "--format", "json"]).json()["code"]
            .clone()
    };
    // The key is known and its role holds; its row filter needs an attribute that a key does not have.
    assert_eq!(ask("10.1.2.3"), "attribute_missing");
    assert_eq!(ask("192.0.2.1"), "credential_locked");
    std::fs::write(at.join("policies/keys.yaml"), format!("# keep me\n{}", file())).unwrap();
    let ran = run(at, &["key", "revoke", "tool", "--policies", "policies"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(file().starts_with("# keep me\n") && file().contains("revoked: true"), "{}", file());
    assert_eq!(ask("10.1.2.3"), "credential_revoked");
    assert!(run(at, &["key", "revoke", "tool", "--policies", "policies"]).out.contains("already"));
    assert_eq!(run(at, &["key", "revoke", "nobody", "--policies", "policies"]).code, 1);
    let left: Vec<_> = std::fs::read_dir(at.join("policies")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
    let printed = run(at, &["key", "create", "--name", "other", "--role", "ai-support"]);
    let (key, document) = printed.out.split_once("\n---\n").unwrap();
    assert!(key.starts_with("dwk_") && document.contains("kind: AccessKey"), "{document}");
}

#[test]
fn schema_and_completion_print_and_end_cleanly_where_the_reader_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    assert!(run(directory.path(), &["schema"]).out.contains("## AccessRole"));
    assert!(run(directory.path(), &["schema", "--format", "json"]).json()["AccessRole"]["properties"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(directory.path(), &["completion", shell]).out.contains("validate"), "{shell}");
    }
    for args in [&["schema"][..], &["completion", "bash"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn every_command_explains_itself_with_examples_and_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    for command in [
        "validate",
        "compile",
        "explain",
        "test",
        "key create",
        "key revoke",
        "proxies",
        "doctor",
        "audit tail",
        "audit query",
        "audit export",
        "audit cursors list",
        "audit cursors create",
        "audit cursors remove",
        "dev token",
        "schema",
        "completion",
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let ran = run(directory.path(), &args);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("EXAMPLES:") && ran.out.contains("EXIT CODES:"), "{command}: {}", ran.out);
    }
}
