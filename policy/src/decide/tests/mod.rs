//! Every code, roles as organisations have them, and the properties that hold for all policies.

mod model;
mod properties;
mod slow;

use super::{Constraints, Decision, Trace, Verdict, Would, decide, revoked};
use crate::{
    code::Code,
    principal::{Principal, TokenInfo},
    request::*,
    transform::MaskKind,
    value::{FieldType, Literal, Value},
};
use doorward_proto::v1::{RestrictionEffect, SubjectKind};
use model::*;
use slow::MASKS;

fn read(component: &str) -> Operation {
    let mut operation = Operation::new(name(component), Verb::Get);
    operation.projection = Projection::All;
    operation.capabilities = Capabilities { rows: true, project: true, mask: true, cap: true, check: true, set: true };
    operation
}
fn using(component: &str, field: &str, clause: Clause) -> Operation {
    let mut operation = read(component);
    operation.projection = Projection::Listed;
    operation.fields.push(FieldUse { field: name(field), clause });
    operation
}
fn write(verb: Verb, kind: WriteKind, values: &[(&str, &str)]) -> Operation {
    let mut operation = read("a");
    operation.verb = verb;
    operation.write = kind;
    operation.projection = Projection::Nothing;
    let text = |value: &str| match value {
        "[]" => None,
        text => Some(Value::Literal(text.parse().map_or(Literal::String(text.into()), Literal::Integer))),
    };
    operation.writes =
        vec![WrittenRow { values: values.iter().map(|(field, value)| (name(field), text(value))).collect() }];
    operation
}
fn ask(model: &Model, principal: &Principal, operation: Operation) -> Decision {
    let tables = model.tables();
    let (service, _) = tables.route("h", "/").unwrap();
    decide(&tables, service, principal, &DataRequest { operations: vec![operation] }, None, NOW, None)
}
fn code(decision: &Decision) -> Option<Code> {
    decision.outcome.as_ref().err().map(|denial| denial.code)
}
fn grant(pattern: &'static str, verb: Verb) -> GrantModel {
    GrantModel { pattern, verbs: vec![verb], read: vec!["f", "g"], ..Default::default() }
}
/// Eve holds one role with these grants.
fn one(grants: Vec<GrantModel>) -> Model {
    Model {
        service: "db",
        components: vec![("a", TYPES.to_vec()), ("b", TYPES.to_vec())],
        roles: vec![RoleModel { name: "r", grants, ..Default::default() }],
        bindings: vec![bind("r", SubjectKind::SubjectUser, "eve")],
        ..Default::default()
    }
}
fn constraints(decision: Decision) -> Constraints {
    decision.outcome.unwrap()
}

#[test]
fn a_support_role_reaches_exactly_what_it_was_granted() {
    let get = |pattern| GrantModel { hide: true, ..grant(pattern, Verb::Get) };
    let mut mysql = one(vec![
        get("_table/customers"),
        get("_table/orders"),
        get("_table/products"),
        GrantModel { verbs: vec![Verb::Get, Verb::Post], ..get("_proc/get_summary") },
        GrantModel { service: "aws_s3_reports", ..get("*") },
    ]);
    mysql.service = "mysql_production";
    mysql.components = [
        "_table/customers",
        "_table/orders",
        "_table/products",
        "_table/users",
        "_table/audit_logs",
        "_proc/get_summary",
    ]
    .map(|component| (component, vec![("id", FieldType::Integer)]))
    .to_vec();
    let eve = person("eve");
    let verb = |component: &str, verb| Operation { verb, ..read(component) };
    for table in ["_table/customers", "_table/orders", "_table/products"] {
        assert_eq!(code(&ask(&mysql, &eve, read(table))), None, "{table}");
        for other in [Verb::Post, Verb::Put, Verb::Patch, Verb::Delete] {
            assert_eq!(code(&ask(&mysql, &eve, verb(table, other))), Some(Code::VerbDenied));
        }
    }
    assert_eq!(code(&ask(&mysql, &eve, verb("_proc/get_summary", Verb::Post))), None);
    assert_eq!(code(&ask(&mysql, &eve, verb("_proc/get_summary", Verb::Delete))), Some(Code::VerbDenied));
    for hidden in ["_table/users", "_table/audit_logs", "_table/brand_new"] {
        assert_eq!(code(&ask(&mysql, &eve, read(hidden))), Some(Code::ComponentDenied), "{hidden}");
    }
    let mut files = mysql.clone();
    (files.service, files.components) = ("aws_s3_reports", vec![("*", vec![])]);
    let file = |verb| Operation { verb, projection: Projection::Nothing, ..read("2026/q1.csv") };
    files.roles[0]
        .grants
        .iter_mut()
        .for_each(|grant| grant.service = if grant.pattern == "*" { "" } else { "mysql_production" });
    assert_eq!(code(&ask(&files, &eve, file(Verb::Get))), None);
    assert_eq!(code(&ask(&files, &eve, file(Verb::Delete))), Some(Code::VerbDenied));
    let mut mail = mysql;
    mail.roles[0].grants.iter_mut().for_each(|grant| grant.service = "mysql_production");
    mail.service = "email_service";
    assert_eq!(code(&ask(&mail, &eve, read("_table/customers"))), Some(Code::ServiceDenied));
}

