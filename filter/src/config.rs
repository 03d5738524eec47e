//! The plugin's configuration: typed, closed where it is not valid.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_policy::engine::Unmatched;
use serde::Deserialize;

/// The environment variable of the VM that holds the key of tokenising masks.
pub const TOKENIZATION_KEY: &str = "DOORWARD_TOKENIZATION_KEY";

/// Why a configuration is not taken. The text of each is a sentence for the operator, without any secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON, or not of the form that is known.
    #[error("The plugin configuration is not valid: {0}.")]
    Malformed(serde_json::Error),
    /// No cluster is named.
    #[error("controlPlane.cluster is empty; name the Envoy cluster of the control plane.")]
    Cluster,
    /// The scope has no name.
    #[error("scope is empty; leave it out for \"default\".")]
    Scope,
    /// Nobody may sign policy.
    #[error("policyKeys is empty; without a key no policy can be verified.")]
    NoPolicyKeys,
    /// A key of this place in the list is not one of Ed25519.
    #[error("policyKeys[{0}].publicKey is not the base64 text of 32 bytes.")]
    PublicKey(usize),
    /// The id of the key of this place in the list does not name it alone.
    #[error("policyKeys[{0}].id is empty or given twice.")]
    KeyId(usize),
    /// This is no header's name.
    #[error("keyHeaders: {0:?} is not a header name in lower case.")]
    KeyHeader(String),
    /// The queue of records would hold nothing.
    #[error("audit: maxRecords must be at least 1 and maxBytes at least 65536.")]
    AuditBounds,
    /// Denials would leave no record at all.
    #[error(
        "audit: repeatsInFull and unidentifiedPerSecond must be at least 1, so that each kind of denial has a record \
        that shows it."
    )]
    AuditRepeats,
    /// Metrics would have no name.
    #[error("metricsPrefix is empty; leave it out for \"doorward\".")]
    MetricsPrefix,
    /// The proxy's name is missing or cannot be part of an emitter's name.
    #[error("The proxy's name is {0:?}; give node.id in Envoy's bootstrap, or node here, without a slash.")]
    NodeName(String),
    /// The key of tokenising masks could be guessed.
    #[error("{TOKENIZATION_KEY} has fewer than {MIN_KEY_BYTES} bytes; make one with `openssl rand -hex 32`.")]
    ShortTokenizationKey,
    /// Workers could not be told apart.
    #[error("There is no source of randomness.")]
    NoRandomness,
}

/// What the plugin's configuration says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where policy comes from and records go.
    pub control_plane: ControlPlane,
    /// Which compiled policy this proxy enforces.
    #[serde(default = "default_scope")]
    pub scope: String,
    /// Who may sign policy.
    pub policy_keys: Vec<PolicyKey>,
    /// Name of this proxy; default: Envoy's `node.id`.
    pub node: Option<String>,
    /// What a request without a matching service gets.
    #[serde(default)]
    pub unmatched: Choice,
    /// What happens once the policy in force has expired.
    #[serde(default)]
    pub on_stale: OnStale,
    /// What the peer's SPIFFE ID means.
    #[serde(default)]
    pub mesh_identity: MeshIdentity,
    /// What a request without any credential gets.
    #[serde(default)]
    pub unidentified: Choice,
    /// Headers (lower case) in which API keys come; default: those of `identity::Settings`.
    pub key_headers: Option<Vec<String>>,
    /// How request bodies can be held back.
    #[serde(default)]
    pub bodies: Bodies,
    /// Largest request body that is read.
    #[serde(default = "default_max_body_bytes")]
    pub max_body_bytes: u32,
    /// Bounds on records that wait for their acknowledgement, per worker.
    #[serde(default)]
    pub audit: Audit,
    /// First part of the names of all metrics.
    #[serde(default = "default_metrics_prefix")]
    pub metrics_prefix: String,
}

/// Where the control plane is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// Envoy cluster (HTTP/2).
    pub cluster: String,
}

/// A key that may sign policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyKey {
    /// The envelope's `key_id`.
    pub id: String,
    /// 32 bytes of an Ed25519 key, in base64.
    pub public_key: String,
}

/// Deny or allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the two words")]
pub enum Choice {
    #[default]
    Deny,
    Allow,
}

/// What happens once the policy has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStale {
    /// It stays in force; records and metrics say that it is stale.
    #[default]
    Enforce,
    /// Every request is `policy_unavailable`.
    Deny,
}

/// What the peer's SPIFFE ID means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshIdentity {
    /// Nothing: `x-forwarded-client-cert` may come from anyone.
    #[default]
    Ignore,
    /// It is in the record.
    Record,
    /// It is the last agent of the chain, and needs rights of its own.
    Agent,
}

/// How request bodies can be held back until they are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bodies {
    /// The host is configured with `allow_on_headers_stop_iteration: true` (Envoy 1.35 or newer).
    StopIteration,
    /// Not at all: requests whose body must be read are `unsupported`. Without the host's option, pausing in the headers
    /// would wait for a body that never comes.
    #[default]
    None,
}

/// Bounds on unacknowledged records, and on those that callers can cause.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audit {
    /// Records.
    pub max_records: u32,
    /// Bytes.
    pub max_bytes: u32,
    /// Of the same denial in ten seconds, so many have records of their own; the others are summed.
    pub repeats_in_full: u32,
    /// Denials of unidentified callers that have records of their own, per second; the others are summed.
    pub unidentified_per_second: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { max_records: 16_384, max_bytes: 32 << 20, repeats_in_full: 100, unidentified_per_second: 50 }
    }
}

