//! Where policy documents come from.

pub mod directory;
