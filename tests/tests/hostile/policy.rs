//! Random policies, and the slow obvious evaluator.

use crate::{CANARIES, CUSTOMERS, Row};
use doorward_tests::{Random, data::REGIONS, stack::SHOP_SERVICE, token::Issuer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A row filter over the customers.
#[derive(Clone, Debug)]
pub enum Test {
    Compare(&'static str, &'static str, Value),
    In(&'static str, bool, Vec<Value>),
    Like(&'static str, bool, &'static str),
    Null(&'static str, bool),
    Region,
    Level,
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
}

#[derive(Clone, Debug)]
pub struct Caller {
    pub region: String,
    pub level: i64,
    pub agent: bool,
}

impl Caller {
    /// Three of some region each, and one whose region breaks out of careless quoting; every second one acts through an agent.
    pub fn four(random: &mut Random, hostile: &str) -> Vec<Caller> {
        let caller = |at| Caller {
            region: if at == 3 { hostile.into() } else { (*random.pick(&REGIONS)).into() },
            level: random.below(CUSTOMERS) as i64,
            agent: at % 2 == 1,
        };
        (0..4).map(caller).collect()
    }

    /// A token that says so.
    pub fn token(&self, issuer: &Issuer) -> String {
        let mut claims = issuer.claims("ann", &["users"]);
        claims["region"] = json!(self.region);
        claims["level"] = json!(self.level);
        if self.agent {
            claims["act"] = json!({"sub": "assistant"});
        }
        issuer.sign(&claims)
    }
}

impl Test {
    pub fn random(random: &mut Random, depth: usize) -> Test {
        if depth > 0 && random.below(3) > 0 {
            let mut next = || Box::new(Test::random(random, depth - 1));
            let (a, b) = (next(), next());
            return match random.below(5) {
                0 | 1 => Test::And(a, b),
                2 | 3 => Test::Or(a, b),
                _ => Test::Not(a),
            };
        }
        let text = |random: &mut Random| match random.below(4) {
            0 => ("region", json!(random.pick(&REGIONS))),
            1 => ("status", json!(random.pick(&["active", "closed", "it's", "x') or ('1'='1"]))),
            2 => ("company", json!(format!("zq{}x3q", 1 + random.below(CUSTOMERS)))),
            _ => ("first_name", json!(random.pick(&["Ada", "Hugo", "Zoë", "Noor"]))),
        };
        match random.below(8) {
            0 => Test::Region,
            1 => Test::Level,
            2 => Test::Compare(
                "id",
                *random.pick(&["<", "<=", ">", ">=", "=", "!="]),
                json!(random.below(CUSTOMERS + 9)),
            ),
            3 => {
                let (field, _) = text(random);
                Test::Null(field, random.one_in(2))
            }
            4 => Test::Like("status", random.one_in(2), *random.pick(&["a%", "%e_", "%", "clos_d", "lead"])),
            5 => {
                let count = 1 + random.below(3);
                let values = (0..count).map(|_| json!(random.pick(&REGIONS))).collect();
                Test::In("region", random.one_in(2), values)
            }
            _ => {
                let (field, value) = text(random);
                Test::Compare(field, *random.pick(&["=", "!=", "<", ">="]), value)
            }
        }
    }

    pub fn print(&self) -> String {
        let value = |value: &Value| match value {
            Value::String(text) => format!("'{}'", text.replace('\'', "''")),
            other => other.to_string(),
        };
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Test::Compare(field, op, v) => format!("{field} {op} {}", value(v)),
            Test::In(field, negated, values) => {
                let list: Vec<_> = values.iter().map(value).collect();
                format!("{field} {}IN ({})", not(*negated), list.join(", "))
            }
            Test::Like(field, negated, pattern) => format!("{field} {}LIKE '{pattern}'", not(*negated)),
            Test::Null(field, negated) => format!("{field} IS {}NULL", not(*negated)),
            Test::Region => "region = {user.region}".into(),
            Test::Level => "id <= {user.level}".into(),
            Test::And(a, b) => format!("({} AND {})", a.print(), b.print()),
            Test::Or(a, b) => format!("({} OR {})", a.print(), b.print()),
            Test::Not(a) => format!("NOT ({})", a.print()),
        }
    }

    pub fn fields(&self, out: &mut BTreeSet<&'static str>) {
        match self {
            Test::Compare(field, ..) | Test::In(field, ..) | Test::Like(field, ..) | Test::Null(field, _) => {
                out.insert(field);
            }
            Test::Region => drop(out.insert("region")),
            Test::Level => drop(out.insert("id")),
            Test::And(a, b) | Test::Or(a, b) => {
                a.fields(out);
                b.fields(out);
            }
            Test::Not(a) => a.fields(out),
        }
    }

    /// SQL's three-valued logic; none is unknown.
    pub fn holds(&self, row: &Row, caller: &Caller) -> Option<bool> {
        let compare = |field: &str, op: &str, value: &Value| {
            let order = match (&row[field], value) {
                (Value::Null, _) => return None,
                (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
                (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
                other => panic!("{other:?}"),
            };
            Some(match op {
                "=" => order.is_eq(),
                "!=" => order.is_ne(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                _ => order.is_ge(),
            })
        };
        match self {
            Test::Compare(field, op, value) => compare(field, op, value),
            Test::In(field, negated, values) => match &row[*field] {
                Value::Null => None,
                value => Some(values.contains(value) != *negated),
            },
            Test::Like(field, negated, pattern) => match &row[*field] {
                Value::String(text) => Some(like(text, pattern) != *negated),
                _ => None,
            },
            Test::Null(field, negated) => Some(row[*field].is_null() != *negated),
            Test::Region => compare("region", "=", &json!(caller.region)),
            Test::Level => compare("id", "<=", &json!(caller.level)),
            Test::And(a, b) => match (a.holds(row, caller), b.holds(row, caller)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Test::Or(a, b) => match (a.holds(row, caller), b.holds(row, caller)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Test::Not(a) => a.holds(row, caller).map(|held| !held),
        }
    }
}

pub fn like(text: &str, pattern: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('%') => {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(&text[at..], &pattern[1..]))
        }
        Some(wanted) => text.chars().next().is_some_and(|c| {
            (wanted == '_' || wanted == c) && like(&text[c.len_utf8()..], &pattern[wanted.len_utf8()..])
        }),
    }
}

/// What the literals begin with that only the policy's text has.
pub const LITERAL: &str = "zpolicy";

/// What one role grants on the customers.
#[derive(Clone, Debug)]
pub struct Grant {
    pub visible: BTreeSet<&'static str>,
    pub masked: BTreeMap<&'static str, &'static str>,
    pub rows: Test,
    pub cap: usize,
    pub omit: bool,
}

impl Grant {
    pub fn random(random: &mut Random, columns: &[&'static str]) -> Grant {
        let visible: BTreeSet<_> = columns.iter().copied().filter(|name| *name == "id" || random.one_in(2)).collect();
        let mut masked = BTreeMap::new();
        for field in visible.iter().filter(|name| CANARIES.contains(name)) {
            if random.one_in(3) {
                masked.insert(
                    *field,
                    if *field == "email" { "email" } else { *random.pick(&["null", "fixed", "token"]) },
                );
            }
        }
        // No row has this value and no client sends it: wherever it shows, the policy's own text does.
        let field = *random.pick(&["status", "region", "first_name", "city", "country", "ssn", "company"]);
        let literal = Test::Compare(field, "!=", json!(format!("{LITERAL}{}", random.below(1_000_000))));
        let rows = Test::And(Box::new(Test::random(random, 3)), Box::new(literal));
        Grant { visible, masked, rows, cap: 1 + random.below(300), omit: random.one_in(3) }
    }

    pub fn document(&self, role: &str, on: &Target<'_>) -> String {
        let list: Vec<_> = self.visible.iter().copied().collect();
        let masks: Vec<_> =
            self.masked.iter().map(|(field, mask)| format!("{field}: {{ with: \"{mask}\" }}")).collect();
        format!(
            "---\nkind: AccessRole\nmetadata: {{ name: {role} }}\nspec:\n  grants:\n    - service: shop\n      components: \
             [{}]\n      verbs: [{}]\n      fields: {{ read: [{}], write: [{}], mask: {{ {} }} }}\n      rows: {}\n      \
             maxRows: {}\n      onHiddenField: {}\n{}",
            on.component,
            on.verbs,
            list.join(", "),
            on.write,
            masks.join(", "),
            json!(self.rows.print()),
            self.cap,
            if self.omit { "omit" } else { "deny" },
            on.more,
        )
    }
}

/// What the grants are on.
pub struct Target<'a> {
    /// The `DataService`.
    pub service: &'a str,
    pub component: &'a str,
    pub verbs: &'a str,
    /// Fields that may be written.
    pub write: &'a str,
    /// Further grants of each role.
    pub more: &'a str,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub user: Grant,
    pub agent: Grant,
}

impl Policy {
    pub fn document(&self) -> String {
        let customers = Target { service: SHOP_SERVICE, component: "customers", verbs: "GET", write: "", more: "" };
        self.document_on(&customers)
    }

    pub fn document_on(&self, on: &Target<'_>) -> String {
        format!(
            "{}{}---\nkind: AccessBinding\nmetadata: {{ name: users }}\nspec: {{ role: app-user, subjects: [{{ group: \
             users }}] }}\n{}---\nkind: AccessBinding\nmetadata: {{ name: agents }}\nspec: {{ role: ai-agent, subjects: \
             [{{ agent: assistant }}] }}\n",
            on.service,
            self.user.document("app-user", on),
            self.agent.document("ai-agent", on),
        )
    }

    pub fn grants(&self, caller: &Caller) -> Vec<&Grant> {
        if caller.agent { vec![&self.user, &self.agent] } else { vec![&self.user] }
    }

    pub fn row(&self, row: &Row, caller: &Caller) -> bool {
        self.grants(caller).iter().all(|grant| grant.rows.holds(row, caller) == Some(true))
    }

    pub fn field(&self, field: &str, caller: &Caller) -> bool {
        self.grants(caller).iter().all(|grant| grant.visible.contains(field))
    }

    pub fn masked(&self, field: &str, caller: &Caller) -> bool {
        self.grants(caller).iter().any(|grant| grant.masked.contains_key(field))
    }

    pub fn cap(&self, caller: &Caller) -> usize {
        self.grants(caller).iter().map(|grant| grant.cap).min().unwrap()
    }
}