#[test]
fn hidden_fields_are_invisible_and_no_oracle() {
    let shown = vec!["id", "first_name", "last_name", "company", "city", "state", "country"];
    let hidden = ["email", "phone", "ssn", "credit_card", "date_of_birth", "internal_notes"];
    let mut model = one(vec![GrantModel { read: shown.clone(), ..grant("a", Verb::Get) }]);
    model.components[0].1 = shown.iter().chain(&hidden).map(|field| (*field, FieldType::String)).collect();
    let eve = person("eve");
    let all = constraints(ask(&model, &eve, read("a")));
    assert!(!all.operations[0].sees_all);
    let mut sorted = shown.clone();
    sorted.sort_unstable();
    assert_eq!(all.operations[0].visible.iter().map(|field| &**field).collect::<Vec<_>>(), sorted);
    let clauses = [
        Clause::Project,
        Clause::Filter,
        Clause::Sort,
        Clause::Group,
        Clause::Aggregate,
        Clause::Join,
        Clause::Cursor,
        Clause::Search,
        Clause::Key,
    ];
    for clause in clauses {
        assert_eq!(code(&ask(&model, &eve, using("a", "city", clause))), None, "{clause:?}");
        for field in hidden.iter().chain(&["not_declared"]) {
            let denial = ask(&model, &eve, using("a", field, clause)).outcome.unwrap_err();
            assert_eq!(denial.code, Code::FieldDenied, "{field} {clause:?}");
            assert_eq!(denial.detail, format!("Field {field} of a is not visible to this caller."));
        }
    }
    model.omit = true;
    let mut both = using("a", "ssn", Clause::Project);
    both.fields.push(FieldUse { field: name("id"), clause: Clause::Project });
    assert_eq!(constraints(ask(&model, &eve, both)).operations[0].omitted, [name("ssn")]);
    assert_eq!(code(&ask(&model, &eve, using("a", "ssn", Clause::Project))), Some(Code::FieldDenied));
    assert_eq!(code(&ask(&model, &eve, using("a", "ssn", Clause::Filter))), Some(Code::FieldDenied));
}

#[test]
fn payroll_sees_salaries_and_hr_reviews_never_the_other_way_round() {
    let role = |name, read| RoleModel {
        name,
        grants: vec![GrantModel { read, ..grant("a", Verb::Get) }],
        ..Default::default()
    };
    let mut model = one(vec![]);
    model.components[0].1 = ["name", "salary", "ssn", "review"].map(|field| (field, FieldType::String)).to_vec();
    model.roles = vec![role("hr", vec!["name", "review"]), role("payroll", vec!["name", "salary"])];
    model.bindings =
        vec![bind("hr", SubjectKind::SubjectGroup, "hr"), bind("payroll", SubjectKind::SubjectGroup, "payroll")];
    let of = |groups: &[&str]| Principal { groups: groups.iter().map(|group| name(group)).collect(), ..person("eve") };
    let field = |groups: &[&str], field| code(&ask(&model, &of(groups), using("a", field, Clause::Project)));
    assert_eq!((field(&["hr"], "review"), field(&["payroll"], "salary")), (None, None));
    for (group, hidden) in [("hr", "salary"), ("hr", "ssn"), ("payroll", "review"), ("payroll", "ssn")] {
        assert_eq!(field(&[group], hidden), Some(Code::FieldDenied));
    }
    // Whoever holds both may use either, but never both in one request.
    let mut both = using("a", "review", Clause::Project);
    both.fields.push(FieldUse { field: name("salary"), clause: Clause::Project });
    assert_eq!(code(&ask(&model, &of(&["hr", "payroll"]), both)), Some(Code::FieldDenied));
    assert_eq!(ask(&model, &of(&["hr", "payroll"]), using("a", "salary", Clause::Project)).role, Some(name("payroll")));
}

