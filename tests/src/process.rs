//! Child processes, the tools they run, and free ports.

use std::{
    fs::File,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file that a build step or an installer makes, or a panic that names the step.
fn made(path: PathBuf, by: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: run {by} first", path.display());
    path
}

/// Envoy of this version.
#[must_use]
pub fn envoy(version: &str) -> PathBuf {
    made(root().join(format!(".tools/envoy/{version}/envoy")), "make tools")
}

/// Something of the Python environment.
#[must_use]
pub fn python_tool(name: &str) -> PathBuf {
    made(root().join(".tools/venv/bin").join(name), "make tools")
}

/// Node.js.
#[must_use]
pub fn node() -> PathBuf {
    made(root().join(".tools/node/bin/node"), "make tools")
}

/// The filter.
#[must_use]
pub fn filter() -> PathBuf {
    made(root().join("target-wasm/doorward_filter.wasm"), "make wasm")
}

/// The module that asks the filter's signature check.
#[must_use]
pub fn probe() -> PathBuf {
    let by = "deploy/tools/wasm-build.sh doorward-signature-probe";
    made(root().join("target-wasm/doorward_signature_probe.wasm"), by)
}

/// The control plane, beside the running test.
#[must_use]
pub fn doorward() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().find(|folder| folder.join("doorward").is_file());
    match profile {
        Some(folder) => folder.join("doorward"),
        None => panic!("the doorward binary is missing: run cargo build -p doorward first"),
    }
}

/// A port of the loopback that was free a moment ago, from a range that the system gives to nobody by itself.
#[must_use]
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 97) as u16 * 120;
    (0..12_000)
        .map(|_| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A child process that is killed when this is dropped, and also when the test process ends in any way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watchdog: Child,
    /// Closing this (the end of the test process does) lets the watchdog kill the child.
    _alive: Option<ChildStdin>,
    /// Everything it printed.
    pub log: PathBuf,
}

impl Process {
    /// Starts a command with its output in `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut watchdog = Command::new("sh")
            .args(["-c", &format!("read -r _; kill -9 {} 2>/dev/null", child.id())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alive = watchdog.stdin.take();
        Self { child, watchdog, _alive: alive, log: log.to_path_buf() }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it listens on a port; fails with its log if it ends before.
    pub fn listens(&mut self, port: u16, limit: Duration) {
        let mut ended = false;
        let log = self.log.clone();
        crate::wait(&format!("port {port}, see {}", log.display()), limit, || {
            ended |= !self.runs();
            assert!(!ended, "it ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Kills it as `kill -9` does.
    pub fn kill(self) {}
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: it must never see an id that belongs to somebody else by then.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
