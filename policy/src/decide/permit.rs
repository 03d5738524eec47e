//! One role × one request: service, component and verb, then fields, then rows.

use super::{OperationConstraints, Question, Tracer, Verdict, restrict::least, writes};
use crate::{
    Name,
    bundle::{
        Component,
        roles::{ArgumentRule, Grant, Reach, Role, View},
    },
    code::{Code, Denial},
    predicate::{Context, Predicate, Resolved, Template, Truth, eval, parse::parse_literal, simplify},
    request::{Clause, Operation, Projection, WriteKind, verb_name},
    value::{FieldType, Literal, Value},
};
use doorward_proto::v1::HiddenField;
use std::sync::Arc;

/// A role that permits the whole request.
pub(super) struct Permit<'a> {
    pub(super) role: &'a Role,
    pub(super) operations: Vec<Permitted<'a>>,
}

/// One operation of it.
pub(super) struct Permitted<'a> {
    pub(super) grant: &'a Grant,
    pub(super) component: &'a Component,
    pub(super) constraints: OperationConstraints,
    pub(super) context: Context<'a>,
}

/// Where a check failed, for the trace.
struct Failure {
    denial: Denial,
    step: &'static str,
    /// Number of the grant in its document, and the part of it.
    place: Option<(u32, &'static str)>,
}

impl<'a> Question<'a> {
    /// Asks one role. Every check is made for all operations before the next one starts, so that the denial names the
    /// first check that fails anywhere.
    pub(super) fn permit(
        &self,
        role: &'a Role,
        agent: Option<&'a Name>,
        cap: Option<u32>,
        tracer: &mut Tracer<'_>,
    ) -> Result<Permit<'a>, Denial> {
        self.try_permit(role, agent, cap, tracer).map_err(|failure| {
            let path = || match failure.place {
                Some((grant, part)) => format!("spec.grants[{grant}]{part}"),
                None => String::new(),
            };
            let sentence = || format!("{} ({})", failure.denial.detail, failure.denial.code.as_str());
            tracer.step(failure.step, "AccessRole", &role.name, path, Verdict::Deny, sentence);
            failure.denial
        })
    }

    fn try_permit(
        &self,
        role: &'a Role,
        agent: Option<&'a Name>,
        cap: Option<u32>,
        tracer: &mut Tracer<'_>,
    ) -> Result<Permit<'a>, Failure> {
        if !role.active {
            let denial = Denial::new(Code::RoleInactive, "The role that would decide is not active.");
            return Err(Failure { denial, step: "role", place: None });
        }
        let mut granted = Vec::with_capacity(self.request.operations.len());
        for operation in &self.request.operations {
            let (grant, component, view) = self.granted(role, operation)?;
            let path = || format!("spec.grants[{}]", grant.source);
            tracer.step("verb", "AccessRole", &role.name, path, Verdict::Pass, || {
                format!("{} on {} is granted.", verb_name(operation.verb), operation.component)
            });
            granted.push((operation, grant, component, view));
        }
        let mut omitted = Vec::with_capacity(granted.len());
        for (operation, grant, _, view) in &granted {
            let omit = grant.omit_hidden.unwrap_or(self.service.on_hidden_field == HiddenField::Omit);
            let fields = check_fields(operation, view, omit).map_err(|denial| Failure {
                denial,
                step: "field",
                place: Some((grant.source, ".fields")),
            })?;
            let path = || format!("spec.grants[{}].fields", grant.source);
            let verdict = if view.sees_all && fields.is_empty() { Verdict::Pass } else { Verdict::Constrain };
            tracer.step("field", "AccessRole", &role.name, path, verdict, || {
                let (masks, left_out) = (view.masks.len(), fields.len());
                format!("{} fields are visible, {masks} of them masked; {left_out} are left out.", view.visible.len())
            });
            omitted.push(fields);
        }
        let context = Context {
            principal: self.principal,
            lookups: &role.lookups,
            agent: agent.or_else(|| self.principal.agents.first().map(|agent| &agent.name)),
            key: self.key,
            now_seconds: self.now,
        };
        let cap = least(least(cap, role.max_rows), self.service.max_rows);
        let mut operations = Vec::with_capacity(granted.len());
        for ((operation, grant, component, view), omitted) in granted.into_iter().zip(omitted) {
            let constraints = constrain(operation, grant, component, view, omitted, cap, &context)
                .map_err(|(denial, part)| Failure { denial, step: "row", place: Some((grant.source, part)) })?;
            let path = || format!("spec.grants[{}].rows", grant.source);
            let verdict = if constraints.rows.is_some() { Verdict::Constrain } else { Verdict::Pass };
            tracer.step("row", "AccessRole", &role.name, path, verdict, || match &constraints.rows {
                Some(rows) => format!("Rows are limited to: {rows}"),
                None => "All rows.".to_owned(),
            });
            operations.push(Permitted { grant, component, constraints, context });
        }
        Ok(Permit { role, operations })
    }

    fn granted(&self, role: &'a Role, operation: &Operation) -> Result<(&'a Grant, &'a Component, &'a View), Failure> {
        let component = self.service.component(&operation.component).map(Arc::as_ref);
        let denied = |step, code, detail: String| Failure { denial: Denial::new(code, detail), step, place: None };
        match (role.reach(&self.service.name, component, &operation.component, operation.verb), component) {
            (Reach::Granted(grant, view), Some(component)) => Ok((grant, component, view)),
            (Reach::NoService, _) => {
                let detail = format!("This caller has no access to service {}.", self.service.name);
                Err(denied("service", Code::ServiceDenied, detail))
            }
            (Reach::NoVerb, Some(_)) => {
                let verb = verb_name(operation.verb);
                Err(denied("verb", Code::VerbDenied, format!("{verb} on {} is not allowed.", operation.component)))
            }
            _ => {
                let detail = format!("This caller has no access to {}.", operation.component);
                Err(denied("component", Code::ComponentDenied, detail))
            }
        }
    }
}

