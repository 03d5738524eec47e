//! DreamFactory's filters: text is split at the logical operators wherever they stand between parentheses, each piece is
//! split at the first comparison that its list has, and the pieces are put together again as SQL. Nothing here knows
//! whose filter is whose: that is what the proxy must be safe against.

use super::casts::{self, Column};
use rusqlite::types::Value as Sql;
use std::collections::BTreeMap;

/// In the order in which DreamFactory looks for them.
const LOGICAL: [&str; 6] = ["&&", "AND", "||", "OR", "NOR", "XOR"];
const COMPARISONS: [&str; 22] = [
    ">=",
    "<=",
    "!=",
    "=",
    "<>",
    ">",
    "<",
    "GTE",
    "LTE",
    "NE",
    "EQ",
    "GT",
    "LT",
    "NOT IN",
    "IN",
    "ALL",
    "LIKE",
    "STARTS WITH",
    "ENDS WITH",
    "CONTAINS",
    "IS NULL",
    "IS NOT NULL",
];
/// Words that keep an expression in parentheses from becoming SQL.
const BLOCKED: [&str; 19] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "DROP",
    "ALTER",
    "CREATE",
    "EXEC",
    "EXECUTE",
    "TRUNCATE",
    "GRANT",
    "REVOKE",
    "UNION",
    "INTO",
    "SLEEP",
    "BENCHMARK",
    "LOAD_FILE",
    "OUTFILE",
    "DUMPFILE",
];

/// What a filter is read against.
pub struct Context<'a> {
    /// The table's columns.
    pub columns: &'a [Column],
    /// `params`, names with their colon.
    pub params: &'a BTreeMap<String, String>,
}

fn find(text: &str, wanted: &str) -> Option<usize> {
    text.to_ascii_uppercase().find(&wanted.to_ascii_uppercase())
}

/// The filter as SQL with a `?` for each of `values`.
pub fn sql(filter: &str, context: &Context<'_>, values: &mut Vec<Sql>) -> Result<String, String> {
    let mut text = filter.trim().to_owned();
    for operator in LOGICAL {
        let (tight, spaced) = (format!("){operator}("), format!(") {operator} ("));
        while let Some(at) = find(&text, &tight) {
            text.replace_range(at..at + tight.len(), &spaced);
        }
        if let Some(at) = find(&text, &spaced) {
            let left = sql(&format!("{})", text[..at].trim()), context, values)?;
            let right = sql(&format!("({}", text[at + spaced.len()..].trim()), context, values)?;
            let operator = match operator {
                "&&" => "AND",
                "||" => "OR",
                other => other,
            };
            return Ok(format!("{left} {operator} {right}"));
        }
    }
    if find(&text, "NOT (") == Some(0) || find(&text, "NOT(") == Some(0) {
        return Ok(format!("NOT {}", sql(text[3..].trim(), context, values)?));
    }
    let wrapped = text.len() > 1 && text.starts_with('(') && text.ends_with(')');
    if wrapped {
        text = text[1..text.len() - 1].to_owned();
    }
    let pure = text.trim_matches(['(', ')']).to_owned();
    if pure.is_empty() {
        return Err("Invalid or unparsable filter request.".into());
    }
    let (left, right) = text.split_once(pure.as_str()).unwrap_or_default();
    let out = comparison(&pure, right.to_owned(), context, values)?;
    let out = format!("{left}{out}");
    Ok(if wrapped { format!("({out})") } else { out })
}

/// One comparison, and the parentheses that hung on to its end.
fn comparison(text: &str, mut rest: String, context: &Context<'_>, values: &mut Vec<Sql>) -> Result<String, String> {
    for operator in COMPARISONS {
        let needle = match operator.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            true => format!(" {operator} "),
            false => operator.to_owned(),
        };
        let Some(at) = find(text, &needle) else { continue };
        let mut field = text[..at].trim();
        let negated = match field.rsplit_once(' ') {
            Some((before, last)) if last.eq_ignore_ascii_case("NOT") => {
                field = before;
                true
            }
            _ => false,
        };
        let column = context.columns.iter().find(|column| column.name.eq_ignore_ascii_case(field));
        let column = column.ok_or_else(|| format!("Invalid or unparsable field in filter request: '{field}'"))?;
        let mut value = text[at + needle.len()..].trim().to_owned();
        let (opened, closed) = (value.matches('(').count(), value.matches(')').count());
        if !value.starts_with('\'') && opened != 0 && opened != closed {
            let missing = opened.checked_sub(closed).ok_or("str_repeat(): times must not be negative")?;
            value.push_str(&")".repeat(missing));
            rest = rest.replacen(')', "", missing);
        }
        let (operator, value) = match operator {
            "IN" | "NOT IN" | "ALL" => {
                let list = value.strip_prefix('(').and_then(|list| list.strip_suffix(')'));
                let list = list.ok_or("Filter value lists must be wrapped in parentheses.")?;
                let list: Result<Vec<String>, String> =
                    list.split(',').map(|one| bind(one.trim(), column, context, values)).collect();
                (operator, format!(" ({})", list?.join(",")))
            }
            "IS NULL" | "IS NOT NULL" => (operator, String::new()),
            "CONTAINS" => ("LIKE", format!(" {}", bind(&format!("%{value}%"), column, context, values)?)),
            "STARTS WITH" => ("LIKE", format!(" {}", bind(&format!("{value}%"), column, context, values)?)),
            "ENDS WITH" => ("LIKE", format!(" {}", bind(&format!("%{value}"), column, context, values)?)),
            _ => {
                let symbol = match operator {
                    "EQ" => "=",
                    "NE" | "<>" => "!=",
                    "GT" => ">",
                    "GTE" => ">=",
                    "LT" => "<",
                    "LTE" => "<=",
                    other => other,
                };
                (symbol, format!(" {}", bind(&value, column, context, values)?))
            }
        };
        let not = if negated { "NOT " } else { "" };
        return Ok(format!("\"{}\" {not}{operator}{value}{rest}", column.name));
    }
    Err("Invalid or unparsable filter request.".into())
}

