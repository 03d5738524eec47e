//! Asks the filter's own signature check, inside a real Envoy, and answers what it says: so that the public test vectors
//! run through Envoy's `verify_signature` by the very code that the filter calls it with.
//!
//! The body of a request is a [`Batch`], that of the answer a [`Verdicts`].

use doorward_policy::{
    bundle::subject_public_key_info,
    host::{Host, Verification},
    identity::{Algorithm, KeyMaterial, VerificationKey},
};
use prost::Message;

/// Signatures to check.
#[derive(Clone, PartialEq, Message)]
pub struct Batch {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub checks: Vec<Check>,
}

/// One signature of one text by one public key.
#[derive(Clone, PartialEq, Message)]
pub struct Check {
    /// `alg`, as the protocol numbers it.
    #[prost(enumeration = "Algorithm", tag = "1")]
    pub algorithm: i32,
    /// Of an RSA key.
    #[prost(bytes = "vec", tag = "2")]
    pub modulus: Vec<u8>,
    /// Of an RSA key.
    #[prost(bytes = "vec", tag = "3")]
    pub exponent: Vec<u8>,
    /// Of an EC key: 32 bytes of P-256, 48 of P-384.
    #[prost(bytes = "vec", tag = "4")]
    pub x: Vec<u8>,
    /// Of an EC key.
    #[prost(bytes = "vec", tag = "5")]
    pub y: Vec<u8>,
    /// What is signed.
    #[prost(bytes = "vec", tag = "6")]
    pub message: Vec<u8>,
    /// The signature in its JWS form.
    #[prost(bytes = "vec", tag = "7")]
    pub signature: Vec<u8>,
}

/// What the filter's check says of each.
#[derive(Clone, PartialEq, Message)]
pub struct Verdicts {
    /// See [`VALID`] and the others.
    #[prost(uint32, repeated, tag = "1")]
    pub verdicts: Vec<u32>,
}

/// The signature is good.
pub const VALID: u32 = 1;
/// It is not, or the key is not.
pub const INVALID: u32 = 2;
/// Envoy cannot check this algorithm.
pub const UNAVAILABLE: u32 = 3;

impl Check {
    /// A check by this key; none if it is neither RSA nor EC.
    #[must_use]
    pub fn new(algorithm: Algorithm, key: &KeyMaterial, message: &[u8], signature: &[u8]) -> Option<Self> {
        let check = Check {
            algorithm: algorithm.into(),
            message: message.to_vec(),
            signature: signature.to_vec(),
            ..Check::default()
        };
        match key {
            KeyMaterial::Rsa { modulus, exponent } => {
                Some(Check { modulus: modulus.clone(), exponent: exponent.clone(), ..check })
            }
            KeyMaterial::P256 { x, y } => Some(Check { x: x.to_vec(), y: y.to_vec(), ..check }),
            KeyMaterial::P384 { x, y } => Some(Check { x: x.to_vec(), y: y.to_vec(), ..check }),
            KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_) => None,
        }
    }

    /// The key, as the filter has it from a policy.
    #[must_use]
    pub fn key(&self) -> Option<VerificationKey> {
        let (x, y) = (self.x.as_slice(), self.y.as_slice());
        let material = match x.len() {
            0 => KeyMaterial::Rsa { modulus: self.modulus.clone(), exponent: self.exponent.clone() },
            32 => KeyMaterial::P256 { x: x.try_into().ok()?, y: y.try_into().ok()? },
            _ => KeyMaterial::P384 { x: x.try_into().ok()?, y: y.try_into().ok()? },
        };
        let spki = subject_public_key_info(&material);
        Some(VerificationKey { kid: None, algorithm: None, material, spki })
    }
}

/// The encoded verdicts on an encoded batch; none if it is not well-formed.
#[must_use]
pub fn answer(host: &impl Host, batch: &[u8]) -> Option<Vec<u8>> {
    let verdict = |check: &Check| {
        let algorithm = Algorithm::try_from(check.algorithm).ok()?;
        Some(match host.verify(algorithm, &check.key()?, &check.message, &check.signature) {
            Verification::Valid => VALID,
            Verification::Invalid => INVALID,
            Verification::Unavailable => UNAVAILABLE,
        })
    };
    let verdicts = Batch::decode(batch).ok()?.checks.iter().map(verdict).collect::<Option<_>>()?;
    Some(Verdicts { verdicts }.encode_to_vec())
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "the SDK's entry point")]
mod entry {
    use doorward_filter::{
        host::DecisionHost,
        proxy::{Buffer, Proxy as _},
    };
    use doorward_filter_proxy_wasm::ProxyWasm;
    use proxy_wasm::{
        traits::{Context, HttpContext, RootContext},
        types::{Action, ContextType},
    };

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root));
    }}

    struct Root;

    impl Context for Root {}

    impl RootContext for Root {
        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }

        fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Probe))
        }
    }

    struct Probe;

    impl Context for Probe {}

    impl HttpContext for Probe {
        fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
            Action::Pause
        }

        fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
            if end {
                let body = ProxyWasm.get_buffer(Buffer::RequestBody, 0, size).unwrap_or_default();
                let random = Default::default();
                let host = DecisionHost { proxy: &ProxyWasm, now_nanos: ProxyWasm.now_nanos(), random: &random };
                let (status, answer) = match super::answer(&host, &body) {
                    Some(answer) => (200, answer),
                    None => (400, Vec::new()),
                };
                let _ = ProxyWasm.send_local_response(
                    status,
                    "probe",
                    &[("content-type", "application/protobuf")],
                    &answer,
                );
            }
            Action::Pause
        }
    }
}