#[test]
fn each_check_has_its_code_in_the_order_of_the_checks() {
    let model = one(vec![grant("a", Verb::Get)]);
    let eve = person("eve");
    assert_eq!(code(&ask(&model, &eve, read("a"))), None);
    assert_eq!(code(&ask(&model, &person("bob"), read("a"))), Some(Code::RoleNone));
    assert_eq!(code(&ask(&model, &Principal::default(), read("a"))), Some(Code::CredentialMissing));
    assert_eq!(code(&ask(&model, &eve, read("b"))), Some(Code::ComponentDenied));
    let mut inactive = model.clone();
    inactive.roles[0].inactive = true;
    assert_eq!(code(&ask(&inactive, &eve, read("a"))), Some(Code::RoleInactive));
    let mut masked = model.clone();
    masked.roles[0].grants[0].masks = vec![("f", MaskKind::MaskEmail, false)];
    assert_eq!(code(&ask(&masked, &eve, using("a", "f", Clause::Project))), None);
    assert_eq!(code(&ask(&masked, &eve, using("a", "f", Clause::Sort))), Some(Code::FieldDenied));
    let mut blunt = read("a");
    blunt.capabilities.mask = false;
    assert_eq!(code(&ask(&masked, &eve, blunt.clone())), Some(Code::Unsupported));
    let mut rows = model.clone();
    rows.roles[0].grants[0].rows = Some("f = {user.region}");
    assert_eq!(code(&ask(&rows, &eve, read("a"))), Some(Code::AttributeMissing));
    rows.roles[0].grants[0].rows = Some("f = 'u'");
    blunt.capabilities.rows = false;
    assert_eq!(code(&ask(&rows, &eve, blunt.clone())), Some(Code::RowDenied));
    rows.roles[0].grants[0].unchecked = true;
    assert_eq!(code(&ask(&rows, &eve, blunt)), None);
    let tables = model.tables();
    let request = DataRequest { operations: vec![read("a")] };
    let asked = decide(&tables, &tables.services()[0], &eve, &request, Some("admin"), NOW, None);
    assert_eq!(code(&asked), Some(Code::RoleNotHeld));
    let nothing = decide(&tables, &tables.services()[0], &eve, &DataRequest::default(), None, NOW, None);
    assert_eq!(code(&nothing), Some(Code::Unparsable));
    let stale = Principal { key: Some(9), ..person("eve") };
    assert_eq!(code(&ask(&model, &stale, read("a"))), Some(Code::CredentialInvalid));
}

#[test]
fn unidentified_callers_need_a_binding_of_their_own() {
    let mut model = one(vec![grant("a", Verb::Get)]);
    model.bindings = vec![bind("r", SubjectKind::SubjectUnidentified, "")];
    assert_eq!(code(&ask(&model, &Principal::default(), read("a"))), None);
    assert_eq!(code(&ask(&model, &person("eve"), read("a"))), Some(Code::RoleNone));
}

#[test]
fn restrictions_outweigh_roles_and_revocation_comes_first() {
    let mut model = one(vec![grant("a", Verb::Get)]);
    let mut restriction = RestrictionModel {
        subject: (SubjectKind::SubjectUser, "eve"),
        effect: RestrictionEffect::RestrictDeny,
        services: vec![],
        verbs: vec![],
        max_rows: 0,
        issued_before: 0,
        shadow: false,
        within: None,
    };
    let mut with = |each: &RestrictionModel| {
        model.restrictions = vec![each.clone()];
        model.clone()
    };
    let eve = person("eve");
    assert_eq!(code(&ask(&with(&restriction), &eve, read("a"))), Some(Code::Restricted));
    restriction.effect = RestrictionEffect::RestrictAllowOnly;
    assert_eq!(code(&ask(&with(&restriction), &eve, read("a"))), Some(Code::Restricted));
    restriction.verbs = vec![Verb::Get];
    restriction.max_rows = 7;
    assert_eq!(constraints(ask(&with(&restriction), &eve, read("a"))).operations[0].max_rows, Some(7));
    restriction.verbs = vec![Verb::Post];
    assert_eq!(code(&ask(&with(&restriction), &eve, read("a"))), Some(Code::Restricted));
    restriction.effect = RestrictionEffect::RestrictRevoke;
    restriction.issued_before = NOW;
    let token = |issued_at| TokenInfo {
        id: None,
        sha256: name("0"),
        issued_at,
        expires_at: NOW + 60,
        methods: vec![],
        context_class: None,
    };
    for (issued_at, expected) in [(NOW - 1, Some(Code::CredentialRevoked)), (NOW, None)] {
        let eve = Principal { token: Some(token(issued_at)), ..person("eve") };
        let model = with(&restriction);
        assert_eq!(code(&ask(&model, &eve, read("a"))), expected);
        assert_eq!(revoked(&model.tables(), &eve, NOW).map(|denial| denial.code), expected);
    }
    // A service in shadow mode lifts neither.
    let mut shadow = with(&RestrictionModel { effect: RestrictionEffect::RestrictDeny, ..restriction });
    shadow.service_shadow = true;
    assert_eq!(code(&ask(&shadow, &eve, read("a"))), Some(Code::Restricted));
}

