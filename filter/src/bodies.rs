//! Whether the host hands over bodies while the head of a request waits.
//!
//! `bodies: stop-iteration` promises that Envoy's plugin configuration has `allow_on_headers_stop_iteration: true`. Without
//! it, a request whose head waits waits for ever: Envoy holds back the body too, and no callback tells. The filter cannot
//! ask Envoy for that option. But once a single body came, it is known to be on, and until then a request that waits too
//! long for the first byte of its body is denied, with a sentence in the log. It is the same with the head of a response
//! that waits for its body, but such a head is let go: its body is filtered all the same, only that a refusal is a reset
//! then.

use crate::proxy::{Level, Proxy};

/// Unix milliseconds, or how many.
type Millis = u64;

/// So long a request waits for the beginning of its body.
const PATIENCE: Millis = 10_000;
/// So long the head of a response waits for the beginning of its body.
const HEAD_PATIENCE: Millis = 1_000;
/// After a head that waited in vain, so long none waits: its body may only have been slow.
const HEADS_GO: Millis = 60_000;
/// Requests that are followed at once. What is beyond them waits as long as Envoy's own timeouts say.
const MAX_FOLLOWED: usize = 4096;

/// What the client is told.
pub const NEVER_CAME: &str = "Nothing of the request's body has reached the filter. Send it at once; if you did, the proxy is \
    not configured to hand bodies over, and its log says what to do.";
const SENTENCE: &str = "doorward: the configuration says `bodies: stop-iteration`, but no body has reached the filter \
    yet, and one was awaited (10 s for a request, 1 s for a response). Set `allow_on_headers_stop_iteration: true` in the plugin's `config` \
    (PluginConfig, Envoy 1.35 or newer; WasmPlugin of Istio does not have it, use an EnvoyFilter), or say `bodies: none`. If \
    it is set, somebody sent a head without its body.";

/// A request that waits for its body.
#[derive(Clone, Debug)]
struct Follow {
    context: u32,
    decision_id: String,
    since: Millis,
    denied: bool,
}

/// The head of a response that waits for its body.
#[derive(Clone, Debug)]
pub struct HeldHead {
    /// Its stream.
    pub context: u32,
    /// The decision on its request.
    pub decision_id: String,
    /// The record that must be durable before it goes.
    pub sequence: Option<u64>,
    since: Millis,
    released: bool,
}

impl HeldHead {
    /// Whether it waited as long as a request may.
    #[must_use]
    pub fn is_hopeless(&self, now: Millis) -> bool {
        now >= self.since.saturating_add(PATIENCE)
    }
}