/// The fields to leave out, if every field may be used as it is.
fn check_fields(operation: &Operation, view: &View, omit: bool) -> Result<Vec<Name>, Denial> {
    // Hidden and undeclared fields get the same answer, so that it does not tell which fields exist.
    let denied = |field: &str, how: &str| {
        Err(Denial::new(Code::FieldDenied, format!("Field {field} of {} {how}.", operation.component)))
    };
    let mut omitted: Vec<Name> = Vec::new();
    let (mut kept, mut masked) = (0_usize, false);
    for used in &operation.fields {
        let field = used.field.as_ref();
        match used.clause {
            Clause::Write if view.write.contains(field) => {}
            Clause::Write => return denied(field, "may not be written"),
            Clause::Project if view.visible.contains(field) => {
                kept += 1;
                masked |= view.mask(field).is_some();
            }
            Clause::Project if omit && omitted.contains(&used.field) => {}
            Clause::Project if omit => omitted.push(used.field.clone()),
            _ if !view.visible.contains(field) => return denied(field, "is not visible to this caller"),
            // The smallest or largest of masked values is one of them, under another name.
            Clause::Aggregate if view.mask(field).is_some() => {
                return denied(field, "is masked: it cannot be aggregated");
            }
            _ if view.mask(field).is_some_and(|mask| !mask.filterable) => {
                return denied(field, "is masked: it can be shown, but not used to filter, sort, group or join");
            }
            _ => {}
        }
    }
    // All rows share the declared names, so each of these is looked up once.
    let mut known = hashbrown::HashSet::<usize, foldhash::fast::FixedState>::default();
    for (field, _) in operation.writes.iter().flat_map(|row| &row.values) {
        if known.insert(Arc::as_ptr(field).cast::<u8>().addr()) && !view.write.contains(field) {
            return denied(field, "may not be written");
        }
    }
    let nothing_left = match operation.projection {
        Projection::All => view.visible.is_empty(),
        Projection::Listed => kept == 0 && !omitted.is_empty(),
        Projection::Nothing => false,
    };
    if nothing_left {
        let detail = format!("No field of {} that was asked for is visible to this caller.", operation.component);
        return Err(Denial::new(Code::FieldDenied, detail));
    }
    check_shape(operation, !omitted.is_empty(), masked || !view.masks.is_empty(), masked)?;
    Ok(omitted)
}

/// What the dialect has to be able to do with the fields of the response. `all_masked`: a mask on any visible field,
/// `listed_masked`: on one that was asked for by name.
fn check_shape(operation: &Operation, omits: bool, all_masked: bool, listed_masked: bool) -> Result<(), Denial> {
    let can = operation.capabilities;
    let (narrow, mask) = match operation.projection {
        // Also a role that sees every declared field does not see undeclared ones.
        Projection::All => (true, all_masked),
        Projection::Listed => (omits, listed_masked),
        Projection::Nothing => (false, false),
    };
    if narrow && !can.project || mask && !can.mask {
        let detail = format!("The fields of {} cannot be limited in a request of this form.", operation.component);
        return Err(Denial::new(Code::Unsupported, detail));
    }
    Ok(())
}