/// A value becomes a `?`, but an expression in parentheses becomes SQL.
fn bind(value: &str, column: &Column, context: &Context<'_>, values: &mut Vec<Sql>) -> Result<String, String> {
    let value = context.params.get(value).map_or(value, String::as_str);
    let quoted = |quote: char| {
        let inner = value.trim_matches(quote);
        (format!("{quote}{inner}{quote}") == value).then_some(inner)
    };
    let unquoted = match quoted('\'').or_else(|| quoted('"')) {
        Some(inner) => inner,
        None => {
            let words = value.to_ascii_uppercase();
            let mut words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if value.starts_with('(') && value.ends_with(')') && !words.any(|word| BLOCKED.contains(&word)) {
                return Ok(value.to_owned());
            }
            value
        }
    };
    values.push(casts::filter(unquoted, column.kind)?);
    Ok("?".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(filter: &str) -> Result<(String, Vec<Sql>), String> {
        let column = |name: &str, kind: &str| Column { name: name.into(), kind: casts::kind(kind) };
        let columns = [
            column("id", "INTEGER"),
            column("name", "TEXT"),
            column("do_", "TEXT"),
            column("do_not", "TEXT"),
            column("isnull", "TEXT"),
            column("level", "TINYINT(1)"),
            column("price", "DECIMAL(12,2)"),
        ];
        let params = BTreeMap::from([(":p0".to_owned(), "a) OR (b".to_owned())]);
        let mut values = Vec::new();
        let text = sql(filter, &Context { columns: &columns, params: &params }, &mut values)?;
        Ok((text, values))
    }

    /// The forms are those of DreamFactory's own documentation.
    #[test]
    fn documented_filters_become_sql() {
        let text = |filter: &str| shown(filter).unwrap().0;
        assert_eq!(text("id = 5"), "\"id\" = ?");
        assert_eq!(text("name LIKE '%a%'"), "\"name\" LIKE ?");
        assert_eq!(text("(id > 5) AND (name IS NOT NULL)"), "(\"id\" > ?) AND (\"name\" IS NOT NULL)");
        assert_eq!(
            text("((id IN (1,2)) OR (name NOT LIKE :p0))AND(id!=3)"),
            "((\"id\" IN (?,?)) OR (\"name\" NOT LIKE ?)) AND (\"id\" != ?)"
        );
        assert_eq!(text("NOT (id = 1)"), "NOT (\"id\" = ?)");
        assert_eq!(shown("name = :p0").unwrap().1, [Sql::from("a) OR (b".to_owned())]);
    }

    /// From a run of the published parser.
    #[test]
    fn operators_are_found_inside_of_names_and_values_are_cast() {
        let text = |filter: &str| shown(filter).unwrap().0;
        assert_eq!(text("do_not IN ('x')"), "\"do_\" NOT IN (?)");
        assert_eq!(text("do_not NOT IN ('x')"), "\"do_not\" NOT IN (?)");
        assert_eq!(text("do_NOT IN ('x')"), "\"do_\" NOT IN (?)");
        assert_eq!(text("isnull IS NULL"), "\"isnull\" IS NULL");
        assert_eq!(text("do_not NOT LIKE :p0"), "\"do_not\" NOT LIKE ?");
        assert_eq!(text("level IN ((2),(3))"), "\"level\" IN ((2),(3))");
        assert_eq!(
            text("((level >= 2) AND (level >= (2))) OR (id = 1)"),
            "((\"level\" >= ?) AND (\"level\" >= (2))) OR (\"id\" = ?)"
        );
        assert_eq!(shown("level >= 2").unwrap().1, [Sql::Integer(0)]);
        assert_eq!(shown("id >= 2.5").unwrap().1, [Sql::Integer(2)]);
        assert_eq!(shown("price > 0.0000001").unwrap().1, [Sql::from("0.000000".to_owned())]);
        assert!(shown("id = x").is_err());
    }

    /// Why the proxy must not put its own text beside the client's.
    #[test]
    fn a_filter_that_is_not_contained_breaks_out() {
        assert_eq!(
            shown("(id > 0) OR (id > 0) AND (name = 'x')").unwrap().0,
            "(\"id\" > ?) OR (\"id\" > ?) AND (\"name\" = ?)"
        );
        assert_eq!(shown("id = (id)").unwrap().0, "\"id\" = (id)");
        assert!(shown("name = (select 1)").unwrap().0.ends_with('?'));
        assert!(shown("ssn = 1").is_err() && shown("id").is_err() && shown("()").is_err());
    }
}
