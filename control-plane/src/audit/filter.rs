//! Which records a reader asked for.

use doorward_policy::audit::bounds::cut_name;
use doorward_proto::v1::{AuditRecord, Filter};

/// The filter with its names as records hold them: long ones are cut there.
pub fn as_recorded(mut filter: Filter) -> Filter {
    let names = [
        &mut filter.user,
        &mut filter.agent,
        &mut filter.role,
        &mut filter.tenant,
        &mut filter.service,
        &mut filter.component,
    ];
    for name in names {
        *name = cut_name(name).into_owned();
    }
    filter
}

/// Whether `record` passes every part of `filter` that is set.
///
/// `outcome` also matches what shadow mode would have done; `emitter` matches a whole name or leading parts of it
/// (`NODE` or `NODE/WORKER`); `until_micros` is exclusive.
pub fn matches(filter: &Filter, record: &AuditRecord) -> bool {
    let is = |wanted: &str, found: Option<&str>| wanted.is_empty() || found == Some(wanted);
    let principal = record.principal.as_ref();
    let decision = record.decision.as_ref();
    is(&filter.user, principal.map(|p| p.user.as_str()))
        && (filter.agent.is_empty() || principal.is_some_and(|p| p.agents.contains(&filter.agent)))
        && is(&filter.role, Some(&record.role))
        && is(&filter.tenant, principal.map(|p| p.tenant.as_str()))
        && is(&filter.service, Some(&record.service))
        && (filter.component.is_empty() || record.operations.iter().any(|o| o.component == filter.component))
        && (is(&filter.outcome, decision.map(|d| d.outcome.as_str()))
            || is(&filter.outcome, decision.map(|d| d.would.as_str())))
        && (is(&filter.code, decision.map(|d| d.code.as_str()))
            || is(&filter.code, decision.map(|d| d.would_code.as_str())))
        && (filter.since_micros == 0 || record.time_micros >= filter.since_micros)
        && (filter.until_micros == 0 || record.time_micros < filter.until_micros)
        && (is(&filter.decision_id, Some(&record.decision_id))
            || is(&filter.decision_id, record.response.as_ref().map(|r| r.decision_id.as_str())))
        && (filter.emitter.is_empty()
            || record
                .emitter
                .strip_prefix(filter.emitter.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::{RecordDecision, RecordOperation, RecordPrincipal};

    use super::*;

    #[test]
    fn every_set_part_must_match_and_unset_parts_do_not_matter() {
        let record = AuditRecord {
            emitter: "node/0/boot".into(),
            time_micros: 100,
            role: "support".into(),
            service: "shop".into(),
            principal: Some(RecordPrincipal {
                user: "alice".into(),
                tenant: "acme".into(),
                agents: vec!["bot".into()],
                ..Default::default()
            }),
            operations: vec![RecordOperation { component: "orders".into(), ..Default::default() }],
            decision: Some(RecordDecision {
                outcome: "allow".into(),
                would: "would_deny".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let f = Filter::default;
        for (filter, expected) in [
            (f(), true),
            (Filter { user: "alice".into(), tenant: "acme".into(), ..f() }, true),
            (Filter { user: "alice".into(), tenant: "other".into(), ..f() }, false),
            (Filter { agent: "bot".into(), ..f() }, true),
            (Filter { agent: "bo".into(), ..f() }, false),
            (Filter { component: "orders".into(), role: "support".into(), service: "shop".into(), ..f() }, true),
            (Filter { component: "customers".into(), ..f() }, false),
            (Filter { outcome: "would_deny".into(), ..f() }, true),
            (Filter { outcome: "deny".into(), ..f() }, false),
            (Filter { since_micros: 100, until_micros: 101, ..f() }, true),
            (Filter { until_micros: 100, ..f() }, false),
            (Filter { emitter: "node/0".into(), ..f() }, true),
            (Filter { emitter: "nod".into(), ..f() }, false),
            (Filter { decision_id: "x".into(), ..f() }, false),
        ] {
            assert_eq!(matches(&filter, &record), expected, "{filter:?}");
        }
        assert!(!matches(&Filter { user: "alice".into(), ..f() }, &AuditRecord::default()));
    }
}
