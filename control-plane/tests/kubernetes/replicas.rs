//! Several replicas: the same policy everywhere, one that writes status, and no way back for a proxy that moves.

use std::time::{Duration, Instant};

use doorward_test_support::wait;

use crate::{
    RESTRICTION, ROLE, SERVICE,
    cluster::{Cluster, SOON},
    common::{Proxy, Server},
    until,
};

/// The replica that writes status.
fn leader(cluster: &Cluster) -> String {
    let lease = cluster.object("lease", "doorward", "doorward-status");
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_publish_the_same_bytes_and_outlive_their_leader_and_the_api_server() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.install_whole();
    cluster.apply("shop", &[SERVICE, ROLE].join("---\n"));
    // One key signs for all.
    let roots: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut servers: Vec<Option<Server>> = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        if at > 0 {
            std::fs::create_dir_all(root.path().join("data")).unwrap();
            let key = "data/policy-signing.key";
            std::fs::copy(roots[0].path().join(key), root.path().join(key)).unwrap();
        }
        servers.push(Some(cluster.replica(root.path(), &format!("doorward-{at}"), "shop", &[])));
    }
    let mut proxies = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        proxies.push(Proxy::connect(server.as_ref().unwrap(), &format!("envoy-{at}"), Vec::new(), 0).await);
    }
    for proxy in &mut proxies {
        until(proxy, SOON, |bundle| bundle.roles.len() == 1).await;
    }
    // Whatever changes, every replica signs the same.
    cluster.apply("shop", RESTRICTION);
    let mut signed = Vec::new();
    for proxy in &mut proxies {
        let (update, envelope) = proxy.policy(SOON).await.unwrap();
        proxy.answer(&update.nonce, &envelope, doorward_proto::v1::Outcome::Accepted, "").await;
        signed.push((update.envelope, update.signature, update.payload));
    }
    assert!(signed.iter().all(|one| *one == signed[0]), "three replicas, one policy");
    let status = cluster.condition("accessrestriction", "shop", "cut", "Programmed", "True", "Programmed");
    assert_eq!(status["proxies"], "3/3", "the leader knows of the proxies of all");

    // The leader is killed. Pushes never stop, and status goes on within fifteen seconds.
    let first = leader(&cluster);
    let dead: usize = first.trim_start_matches("doorward-").parse().unwrap();
    servers[dead].take().unwrap().kill();
    let killed = Instant::now();
    cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
    for (at, proxy) in proxies.iter_mut().enumerate() {
        if at != dead {
            until(proxy, Duration::from_secs(2), |bundle| bundle.restrictions.is_empty()).await;
        }
    }
    // Its proxy goes to another one, which takes it on from where it is.
    let other = (dead + 1) % 3;
    let mut moved = Proxy::connect(servers[other].as_ref().unwrap(), "envoy-moved", Vec::new(), 0).await;
    let (before, envelope) = moved.policy(SOON).await.unwrap();
    moved.answer(&before.nonce, &envelope, doorward_proto::v1::Outcome::Accepted, "").await;
    cluster.apply("shop", &RESTRICTION.replace("name: cut", "name: again"));
    wait("the status of a document that came since", Duration::from_secs(15), || {
        let object = cluster.object("accessrestriction", "shop", "again");
        object["status"]["conditions"].as_array().is_some().then_some(())
    });
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
    assert_ne!(leader(&cluster), first);
    for (at, proxy) in proxies.iter_mut().enumerate() {
        if at != dead {
            until(proxy, SOON, |bundle| bundle.restrictions.len() == 1).await;
        }
    }
    let newest = until(&mut moved, SOON, |bundle| bundle.restrictions.len() == 1).await;
    // Once the dead one is forgotten, its proxy counts no more.
    let status = cluster.condition("accessrestriction", "shop", "again", "Programmed", "True", "Programmed");
    assert_eq!(status["total"], 3, "two of the replicas that live, and the one that moved");

    // A replica that comes back finds the epoch of the others, whatever is in its own store.
    let back = cluster.replica(roots[dead].path(), &first, "shop", &[]);
    let mut returned = Proxy::connect(&back, "envoy-returned", Vec::new(), 0).await;
    // At first it may serve what it had: proxies that hold a later epoch do not take it.
    let again = |bundle: &doorward_proto::v1::Bundle| bundle.strings.iter().any(|text| text == "again");
    assert_eq!(until(&mut returned, SOON, again).await, newest);
    let epochs = |server: &Server| {
        let metrics = server.get("/metrics");
        metrics.lines().find(|line| line.starts_with("doorward_policy_epoch ")).unwrap().to_owned()
    };
    assert_eq!(epochs(&back), epochs(servers[other].as_ref().unwrap()));

    // Without the API server every replica serves on, also one that starts.
    cluster.api.kill().unwrap();
    cluster.api.wait().unwrap();
    let mut late = Proxy::connect(&back, "envoy-late", Vec::new(), 0).await;
    assert_eq!(until(&mut late, SOON, |_| true).await, newest);
    cluster.api = Cluster::api(&cluster.tools, cluster.dir.path(), cluster.port, cluster.etcd_port);
    cluster.is_ready();
    let deleted = Instant::now();
    cluster.run(&["delete", "accessrestriction", "again", "-n", "shop"], "");
    for proxy in [&mut moved, &mut returned, &mut late] {
        until(proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
    }
    assert!(deleted.elapsed() < Duration::from_secs(25), "the watches come back: {:?}", deleted.elapsed());
    cluster.condition("accessrole", "shop", "ai-x", "Programmed", "True", "Programmed");
}