/// Requests, and heads of responses, that wait for their body, until it is known that bodies come.
#[derive(Clone, Debug, Default)]
pub struct Awaited {
    known_to_come: bool,
    complained: bool,
    waiting: Vec<Follow>,
    heads: Vec<HeldHead>,
    /// Until then no head waits.
    heads_go_until: Millis,
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
            // Those that were let go are asked for once more: what comes behind them can be refused only by a reset.
            self.heads.retain(|head| head.released);
        }
    }

    /// Whether the head of a response may wait for its body now; `true`: it does, until [`Awaited::head_is_done`].
    pub fn hold_head(
        &mut self,
        context: u32,
        decision_id: &str,
        sequence: Option<u64>,
        now: impl FnOnce() -> Millis,
    ) -> bool {
        if self.known_to_come {
            return true;
        }
        let since = now();
        if since < self.heads_go_until || self.heads.len() >= MAX_FOLLOWED {
            return false;
        }
        self.heads.push(HeldHead { context, decision_id: decision_id.to_owned(), sequence, since, released: false });
        true
    }

    /// The body or the end of a response came, whose head was held. True: its head was let go meanwhile. Otherwise it is
    /// known now that bodies come behind heads that wait.
    pub fn head_is_done(&mut self, context: u32) -> bool {
        let at = self.heads.iter().position(|head| head.context == context);
        let released = at.is_some_and(|at| self.heads.swap_remove(at).released);
        if !released {
            self.came();
        }
        released
    }

    /// The stream of this context ends, whatever waited.
    pub fn forget_head(&mut self, context: u32) {
        self.heads.retain(|head| head.context != context);
    }

    /// Heads that waited too long, and were not let go yet.
    pub fn stuck_heads(&mut self, proxy: &impl Proxy, now: Millis) -> Vec<HeldHead> {
        for head in &mut self.heads {
            // The clock may have been set back since.
            head.since = head.since.min(now);
        }
        let stuck = |head: &&HeldHead| !head.released && now >= head.since.saturating_add(HEAD_PATIENCE);
        let stuck: Vec<HeldHead> = self.heads.iter().filter(stuck).cloned().collect();
        if !stuck.is_empty() {
            self.heads_go_until = now.saturating_add(HEADS_GO);
            self.complain(proxy);
        }
        stuck
    }

    /// The head of this context is let go.
    pub fn release_head(&mut self, context: u32) {
        if let Some(head) = self.heads.iter_mut().find(|head| head.context == context) {
            head.released = true;
        }
    }

    fn complain(&mut self, proxy: &impl Proxy) {
        if !std::mem::replace(&mut self.complained, true) {
            proxy.log(Level::Error, SENTENCE);
        }
    }

    /// The stream of this context ends. True: it was denied here.
    pub fn forget(&mut self, context: u32) -> bool {
        let at = self.waiting.iter().position(|follow| follow.context == context);
        at.is_some_and(|at| self.waiting.swap_remove(at).denied)
    }

    /// Contexts, with the ids of their decisions, that waited too long; each is given once.
    pub fn take_overdue(&mut self, proxy: &impl Proxy, now: Millis) -> Vec<(u32, String)> {
        let mut overdue = Vec::new();
        for follow in &mut self.waiting {
            // The clock may have been set back since.
            follow.since = follow.since.min(now);
            if !follow.denied && now >= follow.since.saturating_add(PATIENCE) {
                follow.denied = true;
                overdue.push((follow.context, follow.decision_id.clone()));
            }
        }
        if !overdue.is_empty() {
            self.complain(proxy);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;

    #[test]
    fn a_body_of_which_nothing_comes_is_overdue_once() {
        let (mut awaited, proxy) = (Awaited::default(), Double::default());
        awaited.await_body(1, "a", 1_000);
        awaited.await_body(2, "b", 2_000);
        assert!(awaited.take_overdue(&proxy, 10_999).is_empty());
        assert_eq!(awaited.take_overdue(&proxy, 11_000), [(1, "a".to_owned())]);
        assert_eq!(awaited.take_overdue(&proxy, 12_000), [(2, "b".to_owned())]);
        assert!(awaited.take_overdue(&proxy, 50_000).is_empty() && awaited.complained);
        assert!(awaited.forget(1) && !awaited.forget(1) && !awaited.forget(3));
    }

    #[test]
    fn once_a_body_came_nothing_is_followed() {
        let (mut awaited, proxy) = (Awaited::default(), Double::default());
        awaited.await_body(1, "a", 0);
        awaited.came();
        awaited.await_body(2, "b", 0);
        assert!(awaited.waiting.is_empty() && awaited.take_overdue(&proxy, 100_000).is_empty());
    }

    #[test]
    fn a_head_that_waits_in_vain_is_let_go_and_none_waits_for_a_minute() {
        let (mut awaited, proxy) = (Awaited::default(), Double::default());
        assert!(awaited.hold_head(1, "a", Some(7), || 1_000) && awaited.hold_head(2, "a", None, || 1_500));
        assert!(awaited.stuck_heads(&proxy, 1_999).is_empty());
        let stuck = awaited.stuck_heads(&proxy, 2_000);
        assert_eq!(stuck.iter().map(|head| (head.context, head.sequence)).collect::<Vec<_>>(), [(1, Some(7))]);
        assert!(!stuck[0].is_hopeless(2_000) && stuck[0].is_hopeless(11_000));
        // It is given until it is let go, as its record may not be durable yet.
        assert_eq!(awaited.stuck_heads(&proxy, 2_100).len(), 1);
        awaited.release_head(1);
        assert!(awaited.stuck_heads(&proxy, 2_200).is_empty() && !awaited.hold_head(3, "a", None, || 62_099));
        assert!(awaited.head_is_done(1) && !awaited.known_to_come);
        assert!(awaited.hold_head(4, "a", None, || 62_300));
        awaited.forget_head(2);
        // A body behind a head that waited: from now on all may wait.
        assert!(!awaited.head_is_done(4) && awaited.known_to_come);
        assert!(
            awaited.hold_head(5, "a", None, || unreachable!()) && awaited.stuck_heads(&proxy, 1_000_000).is_empty()
        );
    }

    #[test]
    fn a_head_that_was_let_go_is_remembered_when_another_body_comes() {
        let (mut awaited, proxy) = (Awaited::default(), Double::default());
        assert!(awaited.hold_head(1, "a", None, || 1_000) && awaited.hold_head(2, "b", None, || 1_000));
        assert_eq!(awaited.stuck_heads(&proxy, 2_000).len(), 2);
        awaited.release_head(1);
        awaited.came();
        assert!(awaited.head_is_done(1), "its head has gone, so it can only be reset");
        assert!(!awaited.head_is_done(2) && awaited.heads.is_empty());
    }

    #[test]
    fn what_is_followed_is_bounded_and_outlives_a_clock_that_is_set_back() {
        let (mut awaited, proxy) = (Awaited::default(), Double::default());
        for context in 0..10_000 {
            awaited.await_body(context, "a", 1_000_000);
        }
        assert_eq!(awaited.waiting.len(), MAX_FOLLOWED);
        assert!(awaited.take_overdue(&proxy, 0).is_empty());
        assert_eq!(awaited.take_overdue(&proxy, PATIENCE).len(), MAX_FOLLOWED);
    }
}
