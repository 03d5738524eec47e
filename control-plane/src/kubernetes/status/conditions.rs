//! What the status of a document says: from what the compiler found and what proxies answered, to conditions.

use std::collections::BTreeMap;

use doorward_policy_compiler::document::{
    Kind,
    crd::status::{ACCEPTED, AcceptedReason, PROGRAMMED, ProgrammedReason},
};
use doorward_proto::v1::{Diagnostic, DocumentStatus};
use serde_json::{Value, json};

use crate::push::{Proxies, Refusal};

/// Findings that one message holds.
const FINDINGS: usize = 5;
/// Bytes of one message; the API server takes 32 KiB.
const MAX_MESSAGE: usize = 4 << 10;
/// One condition, but for when it last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    name: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// The status that a document should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    generation: i64,
    conditions: Vec<Condition>,
    /// Epoch, and how many proxies of how many; none for what no proxy gets.
    proxies: Option<(u64, u64, u64)>,
}

/// What came of one document. `found`: what the compiler found about it. `stopped`: why nothing is published at all. `published`: the
/// digests of the policies that count, by epoch.
pub fn wanted(
    kind: Kind,
    document: &DocumentStatus,
    found: &[&Diagnostic],
    stopped: Option<&str>,
    proxies: &Proxies,
    published: &BTreeMap<u64, String>,
) -> Wanted {
    let accepted = accepted(document, found);
    let mut conditions = vec![accepted];
    let mut counts = None;
    if kind != Kind::PolicyTest {
        let (acknowledged, total) = (proxies.since(document.epoch, published), proxies.total());
        counts = Some((document.epoch, acknowledged, total));
        conditions.push(programmed(document, stopped, proxies, acknowledged, total));
    }
    Wanted { generation: document.generation, conditions, proxies: counts }
}

fn accepted(document: &DocumentStatus, found: &[&Diagnostic]) -> Condition {
    let errors: Vec<&&Diagnostic> = found.iter().filter(|found| found.severity == "error").collect();
    let Some(first) = errors.first() else {
        let warnings: Vec<String> = found.iter().take(FINDINGS).map(|found| sentence(found)).collect();
        let message = match warnings.as_slice() {
            [] => "The document compiles.".to_owned(),
            warnings => format!("The document compiles, with warnings: {}", warnings.join("; ")),
        };
        return Condition {
            name: ACCEPTED,
            holds: true,
            reason: AcceptedReason::Accepted.as_str(),
            message: cut(message),
        };
    };
    let mut message = errors.iter().take(FINDINGS).map(|found| sentence(found)).collect::<Vec<_>>().join("; ");
    if errors.len() > FINDINGS {
        message.push_str(&format!("; and {} more", errors.len() - FINDINGS));
    }
    if document.last_good {
        message.push_str(". Its last good version stays in force.");
    }
    let reason = AcceptedReason::of_code(&first.code).as_str();
    Condition { name: ACCEPTED, holds: false, reason, message: cut(message) }
}

fn programmed(
    document: &DocumentStatus,
    stopped: Option<&str>,
    proxies: &Proxies,
    acknowledged: u64,
    total: u64,
) -> Condition {
    let condition = |holds, reason: ProgrammedReason, message: String| Condition {
        name: PROGRAMMED,
        holds,
        reason: reason.as_str(),
        message: cut(message),
    };
    let reconciling = |message: String| condition(false, ProgrammedReason::Reconciling, message);
    if let (Some(stopped), false) = (stopped, document.last_good) {
        let before = if document.epoch > 0 { "What was in force before stays." } else { "Nothing of it is in force." };
        return reconciling(format!("{stopped} {before}"));
    }
    if document.epoch == 0 {
        return reconciling("Nothing of it is in force.".to_owned());
    }
    let what = if document.last_good { "its last good version" } else { "it" };
    if total == 0 {
        return reconciling(format!("No proxy is connected; {what} is what the next one will get."));
    }
    if acknowledged >= total {
        let last_good = if document.last_good { "the last good version of " } else { "" };
        let many = if total == 1 {
            "The connected proxy enforces".into()
        } else {
            format!("All {total} connected proxies enforce")
        };
        // What is written is not what is enforced.
        let holds = !document.last_good;
        let message = format!("{many} {last_good}it.");
        let reason = if holds { ProgrammedReason::Programmed } else { ProgrammedReason::Reconciling };
        return condition(holds, reason, message);
    }
    let message = format!("{acknowledged} of {total} connected proxies enforce {what}");
    match proxies.refusals.iter().find(|refusal| refusal.holds < document.epoch) {
        None => reconciling(format!("{message}.")),
        Some(Refusal { node, code, message: why, .. }) => condition(
            false,
            ProgrammedReason::PartiallyProgrammed,
            format!("{message}; {node} refuses the policy: {why} [{code}]"),
        ),
    }
}

