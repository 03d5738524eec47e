//! The control plane on a file system that is really full, or read-only: a tmpfs of a few megabytes. Where mounting is not
//! allowed, the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use common::{Emitter, Proxy, Report, Server, role};
use doorward_proto::v1::{GetPolicyStatusRequest, PolicyEnvelope, PolicyUpdate};

const SOON: Duration = Duration::from_secs(10);
const REVOKED: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: leaver }\nspec:\n  subjects: [{ user: NAME }]\n  effect: deny\n";

/// A small file system at `DIR/data`, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(root: &Path, megabytes: u32) -> Option<Self> {
        let data = root.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let size = format!("size={megabytes}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "doorward-test"]).arg(&data).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(data));
        }
        eprintln!("skipped: mounting a file system of its own needs root, and is not allowed here");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn remount(&self, how: &str) {
        assert!(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Documents that take more room than a database has left over.
fn large() -> String {
    (0..400).map(|at| role(&format!("role-{at}"), &"x".repeat(2_000))).collect::<Vec<_>>().join("---\n")
}

/// The next policy that holds this text.
async fn policy_with(proxy: &mut Proxy, text: &str) -> (PolicyUpdate, PolicyEnvelope) {
    loop {
        let next = proxy.policy(SOON).await.expect("a policy");
        if String::from_utf8_lossy(&next.0.payload).contains(text) {
            return next;
        }
    }
}

async fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let started = Instant::now();
    while !test() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn unstored(server: &Server) -> bool {
    let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap().into_inner();
    status.diagnostics.iter().any(|found| found.code == "not_stored" && found.severity == "error")
}

#[tokio::test]
async fn a_revocation_on_a_full_disk_is_pushed_and_outlives_restarts_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), 16) else { return };
    let mut server = Server::start(dir.path(), &[], None);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, first) = policy_with(&mut proxy, "a").await;
    disk.fill();
    server.write("b.yaml", &(large() + "---\n" + &REVOKED.replace("NAME", "mallory")));
    let (_, revoked) = policy_with(&mut proxy, "mallory").await;
    assert!(revoked.epoch > first.epoch);
    assert!(server.child.try_wait().unwrap().is_none());
    assert!(unstored(&server).await);
    assert!(server.get("/metrics").contains("doorward_policy_unstored 1"));
    let ready = server.get("/readyz");
    assert!(ready.contains("503") && ready.contains("stored"), "{ready}");
    // Whoever comes now gets it too, and the next change as well.
    let mut late = Proxy::connect(&server, "late", Vec::new(), 0).await;
    assert_eq!(policy_with(&mut late, "mallory").await.1.epoch, revoked.epoch);
    server.write("c.yaml", &REVOKED.replace("NAME", "trent").replace("leaver", "second"));
    let (_, second) = policy_with(&mut proxy, "trent").await;
    assert!(second.epoch > revoked.epoch);

    // Killed, and started on the full disk, twice: no epoch is used again, and none falls below what a proxy holds.
    let mut held = second;
    for name in ["oscar", "victor"] {
        server.kill();
        server = Server::start(dir.path(), &[], None);
        server.write("d.yaml", &REVOKED.replace("NAME", name).replace("leaver", "third"));
        let mut proxy = Proxy::connect(&server, "node", held.digest.clone(), held.epoch).await;
        let (_, next) = policy_with(&mut proxy, name).await;
        assert!(next.epoch > held.epoch, "{} {}", next.epoch, held.epoch);
        held = next;
    }
    // Audit records are refused, and the process stays.
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    let mut refused = false;
    for _ in 0..400 {
        let batch = emitter.batch(20, 4_000);
        if report.send(batch).await.error == "storage_unavailable" {
            refused = true;
            break;
        }
    }
    assert!(refused);
    assert!(server.child.try_wait().unwrap().is_none());
    drop(report);

    disk.free();
    eventually("the policy is stored", || server.get("/metrics").contains("doorward_policy_unstored 0")).await;
    assert!(!unstored(&server).await);
    server.kill();
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, restored) = proxy.policy(SOON).await.unwrap();
    assert_eq!((restored.epoch, &restored.digest), (held.epoch, &held.digest));
}

#[tokio::test]
async fn a_read_only_data_directory_is_read_and_served() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), 16) else { return };
    let server = Server::start(dir.path(), &[], None);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, held) = policy_with(&mut proxy, "a").await;
    server.kill();
    disk.remount("ro");
    let mut server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, restored) = proxy.policy(SOON).await.unwrap();
    assert_eq!(restored.epoch, held.epoch);
    server.write("b.yaml", &REVOKED.replace("NAME", "mallory"));
    let (_, revoked) = policy_with(&mut proxy, "mallory").await;
    assert!(revoked.epoch > held.epoch && unstored(&server).await);
    assert!(server.child.try_wait().unwrap().is_none());
    disk.remount("rw");
    eventually("the policy is stored", || server.get("/metrics").contains("doorward_policy_unstored 0")).await;
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_that_a_later_one_cannot_open() {
    for pages in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::mount(dir.path(), 1) else { return };
        // The signing key is there; databases find room for a few pages only.
        std::fs::write(disk.0.join("room"), vec![1; 4096 * pages]).unwrap();
        std::fs::write(disk.0.join("policy-signing.key"), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
        std::fs::write(disk.0.join("policy-signing.pub"), "").unwrap();
        disk.fill();
        std::fs::remove_file(disk.0.join("room")).unwrap();
        let server = Server::start(dir.path(), &[], None);
        disk.free();
        server.write("a.yaml", &role("a", "x"));
        eventually("it recovers", || server.get("/readyz").contains("200 OK")).await;
        server.kill();
        let server = Server::start(dir.path(), &[], None);
        eventually("and starts again", || server.get("/readyz").contains("200 OK")).await;
    }
}