/// With a shorter key than this, whoever has one value and its token finds the key by trying.
const MIN_KEY_BYTES: usize = 16;

/// The key of tokenising masks; none if the text is empty.
///
/// # Errors
/// [`ConfigError::ShortTokenizationKey`], if the key is too short to protect anything.
pub fn tokenization_key(text: String) -> Result<Option<Vec<u8>>, ConfigError> {
    match text.len() {
        0 => Ok(None),
        length if length < MIN_KEY_BYTES => Err(ConfigError::ShortTokenizationKey),
        _ => Ok(Some(text.into_bytes())),
    }
}

fn default_scope() -> String {
    "default".to_owned()
}

fn default_max_body_bytes() -> u32 {
    1 << 20
}

fn default_metrics_prefix() -> String {
    "doorward".to_owned()
}

impl Config {
    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// What is wrong; its text is a sentence for the operator.
    pub fn parse(json: &[u8]) -> Result<(Config, Vec<TrustedKey>), ConfigError> {
        let config: Config = serde_json::from_slice(json).map_err(ConfigError::Malformed)?;
        if config.control_plane.cluster.is_empty() {
            return Err(ConfigError::Cluster);
        }
        if config.scope.is_empty() {
            return Err(ConfigError::Scope);
        }
        if config.policy_keys.is_empty() {
            return Err(ConfigError::NoPolicyKeys);
        }
        let header = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if let Some(name) = config.key_headers.iter().flatten().find(|name| !header(name)) {
            return Err(ConfigError::KeyHeader(name.clone()));
        }
        if config.audit.max_records == 0 || config.audit.max_bytes < 1 << 16 {
            return Err(ConfigError::AuditBounds);
        }
        if config.audit.repeats_in_full == 0 || config.audit.unidentified_per_second == 0 {
            return Err(ConfigError::AuditRepeats);
        }
        if config.metrics_prefix.is_empty() {
            return Err(ConfigError::MetricsPrefix);
        }
        let mut keys: Vec<TrustedKey> = Vec::new();
        for (index, key) in config.policy_keys.iter().enumerate() {
            let bytes = STANDARD
                .decode(&key.public_key)
                .ok()
                .and_then(|bytes| ed25519_compact::PublicKey::from_slice(&bytes).ok())
                .ok_or(ConfigError::PublicKey(index))?;
            if key.id.is_empty() || keys.iter().any(|have| have.id == key.id) {
                return Err(ConfigError::KeyId(index));
            }
            keys.push(TrustedKey { id: key.id.clone(), key: bytes });
        }
        Ok((config, keys))
    }

    /// The engine's form of `unmatched`.
    #[must_use]
    pub fn unmatched(&self) -> Unmatched {
        match self.unmatched {
            Choice::Deny => Unmatched::Deny,
            Choice::Allow => Unmatched::Allow,
        }
    }
}

/// A key that may sign policy, decoded.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// The envelope's `key_id`.
    pub id: String,
    /// The key.
    pub key: ed25519_compact::PublicKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn a_minimal_configuration_denies_by_default() {
        let json = format!(r#"{{"controlPlane":{{"cluster":"cp"}},"policyKeys":[{{"id":"a","publicKey":"{KEY}"}}]}}"#);
        let (config, keys) = Config::parse(json.as_bytes()).unwrap();
        assert_eq!(config.scope, "default");
        assert_eq!((config.unmatched, config.unidentified), (Choice::Deny, Choice::Deny));
        assert_eq!((config.bodies, config.mesh_identity), (Bodies::None, MeshIdentity::Ignore));
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn a_key_that_could_be_guessed_is_none() {
        assert!(matches!(tokenization_key(String::new()), Ok(None)));
        let error = tokenization_key("hush".into()).unwrap_err().to_string();
        assert!(error.contains("16 bytes") && !error.contains("hush"), "{error}");
        assert!(tokenization_key("0123456789abcdef".into()).is_ok_and(|key| key.is_some()));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let good = format!(r#"{{"id":"a","publicKey":"{KEY}"}}"#);
        let cases = [
            ("{}".to_owned(), "controlPlane"),
            (r#"{"controlPlane":{"cluster":"c"},"policyKeys":[]}"#.to_owned(), "policyKeys is empty"),
            (
                r#"{"controlPlane":{"cluster":"c"},"policyKeys":[{"id":"a","publicKey":"AA=="}]}"#.to_owned(),
                "policyKeys[0]",
            ),
            (format!(r#"{{"controlPlane":{{"cluster":"c"}},"policyKeys":[{good},{good}]}}"#), "policyKeys[1].id"),
            (format!(r#"{{"controlPlane":{{"cluster":""}},"policyKeys":[{good}]}}"#), "cluster is empty"),
            (format!(r#"{{"controlPlane":{{"cluster":"c"}},"policyKeys":[{good}],"unmached":"deny"}}"#), "unmached"),
            (format!(r#"{{"controlPlane":{{"cluster":"c"}},"policyKeys":[{good}],"keyHeaders":["X"]}}"#), "keyHeaders"),
            (
                format!(r#"{{"controlPlane":{{"cluster":"c"}},"policyKeys":[{good}],"audit":{{"repeatsInFull":0}}}}"#),
                "repeatsInFull",
            ),
        ];
        for (json, part) in cases {
            let error = Config::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
