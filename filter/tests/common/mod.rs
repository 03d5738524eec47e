//! A configured worker on the scripted host, a policy as users write it, and a control plane that acknowledges.
#![allow(dead_code, reason = "each test file uses a part")]

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use doorward_filter::{
    double::{Double, Exchange},
    worker::{SharedWorker, Worker},
};
use doorward_policy_compiler::{
    compile::{NoKeys, compile},
    document::{Severity, parse_file},
};
use doorward_proto::v1::{
    AuditAck, AuditBatch, AuditRecord, IntrospectResponse, Introspection, Kind, PolicyEnvelope, PolicyUpdate,
    introspect_response::Outcome,
};
use ed25519_compact::{KeyPair, Seed};
use prost::Message;
use sha2::{Digest, Sha256};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::OnceLock,
};

/// Unix seconds of all walks.
pub const NOW: u64 = 1_800_000_000;
/// The root context.
pub const ROOT: u32 = 1;
/// A path that `support` may read.
pub const PATH: &str = "/api/v2/mysql/_table/people?fields=id,name,email";
/// What upstream answers: more than the caller may see.
pub const ROWS: &str = r#"{"resource":[{"id":1,"name":"Ann","email":"ann.long.name@example.com","ssn":"555-00-1234"},{"id":2,"name":"Bob","email":"bob.long.name@example.com","ssn":"555-00-9876"}]}"#;
/// What of it no caller may see.
pub const SECRETS: [&str; 4] = ["555-00-1234", "555-00-9876", "ann.long.name@", "bob.long.name@"];
/// The head of that answer.
pub const JSON: [(&str, &str); 4] =
    [(":status", "200"), ("content-type", "application/json"), ("content-length", "170"), ("etag", "\"v1\"")];

const POLICY: &str = "
apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: { name: corp }
spec:
  issuer: https://idp.example.com/
  audiences: [data-api]
  algorithms: [EdDSA]
  jwks: { inline: { keys: [{ kty: OKP, crv: Ed25519, kid: a, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] } }
  claims: { user: email, attributes: { region: region } }
---
kind: DataService
metadata: { name: crm }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/mysql }]
  components:
    _table/people: { key: [id], fields: { id: integer, name: string, region: string, email: string, ssn: string } }
---
kind: AccessRole
metadata: { name: support }
spec:
  grants:
    - { service: crm, components: [_table/people], verbs: [GET], rows: \"region = {user.region}\",
        fields: { read: [id, name, email], mask: { email: email } } }
    - { service: crm, components: [_table/people], verbs: [POST], fields: { read: [id], write: [name] } }
---
kind: AccessBinding
metadata: { name: alice }
spec: { role: support, subjects: [{ user: alice@example.com }] }
";

/// A token of alice, signed with the private half of the provider's key (RFC 8037, appendix A).
pub fn token() -> String {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let claims = format!(
        r#"{{"iss":"https://idp.example.com/","aud":"data-api","sub":"alice","email":"alice@example.com","region":"EU","iat":{},"exp":{},"jti":"t1"}}"#,
        NOW - 60,
        NOW + 600
    );
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"a","typ":"JWT"}"#);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = KeyPair::from_seed(Seed::from_slice(&seed).unwrap()).sk.sign(&text, None);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// A request of alice's, who also claims to be somebody else.
pub fn request(method: &'static str, path: &'static str, token: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (":method", method.to_owned()),
        (":authority", "data.example.com".to_owned()),
        (":path", path.to_owned()),
        ("x-doorward-user", "mallory".to_owned()),
    ];
    if !token.is_empty() {
        headers.push(("authorization", format!("Bearer {token}")));
    }
    headers
}

/// What the provider says of alice's opaque token.
pub const ALICE: &str = r#"{"active":true,"sub":"alice","aud":"data-api","email":"alice@example.com","region":"EU"}"#;

/// An answer of the control plane's with these claims.
pub fn claims(json: &str) -> Vec<u8> {
    IntrospectResponse { outcome: Some(Outcome::Claims(json.as_bytes().to_vec())) }.encode_to_vec()
}

