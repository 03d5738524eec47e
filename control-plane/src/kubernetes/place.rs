//! Where a replica of the control plane stands in a cluster.

use std::fs;

/// Where a replica stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// The namespace with its leases.
    pub namespace: String,
    /// Its name among the replicas.
    pub name: String,
}

/// A name that no other replica has.
pub fn name() -> String {
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let machine: String = machine.trim().to_ascii_lowercase().chars().filter(plain).take(40).collect();
    format!("{}-{:08x}", if machine.is_empty() { "replica" } else { &machine }, rand::random::<u32>())
}
