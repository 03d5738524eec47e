//! The generated shop: deterministic rows, in memory and as an SQLite file, so that a test can say from the data itself
//! what somebody may see.

use crate::Random;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The four regions.
pub const REGIONS: [&str; 4] = ["west", "east", "north", "south"];
/// Columns of `customers` that nobody but an administrator should see.
pub const HIDDEN: [&str; 6] = ["email", "phone", "ssn", "credit_card", "date_of_birth", "internal_notes"];

/// One table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Columns with their SQL types; the first is the primary key.
    pub columns: Vec<(&'static str, &'static str)>,
    /// Rows in key order.
    pub rows: Vec<Map<String, Value>>,
}

impl Table {
    /// The columns' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }

    /// The row with this key.
    #[must_use]
    pub fn row(&self, id: i64) -> Option<&Map<String, Value>> {
        self.rows.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }
}

/// The whole shop.
#[derive(Clone, Debug)]
pub struct Shop {
    /// customers, orders, products, employees
    pub tables: Vec<Table>,
}

const FIRST: [&str; 16] = [
    "Ada", "Ben", "Chloe", "Dmitri", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jun", "Kofi", "Lena", "Mei", "Noor",
    "Otto", "Zoë",
];
const LAST: [&str; 16] = [
    "Adams",
    "Becker",
    "Costa",
    "Diallo",
    "Evans",
    "Fischer",
    "García",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
    "Nguyen",
    "O'Brien",
    "Patel",
];
const COMPANIES: [&str; 8] =
    ["Acme", "Borealis", "Cobalt", "Driftwood", "Everline", "Foxglove & Sons", "Granite", "Halcyon"];
const PLACES: [(&str, &str); 8] = [
    ("Portland", "OR"),
    ("Seattle", "WA"),
    ("Boston", "MA"),
    ("Albany", "NY"),
    ("Duluth", "MN"),
    ("Fargo", "ND"),
    ("Austin", "TX"),
    ("Mobile", "AL"),
];

