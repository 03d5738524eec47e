//! Data in which each secret names its cell, and its twin that differs only in what is invisible.

use crate::{
    CANARIES, CUSTOMERS, Row,
    policy::{Caller, Policy},
};
use doorward_tests::{Random, data::Shop};
use serde_json::json;
use std::collections::BTreeSet;

/// A shop in which each secret names its cell, so that a leak shows in any part of a response.
pub fn shop() -> Shop {
    let mut shop = Shop::new(3, CUSTOMERS);
    for table in ["customers", "employees"] {
        let table = shop.table_mut(table);
        let letter = if table.name == "customers" { "q" } else { "e" };
        let names: Vec<_> = table.names().collect();
        for row in &mut table.rows {
            let id = row["id"].clone();
            for (at, name) in names.iter().enumerate() {
                if (CANARIES.contains(name) || *name == "review") && !row[*name].is_null() {
                    let domain = if *name == "email" { "@example.com" } else { "" };
                    row.insert((*name).into(), json!(format!("z{letter}{id}x{at}{letter}{domain}")));
                }
            }
        }
    }
    shop
}

/// The same shop to all of these callers: other invisible rows, other hidden values.
pub fn twin(shop: &Shop, policy: &Policy, callers: &[Caller], random: &mut Random) -> Shop {
    let mut used = BTreeSet::new();
    policy.user.rows.fields(&mut used);
    policy.agent.rows.fields(&mut used);
    let mut twin = shop.clone();
    let rows = &mut twin.table_mut("customers").rows;
    let names: Vec<_> = shop.table("customers").names().collect();
    let seen = |row: &Row| callers.iter().any(|caller| policy.row(row, caller));
    rows.retain(|row| seen(row) || random.below(3) > 0);
    for row in rows.iter_mut() {
        if seen(row) {
            for name in names.iter().filter(|name| !used.contains(*name)) {
                // Masks other than null and fixed tell something of the value, as they are meant to.
                let opaque = policy
                    .grants(&callers[0])
                    .iter()
                    .all(|grant| matches!(grant.masked.get(name), Some(&("null" | "fixed"))));
                if callers.iter().all(|caller| !policy.field(name, caller)) || opaque {
                    row.insert((*name).into(), json!(format!("y{}", random.below(1_000_000))));
                }
            }
        } else {
            let mut other = row.clone();
            for name in names.iter().filter(|name| **name != "id") {
                if random.one_in(2) {
                    other.insert((*name).into(), json!(format!("x{}", random.below(1_000_000))));
                }
            }
            if !seen(&other) {
                *row = other;
            }
        }
    }
    let mut id = 100_000;
    for _ in 0..random.below(40) {
        id += 1;
        let mut row = random.pick(&shop.table("customers").rows).clone();
        row.insert("id".into(), json!(id));
        row.insert("region".into(), json!("nowhere"));
        if !seen(&row) {
            rows.push(row);
        }
    }
    for name in ["orders", "employees"] {
        let rows = &mut twin.table_mut(name).rows;
        rows.retain(|_| random.below(2) > 0);
    }
    twin
}
