//! A real Kubernetes API server as the source of policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{Proxy, Server, free_port};
use doorward_proto::v1::{Bundle, GetPolicyStatusRequest, PolicyUpdate};
use doorward_test_support::wait;
use prost::Message as _;

const SOON: Duration = Duration::from_secs(30);
/// So long it may take until a proxy has what `kubectl` has applied, on a machine that does nothing else.
const AT_ONCE: Duration = Duration::from_secs(1);

const SERVICE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: { name: shop }\nspec:\n  dialect: \
    datasette\n  match: [{ path: /shop }]\n  components:\n    shop/orders: { key: [id], fields: { id: integer, region: \
    string } }\n";
const ROLE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: ai-x }\nspec:\n  grants: [{ \
    service: shop, components: [shop/orders], verbs: [GET], fields: { read: [id] }, rows: \"region = 'west'\" }]\n";
const RESTRICTION: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: cut }\nspec: { \
    subjects: [{ user: bob }], effect: deny, services: [shop] }\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An API server with its etcd, without nodes.
struct Cluster {
    dir: tempfile::TempDir,
    tools: PathBuf,
    port: u16,
    etcd_port: u16,
    etcd: Child,
    api: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in [&mut self.api, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Cluster {
    /// `None`: it is not built here.
    fn start() -> Option<Self> {
        /// One at a time: each takes all that two cores have.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = root().join(".tools/kubernetes");
        if !tools.join("kubectl").exists() {
            let how = "deploy/tools/kubernetes.sh builds a Kubernetes API server (it needs Go)";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{how}");
            eprintln!("SKIPPED: the tests against Kubernetes. {how}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let openssl = |arguments: &[&str]| {
            let made = Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        };
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key"]);
        openssl(&["ec", "-in", "sa.key", "-pubout", "-out", "sa.pub"]);
        std::fs::write(at("tokens.csv"), "admin-token,admin,1,\"system:masters\"\nreader-token,doorward,2\n").unwrap();
        let (etcd_port, peer_port) = (free_port(), free_port());
        let mut etcd = Command::new(tools.join("etcd"));
        let (client, peer) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        etcd.args(["--name", "test", "--data-dir", at("etcd").to_str().unwrap(), "--unsafe-no-fsync"]);
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &format!("test={peer}")]);
        let etcd = spawn(etcd, &at("etcd.log"));
        let port = free_port();
        let api = Self::api(&tools, dir.path(), port, etcd_port);
        let cluster = Self { dir, tools, port, etcd_port, etcd, api, _alone: alone };
        for user in ["admin", "reader"] {
            let config = format!(
                "apiVersion: v1\nkind: Config\nclusters: [{{name: t, cluster: {{server: \"https://127.0.0.1:{port}\", \
                 certificate-authority: \"{}\"}}}}]\nusers: [{{name: u, user: {{token: {user}-token}}}}]\ncontexts: \
                 [{{name: t, context: {{cluster: t, user: u}}}}]\ncurrent-context: t\n",
                cluster.dir.path().join("serving/apiserver.crt").display()
            );
            std::fs::write(cluster.config(user), config).unwrap();
        }
        cluster.is_ready();
        Some(cluster)
    }

    fn api(tools: &Path, dir: &Path, port: u16, etcd_port: u16) -> Child {
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let mut api = Command::new(tools.join("kube-apiserver"));
        api.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC"]);
        api.args(["--service-cluster-ip-range=10.96.0.0/24", "--disable-admission-plugins=ServiceAccount"]);
        api.args(["--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none"]);
        api.args([
            format!("--secure-port={port}"),
            format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
            format!("--cert-dir={}", at("serving")),
            format!("--service-account-key-file={}", at("sa.pub")),
            format!("--service-account-signing-key-file={}", at("sa.key")),
            format!("--token-auth-file={}", at("tokens.csv")),
        ]);
        spawn(api, &dir.join("api.log"))
    }

    fn is_ready(&self) {
        wait("the API server to be ready", SOON, || {
            self.kubectl(&["get", "--raw", "/readyz"], "").status.success().then_some(())
        });
    }

    fn config(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("{user}.kubeconfig"))
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(self.tools.join("kubectl"));
        command.args(["--kubeconfig", self.config("admin").to_str().unwrap()]).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{error}");
        out.into_owned()
    }

    /// Our definitions, a namespace `shop`, and for whom the control plane is there just what it may do.
    fn install(&self) {
        let folder = |name: &str| root().join(name).to_str().unwrap().to_owned();
        self.run(&["apply", "-f", &folder("deploy/crds")], "");
        self.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=20s"], "");
        for namespace in ["shop", "other"] {
            self.run(&["create", "namespace", namespace], "");
        }
        self.run(&["apply", "-n", "shop", "-f", &folder("deploy/kubernetes/role.yaml")], "");
        let binding =
            ["create", "rolebinding", "doorward", "--role=doorward-policy-reader", "--user=doorward", "-n", "shop"];
        self.run(&binding, "");
    }

    fn apply(&self, namespace: &str, text: &str) {
        self.run(&["apply", "-n", namespace, "-f", "-"], text);
    }

    fn serve(&self, root: &Path) -> Server {
        Server::start_from(root, "kubernetes:shop", &format!("KUBECONFIG={}", self.config("reader").display()))
    }

    fn doorward(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        let output = command.args(arguments).env("KUBECONFIG", self.config("reader")).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), text)
    }
}

fn bundle(update: &PolicyUpdate) -> Bundle {
    Bundle::decode(update.payload.as_slice()).unwrap()
}

