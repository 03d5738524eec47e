//! What decisions need from outside: time, randomness, signature verification, limit state.
//!
//! Envoy's implementation uses BoringSSL and shared data, the command line's uses the pure-Rust implementation.

use crate::key::{Algorithm, VerificationKey};

/// A host's answer to a signature check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The signature is good.
    Valid,
    /// The signature, or the key, is not.
    Invalid,
    /// This host cannot check this algorithm: use the pure-Rust implementation.
    Unavailable,
}

/// The outside world, as far as decisions need it.
pub trait Host {
    /// Unix time in milliseconds.
    fn now_millis(&self) -> u64;

    /// Fills `buffer` with random bytes. False: no randomness, the request must be denied.
    fn random(&self, buffer: &mut [u8]) -> bool;

    /// Checks `signature` (JWS form: raw r‖s for ECDSA) of `message` natively, if the host can.
    fn verify(&self, algorithm: Algorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> Verification {
        let _ = (algorithm, key, message, signature);
        Verification::Unavailable
    }

    /// Atomically updates one 64-bit limiter state shared by all workers of the proxy.
    ///
    /// `slot` names the state; `update` gets the present value (`None`: never used) and returns the value to store,
    /// or `None` to leave it. It may be called more than once. False: the state cannot be kept, deny.
    fn update_limit(&self, slot: u64, update: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool;
}
