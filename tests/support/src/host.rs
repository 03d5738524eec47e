//! The one host of all tests that are no proxy: what a test does not ask for, it does not have.

use doorward_policy::{
    host::{Host, Verification},
    identity::{Algorithm, VerificationKey},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

/// The moment of a [`TestHost`], in Unix seconds (15 January 2027).
pub const NOW: i64 = 1_800_000_000;

type Verify<'a> = dyn Fn(Algorithm, &VerificationKey, &[u8], &[u8]) -> Verification + 'a;

/// A host whose clock stands at [`NOW`], whose random bytes are all 7, that verifies no signature natively, and that has no
/// state for limits. Each method takes or gives one of these.
#[derive(Default)]
pub struct TestHost<'a> {
    now_millis: Option<u64>,
    without_randomness: bool,
    verify: Option<Box<Verify<'a>>>,
    verifications: Cell<u32>,
    limits: Option<RefCell<HashMap<u64, u64>>>,
}

impl<'a> TestHost<'a> {
    /// The host as it is without further words.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a clock that stands here, in Unix milliseconds.
    #[must_use]
    pub fn at_millis(self, now_millis: u64) -> Self {
        Self { now_millis: Some(now_millis), ..self }
    }

    /// With no source of randomness.
    #[must_use]
    pub fn without_randomness(self) -> Self {
        Self { without_randomness: true, ..self }
    }

    /// With native verification that answers so, to algorithm, key, message and signature.
    #[must_use]
    pub fn verifying(self, verify: impl Fn(Algorithm, &VerificationKey, &[u8], &[u8]) -> Verification + 'a) -> Self {
        Self { verify: Some(Box::new(verify)), ..self }
    }

    /// With native verification that always answers so.
    #[must_use]
    pub fn answering(self, answer: Verification) -> Self {
        self.verifying(move |_, _, _, _| answer)
    }

    /// With state for limits, empty at first.
    #[must_use]
    pub fn keeping_limits(self) -> Self {
        Self { limits: Some(RefCell::default()), ..self }
    }

    /// How often it was asked to verify a signature.
    pub fn verifications(&self) -> u32 {
        self.verifications.get()
    }

    /// The state of all limits, by slot.
    pub fn limits(&self) -> HashMap<u64, u64> {
        self.limits.as_ref().map(|limits| limits.borrow().clone()).unwrap_or_default()
    }
}

impl Host for TestHost<'_> {
    fn now_millis(&self) -> u64 {
        self.now_millis.unwrap_or(NOW.unsigned_abs() * 1000)
    }

    fn random(&self, buffer: &mut [u8]) -> bool {
        if !self.without_randomness {
            buffer.fill(7);
        }
        !self.without_randomness
    }

    fn verify(&self, algorithm: Algorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> Verification {
        self.verifications.set(self.verifications.get() + 1);
        self.verify.as_ref().map_or(Verification::Unavailable, |verify| verify(algorithm, key, message, signature))
    }

    fn update_limit(&self, slot: u64, update: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        let Some(limits) = &self.limits else {
            // What was asked for cannot be stored, which a host knows last.
            let _ = update(None);
            return false;
        };
        let present = limits.borrow().get(&slot).copied();
        if let Some(value) = update(present) {
            limits.borrow_mut().insert(slot, value);
        }
        true
    }
}