/// Rows, writes, arguments and caps of one operation; an error comes with the part of the grant that it is about.
fn constrain(
    operation: &Operation,
    grant: &Grant,
    component: &Component,
    view: &View,
    omitted: Vec<Name>,
    cap: Option<u32>,
    context: &Context<'_>,
) -> Result<OperationConstraints, (Denial, &'static str)> {
    let arguments = check_arguments(operation, grant, component, context, &operation.arguments)
        .map_err(|denial| (denial, ".arguments"))?;
    let resolve = |template: &Option<Template>| -> Result<Option<Resolved>, Denial> {
        let Some(template) = template else { return Ok(None) };
        Ok(Some(simplify(context.resolve(template)?)).filter(|simple| *simple != Predicate::Constant(true)))
    };
    let mut rows = resolve(&grant.rows).map_err(|denial| (denial, ".rows"))?;
    let writes = matches!(operation.write, WriteKind::Create | WriteKind::Update | WriteKind::Replace);
    let check = if writes { resolve(&grant.check).map_err(|denial| (denial, ".check"))? } else { None };
    match operation.write {
        // New rows are not selected by anything: the check alone speaks for them.
        WriteKind::Create => rows = None,
        WriteKind::Replace if grant.unchecked => rows = None,
        WriteKind::Replace if rows.is_some() => {
            let detail = format!("Rows of {} cannot be replaced by key under a row policy.", operation.component);
            return Err((Denial::new(Code::RowDenied, detail), ".rows"));
        }
        _ if rows.is_some() && !operation.capabilities.rows => {
            if !grant.unchecked {
                let detail = format!("Rows of {} cannot be limited in a request of this form.", operation.component);
                return Err((Denial::new(Code::RowDenied, detail), ".rows"));
            }
            rows = None;
        }
        _ => {}
    }
    let mut set = Vec::new();
    for preset in grant.set.iter().filter(|_| writes) {
        // A value that an update does not give is not missing: it stays as it is.
        if operation.write == WriteKind::Update && !preset.overrides {
            continue;
        }
        let Some(field) = component.field(&preset.field) else {
            return Err((Denial::new(Code::RowDenied, "The policy sets a field that is not declared."), ".set"));
        };
        let value = context.literal(&preset.value, field.field_type).map_err(|denial| (denial, ".set"))?;
        set.push((preset.field.clone(), value, preset.overrides));
    }
    if !set.is_empty() && !operation.capabilities.set {
        let detail = format!("Values of {} cannot be preset in a request of this form.", operation.component);
        return Err((Denial::new(Code::Unsupported, detail), ".set"));
    }
    writes::check(operation, check.as_ref(), rows.as_ref(), &set, grant.unchecked)
        .map_err(|denial| (denial, ".check"))?;
    let max_rows = least(cap, grant.max_rows);
    if let Some(max) = max_rows
        && operation.projection != Projection::Nothing
        && !operation.capabilities.cap
        && operation.limit.is_none_or(|limit| limit > u64::from(max))
    {
        let detail = format!("The number of rows of {} cannot be limited in this request.", operation.component);
        return Err((Denial::new(Code::Unsupported, detail), ".maxRows"));
    }
    Ok(OperationConstraints {
        rows,
        visible: Arc::clone(&view.visible),
        sees_all: view.sees_all,
        omitted,
        masks: Arc::clone(&view.masks),
        set,
        max_rows,
        arguments,
        check,
    })
}

/// The arguments that the policy fixes, if those given are allowed.
pub(super) fn check_arguments(
    operation: &Operation,
    grant: &Grant,
    component: &Component,
    context: &Context<'_>,
    given: &[(Name, Value)],
) -> Result<Vec<(Name, Literal)>, Denial> {
    let mut fixed = Vec::new();
    for rule in &grant.arguments {
        let field_type = parameter_type(component, &rule.name);
        if let (true, Some(value)) = (rule.fixed, rule.values.first()) {
            fixed.push((rule.name.clone(), context.literal(value, literal_type(field_type, value))?));
            continue;
        }
        let mut values = given.iter().filter(|(name, _)| *name == rule.name).map(|(_, value)| value).peekable();
        let denied = |how| {
            let detail = format!("Argument {} of {} {how}.", rule.name, operation.component);
            Err(Denial::new(Code::FieldDenied, detail))
        };
        if rule.required && values.peek().is_none() {
            return denied("must be given");
        }
        for value in values {
            if !rule.values.is_empty() && !allowed(rule, field_type, context, value)? {
                return denied("may not have this value");
            }
        }
    }
    Ok(fixed)
}

/// True if the value is one that the rule lists.
fn allowed(
    rule: &ArgumentRule,
    field_type: Option<FieldType>,
    context: &Context<'_>,
    value: &Value,
) -> Result<bool, Denial> {
    for operand in &rule.values {
        let field_type = literal_type(field_type, operand);
        let test =
            Predicate::In { field: rule.name.clone(), field_type, negated: false, values: vec![operand.clone()] };
        // A text from a path or a query is read as the parameter's type.
        let typed = match value {
            Value::Literal(Literal::String(text)) => parse_literal(text, field_type).map(Value::Literal),
            other => Some(other.clone()),
        };
        if eval(&context.resolve(&test)?, &|_| typed.clone()) == Truth::True {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The type to read an operand as: the parameter's, or what the policy's own literal says.
fn literal_type(declared: Option<FieldType>, operand: &crate::predicate::Operand) -> FieldType {
    use crate::predicate::Operand;
    declared.unwrap_or(match operand {
        Operand::Literal(Literal::Integer(_)) => FieldType::Integer,
        Operand::Literal(Literal::Number(_)) => FieldType::Number,
        Operand::Literal(Literal::Boolean(_)) => FieldType::Boolean,
        _ => FieldType::String,
    })
}

fn parameter_type(component: &Component, name: &str) -> Option<FieldType> {
    let of_operations = component.operations.iter().flat_map(|operation| &operation.parameters);
    let mut all = component.parameters.iter().chain(of_operations);
    all.find(|parameter| parameter.name.as_ref() == name).map(|parameter| parameter.field_type)
}
