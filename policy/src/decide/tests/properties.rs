//! The indexed decider against the slow one, agents against their users, writes against every old row.

use super::{
    super::{decide, writes},
    model::*,
    slow::*,
};
use crate::{
    predicate::{Context, Resolved, Truth, eval, parse::parse, simplify},
    principal::{Attribute, Principal},
    request::*,
    transform::MaskKind,
    value::{Literal, Value},
};
use doorward_proto::v1::{RestrictionEffect, SubjectKind};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FIELDS: [&str; 4] = ["f", "g", "h", "nope"];
const PREDICATES: [&str; 6] =
    ["f = 'u'", "g > 1", "f = {user.region}", "f = 'u' AND g = 1", "g = 1 OR h = 'v'", "f IN ({user.regions})"];

fn some<T: Clone + std::fmt::Debug + 'static>(list: &[T]) -> impl Strategy<Value = T> + Clone + use<T> {
    prop::sample::select(list.to_vec())
}
fn part<T: Clone + std::fmt::Debug + 'static>(list: &[T]) -> impl Strategy<Value = Vec<T>> + Clone + use<T> {
    prop::sample::subsequence(list.to_vec(), 0..=list.len())
}
fn maybe<T: Clone + std::fmt::Debug + 'static>(list: &[T]) -> impl Strategy<Value = Option<T>> + Clone + use<T> {
    prop::option::weighted(0.3, some(list))
}

