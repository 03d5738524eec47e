//! Policy in the proxy's shared data: written by the leader, verified by every worker for itself.
//!
//! Shared data outlives a crashed VM, which is why last-known-good lives there. Other plugins may write to it, so nothing
//! in it is believed before its signature is checked. A small stamp says cheaply whether there is anything new.

use crate::{
    config::{OnStale, TrustedKey},
    proxy::Proxy,
};
use doorward_policy::bundle::Tables;
use doorward_proto::v1::{Kind, PolicyEnvelope, StoredPolicy};
use prost::Message;
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// What every signature over policy begins with.
const SIGNATURE_DOMAIN: &[u8] = b"doorward.dev/policy/v1\0";

/// A verified policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What decides.
    pub tables: Rc<Tables>,
    /// SHA-256 of the canonical bundle.
    pub digest: [u8; 32],
    /// Monotonic per scope.
    pub epoch: u64,
    /// Unix seconds; 0: never.
    pub expires_at: i64,
    /// Unix seconds.
    pub issued_at: i64,
}

impl Policy {
    /// True once it has expired.
    #[must_use]
    pub fn is_stale(&self, now_seconds: i64) -> bool {
        self.expires_at != 0 && now_seconds >= self.expires_at
    }
}

/// Why an update is not put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Where it is wrong, e.g. `envelope.epoch`.
    pub path: String,
    /// Stable code.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

fn reject<T>(path: &str, code: &'static str, message: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection { path: path.to_owned(), code, message: message.into() })
}

/// What a policy has to satisfy here.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Who may sign.
    pub keys: Vec<TrustedKey>,
    /// The scope of this proxy.
    pub scope: String,
    /// What becomes of expired policy.
    pub on_stale: OnStale,
}

impl Trust {
    /// Verifies a policy and builds its tables; cheap if it is the one in force.
    ///
    /// # Errors
    /// A [`Rejection`], if anything about it is wrong: the policy in force then stays.
    pub fn verify(
        &self,
        stored: &StoredPolicy,
        current: Option<&Policy>,
        now_seconds: i64,
    ) -> Result<Policy, Rejection> {
        let Ok(envelope) = PolicyEnvelope::decode(stored.envelope.as_slice()) else {
            return reject("envelope", "malformed", "The envelope does not decode.");
        };
        let Some(trusted) = self.keys.iter().find(|key| key.id == envelope.key_id) else {
            let message =
                "The policy is signed with a key that policyKeys does not name; add it or sign with one of them.";
            return reject("envelope.key_id", "unknown_key", message);
        };
        let signed = [SIGNATURE_DOMAIN, &stored.envelope].concat();
        let good = ed25519_compact::Signature::from_slice(&stored.signature)
            .is_ok_and(|signature| trusted.key.verify(&signed, &signature).is_ok());
        if !good {
            return reject("signature", "bad_signature", "The signature does not verify with the key of this id.");
        }
        if envelope.scope != self.scope {
            let message = format!("The policy is for scope {:?}; this proxy is in {:?}.", envelope.scope, self.scope);
            return reject("envelope.scope", "wrong_scope", message);
        }
        if envelope.kind() != Kind::Snapshot {
            return reject("envelope.kind", "unsupported_kind", "This build takes snapshots only; send one.");
        }
        let payload: [u8; 32] = Sha256::digest(&stored.payload).into();
        if payload.as_slice() != envelope.payload_sha256 || payload.as_slice() != envelope.digest {
            return reject("payload", "digest_mismatch", "The payload is not the one that was signed.");
        }
        if let Some(current) = current {
            if envelope.epoch < current.epoch && !envelope.rollback {
                let message = format!("Epoch {} is below {}, which is in force.", envelope.epoch, current.epoch);
                return reject("envelope.epoch", "rollback", message);
            }
            if envelope.epoch == current.epoch && payload != current.digest {
                let message = format!("Epoch {} is in force with another content.", envelope.epoch);
                return reject("envelope.epoch", "epoch_reused", message);
            }
        }
        if self.on_stale == OnStale::Deny && envelope.expires_at != 0 && envelope.expires_at <= now_seconds {
            return reject("envelope.expires_at", "expired", "The policy has expired already.");
        }
        let tables = match current {
            Some(current) if current.digest == payload && current.epoch == envelope.epoch => Rc::clone(&current.tables),
            _ => {
                let tables = match Tables::decode(&stored.payload, payload, envelope.epoch) {
                    Ok(tables) => tables,
                    Err(error) => return reject(&error.path, error.code, error.message),
                };
                if tables.scope() != self.scope {
                    return reject(
                        "payload.scope",
                        "wrong_scope",
                        "The bundle is for another scope than its envelope.",
                    );
                }
                Rc::new(tables)
            }
        };
        Ok(Policy {
            tables,
            digest: payload,
            epoch: envelope.epoch,
            expires_at: envelope.expires_at,
            issued_at: envelope.issued_at,
        })
    }
}