/// Borrowed names and values.
pub fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The compiled policy.
fn bundle(required: bool, asks: bool) -> &'static [u8] {
    static BUNDLES: [OnceLock<Vec<u8>>; 4] = [const { OnceLock::new() }; 4];
    BUNDLES[usize::from(required) + 2 * usize::from(asks)].get_or_init(|| {
        let text = match required {
            true => POLICY.replace("  dialect: dreamfactory", "  dialect: dreamfactory\n  audit: required"),
            false => POLICY.to_owned(),
        };
        let parsed = parse_file("policy.yaml", &text);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        let mut compiled = compile(&parsed.documents, &NoKeys, "default");
        let error = compiled.diagnostics.iter().find(|found| found.severity == Severity::Error);
        assert!(error.is_none(), "{error:?}");
        if !asks {
            return compiled.bytes;
        }
        for provider in &mut compiled.bundle.providers {
            provider.introspection = Some(Introspection { cache_seconds: 30, ..Default::default() });
        }
        compiled.bundle.encode_to_vec()
    })
}

/// A worker on its host.
pub struct World {
    pub proxy: Double,
    pub worker: SharedWorker,
    pair: KeyPair,
    epoch: Cell<u64>,
    required: bool,
    /// The provider is asked about opaque tokens.
    pub asks: Cell<bool>,
    /// Every record that the control plane got.
    pub records: Vec<AuditRecord>,
    /// Numbers of the records that it acknowledged.
    pub acknowledged: u64,
}

impl World {
    /// Nothing has been called yet. `required`: the policy says `audit: required`.
    pub fn new(required: bool) -> World {
        let proxy = Double::default();
        proxy.set().now_millis = NOW * 1000;
        World {
            proxy,
            worker: Rc::new(RefCell::new(Worker::new(ROOT))),
            pair: KeyPair::from_seed(Seed::new([7; 32])),
            epoch: Cell::default(),
            required,
            asks: Cell::default(),
            records: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Configured, with policy in force.
    pub fn ready(required: bool) -> World {
        let world = World::new(required);
        world.configure();
        world.tick(0);
        world.push();
        world
    }

    /// As [`World::ready`], with a provider that is asked.
    pub fn asking(required: bool) -> World {
        let world = World::new(required);
        world.asks.set(true);
        world.configure();
        world.tick(0);
        world.push();
        world
    }

    pub fn configure(&self) {
        let key = STANDARD.encode(*self.pair.pk);
        let json = format!(
            r#"{{"controlPlane":{{"cluster":"cp"}},"node":"n","policyKeys":[{{"id":"k","publicKey":"{key}"}}],"bodies":"stop-iteration","maxBodyBytes":1000}}"#
        );
        self.proxy.configure(&self.worker, ROOT, &json);
    }

    pub fn tick(&self, later: u64) {
        self.proxy.tick(&self.worker, ROOT, later);
    }

    /// Pushes the policy over the stream, if it is open.
    pub fn push(&self) {
        self.epoch.set(self.epoch.get() + 1);
        let payload = bundle(self.required, self.asks.get());
        let digest = Sha256::digest(payload).to_vec();
        let envelope = PolicyEnvelope {
            scope: "default".into(),
            epoch: self.epoch.get(),
            digest: digest.clone(),
            kind: Kind::Snapshot.into(),
            payload_sha256: digest,
            key_id: "k".into(),
            ..Default::default()
        }
        .encode_to_vec();
        let signature = self.pair.sk.sign([b"doorward.dev/policy/v1\0".as_slice(), &envelope].concat(), None).to_vec();
        let update =
            PolicyUpdate { nonce: "1".into(), envelope, signature, payload: payload.to_vec(), ..Default::default() };
        if let Some(token) = self.proxy.token("Subscribe") {
            self.proxy.deliver(&self.worker, ROOT, token, update.encode_to_vec());
        }
    }

    /// The control plane takes what was sent, and acknowledges it.
    pub fn acknowledge(&mut self) {
        let mut emitter = String::new();
        for batch in self.proxy.take_sent("Report") {
            let batch = AuditBatch::decode(batch.as_slice()).unwrap();
            emitter.clone_from(&batch.emitter);
            for record in &batch.records {
                let record = AuditRecord::decode(record.as_slice()).unwrap();
                self.acknowledged = self.acknowledged.max(record.sequence);
                self.records.push(record);
            }
        }
        if let (false, Some(token)) = (emitter.is_empty(), self.proxy.token("Report")) {
            let ack = AuditAck { emitter, sequence: self.acknowledged, ..Default::default() };
            self.proxy.deliver(&self.worker, ROOT, token, ack.encode_to_vec());
        }
    }

    pub fn exchange(&self, context: u32) -> Exchange<'_> {
        Exchange::new(&self.proxy, &self.worker, ROOT, context)
    }
}
