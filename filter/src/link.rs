//! A gRPC stream to the control plane that is reopened with backoff.

use crate::proxy::{Level, Proxy};

/// First and longest pause between attempts.
const BACKOFF_MILLIS: (u64, u64) = (250, 30_000);

/// What to do about a cluster that is not there.
const UNKNOWN: &str = "controlPlane.cluster must be the name of a cluster of this Envoy: see static_resources.clusters of its \
    bootstrap, the clusters of its xDS server, or /clusters of its admin interface.";

/// One stream, open or to be opened.
#[derive(Clone, Debug)]
pub struct Link {
    service: &'static str,
    method: &'static str,
    token: Option<u32>,
    retry_at: u64,
    failures: u32,
    complained: bool,
}

/// After so many failures in a row somebody has to look: a control plane that starts anew is back before.
const MANY_FAILURES: u32 = 4;
/// gRPC's `UNIMPLEMENTED`, `PERMISSION_DENIED` and `UNAUTHENTICATED`: what answers is not meant for us, or we are not for it.
const WRONG_SERVER: u32 = 12;
const REFUSED: [u32; 2] = [7, 16];

impl Link {
    /// A stream of this method, to be opened at once.
    #[must_use]
    pub fn new(service: &'static str, method: &'static str) -> Self {
        Link { service, method, token: None, retry_at: 0, failures: 0, complained: false }
    }

    /// True while the stream is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_some()
    }

    /// True if this is the open stream's token.
    #[must_use]
    pub fn is(&self, token: u32) -> bool {
        self.token == Some(token)
    }

    /// Opens the stream if it is closed and its time has come. True: it is new, greet.
    pub fn open(&mut self, proxy: &impl Proxy, cluster: &str, now: u64) -> bool {
        // A pause longer than any that is made means that the clock was set back.
        let waits = now < self.retry_at && self.retry_at <= now.saturating_add(BACKOFF_MILLIS.1);
        if self.token.is_some() || waits {
            return false;
        }
        match proxy.open_grpc_stream(cluster, self.service, self.method) {
            Ok(token) => {
                self.token = Some(token);
                true
            }
            Err(status) => {
                // Envoy says at once that it has no such cluster: trying again helps only once there is one.
                self.complain(
                    proxy,
                    cluster,
                    &format!("Envoy cannot open a stream to it (status {})", status.0),
                    UNKNOWN,
                );
                self.back_off(proxy, now);
                false
            }
        }
    }

    /// Says once, until the other side answers again, what does not work and where to look.
    fn complain(&mut self, proxy: &impl Proxy, cluster: &str, what: &str, look: &str) {
        if !self.complained {
            self.complained = true;
            let stream = self.stream();
            proxy.log(
                Level::Error,
                &format!("doorward: {stream} does not reach the control plane by cluster {cluster:?}: {what}. {look}"),
            );
        }
    }

    /// What the stream is for, as operators know it.
    fn stream(&self) -> &'static str {
        if self.method == "Subscribe" { "the policy stream" } else { "the stream of records" }
    }

    /// The other side closed the stream with this status of gRPC, or Envoy did for it.
    pub fn closed_by_host(&mut self, proxy: &impl Proxy, cluster: &str, status: u32, now: u64) {
        self.close(proxy, now);
        let what = format!("gRPC status {status}");
        if status == WRONG_SERVER {
            self.complain(
                proxy,
                cluster,
                &what,
                "What answers there is no `doorward serve`: the cluster must lead to its --listen address.",
            );
        } else if REFUSED.contains(&status) {
            self.complain(proxy, cluster, &what, "It refuses this proxy's certificate: see --client and --tls-client-ca of `doorward serve`, and the cluster's transport_socket.");
        } else if self.failures >= MANY_FAILURES {
            self.complain(proxy, cluster, &what, "See whether `doorward serve` runs at the cluster's address (its --listen), whether the cluster speaks HTTP/2 (http2_protocol_options), and TLS on both sides or on none.");
        }
    }

    /// Sends a message. False: the stream is not open, or is closed now because it could not be sent.
    pub fn send(&mut self, proxy: &impl Proxy, message: &[u8], now: u64) -> bool {
        let Some(token) = self.token else { return false };
        if proxy.send_grpc(token, message).is_err() {
            self.close(proxy, now);
            return false;
        }
        true
    }

    /// The other side answers: the next failure is a first one again.
    pub fn heard(&mut self, proxy: &impl Proxy) {
        self.failures = 0;
        if std::mem::take(&mut self.complained) {
            proxy.log(Level::Info, &format!("doorward: {} reaches the control plane again.", self.stream()));
        }
    }

    /// Closes the stream; it is opened again after a pause. Also called after the other side closed, as Envoy keeps the
    /// local half open until then.
    pub fn close(&mut self, proxy: &impl Proxy, now: u64) {
        if let Some(token) = self.token.take() {
            let _ = proxy.close_grpc(token);
            self.back_off(proxy, now);
        }
    }

    /// Full jitter: anything between the first pause and an exponentially growing one.
    fn back_off(&mut self, proxy: &impl Proxy, now: u64) {
        let (first, longest) = BACKOFF_MILLIS;
        self.failures = self.failures.saturating_add(1);
        let most = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        let mut random = [0_u8; 8];
        let jitter = match proxy.random(&mut random) {
            Ok(()) => u64::from_le_bytes(random) % (most - first + 1),
            Err(_) => most - first,
        };
        self.retry_at = now.saturating_add(first + jitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;

    #[test]
    fn attempts_pause_between_a_quarter_second_and_half_a_minute() {
        let (mut link, proxy) = (Link::new("s", "m"), Double::without_control_plane());
        let mut now = 0;
        for _ in 0..200 {
            assert!(!link.open(&proxy, "c", now), "there is no host here");
            let pause = link.retry_at - now;
            assert!((250..=30_000).contains(&pause), "{pause}");
            now = link.retry_at;
        }
        link.heard(&proxy);
        link.open(&proxy, "c", now);
        assert!(link.retry_at - now <= 500);
    }

    #[test]
    fn a_stream_that_does_not_come_about_is_complained_of_once_until_the_other_side_answers() {
        let (mut link, proxy) = (Link::new("s", "m"), Double::without_control_plane());
        link.open(&proxy, "c", 0);
        assert!(link.complained, "Envoy has no such cluster");
        link.heard(&proxy);
        assert!(!link.complained);
        // A control plane that is away for a moment is none of the operator's business.
        for failure in 1..=MANY_FAILURES {
            link.token = Some(1);
            link.closed_by_host(&proxy, "c", 14, 0);
            assert_eq!(link.complained, failure >= MANY_FAILURES, "{failure}");
        }
        for status in [12, 7, 16] {
            link.heard(&proxy);
            link.token = Some(1);
            link.closed_by_host(&proxy, "c", status, 0);
            assert!(link.complained, "{status}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_a_stream_closed() {
        let (mut link, proxy) = (Link::new("s", "m"), Double::without_control_plane());
        let (late, early) = (1_000_000_000, 1_000_000);
        link.open(&proxy, "c", late);
        assert!(link.retry_at > late);
        link.open(&proxy, "c", early);
        assert!(link.retry_at <= early + 30_000, "it was not tried again");
    }
}