fn grants() -> impl Strategy<Value = GrantModel> {
    let kinds = some(&[MaskKind::MaskNull, MaskKind::MaskLast, MaskKind::MaskEmail]);
    let masks = prop::collection::btree_map(some(&["f", "g", "h"]), (kinds, any::<bool>()), 0..4)
        .prop_map(|masks| masks.into_iter().map(|(field, (kind, filterable))| (field, kind, filterable)).collect());
    (
        (some(&["", "", "", "other"]), some(&["a", "x/1", "x/*", "*"]), some(&[Verb::Get, Verb::Post])),
        (any::<bool>(), part(&FIELDS), masks),
        (maybe(&PREDICATES), some(&[0, 0, 5, 50]), maybe(&[true, false]), prop::bool::weighted(0.2)),
    )
        .prop_map(|((service, pattern, verb), (hide, read, masks), (rows, max_rows, omit, unchecked))| {
            GrantModel {
                service,
                pattern,
                verbs: vec![verb],
                hide,
                read,
                masks,
                rows,
                max_rows,
                omit,
                unchecked,
                ..Default::default()
            }
        })
}
fn models() -> impl Strategy<Value = Model> {
    let role = |name: &'static str| {
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::collection::vec(grants(), 1..5), some(&[0, 0, 20]))
            .prop_map(move |(inactive, shadow, mut grants, max_rows)| {
                let mut seen = BTreeSet::new();
                grants.retain(|grant| seen.insert((grant.service, grant.pattern, i32::from(grant.verbs[0]))));
                RoleModel { name, inactive, shadow, grants, max_rows, requests_per_minute: 0 }
            })
    };
    let subject = some(&[
        (SubjectKind::SubjectUser, "eve"),
        (SubjectKind::SubjectGroup, "staff"),
        (SubjectKind::SubjectAnyUser, ""),
        (SubjectKind::SubjectAgent, "bot"),
        (SubjectKind::SubjectAgent, "sub"),
        (SubjectKind::SubjectKey, "k"),
        (SubjectKind::SubjectUnidentified, ""),
    ]);
    let providers = prop::option::weighted(0.3, part(&["corp", "other"]));
    let binding =
        (some(&["r1", "r2", "r3"]), -1..2i32, subject.clone(), part(&["acme"]), some(&[0, 0, 0, NOW]), providers)
            .prop_map(|(role, priority, subject, tenants, until, providers)| BindingModel {
                role,
                priority,
                subject,
                tenants,
                until,
                providers,
            });
    let within = prop::option::weighted(0.3, part(&["db", "other"]));
    let effect = some(&[
        RestrictionEffect::RestrictDeny,
        RestrictionEffect::RestrictAllowOnly,
        RestrictionEffect::RestrictRevoke,
    ]);
    let restriction =
        (subject, effect, part(&["db", "other"]), part(&[Verb::Get]), some(&[0, 3]), prop::bool::weighted(0.3), within)
            .prop_map(|(subject, effect, services, verbs, max_rows, shadow, within)| RestrictionModel {
                subject,
                effect,
                services,
                verbs,
                max_rows,
                issued_before: 0,
                shadow,
                within,
            });
    (
        (role("r1"), role("r2"), role("r3")),
        prop::collection::vec(binding, 1..10),
        prop::collection::vec(restriction, 0..2),
        (any::<bool>(), some(&[0, 0, 10]), some(&["r1", "r3"]), some(&["", "bot"])),
    )
        .prop_map(|((r1, r2, r3), bindings, restrictions, (omit, max_rows, key_role, key_agent))| Model {
            service: "db",
            components: vec![("a", TYPES.to_vec()), ("x/*", TYPES.to_vec()), ("x/1", TYPES[..2].to_vec())],
            omit,
            max_rows,
            service_shadow: false,
            roles: vec![r1, r2, r3],
            bindings,
            restrictions,
            keys: vec![("k", key_role, key_agent)],
        })
}
fn principals() -> impl Strategy<Value = Principal> {
    (
        prop::option::weighted(0.9, some(&["eve", "bob"])),
        part(&["staff"]),
        maybe(&["acme"]),
        prop::option::weighted(0.2, Just(0)),
        prop::option::weighted(0.3, prop_oneof![Just(vec!["bot"]), Just(vec!["sub"]), Just(vec!["bot", "sub"])]),
        prop::option::weighted(0.1, part(&["r1", "r2"])),
        any::<bool>(),
        maybe(&["corp", "other"]),
    )
        .prop_map(|(user, groups, tenant, key, chain, delegated, region, provider)| {
            let mut attributes = vec![(name("regions"), Attribute::Many(vec![name("u"), name("w")]))];
            if region {
                attributes.insert(0, (name("region"), Attribute::One(name("v"))));
            }
            Principal {
                user: user.map(name),
                provider: provider.map(name),
                groups: groups.into_iter().map(name).collect(),
                tenant: tenant.map(name),
                key,
                agents: agents(&chain.unwrap_or_default()),
                attributes,
                delegated_roles: delegated.map(|roles| roles.into_iter().map(name).collect()),
                ..Principal::default()
            }
        })
}
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let used =
        (some(&FIELDS), some(&[Clause::Project, Clause::Project, Clause::Filter, Clause::Sort, Clause::Aggregate]));
    let one = (
        some(&["a", "x/1", "x/2", "zz"]),
        some(&[Verb::Get, Verb::Get, Verb::Post]),
        any::<bool>(),
        prop::collection::vec(used, 0..3),
        prop::bool::weighted(0.85),
    )
        .prop_map(|(component, verb, all, fields, rows)| {
            let mut operation = Operation::new(name(component), verb);
            operation.projection = if all { Projection::All } else { Projection::Listed };
            operation.capabilities =
                Capabilities { rows, project: true, mask: true, cap: true, check: true, set: true };
            operation.fields = fields
                .into_iter()
                .filter(|(_, clause)| !(all && *clause == Clause::Project))
                .map(|(field, clause)| FieldUse { field: name(field), clause })
                .collect();
            operation
        });
    prop_oneof![3 => prop::collection::vec(one.clone(), 1), 1 => prop::collection::vec(one, 2)]
}

