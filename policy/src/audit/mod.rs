//! The decision record: building, canonical encoding, hash chain.
