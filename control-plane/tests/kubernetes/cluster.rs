//! A real API server for the tests.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use doorward_test_support::wait;
use serde_json::Value;

use crate::common::{Server, free_port};

pub const SOON: Duration = Duration::from_secs(30);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An API server with its etcd, without nodes.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub tools: PathBuf,
    pub port: u16,
    pub etcd_port: u16,
    etcd: Child,
    pub api: Child,
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
    pub fn start() -> Option<Self> {
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
        std::fs::write(at("tokens.csv"), "admin-token,admin,1,\"system:masters\"\nreader-token,doorward,2\nplane-token,system:serviceaccount:doorward:doorward,3\n").unwrap();
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
        for user in ["admin", "reader", "plane"] {
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

    pub fn api(tools: &Path, dir: &Path, port: u16, etcd_port: u16) -> Child {
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

    pub fn is_ready(&self) {
        wait("the API server to be ready", SOON, || {
            self.kubectl(&["get", "--raw", "/readyz"], "").status.success().then_some(())
        });
    }

    pub fn config(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("{user}.kubeconfig"))
    }

    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(self.tools.join("kubectl"));
        command.args(["--kubeconfig", self.config("admin").to_str().unwrap()]).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{error}");
        out.into_owned()
    }

    /// Our definitions, a namespace `shop`, and for whom the control plane is there just what it may do.
    pub fn install(&self) {
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

    /// All that a control plane needs that serves every namespace, and two namespaces with documents.
    pub fn install_whole(&self) {
        let folder = |name: &str| root().join(name).to_str().unwrap().to_owned();
        self.run(&["apply", "-f", &folder("deploy/crds")], "");
        self.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=20s"], "");
        for namespace in ["shop", "other"] {
            self.run(&["create", "namespace", namespace], "");
        }
        self.run(&["apply", "-f", &folder("deploy/kubernetes/control-plane-rbac.yaml")], "");
    }

    /// A replica with just its own rights.
    pub fn replica(&self, root: &Path, name: &str, namespaces: &str, extra: &[&str]) -> Server {
        let variables = format!(
            "KUBECONFIG={} POD_NAMESPACE=doorward POD_NAME={name} RUST_LOG=warn,doorward=info,kube_client=off",
            self.config("plane").display()
        );
        Server::start_watching(root, &format!("--kubernetes={namespaces}"), extra, &variables)
    }

    /// An object as JSON.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Value {
        serde_json::from_str(&self.run(&["get", kind, name, "-n", namespace, "-o", "json"], "")).unwrap()
    }

    /// Waits until the condition of an object is so, and says its message.
    #[track_caller]
    pub fn condition(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> Value {
        let mut last = Value::Null;
        let started = std::time::Instant::now();
        loop {
            let object = self.object(kind, namespace, name);
            let generation = object["metadata"]["generation"].clone();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if let Some(found) = conditions.into_iter().find(|found| found["type"] == condition) {
                if found["status"] == status && found["reason"] == reason && found["observedGeneration"] == generation {
                    return object["status"].clone();
                }
                last = found;
            }
            assert!(started.elapsed() < SOON, "{kind} {name} is never {condition}={status} {reason}: {last}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn apply(&self, namespace: &str, text: &str) {
        self.run(&["apply", "-n", namespace, "-f", "-"], text);
    }

    pub fn serve(&self, root: &Path) -> Server {
        Server::start_from(root, "kubernetes:shop", &format!("KUBECONFIG={}", self.config("reader").display()))
    }

    pub fn doorward(&self, arguments: &[&str]) -> (i32, String) {
        self.doorward_as("reader", arguments)
    }

    pub fn doorward_as(&self, user: &str, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        let output = command.args(arguments).env("KUBECONFIG", self.config(user)).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), text)
    }
}
