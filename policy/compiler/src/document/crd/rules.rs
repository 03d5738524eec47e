//! Rules that the API server itself checks (CEL), for mistakes that need no other document: they are refused also while no
//! webhook runs. What they say is a part of what the compiler says; whatever they let through, it judges.

use super::Kind;
use serde_json::{Value, json};

/// A rule: where in the schema of the spec, what must hold there, and what is said where it does not.
struct Rule {
    at: &'static [&'static str],
    holds: &'static str,
    message: &'static str,
}

const fn rules(kind: Kind) -> &'static [Rule] {
    match kind {
        Kind::AccessRestriction => &[
            Rule {
                at: &[],
                holds: "self.effect == 'allowOnly' || !has(self.verbs) || self.verbs.size() == 0",
                message: "verbs belong to the effect allowOnly",
            },
            Rule {
                at: &[],
                holds: "self.effect == 'allowOnly' || !has(self.maxRows)",
                message: "maxRows belongs to the effect allowOnly",
            },
            Rule {
                at: &[],
                holds: "self.effect == 'revokeTokens' || !has(self.issuedBefore)",
                message: "issuedBefore belongs to the effect revokeTokens",
            },
            Rule {
                at: &[],
                holds: "self.effect != 'revokeTokens' || !has(self.services) || self.services.size() == 0",
                message: "a token is revoked for every service; use the effect deny for some",
            },
        ],
        Kind::DataService => &[
            Rule { at: &[], holds: "self.match.size() > 0", message: "without a match no request is for this service" },
            // A claim is as old as its object. Were a host added to an old one, it would be taken from whoever has it.
            Rule {
                at: &["properties", "match"],
                holds: "self.map(m, has(m.hosts) ? m.hosts : []) == oldSelf.map(m, has(m.hosts) ? m.hosts : [])",
                message: "the hosts of a service stay as they are, because they belong to whoever claimed them first; make a new \
                          DataService for others",
            },
        ],
        Kind::AccessKey => &[
            Rule {
                at: &["properties", "hash"],
                holds: "self.startsWith('sha256:')",
                message: "a key is known by its hash: sha256: and 64 hexadecimal digits",
            },
            Rule {
                at: &["properties", "hash"],
                holds: "self == oldSelf",
                message: "the hash of a key stays as it is; make a new AccessKey for another key",
            },
        ],
        Kind::IdentityProvider | Kind::AccessRole | Kind::AccessBinding | Kind::PolicyTest => &[],
    }
}

/// Adds the rules of a kind to the schema of its spec.
pub(super) fn add(kind: Kind, spec: &mut Value) {
    // Which fields there are, the types say; a subject is one of them. A rule for it would cost more than the server allows.
    if let Some(subject) = spec.pointer_mut("/properties/subjects/items").and_then(Value::as_object_mut) {
        subject.insert("minProperties".to_owned(), 1.into());
        subject.insert("maxProperties".to_owned(), 1.into());
    }
    // Bounds what a rule over them can cost.
    if kind == Kind::DataService {
        for (path, name, most) in [
            ("/properties/match", "maxItems", 256),
            ("/properties/match/items/properties/hosts", "maxItems", 64),
            ("/properties/match/items/properties/hosts/items", "maxLength", 255),
        ] {
            if let Some(members) = spec.pointer_mut(path).and_then(Value::as_object_mut) {
                members.insert(name.to_owned(), most.into());
            }
        }
    }
    for Rule { at, holds, message } in rules(kind) {
        let path: String = at.iter().map(|part| format!("/{part}")).collect();
        let Some(members) = spec.pointer_mut(&path).and_then(Value::as_object_mut) else { continue };
        let rules = members.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        if let Some(rules) = rules.as_array_mut() {
            rules.push(json!({"rule": holds, "message": message}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::crd::definition;

    #[test]
    fn every_rule_stands_where_it_says() {
        for kind in Kind::ALL {
            let spec =
                definition(*kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
            for rule in rules(*kind) {
                let path: String = rule.at.iter().map(|part| format!("/{part}")).collect();
                let at = spec.pointer(&path).unwrap_or_else(|| panic!("{kind}: {path}"));
                let found = at["x-kubernetes-validations"].as_array().unwrap();
                assert!(found.iter().any(|found| found["message"] == rule.message), "{kind}: {}", rule.message);
            }
        }
    }
}
