//! Control plane, Envoy and Datasette, put together.

use crate::{
    control,
    data::Shop,
    http::{self, Request},
    process::{self, Process},
    token::Issuer,
    wait,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// The Envoy that everything is built for.
pub const ENVOY: &str = "1.40.0";
/// The oldest that is supported.
pub const OLDEST_ENVOY: &str = "1.36.4";
const START: Duration = Duration::from_secs(60);

/// The schema of the shop as a `DataService` for Datasette at `/shop`.
pub const SHOP_SERVICE: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: shop }
spec:
  dialect: datasette
  match: [{ path: /shop }]
  components:
    customers:
      key: [id]
      fields: { id: integer, first_name: string, last_name: string, company: string, city: string, state: string,
        country: string, region: string, status: string, email: string, phone: string, ssn: string,
        credit_card: string, date_of_birth: date, internal_notes: string }
    orders:
      key: [id]
      fields: { id: integer, customer_id: integer, product_id: integer, quantity: integer, total: number,
        status: string, region: string, created_at: timestamp }
    products:
      key: [id]
      fields: { id: integer, name: string, category: string, price: number, cost: number }
    employees:
      key: [id]
      fields: { id: integer, first_name: string, last_name: string, department: string, region: string,
        salary: integer, ssn: string, review: string }
---
";

/// `doorward serve` over a folder.
pub struct ControlPlane {
    process: Option<Process>,
    /// Further arguments of `doorward serve`.
    pub arguments: Vec<String>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Policies and data.
    pub folder: PathBuf,
    /// gRPC
    pub grpc: u16,
    /// Metrics and health.
    pub http: u16,
}

impl ControlPlane {
    /// Reserves ports and writes the policies, without starting.
    #[must_use]
    pub fn prepare(folder: &Path, policies: &str) -> Self {
        for inner in ["policies", "secrets"] {
            std::fs::create_dir_all(folder.join(inner)).unwrap();
        }
        std::fs::write(folder.join("policies/policy.yaml"), policies).unwrap();
        Self {
            process: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            grpc: process::free_port(),
            http: process::free_port(),
        }
    }

    /// Starts it, again if need be.
    pub fn start(&mut self) {
        self.process = None;
        let mut command = Command::new(process::doorward());
        command.arg("serve").arg("--policies").arg(self.folder.join("policies"));
        command.arg("--data").arg(self.folder.join("data"));
        command.arg("--client-secrets").arg(self.folder.join("secrets"));
        command.args(["--listen", &format!("127.0.0.1:{}", self.grpc)]);
        command.args(["--metrics-listen", &format!("127.0.0.1:{}", self.http)]);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let mut started = Process::start(command, &self.folder.join("control-plane.log"));
        started.listens(self.grpc, START);
        self.process = Some(started);
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Id and public half of the key that signs policy; the control plane must have started once.
    #[must_use]
    pub fn policy_key(&self) -> (String, String) {
        let public = std::fs::read_to_string(self.folder.join("data/policy-signing.pub")).unwrap().trim().to_owned();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &public).unwrap();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
        (digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect(), public)
    }

    /// What an Envoy of today's version is started with, to follow this control plane with no option of its own.
    #[must_use]
    pub fn options<'a>(&self, node: &'a str, upstream: u16) -> EnvoyOptions<'a> {
        let key = self.policy_key();
        EnvoyOptions { version: ENVOY, node, upstream, control_plane: self.grpc, key, options: "" }
    }

    /// Replaces the policies without waiting.
    pub fn write(&self, policies: &str) {
        let target = self.folder.join("policies/policy.yaml");
        let part = self.folder.join("policy.part");
        std::fs::write(&part, policies).unwrap();
        std::fs::rename(part, target).unwrap();
    }
}

/// An Envoy with the filter.
pub struct Envoy {
    process: Process,
    /// Where the data API is.
    pub port: u16,
    /// Envoy's own interface.
    pub admin: u16,
}

/// What an Envoy is started with.
#[derive(Clone, Debug)]
pub struct EnvoyOptions<'a> {
    /// Version.
    pub version: &'a str,
    /// `node.id`
    pub node: &'a str,
    /// The data API's port.
    pub upstream: u16,
    /// The control plane's port.
    pub control_plane: u16,
    /// Id and public half of the policy key.
    pub key: (String, String),
    /// Further members of the plugin's configuration, each preceded by a comma.
    pub options: &'a str,
}

impl Envoy {
    /// Starts it with two workers.
    #[must_use]
    pub fn start(folder: &Path, options: &EnvoyOptions<'_>) -> Self {
        Self::start_edited(folder, options, &|config| config)
    }

    /// Starts it with two workers and a configuration that `edit` changed.
    #[must_use]
    pub fn start_edited(folder: &Path, options: &EnvoyOptions<'_>, edit: &dyn Fn(String) -> String) -> Self {
        let (port, admin) = (process::free_port(), process::free_port());
        let template = std::fs::read_to_string(process::root().join("deploy/envoy/doorward.yaml.tmpl")).unwrap();
        let wasm = process::filter();
        let config = [
            ("NODE_ID", options.node),
            ("ADMIN_PORT", &admin.to_string()),
            ("LISTEN_ADDRESS", "127.0.0.1"),
            ("LISTEN_PORT", &port.to_string()),
            ("UPSTREAM_HOST", "127.0.0.1"),
            ("UPSTREAM_PORT", &options.upstream.to_string()),
            ("CONTROL_PLANE_HOST", "127.0.0.1"),
            ("CONTROL_PLANE_PORT", &options.control_plane.to_string()),
            ("WASM_FILE", wasm.to_str().unwrap()),
            ("SCOPE", "default"),
            ("POLICY_KEY_ID", &options.key.0),
            ("POLICY_PUBLIC_KEY", &options.key.1),
            ("TOKENIZATION_KEY", "0123456789abcdef0123456789abcdef"),
            ("FILTER_OPTIONS", options.options),
        ]
        .iter()
        .fold(template, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        let file = folder.join(format!("{}.yaml", options.node));
        std::fs::write(&file, edit(config)).unwrap();
        let mut command = Command::new(process::envoy(options.version));
        command.arg("-c").arg(file).args(["--concurrency", "2", "--disable-hot-restart", "-l", "warning"]);
        command.args(["--component-log-level", "wasm:info"]);
        let mut process = Process::start(command, &folder.join(format!("{}.log", options.node)));
        process.listens(port, START);
        process.listens(admin, START);
        Self { process, port, admin }
    }

    /// One of Envoy's statistics, summed over its tags; none if it does not exist.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let text = http::get(self.admin, "/stats").send().text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.trim().parse().ok()
    }