fn value(text: Option<&'static str>, number: bool) -> Value {
    match text {
        None => Value::Null,
        Some(text) if number => Value::Literal(Literal::Integer(text.parse().unwrap())),
        Some(text) => Value::Literal(Literal::String(text.into())),
    }
}
/// Every row over a small domain.
fn world() -> Vec<BTreeMap<&'static str, Value>> {
    let texts = [None, Some("u"), Some("v")];
    let numbers = [None, Some("1"), Some("2")];
    let mut out = Vec::new();
    for f in texts {
        for g in numbers {
            for h in texts {
                out.push(BTreeMap::from([("f", value(f, false)), ("g", value(g, true)), ("h", value(h, false))]));
            }
        }
    }
    out
}
fn holds(predicate: &Resolved, row: &BTreeMap<&'static str, Value>) -> bool {
    eval(predicate, &|field| row.get(field).cloned()) == Truth::True
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_indexed_decider_agrees_with_the_slow_one(
        model in models(), principal in principals(), operations in operations(), wanted in prop::option::weighted(0.1, some(&["r1", "r9"])),
    ) {
        let tables = model.tables();
        let request = DataRequest { operations };
        let (service, _) = tables.route("any", "/").unwrap();
        let decision = decide(&tables, service, &principal, &request, wanted, NOW, None);
        let expected = slow(&model, &principal, &request.operations, wanted, false);
        match (&decision.outcome, expected) {
            (Err(denial), Err(code)) => prop_assert_eq!(denial.code, code),
            (Ok(have), Ok((role, want))) => {
                prop_assert_eq!(decision.role.as_deref(), Some(role.as_str()));
                for (have, want) in have.operations.iter().zip(&want) {
                    let names = |list: &mut dyn Iterator<Item = &crate::Name>| list.map(|n| n.to_string()).collect::<BTreeSet<_>>();
                    prop_assert_eq!(names(&mut have.visible.iter()), want.visible.clone());
                    prop_assert_eq!(names(&mut have.omitted.iter()), want.omitted.clone());
                    let masks = have.masks.iter().map(|mask| (mask.field.to_string(), strength(mask.kind)));
                    prop_assert_eq!(masks.collect::<BTreeMap<_, _>>(), want.masks.clone());
                    prop_assert_eq!(have.max_rows, want.max_rows);
                    for row in world() {
                        let all = want.rows.iter().all(|rows| holds(rows, &row));
                        prop_assert_eq!(have.rows.as_ref().is_none_or(|rows| holds(rows, &row)), all);
                    }
                }
            }
            (have, want) => prop_assert!(false, "{have:?} is not {want:?}"),
        }
        // Shadow mode tells what the same policy would do if everything counted.
        let full = slow(&model, &principal, &request.operations, wanted, true);
        match &decision.would {
            Some(crate::decide::Would::Deny(denial)) => prop_assert_eq!(Some(denial.code), full.err()),
            Some(crate::decide::Would::Allow | crate::decide::Would::Rewrite) => prop_assert!(full.is_ok()),
            None => prop_assert_eq!(full.is_ok(), decision.outcome.is_ok()),
        }
        // A trace changes nothing.
        let mut trace = crate::decide::Trace::default();
        let traced = decide(&tables, service, &principal, &request, wanted, NOW, Some(&mut trace));
        prop_assert_eq!(traced.outcome, decision.outcome);
        prop_assert!(!trace.steps.is_empty());
    }

    #[test]
    fn with_agents_a_person_never_reaches_more_than_alone(
        mut model in models(), mut principal in principals(), operations in operations(),
    ) {
        // Most random chains hold nothing: give everyone a role, so that the intersection is what is tested.
        model.bindings.extend([
            bind("r1", SubjectKind::SubjectAnyUser, ""), bind("r2", SubjectKind::SubjectAgent, "bot"), bind("r3", SubjectKind::SubjectAgent, "sub"),
        ]);
        model.restrictions.clear();
        if principal.agents.is_empty() {
            principal.agents = agents(&["bot"]);
        }
        let tables = model.tables();
        let request = DataRequest { operations };
        let (service, _) = tables.route("any", "/").unwrap();
        let alone = Principal { agents: Vec::new(), delegated_roles: None, ..principal.clone() };
        // Scopes may choose another of the person's own roles, so they are compared on their own.
        let chained = Principal { delegated_roles: None, ..principal };
        let with = decide(&tables, service, &chained, &request, None, NOW, None);
        let without = decide(&tables, service, &alone, &request, None, NOW, None);
        if let Ok(with) = with.outcome {
            prop_assert!(without.outcome.is_ok());
            for (with, without) in with.operations.iter().zip(&without.outcome.unwrap().operations) {
                prop_assert!(with.visible.iter().all(|field| without.visible.contains(field)));
                prop_assert!(without.omitted.iter().all(|field| with.omitted.contains(field)));
                prop_assert!(with.max_rows.unwrap_or(u32::MAX) <= without.max_rows.unwrap_or(u32::MAX));
                for mask in without.masks.iter().filter(|mask| with.visible.contains(&mask.field)) {
                    let own = with.masks.iter().find(|own| own.field == mask.field);
                    prop_assert!(own.is_some_and(|own| strength(own.kind) >= strength(mask.kind)));
                }
                for row in world() {
                    let sees = |rows: &Option<Resolved>| rows.as_ref().is_none_or(|rows| holds(rows, &row));
                    prop_assert!(!sees(&with.rows) || sees(&without.rows));
                }
            }
        }
    }

    #[test]
    fn a_permitted_write_keeps_every_row_within_the_check(
        rows in prop::option::weighted(0.9, some(&PREDICATES)), other in maybe(&PREDICATES), create in any::<bool>(),
        given in prop::collection::vec((some(&["f", "g", "h"]), some(&[None, Some(None), Some(Some("1")), Some(Some("2"))])), 0..4),
        set in maybe(&[("f", true), ("f", false), ("h", true)]),
    ) {
        // As in a policy: the check is the row predicate where nothing else was said.
        let check = other.or(rows);
        let principal = Principal {
            attributes: vec![
                (name("region"), Attribute::One(name("v"))),
                (name("regions"), Attribute::Many(vec![name("u"), name("v")])),
            ],
            ..Principal::default()
        };
        let context = Context { principal: &principal, lookups: &[], agent: None, key: None, now_seconds: NOW };
        let types = |field: &str| TYPES.iter().find(|(have, _)| *have == field).map(|(_, of)| *of);
        let resolve = |text: Option<&'static str>| text.map(|text| simplify(context.resolve(&parse(text, &types).unwrap()).unwrap()));
        let (rows, check) = (resolve(rows), resolve(check));
        let mut operation = Operation::new(name("a"), Verb::Post);
        operation.capabilities = Capabilities { rows: true, check: true, set: true, ..Default::default() };
        operation.write = if create { WriteKind::Create } else { WriteKind::Update };
        let read = |field: &str, each: Option<Option<&'static str>>| each.map(|text| match (field, text) {
            ("g", text) => value(text, true),
            (_, Some("1")) => value(Some("u"), false),
            (_, text) => value(text.map(|_| "v"), false),
        });
        operation.writes = vec![WrittenRow { values: given.iter().map(|(field, each)| (name(field), read(field, *each))).collect() }];
        let set: Vec<_> = set.into_iter().map(|(field, overrides)| (name(field), Literal::String("u".into()), overrides)).collect();
        let permitted = writes::check(&operation, check.as_ref(), rows.as_ref(), &set, false).is_ok();
        if let (true, Some(check)) = (permitted, &check) {
            for old in world() {
                // An update starts from a row that the row predicate selected, a creation from any defaults.
                if !create && !rows.as_ref().is_none_or(|rows| holds(rows, &old)) {
                    continue;
                }
                let mut new = old.clone();
                for (field, each) in &given {
                    if let Some(each) = read(field, *each) {
                        new.insert(field, each);
                    }
                }
                for (field, preset, overrides) in &set {
                    let field = TYPES.iter().find(|(have, _)| *have == &**field).unwrap().0;
                    if *overrides || !given.iter().any(|(have, _)| *have == field) {
                        new.insert(field, Value::Literal(preset.clone()));
                    }
                }
                prop_assert!(holds(check, &new), "{check} does not hold for {new:?}");
            }
        }
    }
}