/// The next policy for which this holds.
async fn until(proxy: &mut Proxy, limit: Duration, holds: impl Fn(&Bundle) -> bool) -> Bundle {
    let started = Instant::now();
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let (update, envelope) = proxy.policy(left).await.expect("no such policy came in time");
        proxy.answer(&update.nonce, &envelope, doorward_proto::v1::Outcome::Accepted, "").await;
        let bundle = bundle(&update);
        if holds(&bundle) {
            return bundle;
        }
    }
}

#[test]
fn without_a_configuration_it_is_said_what_to_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["validate", "kubernetes:shop"]).env("KUBECONFIG", "/nowhere/config").env("HOME", "/nowhere");
    let output = command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("no Kubernetes API server") && error.contains("KUBECONFIG"),
        "{error}"
    );
}

#[test]
fn the_definitions_are_taken_and_keep_what_was_written() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install();
    let conditions = cluster.run(&["get", "crd", "-o", "jsonpath={.items[*].status.conditions[*].type}"], "");
    assert!(!conditions.contains("NonStructural") && conditions.contains("Established"), "{conditions}");
    // What the examples hold, an API server takes, if each document says its `apiVersion`.
    let examples = root().join("examples/policy-repository/policies");
    for file in std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = |document: &str| {
            let missing = if document.contains("apiVersion:") { "" } else { "apiVersion: doorward.dev/v1alpha1\n" };
            format!("{missing}{document}")
        };
        let documents: Vec<String> = text.split("---\n").map(whole).collect();
        cluster.run(&["apply", "-n", "other", "--dry-run=server", "-f", "-"], &documents.join("---\n"));
    }
    cluster.apply("shop", &[SERVICE, ROLE, RESTRICTION].join("---\n"));
    // A misspelt field is neither dropped nor taken for something else: the compiler refuses it.
    let misspelt = ROLE.replace("name: ai-x", "name: misspelt").replace("rows:", "row:");
    cluster.apply("shop", &misspelt);
    let kept = cluster.run(&["get", "arole", "misspelt", "-n", "shop", "-o", "jsonpath={.spec.grants[0].row}"], "");
    assert_eq!(kept, "region = 'west'");
    let (code, text) = cluster.doorward(&["validate", "kubernetes:shop"]);
    assert!(code == 1 && text.contains("AccessRole/shop/misspelt") && text.contains("\"row\""), "{text}");
    cluster.run(&["delete", "arole", "misspelt", "-n", "shop"], "");
    let (code, text) = cluster.doorward(&["validate", "kubernetes:shop"]);
    assert!(code == 0 && text.contains("3 documents"), "{text}");
    let listed = cluster.run(&["get", "doorward", "-n", "shop"], "");
    for shown in ["dataservice.doorward.dev/shop", "accessrole.doorward.dev/ai-x", "datasette", "/shop", "deny"] {
        assert!(listed.contains(shown), "{shown}: {listed}");
    }
    // What the type says is refused at once.
    let wrong =
        cluster.kubectl(&["apply", "-n", "shop", "-f", "-"], &RESTRICTION.replace("effect: deny", "effect: denyy"));
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && error.contains("denyy") && error.contains("revokeTokens"), "{error}");
    // It may read here, and nowhere else.
    let (code, text) = cluster.doorward(&["validate", "kubernetes:other"]);
    assert!(code == 1 && text.contains("we may not list and watch"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_reach_a_proxy_at_once_and_stay_in_force_while_the_api_server_is_away() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.install();
    let dir = tempfile::tempdir().unwrap();
    let server = cluster.serve(dir.path());
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    cluster.apply("shop", &[SERVICE, ROLE].join("---\n"));
    until(&mut proxy, SOON, |bundle| bundle.roles.len() == 1 && bundle.services.len() == 1).await;
    let (mut quickest, mut cut) = (SOON, Bundle::default());
    for round in 0..4 {
        if round > 0 {
            cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
            until(&mut proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
        }
        cluster.apply("shop", RESTRICTION);
        let started = Instant::now();
        cut = until(&mut proxy, SOON, |bundle| bundle.restrictions.len() == 1).await;
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest < AT_ONCE, "{quickest:?}");
    // Another namespace has no say.
    cluster.apply("other", &ROLE.replace("ai-x", "ai-other"));
    // A document that does not compile stays at its last good version.
    cluster.apply("shop", &ROLE.replace("rows:", "row:"));
    wait("the misspelt role to be held", SOON, || {
        let (code, text) = cluster.doorward(&["proxies", "--server", &format!("http://127.0.0.1:{}", server.grpc)]);
        (code == 0 && text.contains("row")).then_some(())
    });
    let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap().into_inner();
    let held = status.documents.iter().find(|document| document.name == "ai-x").unwrap();
    assert!(held.last_good && held.file == "AccessRole/shop/ai-x", "{held:?}");
    assert!(!status.documents.iter().any(|document| document.name == "ai-other"));
    let mut other = Proxy::connect(&server, "envoy-2", Vec::new(), 0).await;
    assert_eq!(until(&mut other, SOON, |_| true).await, cut);

    cluster.api.kill().unwrap();
    cluster.api.wait().unwrap();
    let mut third = Proxy::connect(&server, "envoy-3", Vec::new(), 0).await;
    assert_eq!(until(&mut third, SOON, |_| true).await, cut, "the policy stays");
    server.kill();
    // Also over a restart, which finds nobody to ask.
    let server = cluster.serve(dir.path());
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    assert_eq!(until(&mut proxy, SOON, |_| true).await, cut);
    cluster.api = Cluster::api(&cluster.tools, cluster.dir.path(), cluster.port, cluster.etcd_port);
    cluster.is_ready();
    cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
    let after = until(&mut proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
    assert!(after.roles[0].grants[0].rows.is_some(), "the misspelt role is still at its last good version");
}
