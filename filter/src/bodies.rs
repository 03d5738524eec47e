//! Whether the host hands over bodies while the head of a request waits.
//!
//! `bodies: stop-iteration` promises that Envoy's plugin configuration has `allow_on_headers_stop_iteration: true`. Without
//! it, a request whose head waits waits for ever: Envoy holds back the body too, and no callback tells. The filter cannot
//! ask Envoy for that option. But once a single body came, it is known to be on, and until then a request that waits too
//! long for the first byte of its body is denied, with a sentence in the log.

use crate::raw::{self, Level};

/// Unix milliseconds, or how many.
type Millis = u64;

/// So long a request waits for the beginning of its body.
const PATIENCE: Millis = 10_000;
/// Requests that are followed at once. What is beyond them waits as long as Envoy's own timeouts say.
const MAX_FOLLOWED: usize = 4096;

/// What the client is told.
pub const NEVER_CAME: &str = "Nothing of the request's body has reached the filter. Send it at once; if you did, the proxy is \
    not configured to hand bodies over, and its log says what to do.";
const SENTENCE: &str = "doorward: the configuration says `bodies: stop-iteration`, but no body of a request has reached the \
    filter yet, and one was awaited for 10 s. Set `allow_on_headers_stop_iteration: true` in the plugin's `config` \
    (PluginConfig, Envoy 1.35 or newer; WasmPlugin of Istio does not have it, use an EnvoyFilter), or say `bodies: none`. If \
    it is set, a client sent the head of a request without its body.";

/// A request that waits for its body.
#[derive(Clone, Debug)]
struct Follow {
    context: u32,
    decision_id: String,
    since: Millis,
    denied: bool,
}

/// Requests that wait for their body, until it is known that bodies come.
#[derive(Clone, Debug, Default)]
pub struct Awaited {
    known_to_come: bool,
    complained: bool,
    waiting: Vec<Follow>,
}

impl Awaited {
    /// The head of this context waits from now on.
    pub fn await_body(&mut self, context: u32, decision_id: &str, now: Millis) {
        if !self.known_to_come && self.waiting.len() < MAX_FOLLOWED {
            self.waiting.push(Follow { context, decision_id: decision_id.to_owned(), since: now, denied: false });
        }
    }

    /// A part of some body came: nothing has to be followed any more, now and later.
    pub fn came(&mut self) {
        if !self.known_to_come {
            self.known_to_come = true;
            self.waiting = Vec::new();
        }
    }

    /// The stream of this context ends. True: it was denied here.
    pub fn forget(&mut self, context: u32) -> bool {
        let at = self.waiting.iter().position(|follow| follow.context == context);
        at.is_some_and(|at| self.waiting.swap_remove(at).denied)
    }

    /// Contexts, with the ids of their decisions, that waited too long; each is given once.
    pub fn take_overdue(&mut self, now: Millis) -> Vec<(u32, String)> {
        let mut overdue = Vec::new();
        for follow in &mut self.waiting {
            // The clock may have been set back since.
            follow.since = follow.since.min(now);
            if !follow.denied && now >= follow.since.saturating_add(PATIENCE) {
                follow.denied = true;
                overdue.push((follow.context, follow.decision_id.clone()));
            }
        }
        if !overdue.is_empty() && !self.complained {
            self.complained = true;
            raw::log(Level::Error, SENTENCE);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_which_nothing_comes_is_overdue_once() {
        let mut awaited = Awaited::default();
        awaited.await_body(1, "a", 1_000);
        awaited.await_body(2, "b", 2_000);
        assert!(awaited.take_overdue(10_999).is_empty());
        assert_eq!(awaited.take_overdue(11_000), [(1, "a".to_owned())]);
        assert_eq!(awaited.take_overdue(12_000), [(2, "b".to_owned())]);
        assert!(awaited.take_overdue(50_000).is_empty() && awaited.complained);
        assert!(awaited.forget(1) && !awaited.forget(1) && !awaited.forget(3));
    }

    #[test]
    fn once_a_body_came_nothing_is_followed() {
        let mut awaited = Awaited::default();
        awaited.await_body(1, "a", 0);
        awaited.came();
        awaited.await_body(2, "b", 0);
        assert!(awaited.waiting.is_empty() && awaited.take_overdue(100_000).is_empty());
    }

    #[test]
    fn what_is_followed_is_bounded_and_outlives_a_clock_that_is_set_back() {
        let mut awaited = Awaited::default();
        for context in 0..10_000 {
            awaited.await_body(context, "a", 1_000_000);
        }
        assert_eq!(awaited.waiting.len(), MAX_FOLLOWED);
        assert!(awaited.take_overdue(0).is_empty());
        assert_eq!(awaited.take_overdue(PATIENCE).len(), MAX_FOLLOWED);
    }
}
