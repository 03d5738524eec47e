//! DreamFactory's search for the operator of a test.
//!
//! Its parser (`parseFilterString` of `df-sqldb`) takes the operators one by one and looks for each as text, without regard to case
//! and to where a word begins: an operator of one word with blanks around it, any other as it is. What stands before the
//! first that is found is the field. So `do_not IN (…)` is `NOT IN` on `do_`.

/// In the order in which it looks, as it looks for them.
const SEARCHED: [&str; 22] = [
    ">=",
    "<=",
    "!=",
    "=",
    "<>",
    ">",
    "<",
    " GTE ",
    " LTE ",
    " NE ",
    " EQ ",
    " GT ",
    " LT ",
    "NOT IN",
    " IN ",
    " ALL ",
    " LIKE ",
    "STARTS WITH",
    "ENDS WITH",
    " CONTAINS ",
    "IS NULL",
    "IS NOT NULL",
];

fn position(text: &[u8], wanted: &str) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// True if DreamFactory reads `FIELD OPERATOR `, or `FIELD NOT OPERATOR `, as this operator on this field.
pub(super) fn finds(field: &str, operator: &str, negated: bool) -> bool {
    let text = [field, if negated { " NOT " } else { " " }, operator, " "].concat();
    let first = SEARCHED.iter().find_map(|wanted| position(text.as_bytes(), wanted).map(|at| (*wanted, at)));
    let Some((found, at)) = first else { return false };
    let before = text.get(..at).unwrap_or_default().trim();
    // A last word NOT is a negation to it, and no part of the field.
    let (name, negates) = match before.rsplit_once(' ') {
        Some((name, last)) if last.eq_ignore_ascii_case("NOT") => (name, true),
        _ => (before, false),
    };
    found.trim() == operator && name == field && negates == negated
}