impl Shop {
    /// Makes the shop of this seed with so many customers.
    #[must_use]
    pub fn new(seed: u64, customers: usize) -> Self {
        let mut random = Random(seed);
        let person = |random: &mut Random| (*random.pick(&FIRST), *random.pick(&LAST));
        let ssn = |random: &mut Random| {
            format!("{:03}-{:02}-{:04}", 100 + random.below(800), 10 + random.below(89), random.below(10_000))
        };
        let date = |random: &mut Random, from: usize, years: usize| {
            format!("{}-{:02}-{:02}", from + random.below(years), 1 + random.below(12), 1 + random.below(28))
        };
        let row = |value: Value| value.as_object().unwrap().clone();

        let products = (1..=60)
            .map(|id| {
                let cents = 500 + random.below(50_000);
                row(json!({"id": id, "name": format!("Product {id}"), "category": random.pick(&["tools", "toys", "food"]),
                    "price": cents as f64 / 100.0, "cost": cents as f64 / 200.0}))
            })
            .collect();
        let customers: Vec<_> = (1..=customers)
            .map(|id| {
                let (first, last) = person(&mut random);
                let (city, state) = *random.pick(&PLACES);
                let status = *random.pick(&["active", "active", "active", "closed", "lead"]);
                let card = 4_000_000_000_000_000 + random.bits() % 999_999_999_999_999;
                let notes = *random.pick(&["pays late", "vip", "under review", "prefers calls"]);
                let company = if random.one_in(9) { Value::Null } else { json!(random.pick(&COMPANIES)) };
                let mail =
                    format!("{}.{}{id}@example.com", first.to_lowercase(), last.to_lowercase().replace('\'', ""));
                row(json!({"id": id, "first_name": first, "last_name": last, "company": company, "city": city,
                    "state": state, "country": "US", "region": random.pick(&REGIONS), "status": status, "email": mail,
                    "phone": format!("+1 555 {:07}", random.below(10_000_000)), "ssn": ssn(&mut random),
                    "credit_card": card.to_string(), "date_of_birth": date(&mut random, 1940, 65),
                    "internal_notes": notes}))
            })
            .collect();
        let orders = (1..=customers.len() * 2)
            .map(|id| {
                let customer = random.pick(&customers).clone();
                let quantity = 1 + random.below(9);
                row(json!({"id": id, "customer_id": customer["id"], "product_id": 1 + random.below(60),
                    "quantity": quantity, "total": (quantity * (500 + random.below(50_000))) as f64 / 100.0,
                    "status": random.pick(&["open", "paid", "shipped"]), "region": customer["region"],
                    "created_at": format!("{}T{:02}:30:00Z", date(&mut random, 2020, 6), random.below(24))}))
            })
            .collect();
        let employees = (1..=200)
            .map(|id| {
                let (first, last) = person(&mut random);
                row(json!({"id": id, "first_name": first, "last_name": last,
                    "department": random.pick(&["sales", "support", "hr", "payroll", "it"]),
                    "region": random.pick(&REGIONS), "salary": 40_000 + random.below(90) * 1_000,
                    "ssn": ssn(&mut random), "review": random.pick(&["exceeds", "meets", "below"])}))
            })
            .collect();
        let table =
            |name, columns: &[(&'static str, &'static str)], rows| Table { name, columns: columns.to_vec(), rows };
        let text = |names: &'static [&'static str]| names.iter().map(|name| (*name, "TEXT"));
        let id = [("id", "INTEGER")];
        let customer_columns: Vec<_> = id
            .into_iter()
            .chain(text(&["first_name", "last_name", "company", "city", "state", "country", "region", "status"]))
            .chain(text(&HIDDEN))
            .collect();
        let order_columns = [
            ("id", "INTEGER"),
            ("customer_id", "INTEGER"),
            ("product_id", "INTEGER"),
            ("quantity", "INTEGER"),
            ("total", "REAL"),
            ("status", "TEXT"),
            ("region", "TEXT"),
            ("created_at", "TEXT"),
        ];
        let product_columns =
            [("id", "INTEGER"), ("name", "TEXT"), ("category", "TEXT"), ("price", "REAL"), ("cost", "REAL")];
        let employee_columns = [
            ("id", "INTEGER"),
            ("first_name", "TEXT"),
            ("last_name", "TEXT"),
            ("department", "TEXT"),
            ("region", "TEXT"),
            ("salary", "INTEGER"),
            ("ssn", "TEXT"),
            ("review", "TEXT"),
        ];
        Self {
            tables: vec![
                table("customers", &customer_columns, customers),
                table("orders", &order_columns, orders),
                table("products", &product_columns, products),
                table("employees", &employee_columns, employees),
            ],
        }
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, name: &str) -> &Table {
        self.tables.iter().find(|table| table.name == name).unwrap()
    }

    /// The table of this name, to change it.
    pub fn table_mut(&mut self, name: &str) -> &mut Table {
        self.tables.iter_mut().find(|table| table.name == name).unwrap()
    }

    /// Writes the shop as an SQLite file, in place of what is there.
    pub fn write(&self, path: &Path) {
        let _ = std::fs::remove_file(path);
        let db = rusqlite::Connection::open(path).unwrap();
        for table in &self.tables {
            let columns: Vec<String> = table
                .columns
                .iter()
                .enumerate()
                .map(|(at, (name, kind))| format!("{name} {kind}{}", if at == 0 { " PRIMARY KEY" } else { "" }))
                .collect();
            db.execute(&format!("CREATE TABLE {} ({})", table.name, columns.join(", ")), []).unwrap();
        }
        self.fill(db);
    }

    /// Puts these rows in place of those of a file that is being served.
    pub fn replace(&self, path: &Path) {
        self.fill(rusqlite::Connection::open(path).unwrap());
    }

    fn fill(&self, mut db: rusqlite::Connection) {
        let transaction = db.transaction().unwrap();
        for table in &self.tables {
            transaction.execute(&format!("DELETE FROM {}", table.name), []).unwrap();
            let marks = vec!["?"; table.columns.len()].join(", ");
            let mut insert = transaction.prepare(&format!("INSERT INTO {} VALUES ({marks})", table.name)).unwrap();
            for row in &table.rows {
                let values = table.names().map(|name| sql(&row[name]));
                insert.execute(rusqlite::params_from_iter(values)).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

pub(crate) fn sql(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().unwrap().into(),
        },
        Value::String(text) => text.clone().into(),
        _ => rusqlite::types::Value::Null,
    }
}
