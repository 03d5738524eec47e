//! The proxy as the [`Host`] of decisions: its clock, its signature check, its shared data.

use crate::proxy::{Proxy, Status};
use doorward_policy::{
    host::{Host, Verification},
    identity::{Algorithm, KeyMaterial, VerificationKey},
};
use prost::Message;
use std::cell::RefCell;

/// The proxy, at one moment, as decisions see it: the clock is read once per callback.
#[derive(Clone, Copy, Debug)]
pub struct DecisionHost<'a, P> {
    /// What is asked.
    pub proxy: &'a P,
    /// Unix time in nanoseconds.
    pub now_nanos: u64,
    /// The worker's store of random bytes.
    pub random: &'a RefCell<Random>,
}

/// `envoy.source.extensions.common.wasm.VerifySignatureArguments`
#[derive(Clone, PartialEq, Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

/// `envoy.source.extensions.common.wasm.VerifySignatureResult`
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// Other workers may win the race for a limiter's state this often before the request is denied.
const MAX_RACES: usize = 64;

/// How many random bytes are fetched at once.
const RANDOM_BYTES: usize = 640;

/// Random bytes of the host, fetched for many requests at once because each call into the host costs as much as a
/// decision. None is given out twice.
#[derive(Debug)]
pub struct Random {
    bytes: [u8; RANDOM_BYTES],
    used: usize,
}

impl Default for Random {
    /// None yet; the first request fetches some.
    fn default() -> Self {
        Random { bytes: [0; RANDOM_BYTES], used: RANDOM_BYTES }
    }
}

impl Random {
    fn take(&mut self, proxy: &impl Proxy, buffer: &mut [u8]) -> bool {
        if self.bytes.len() - self.used < buffer.len() {
            if buffer.len() > self.bytes.len() || proxy.random(&mut self.bytes).is_err() {
                // What a call that failed may have written is not used.
                self.used = self.bytes.len();
                return false;
            }
            self.used = 0;
        }
        let end = self.used + buffer.len();
        let Some(fresh) = self.bytes.get_mut(self.used..end) else { return false };
        buffer.copy_from_slice(fresh);
        fresh.fill(0);
        self.used = end;
        true
    }
}

impl<P: Proxy> Host for DecisionHost<'_, P> {
    fn now_millis(&self) -> u64 {
        self.now_nanos / 1_000_000
    }

    fn random(&self, buffer: &mut [u8]) -> bool {
        self.random.try_borrow_mut().is_ok_and(|mut random| random.take(self.proxy, buffer))
    }

    fn verify(&self, algorithm: Algorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> Verification {
        // The host takes the curve from the key: here it is pinned to the algorithm.
        let (hash, signature) = match (algorithm, &key.material) {
            (Algorithm::Rs256, KeyMaterial::Rsa { .. }) => ("sha256", signature.to_vec()),
            (Algorithm::Rs384, KeyMaterial::Rsa { .. }) => ("sha384", signature.to_vec()),
            (Algorithm::Rs512, KeyMaterial::Rsa { .. }) => ("sha512", signature.to_vec()),
            (Algorithm::Es256, KeyMaterial::P256 { .. }) => match der_signature(signature, 32) {
                Some(der) => ("sha256", der),
                None => return Verification::Invalid,
            },
            (Algorithm::Es384, KeyMaterial::P384 { .. }) => match der_signature(signature, 48) {
                Some(der) => ("sha384", der),
                None => return Verification::Invalid,
            },
            _ => return Verification::Unavailable,
        };
        if key.spki.is_empty() {
            return Verification::Unavailable;
        }
        let arguments = Arguments {
            hash_function: hash.to_owned(),
            public_key: key.spki.clone(),
            signature,
            text: message.to_vec(),
        };
        match self.proxy.call_foreign_function("verify_signature", &arguments.encode_to_vec()) {
            Ok(answer) => match Answer::decode(answer.as_slice()) {
                Ok(Answer { result: true, .. }) => Verification::Valid,
                _ => Verification::Invalid,
            },
            Err(Status::BAD_ARGUMENT) => Verification::Invalid,
            Err(_) => Verification::Unavailable,
        }
    }

    /// One shared entry per slot: eight bytes, little endian. Envoy offers no removal, so entries of callers that never
    /// return stay for the life of the proxy.
    fn update_limit(&self, slot: u64, update: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        let key = format!("doorward/limit/{slot:016x}");
        for _ in 0..MAX_RACES {
            let Ok(present) = self.proxy.get_shared(&key) else { return false };
            let (value, cas) = match &present {
                Some((bytes, cas)) => (bytes.as_slice().try_into().ok().map(u64::from_le_bytes), Some(*cas)),
                None => (None, None),
            };
            let Some(next) = update(value) else { return true };
            match self.proxy.set_shared(&key, &next.to_le_bytes(), cas) {
                Ok(()) => return true,
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// JWS gives an ECDSA signature as r‖s of fixed width (RFC 7518, section 3.4); BoringSSL wants the ASN.1 form.
fn der_signature(raw: &[u8], width: usize) -> Option<Vec<u8>> {
    if raw.len() != width.checked_mul(2)? {
        return None;
    }
    let (r, s) = raw.split_at_checked(width)?;
    let mut body = Vec::with_capacity(raw.len() + 6);
    for number in [r, s] {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len().checked_sub(1)?);
        let digits = number.get(start..)?;
        let sign = digits.first().is_some_and(|byte| *byte >= 0x80);
        body.extend([2, u8::try_from(digits.len() + usize::from(sign)).ok()?]);
        if sign {
            body.push(0);
        }
        body.extend_from_slice(digits);
    }
    // Two numbers of at most 49 bytes: always the short form of a length.
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 0x80)?;
    let mut out = vec![0x30, length];
    out.append(&mut body);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;

    #[test]
    fn raw_signatures_become_minimal_der() {
        let mut raw = [0_u8; 64];
        raw[31] = 1;
        raw[32] = 0x80;
        let der = der_signature(&raw, 32).unwrap();
        assert_eq!(der[..8], [0x30, 3 + 2 + 33, 2, 1, 1, 2, 33, 0]);
        assert_eq!(der[8], 0x80);
        assert_eq!(der_signature(&[0; 64], 32).unwrap(), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        assert!(der_signature(&raw[1..], 32).is_none());
        assert!(der_signature(&raw, 48).is_none());
    }

    #[test]
    fn random_bytes_are_given_out_once_and_never_without_the_host() {
        let (proxy, mut random) = (Double::default(), Random::default());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 10];
            assert!(random.take(&proxy, &mut bytes));
            assert!(seen.insert(bytes), "the same ten bytes again");
            assert!(random.bytes[..random.used].iter().all(|byte| *byte == 0));
        }
        assert!(!random.take(&proxy, &mut [0; 641]));
    }

    #[test]
    fn limiter_state_is_kept_between_updates() {
        let (proxy, random) = (Double::default(), RefCell::default());
        let host = DecisionHost { proxy: &proxy, now_nanos: 0, random: &random };
        assert!(host.update_limit(7, &mut |value| Some(value.map_or(1, |value| value + 1))));
        assert!(host.update_limit(7, &mut |value| Some(value.map_or(1, |value| value + 1))));
        let mut seen = None;
        assert!(host.update_limit(7, &mut |value| {
            seen = value;
            None
        }));
        assert_eq!(seen, Some(2));
    }
}