    /// Memory of its process that is resident, in bytes.
    #[must_use]
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// All statistics.
    #[must_use]
    pub fn stats(&self) -> String {
        http::get(self.admin, "/stats").send().text()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.process.log).unwrap_or_default()
    }
}

/// Lets every worker take up the policy that the leading one has acknowledged. It does so at its tick, every 100 ms, and
/// nothing that can be seen from outside tells when the other worker did: so there is nothing to await but the tick.
pub fn workers_tick() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Waits until this holds twelve times in a row. Every request comes over a connection of its own, which goes to either of
/// the two workers by chance: so then it holds in both.
pub fn in_both_workers(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait(&format!("in both workers: {what}"), limit, || (0..12).all(|_| holds()).then_some(()));
}

/// Datasette over one database.
pub struct Datasette {
    _process: Process,
    /// Its port.
    pub port: u16,
}

impl Datasette {
    /// Writes the shop as `NAME/shop.db` and serves it.
    #[must_use]
    pub fn start(folder: &Path, name: &str, shop: &Shop) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("shop.db");
        shop.write(&file);
        let port = process::free_port();
        let mut command = Command::new(process::python_tool("datasette"));
        command.arg("serve").arg(&file).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let mut process = Process::start(command, &folder.join("datasette.log"));
        process.listens(port, START);
        Self { _process: process, port }
    }
}

/// All of it: one control plane, one Envoy, one Datasette, one issuer.
pub struct Stack {
    /// Control plane.
    pub control: ControlPlane,
    /// Envoy.
    pub envoy: Envoy,
    /// The data API.
    pub upstream: u16,
    /// The data.
    pub shop: Shop,
    /// Whose tokens are trusted.
    pub issuer: Issuer,
    /// Everything on disk.
    pub folder: TempDir,
    _datasette: Option<Datasette>,
}

impl Stack {
    /// Starts everything; the issuer's document and the shop's service are put before `policies`.
    #[must_use]
    pub fn start(customers: usize, policies: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::new(7, customers);
        let datasette = Datasette::start(folder.path(), "shop", &shop);
        let mut stack = Self::over(folder, datasette.port, shop, &format!("{SHOP_SERVICE}{policies}"), "");
        stack._datasette = Some(datasette);
        stack
    }

    /// Starts control plane and Envoy before any upstream; the issuer's document is put before `policies`.
    #[must_use]
    pub fn over(folder: TempDir, upstream: u16, shop: Shop, policies: &str, options: &str) -> Self {
        let issuer = Issuer::es256("https://idp.test", 7);
        let mut control = ControlPlane::prepare(folder.path(), &(issuer.document("corp") + policies));
        control.start();
        let options = EnvoyOptions { options, ..control.options("envoy-1", upstream) };
        let envoy = Envoy::start(folder.path(), &options);
        let stack = Self { control, envoy, upstream, shop, issuer, folder, _datasette: None };
        stack.in_force();
        let found = control::status(stack.control.grpc).map(|status| status.diagnostics).unwrap_or_default();
        assert!(!found.iter().any(|found| found.severity == "error"), "{found:?}");
        stack
    }

    /// Waits until all connected proxies hold the newest policy, in every worker.
    pub fn in_force(&self) {
        wait("every proxy holds the newest policy", START, || {
            let list = control::proxies(self.control.grpc)?;
            let all = list.proxies.iter().filter(|proxy| proxy.connected);
            (all.clone().count() > 0 && all.clone().all(|proxy| proxy.current)).then_some(())
        });
        workers_tick();
        wait("every worker has policy", START, || {
            let unavailable = (0..8).any(|_| self.get("/").send().code() == "policy_unavailable");
            (!unavailable).then_some(())
        });
    }

    /// Replaces the policies (the issuer's document is put before them) and waits until they are in force; fails if a
    /// document was refused.
    pub fn policies(&self, policies: &str) {
        let before = control::status(self.control.grpc).map_or(0, |status| status.epoch);
        self.control.write(&(self.issuer.document("corp") + policies));
        wait("a new epoch", START, || {
            let status = control::status(self.control.grpc)?;
            assert!(!status.diagnostics.iter().any(|found| found.severity == "error"), "{:?}", status.diagnostics);
            (status.epoch > before).then_some(())
        });
        self.in_force();
    }

    /// A GET through the proxy.
    #[must_use]
    pub fn get(&self, path: &str) -> Request {
        http::get(self.envoy.port, path)
    }

    /// Any request through the proxy.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request {
        http::request(method, self.envoy.port, path)
    }

    /// A GET past the proxy.
    #[must_use]
    pub fn direct(&self, path: &str) -> Request {
        http::get(self.upstream, path)
    }
}
