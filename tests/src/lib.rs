//! What the end-to-end tests stand on: the real control plane, real Envoys with the built filter, real Datasette over a
//! generated database, and clients that can send what no well-behaved client would.
//!
//! Everything is started on free ports of the loopback and ends with the test process, however that ends.

pub mod control;
pub mod crash;
pub mod data;
pub mod dreamfactory;
pub mod emulator;
pub mod http;
pub mod http2;
pub mod process;
pub mod stack;
pub mod token;
pub mod upstream;

pub use doorward_test_support::wait;

/// A small deterministic generator (splitmix64): equal seeds give equal tests on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The seed of this run: `DOORWARD_SEED`, or the clock; printed, so that a failure can be repeated.
#[must_use]
pub fn seed(what: &str) -> u64 {
    let seed = std::env::var("DOORWARD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64
    });
    println!("{what}: DOORWARD_SEED={seed}");
    seed
}
