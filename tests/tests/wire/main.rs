//! Every decision code, roles, and bodies over the wire: a DreamFactory-like upstream behind a real Envoy.

mod bodies;
mod decisions;
mod requests;

use doorward_test_support::policy::access_key;
use doorward_tests::{data::Shop, dreamfactory, http::Response, stack::Stack, upstream::Upstream};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, OnceLock};

const POLICIES: &str = include_str!("policy.yaml");
const LOCKED: &str = "dwk_locked_0123456789abcdef0123456789abcd";
const ORDERS: &str = "/api/v2/mysql_production/_table/orders";
const CUSTOMERS: &str = "/api/v2/mysql_production/_table/customers";
const PRODUCTS: &str = "/api/v2/mysql_production/_table/products";

struct Env {
    stack: Stack,
    upstream: Upstream,
}

fn env() -> MutexGuard<'static, Env> {
    static ENV: OnceLock<Mutex<Env>> = OnceLock::new();
    ENV.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::new(7, 400);
        shop.write(&folder.path().join("shop.db"));
        let upstream = dreamfactory::start(&folder.path().join("shop.db"));
        let mut policies = POLICIES.to_owned();
        for name in ["support", "analyst", "hr", "payroll", "writer", "reader", "level", "limited", "old", "broken"] {
            policies += &format!(
                "---\nkind: AccessBinding\nmetadata: {{ name: {name} }}\nspec: {{ role: app-{name}, subjects: [{{ group: {name} }}] }}\n"
            );
        }
        policies += &access_key("locked", LOCKED, "app-support", ", networks: [10.0.0.0/8]");
        let port = upstream.port;
        Mutex::new(Env { stack: Stack::over(folder, port, shop, &policies, ""), upstream })
    })
    .lock()
    .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Env {
    fn token(&self, group: &str) -> String {
        self.stack.issuer.token(&format!("{group}-user"), &[group], "west")
    }

    fn ask(&self, group: &str, path: &str) -> Response {
        self.stack.get(path).token(&self.token(group)).send()
    }

    fn write(&self, method: &str, path: &str, body: &str) -> Response {
        self.stack.request(method, path).token(&self.token("writer")).json(body).send()
    }
}

fn resource(answer: &Response) -> Vec<Value> {
    answer.json()["resource"].as_array().cloned().unwrap_or_default()
}