#[test]
fn every_agent_must_permit_and_constraints_intersect() {
    let mut model = one(vec![GrantModel { rows: Some("f = 'u'"), max_rows: 9, ..grant("a", Verb::Get) }]);
    let narrow = GrantModel {
        read: vec!["g", "h"],
        rows: Some("g = 1"),
        max_rows: 4,
        masks: vec![("g", MaskKind::MaskNull, false)],
        ..grant("a", Verb::Get)
    };
    model.roles.push(RoleModel { name: "bot-role", grants: vec![narrow], ..Default::default() });
    model.bindings.push(bind("bot-role", SubjectKind::SubjectAgent, "bot"));
    let eve = |chain: &[&'static str]| Principal { agents: agents(chain), ..person("eve") };
    let both = constraints(ask(&model, &eve(&["bot"]), read("a"))).operations.remove(0);
    assert_eq!(both.rows.unwrap().to_string(), "f = 'u' AND g = 1");
    assert_eq!(both.visible.iter().map(|field| &**field).collect::<Vec<_>>(), ["g"]);
    assert_eq!((both.max_rows, both.masks.len()), (Some(4), 1));
    assert_eq!(code(&ask(&model, &eve(&["bot", "stranger"]), read("a"))), Some(Code::DelegationDenied));
    // An agent's own role is not its user's.
    let bob = Principal { agents: agents(&["bot"]), ..person("bob") };
    assert_eq!(code(&ask(&model, &bob, read("a"))), Some(Code::RoleNone));
    let scoped = Principal { delegated_roles: Some(vec![name("other")]), ..person("eve") };
    assert_eq!(code(&ask(&model, &scoped, read("a"))), Some(Code::DelegationDenied));
}

#[test]
fn of_two_masks_only_what_both_would_show_is_left_whoever_has_which() {
    let role = |name, kind| {
        let grant = GrantModel { masks: vec![("f", kind, true)], ..grant("a", Verb::Get) };
        RoleModel { name, grants: vec![grant], ..Default::default() }
    };
    let bot = Principal { agents: agents(&["bot"]), ..person("eve") };
    for (own, other) in MASKS.iter().flat_map(|own| MASKS.iter().map(move |other| (*own, *other))) {
        let mut model = one(vec![]);
        model.roles = vec![role("r", own), role("bot-role", other)];
        model.bindings.push(bind("bot-role", SubjectKind::SubjectAgent, "bot"));
        let left = match (own, other) {
            (one, same) if one == same => one,
            (MaskKind::MaskNull, _) | (_, MaskKind::MaskNull) => MaskKind::MaskNull,
            (MaskKind::MaskFixed, _) | (_, MaskKind::MaskFixed) => MaskKind::MaskFixed,
            // The first letters and the last, or a token that is equal for equal values: neither shows what the other does.
            _ => MaskKind::MaskNull,
        };
        assert_eq!(constraints(ask(&model, &bot, read("a"))).operations[0].masks[0].kind, left, "{own:?} {other:?}");
    }
}

#[test]
fn a_read_only_person_cannot_write_through_a_capable_agent_or_tool() {
    let mut model = one(vec![grant("a", Verb::Get)]);
    let all = GrantModel { verbs: vec![Verb::Get, Verb::Delete], ..grant("*", Verb::Get) };
    model.roles.push(RoleModel { name: "all", grants: vec![all], ..Default::default() });
    model.bindings.push(bind("all", SubjectKind::SubjectAgent, "bot"));
    model.keys = vec![("tool", "all", "")];
    let delete = || write(Verb::Delete, WriteKind::Delete, &[]);
    let agent = Principal { agents: agents(&["bot"]), ..person("eve") };
    let tool = Principal { key: Some(0), ..person("eve") };
    assert_eq!(code(&ask(&model, &agent, delete())), Some(Code::VerbDenied));
    assert_eq!(code(&ask(&model, &tool, delete())), Some(Code::VerbDenied));
    let alone = Principal { key: Some(0), ..Principal::default() };
    assert_eq!(code(&ask(&model, &alone, delete())), None);
    assert_eq!(ask(&model, &alone, delete()).role, Some(name("all")));
}

#[test]
fn written_values_must_satisfy_the_check() {
    let base = GrantModel {
        verbs: vec![Verb::Post, Verb::Patch, Verb::Put],
        write: vec!["f", "g"],
        rows: Some("f = 'u' AND g < 3"),
        ..grant("a", Verb::Post)
    };
    let model = one(vec![base.clone()]);
    let eve = person("eve");
    let create = |values: &[(&str, &str)]| code(&ask(&model, &eve, write(Verb::Post, WriteKind::Create, values)));
    assert_eq!(create(&[("f", "u"), ("g", "2")]), None);
    assert_eq!(create(&[("f", "v"), ("g", "2")]), Some(Code::RowDenied));
    assert_eq!(create(&[("f", "u")]), Some(Code::RowDenied), "the default of g is not known");
    assert_eq!(create(&[("f", "u"), ("g", "[]")]), Some(Code::RowDenied));
    assert_eq!(create(&[("f", "u"), ("g", "2"), ("h", "x")]), Some(Code::FieldDenied));
    assert_eq!(create(&[("f", "u"), ("g", "2"), ("undeclared", "x")]), Some(Code::FieldDenied));
    let update =
        |model: &Model, values: &[(&str, &str)]| code(&ask(model, &eve, write(Verb::Patch, WriteKind::Update, values)));
    assert_eq!(update(&model, &[("g", "1")]), None, "f stays what the row predicate selected");
    assert_eq!(update(&model, &[("g", "5")]), Some(Code::RowDenied));
    let mixed = one(vec![GrantModel { rows: Some("f = 'u' OR g < 3"), ..base.clone() }]);
    assert_eq!(update(&mixed, &[("g", "1")]), Some(Code::RowDenied));
    let other = one(vec![GrantModel { check: Some("h = 'w'"), ..base.clone() }]);
    assert_eq!(update(&other, &[("g", "1")]), Some(Code::RowDenied), "h is not selected by the row predicate");
    let put = |model: &Model| code(&ask(model, &eve, write(Verb::Put, WriteKind::Replace, &[("f", "u"), ("g", "1")])));
    assert_eq!(put(&model), Some(Code::RowDenied));
    assert_eq!(put(&one(vec![GrantModel { unchecked: true, ..base.clone() }])), None);
    assert_eq!(put(&one(vec![GrantModel { rows: None, ..base.clone() }])), None);
    // Presets fill gaps of new rows and override where they say so, before the check.
    let set = one(vec![GrantModel { set: vec![("f", "u", true), ("g", "1", false)], ..base }]);
    let decision = ask(&set, &eve, write(Verb::Post, WriteKind::Create, &[("f", "v")]));
    assert_eq!(constraints(decision).operations[0].set.len(), 2);
    let decision = ask(&set, &eve, write(Verb::Patch, WriteKind::Update, &[("g", "2")]));
    assert_eq!(constraints(decision).operations[0].set, [(name("f"), Literal::String("u".into()), true)]);
    let mut blunt = write(Verb::Post, WriteKind::Create, &[("f", "u")]);
    blunt.capabilities.set = false;
    assert_eq!(code(&ask(&set, &eve, blunt)), Some(Code::Unsupported));
}

#[test]
fn arguments_are_fixed_required_or_one_of_those_allowed() {
    let mut model = one(vec![GrantModel {
        arguments: vec![("year", true, vec!["2025", "2026"], false), ("who", false, vec!["{user.name}"], true)],
        ..grant("a", Verb::Get)
    }]);
    model.max_rows = 50;
    let call = |year: Option<&str>| {
        let mut operation = read("a");
        operation.arguments.extend(year.map(|year| (name("year"), Value::Literal(Literal::String(year.into())))));
        operation.arguments.push((name("who"), Value::Literal(Literal::String("bob".into()))));
        ask(&model, &person("eve"), operation)
    };
    assert_eq!(code(&call(None)), Some(Code::FieldDenied));
    assert_eq!(code(&call(Some("2024"))), Some(Code::FieldDenied));
    let fixed = constraints(call(Some("2026"))).operations.remove(0);
    assert_eq!(fixed.arguments, [(name("who"), Literal::String("eve".into()))]);
    assert_eq!(fixed.max_rows, Some(50));
}

#[test]
fn shadow_mode_records_what_would_happen_and_lets_pass() {
    let mut model = one(vec![GrantModel { rows: Some("f = 'u'"), ..grant("a", Verb::Get) }]);
    model.service_shadow = true;
    let eve = person("eve");
    let passed = ask(&model, &eve, read("a"));
    assert_eq!(passed.would, Some(Would::Rewrite));
    assert!(passed.limits.is_empty() && constraints(passed).operations[0].rows.is_none());
    let denied = ask(&model, &eve, read("b"));
    assert!(
        denied.outcome.is_ok()
            && matches!(denied.would, Some(Would::Deny(denial)) if denial.code == Code::ComponentDenied)
    );
    assert_eq!(code(&ask(&model, &Principal::default(), read("a"))), Some(Code::CredentialMissing));
    model.service_shadow = false;
    model.roles[0].shadow = true;
    let role = ask(&model, &eve, read("a"));
    assert_eq!((code(&role), role.would), (Some(Code::RoleNone), Some(Would::Allow)));
}

#[test]
fn a_trace_says_which_document_decided_and_where() {
    let model = one(vec![grant("b", Verb::Get), GrantModel { rows: Some("f = 'u'"), ..grant("a", Verb::Get) }]);
    let tables = model.tables();
    let mut trace = Trace::default();
    let request = DataRequest { operations: vec![using("a", "h", Clause::Filter)] };
    let _ = decide(&tables, &tables.services()[0], &person("eve"), &request, None, NOW, Some(&mut trace));
    let last = trace.steps.last().unwrap();
    assert_eq!((last.step, last.kind, &*last.name, &*last.path), ("field", "AccessRole", "r", "spec.grants[1].fields"));
    assert_eq!(last.verdict, Verdict::Deny);
}

#[test]
fn limits_are_counted_per_caller_and_survive_a_policy_change() {
    let mut model = one(vec![grant("a", Verb::Get)]);
    model.roles[0].requests_per_minute = 60;
    model.bindings = vec![bind("r", SubjectKind::SubjectAnyUser, "")];
    let slot = |model: &Model, user| ask(model, &person(user), read("a")).limits[0].slot;
    let (eve, bob) = (slot(&model, "eve"), slot(&model, "bob"));
    assert_ne!(eve, bob);
    model.roles[0].max_rows = 3;
    assert_eq!(slot(&model, "eve"), eve);
}

#[test]
fn a_bundle_with_anything_out_of_range_is_refused_whole() {
    use crate::bundle::Tables;
    let good = one(vec![grant("a", Verb::Get)]).bundle();
    let refused = |change: &dyn Fn(&mut doorward_proto::v1::Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        Tables::build(&bundle, [0; 32], 1).err().map(|error| (error.path, error.code))
    };
    assert_eq!(refused(&|_| ()), None);
    let at = |path: &str, code| Some((path.to_owned(), code));
    assert_eq!(refused(&|b| b.format = 3), at("format", "unknown"));
    assert_eq!(refused(&|b| b.roles[0].grants[0].verbs.push(99)), at("roles[0].grants[0]", "unknown"));
    assert_eq!(refused(&|b| b.roles[0].grants[0].pattern = 9_999), at("roles[0].grants[0]", "malformed"));
    assert_eq!(
        refused(&|b| b.roles[0].grants.push(good.roles[0].grants[0].clone())),
        at("roles[0].grants[1]", "duplicate")
    );
    assert_eq!(refused(&|b| b.services[0].dialect = 77), at("services[0]", "unknown"));
    assert_eq!(refused(&|b| b.bindings[0].subjects[0].kind = 3), None);
    assert_eq!(
        refused(&|b| (b.bindings[0].subjects[0].kind, b.bindings[0].subjects[0].claim_path) = (3, 5)),
        at("bindings[0]", "malformed")
    );
    assert_eq!(refused(&|b| b.roles.push(good.roles[0].clone())), at("roles[1]", "duplicate"));
    assert_eq!(refused(&|b| b.services.push(good.services[0].clone())), at("services[1]", "duplicate"));
    assert_eq!(refused(&|b| b.strings.clear()), at("strings", "malformed"));
}
