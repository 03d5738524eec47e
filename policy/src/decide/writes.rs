//! Whether written rows satisfy the policy, as far as that can be known before they are written.

use crate::{
    Name,
    code::{Code, Denial},
    predicate::{Resolved, Truth, eval},
    request::{Clause, Operation, WriteKind, WrittenRow},
    value::{Literal, Value},
};

/// A field's value after the write.
enum After {
    /// This one.
    Known(Value),
    /// Written, but not a scalar, or written twice.
    Opaque,
    /// Not written: the old value, or the database's default.
    Untouched,
}

fn after(row: &WrittenRow, set: &[(Name, Literal, bool)], field: &str) -> After {
    let preset = set.iter().find(|(name, _, _)| name.as_ref() == field);
    if let Some((_, value, true)) = preset {
        return After::Known(Value::Literal(value.clone()));
    }
    let mut given = row.values.iter().filter(|(name, _)| name.as_ref() == field).map(|(_, value)| value);
    match (given.next(), given.next(), preset) {
        (Some(Some(value)), None, _) => After::Known(value.clone()),
        (Some(_), _, _) => After::Opaque,
        (None, _, Some((_, value, _))) => After::Known(Value::Literal(value.clone())),
        (None, _, None) => After::Untouched,
    }
}

/// Checks the rows of a write. `rows` is the predicate that the dialect conjoins, so that it holds for every old row.
///
/// # Errors
/// `row_denied` if the check fails for a row, or cannot be made and the grant is not `unchecked`.
pub(super) fn check(
    operation: &Operation,
    check: Option<&Resolved>,
    rows: Option<&Resolved>,
    set: &[(Name, Literal, bool)],
    unchecked: bool,
) -> Result<(), Denial> {
    let (Some(check), true) = (check, !matches!(operation.write, WriteKind::None | WriteKind::Delete)) else {
        return Ok(());
    };
    let denied = |why: &str| {
        let detail = format!("The values written to {} {why}.", operation.component);
        Err(Denial::new(Code::RowDenied, detail))
    };
    let unknowable = || if unchecked { Ok(()) } else { denied("cannot be checked against the row policy") };
    let named = operation.fields.iter().any(|used| used.clause == Clause::Write);
    let incomplete = operation.writes.is_empty() && (named || operation.write == WriteKind::Create);
    if operation.write == WriteKind::Replace || !operation.capabilities.check || incomplete {
        return unknowable();
    }
    for row in &operation.writes {
        let value = |field: &str| match after(row, set, field) {
            After::Known(value) => Some(value),
            After::Opaque | After::Untouched => None,
        };
        let holds = |predicate: &Resolved| eval(predicate, &value) == Truth::True;
        if operation.write == WriteKind::Create {
            if !(no_opaque(check, row, set) && holds(check)) {
                return denied("do not satisfy the row policy");
            }
            continue;
        }
        for conjunct in check.conjuncts() {
            let (mut written, mut untouched) = (0_usize, 0_usize);
            conjunct.each_field(&mut |field| match after(row, set, field) {
                After::Untouched => untouched += 1,
                After::Known(_) | After::Opaque => written += 1,
            });
            if untouched == 0 {
                if !(no_opaque(conjunct, row, set) && holds(conjunct)) {
                    return denied("do not satisfy the row policy");
                }
            } else if written > 0 || !rows.is_some_and(|rows| rows.conjuncts().contains(conjunct)) {
                // Untouched fields keep what the row predicate selected them by; a mixture of old and new is not known.
                unknowable()?;
            }
        }
    }
    Ok(())
}

/// True if every field that the predicate looks at is written as a scalar, once, or not at all.
fn no_opaque(predicate: &Resolved, row: &WrittenRow, set: &[(Name, Literal, bool)]) -> bool {
    let mut clear = true;
    predicate.each_field(&mut |field| clear &= !matches!(after(row, set, field), After::Opaque));
    clear
}