/// The shared entries of one scope.
#[derive(Clone, Debug)]
pub struct Store {
    policy: String,
    stamp: String,
    seen: Vec<u8>,
}

impl Store {
    /// The entries of this scope.
    #[must_use]
    pub fn new(scope: &str) -> Self {
        Store { policy: format!("doorward/policy/{scope}"), stamp: format!("doorward/stamp/{scope}"), seen: Vec::new() }
    }

    /// What was stored since the last call, if anything.
    pub fn take_new(&mut self, proxy: &impl Proxy) -> Option<StoredPolicy> {
        let (stamp, _) = proxy.get_shared(&self.stamp).ok()??;
        if stamp == self.seen {
            return None;
        }
        let (bytes, _) = proxy.get_shared(&self.policy).ok()??;
        self.seen = stamp;
        StoredPolicy::decode(bytes.as_slice()).ok()
    }

    /// Stores a verified policy for the other workers, and for the VMs that come after them.
    pub fn put(&mut self, proxy: &impl Proxy, stored: &StoredPolicy) {
        // The stamp last: whoever sees it finds the policy. It only has to differ, so the envelope's hash does.
        let stamp = Sha256::digest(&stored.envelope).to_vec();
        if proxy.put_shared(&self.policy, &stored.encode_to_vec()).is_ok()
            && proxy.put_shared(&self.stamp, &stamp).is_ok()
        {
            self.seen = stamp;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::double::Double;
    use doorward_proto::v1::Bundle;

    /// A policy of epoch 5, signed with this key under the id `k`, with changes to its envelope.
    pub(crate) fn signed(key: &ed25519_compact::KeyPair, change: impl FnOnce(&mut PolicyEnvelope)) -> StoredPolicy {
        let payload =
            Bundle { format: 1, scope: "s".into(), strings: vec![String::new()], ..Default::default() }.encode_to_vec();
        let digest = Sha256::digest(&payload).to_vec();
        let mut envelope = PolicyEnvelope {
            scope: "s".into(),
            epoch: 5,
            digest: digest.clone(),
            kind: Kind::Snapshot.into(),
            payload_sha256: digest,
            key_id: "k".into(),
            expires_at: 100,
            ..Default::default()
        };
        change(&mut envelope);
        let envelope = envelope.encode_to_vec();
        let signature = key.sk.sign([SIGNATURE_DOMAIN, &envelope].concat(), None).to_vec();
        StoredPolicy { envelope, signature, payload }
    }

    #[test]
    fn only_signed_fresh_policy_of_this_scope_is_put_in_force() {
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]));
        let keys = vec![TrustedKey { id: "k".into(), key: pair.pk }];
        let trust = Trust { keys, scope: "s".into(), on_stale: OnStale::Enforce };
        let good = trust.verify(&signed(&pair, |_| ()), None, 0).unwrap();
        assert_eq!(good.epoch, 5);
        assert!(good.is_stale(100) && !good.is_stale(99));
        let code = |stored: &StoredPolicy| trust.verify(stored, Some(&good), 0).map(|_| ()).unwrap_err().code;
        let other = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([8; 32]));
        assert_eq!(code(&signed(&other, |_| ())), "bad_signature");
        assert_eq!(code(&signed(&pair, |e| e.key_id = "x".into())), "unknown_key");
        assert_eq!(code(&signed(&pair, |e| e.scope = "x".into())), "wrong_scope");
        assert_eq!(code(&signed(&pair, |e| e.kind = Kind::Delta.into())), "unsupported_kind");
        assert_eq!(code(&signed(&pair, |e| e.digest = vec![0; 32])), "digest_mismatch");
        assert_eq!(code(&signed(&pair, |e| e.epoch = 4)), "rollback");
        let mut tampered = signed(&pair, |_| ());
        tampered.payload.push(0);
        assert_eq!(code(&tampered), "digest_mismatch");
        let back = signed(&pair, |e| (e.epoch, e.rollback) = (4, true));
        assert_eq!(trust.verify(&back, Some(&good), 0).unwrap().epoch, 4);
        let strict = Trust { on_stale: OnStale::Deny, ..trust };
        assert_eq!(strict.verify(&signed(&pair, |_| ()), None, 100).unwrap_err().code, "expired");
    }

    #[test]
    fn a_stored_policy_is_taken_up_once() {
        let proxy = Double::default();
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]));
        let (mut writer, mut reader) = (Store::new("once"), Store::new("once"));
        assert!(reader.take_new(&proxy).is_none());
        let stored = signed(&pair, |_| ());
        writer.put(&proxy, &stored);
        assert!(writer.take_new(&proxy).is_none());
        assert_eq!(reader.take_new(&proxy), Some(stored));
        assert!(reader.take_new(&proxy).is_none());
    }
}
