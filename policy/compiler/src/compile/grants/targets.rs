//! What a grant's components stand for among what the service declares.

use crate::compile::context::{ComponentFacts, ServiceFacts};

/// A component pattern with what is declared for it.
pub(super) struct Target<'c> {
    pub pattern: String,
    pub facts: &'c ComponentFacts,
}

/// True if every name that `inner` stands for is one that `outer` stands for.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    outer == "*"
        || outer == inner
        || outer
            .strip_suffix('*')
            .is_some_and(|prefix| prefix.ends_with('/') && inner.len() > prefix.len() && inner.starts_with(prefix))
        || outer.strip_suffix('*').is_some_and(|prefix| !prefix.is_empty() && inner == outer)
}

pub(super) fn is_pattern(name: &str) -> bool {
    name == "*" || name.ends_with("/*")
}

/// What a grant's component stands for among what the service declares, so that nothing undeclared is ever exposed.
pub(super) fn expand<'c>(service: &'c ServiceFacts, written: &str) -> Vec<Target<'c>> {
    let name = if service.case_insensitive { written.to_lowercase() } else { written.to_owned() };
    let mut targets = Vec::new();
    if is_pattern(&name) {
        for (declared, facts) in &service.components {
            if covers(&name, declared) {
                targets.push(Target { pattern: declared.clone(), facts });
            }
        }
    } else if let Some(facts) = service.components.get(&name) {
        return vec![Target { pattern: name, facts }];
    }
    // Inside a family: the most exact one says which fields there are.
    let family = service.components.iter().filter(|(declared, _)| is_pattern(declared) && covers(declared, &name));
    if let Some((declared, facts)) = family.max_by_key(|(declared, _)| declared.len())
        && *declared != name
    {
        targets.push(Target { pattern: name, facts });
    }
    targets
}