/// As `doorward validate` says it, but for the place of the document.
fn sentence(found: &Diagnostic) -> String {
    let path = if found.path.is_empty() { String::new() } else { format!("{}: ", found.path) };
    format!("{path}{} [{}]", found.message, found.code)
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    message
}

impl Wanted {
    /// Whether it compiles, and why not.
    pub fn verdict(&self) -> Option<(bool, &'static str, &str)> {
        let accepted = self.conditions.iter().find(|condition| condition.name == ACCEPTED)?;
        Some((accepted.holds, accepted.reason, &accepted.message))
    }

    /// The status as it is written, if it differs from this one. A condition keeps the time of its last change.
    pub fn over(&self, before: &Value, now: &str) -> Option<Value> {
        let known = |name: &str| {
            let all = before.get("conditions")?.as_array()?;
            all.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(name))
        };
        let conditions = self.conditions.iter().map(|Condition { name, holds, reason, message }| {
            let status = if *holds { "True" } else { "False" };
            let unchanged = known(name).filter(|known| known.get("status").and_then(Value::as_str) == Some(status));
            let since = unchanged.and_then(|known| known.get("lastTransitionTime")).and_then(Value::as_str);
            json!({
                "type": name, "status": status, "reason": reason, "message": message,
                "observedGeneration": self.generation, "lastTransitionTime": since.unwrap_or(now),
            })
        });
        let mut status = json!({"observedGeneration": self.generation, "conditions": conditions.collect::<Vec<_>>()});
        if let (Some((epoch, acknowledged, total)), Some(members)) = (self.proxies, status.as_object_mut()) {
            members.insert("epoch".to_owned(), epoch.into());
            members.insert("acknowledged".to_owned(), acknowledged.into());
            members.insert("total".to_owned(), total.into());
            members.insert("proxies".to_owned(), format!("{acknowledged}/{total}").into());
        }
        (status != *before).then_some(status)
    }

    /// Whether a status differs from this one in more than the number of proxies: what a person waits for.
    pub fn is_news(&self, before: &Value) -> bool {
        let is = |condition: &Condition| {
            let all = before.get("conditions").and_then(Value::as_array);
            all.into_iter().flatten().any(|known| {
                let has = |field: &str, value: &str| known.get(field).and_then(Value::as_str) == Some(value);
                has("type", condition.name)
                    && has("status", if condition.holds { "True" } else { "False" })
                    && has("reason", condition.reason)
            })
        };
        before.get("observedGeneration").and_then(Value::as_i64) != Some(self.generation)
            || !self.conditions.iter().all(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Held;

    fn published() -> BTreeMap<u64, String> {
        (1..10).map(|epoch| (epoch, "d".to_owned())).collect()
    }

    fn document(accepted: bool, last_good: bool, epoch: u64) -> DocumentStatus {
        DocumentStatus { accepted, last_good, epoch, generation: 3, ..Default::default() }
    }

    fn held(all: &[(u64, u64)]) -> Proxies {
        let held = |(epoch, proxies): &(u64, u64)| Held { epoch: *epoch, digest: "d".into(), proxies: *proxies };
        Proxies { held: all.iter().map(held).collect(), refusals: Vec::new() }
    }

    fn conditions(wanted: &Wanted) -> Vec<(bool, &str)> {
        wanted.conditions.iter().map(|condition| (condition.holds, condition.reason)).collect()
    }

    fn error(code: &str) -> Diagnostic {
        Diagnostic { severity: "error".into(), code: code.into(), path: "spec.x".into(), ..Default::default() }
    }

    #[test]
    fn programmed_is_true_only_while_every_connected_proxy_enforces_what_is_written() {
        let refused = Proxies {
            refusals: vec![Refusal { node: "n".into(), holds: 6, offered: 8, code: "c".into(), message: "m".into() }],
            ..held(&[(6, 1), (8, 2)])
        };
        type Case = (DocumentStatus, Proxies, Option<&'static str>, (bool, &'static str));
        let cases: [Case; 9] = [
            (document(true, false, 7), held(&[(7, 2), (8, 1)]), None, (true, "Programmed")),
            (document(true, false, 7), held(&[]), None, (false, "Reconciling")),
            (document(true, false, 7), held(&[(6, 1), (7, 1)]), None, (false, "Reconciling")),
            (document(true, false, 7), held(&[(0, 1), (7, 1)]), None, (false, "Reconciling")),
            (document(true, false, 7), refused.clone(), None, (false, "PartiallyProgrammed")),
            // What that proxy refuses does not matter to what it enforces already.
            (document(true, false, 6), refused, None, (true, "Programmed")),
            (document(false, true, 6), held(&[(7, 2)]), None, (false, "Reconciling")),
            (document(false, false, 0), held(&[(7, 2)]), None, (false, "Reconciling")),
            (document(false, false, 6), held(&[(7, 2)]), Some("Nothing is published."), (false, "Reconciling")),
        ];
        let other = Proxies { held: vec![Held { epoch: 8, digest: "other".into(), proxies: 2 }], refusals: Vec::new() };
        let lied = wanted(Kind::AccessRole, &document(true, false, 7), &[], None, &other, &published());
        assert_eq!(conditions(&lied)[1], (false, "Reconciling"), "what another replica has published otherwise");
        for (document, proxies, stopped, programmed) in cases {
            let wanted = wanted(Kind::AccessRole, &document, &[], stopped, &proxies, &published());
            assert_eq!(conditions(&wanted)[1], programmed, "{document:?} {proxies:?}");
        }
    }

    #[test]
    fn accepted_says_why_a_document_is_not() {
        for (code, reason) in [
            ("unknown_field", "Invalid"),
            ("duplicate_issuer", "Conflicted"),
            ("unknown_service", "RefNotFound"),
            ("not_permitted", "NotPermitted"),
        ] {
            let found = error(code);
            let all = wanted(
                Kind::PolicyTest,
                &document(false, false, 0),
                &[&found],
                None,
                &Proxies::default(),
                &published(),
            );
            assert_eq!(conditions(&all), [(false, reason)]);
            assert!(all.verdict().unwrap().2.contains("spec.x"));
        }
        let warning = Diagnostic { severity: "warning".into(), ..error("role_prefix") };
        let all =
            wanted(Kind::PolicyTest, &document(true, false, 0), &[&warning], None, &Proxies::default(), &published());
        assert_eq!(conditions(&all), [(true, "Accepted")]);
        assert!(all.verdict().unwrap().2.contains("role_prefix"));
    }

    #[test]
    fn what_has_not_changed_is_not_written_and_a_condition_keeps_its_time() {
        let at = |epoch, proxies: &Proxies| {
            wanted(Kind::AccessRole, &document(true, false, epoch), &[], None, proxies, &published())
        };
        let first = at(7, &held(&[(7, 2)])).over(&Value::Null, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(at(7, &held(&[(7, 2)])).over(&first, "2026-01-02T00:00:00Z"), None);
        let more = at(7, &held(&[(7, 3)]));
        assert!(!more.is_news(&first), "only another number of proxies");
        let second = more.over(&first, "2026-01-02T00:00:00Z").unwrap();
        assert_eq!(second["conditions"][1]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(second["proxies"], "3/3");
        let later = at(8, &held(&[(7, 3)]));
        assert!(later.is_news(&second));
        let third = later.over(&second, "2026-01-03T00:00:00Z").unwrap();
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(third["conditions"][1]["lastTransitionTime"], "2026-01-03T00:00:00Z");
    }
}
