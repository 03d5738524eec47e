//! One stream per proxy, not per worker: a lease in shared data decides which worker holds it.

use crate::proxy::Proxy;

/// A lease lives this long without renewal: so long policy changes wait if the leader's VM dies.
const LEASE_MILLIS: u64 = 3_000;
/// It is renewed when less than this is left.
const RENEW_MILLIS: u64 = 2_000;

/// A worker's view of the lease.
#[derive(Clone, Debug)]
pub struct Lease {
    key: String,
    me: [u8; 16],
    until: u64,
}

impl Lease {
    /// The lease of this scope; `me` is unique among all VMs of the proxy.
    #[must_use]
    pub fn new(scope: &str, me: [u8; 16]) -> Self {
        Lease { key: format!("doorward/leader/{scope}"), me, until: 0 }
    }

    /// True while this worker leads. Takes a free lease and renews an own one.
    pub fn hold(&mut self, proxy: &impl Proxy, now: u64) -> bool {
        // No lease reaches further than its length: then the clock was set back, and another worker may have taken it.
        if self.until > now.saturating_add(RENEW_MILLIS) && self.until <= now.saturating_add(LEASE_MILLIS) {
            return true;
        }
        let Ok(present) = proxy.get_shared(&self.key) else { return self.lost() };
        let (holder, until, cas) = match &present {
            Some((value, cas)) => (value.get(..16), number(value.get(16..24)), Some(*cas)),
            None => (None, 0, None),
        };
        let mine = holder == Some(self.me.as_slice());
        // A lease far in the future is no lease of ours: nothing this code writes reaches so far.
        if !mine && until > now && until <= now.saturating_add(2 * LEASE_MILLIS) {
            return self.lost();
        }
        let until = now.saturating_add(LEASE_MILLIS);
        match proxy.set_shared(&self.key, &[self.me.as_slice(), &until.to_le_bytes()].concat(), cas) {
            Ok(()) => {
                self.until = until;
                true
            }
            Err(_) => self.lost(),
        }
    }

    fn lost(&mut self) -> bool {
        self.until = 0;
        false
    }

    /// Gives an own lease back, so that another worker need not wait.
    pub fn release(&mut self, proxy: &impl Proxy) {
        if self.until > 0 {
            if let Ok(Some((value, cas))) = proxy.get_shared(&self.key)
                && value.get(..16) == Some(self.me.as_slice())
            {
                let _ = proxy.set_shared(&self.key, &[], Some(cas));
            }
            self.until = 0;
        }
    }
}

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;

    #[test]
    fn one_worker_leads_until_its_lease_runs_out_or_is_given_back() {
        let proxy = Double::default();
        let (mut a, mut b) = (Lease::new("lead", [1; 16]), Lease::new("lead", [2; 16]));
        assert!(a.hold(&proxy, 1_000) && !b.hold(&proxy, 1_000));
        assert!(a.hold(&proxy, 3_500) && !b.hold(&proxy, 4_500), "renewed");
        assert!(b.hold(&proxy, 6_600), "not renewed for three seconds");
        assert!(!a.hold(&proxy, 6_700));
        b.release(&proxy);
        assert!(a.hold(&proxy, 6_800) && !b.hold(&proxy, 6_800));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_one_leader() {
        let proxy = Double::default();
        let (mut a, mut b) = (Lease::new("back", [1; 16]), Lease::new("back", [2; 16]));
        assert!(a.hold(&proxy, 1_000_000));
        assert!(b.hold(&proxy, 1_000) && !a.hold(&proxy, 1_000));
    }

    #[test]
    fn a_lease_that_no_worker_could_have_written_is_ignored() {
        let proxy = Double::default();
        proxy.put_shared("doorward/leader/junk", &[0xff; 24]).unwrap();
        assert!(Lease::new("junk", [1; 16]).hold(&proxy, 1_000));
    }
}
