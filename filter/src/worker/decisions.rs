//! Decisions of a worker, by the policy that it has in force.

use super::Active;
use crate::{
    config::OnStale,
    host::DecisionHost,
    policy_store::Policy,
    proxy::{Level, Proxy},
    subscribe::seconds,
};
use doorward_policy::{
    code::{Code, Denial},
    engine::{self, Answer, Begin, Pending, Unanswered, Verdict},
    request::HttpRequest,
};
use std::rc::Rc;

impl Active {
    /// The policy that decides, or the reason why none does.
    fn deciding(&mut self, proxy: &impl Proxy, now: u64) -> Result<(&Policy, bool), Denial> {
        let Some(policy) = &self.policy else {
            let detail = "No verified policy has reached this proxy yet.";
            return Err(Denial::new(Code::PolicyUnavailable, detail));
        };
        let stale = policy.is_stale(seconds(now));
        if stale && !self.complained {
            self.complained = true;
            proxy.log(Level::Warn, "doorward: the policy in force has expired and no newer one came.");
        }
        if stale && self.config.on_stale == OnStale::Deny {
            let detail = "The policy of this proxy has expired and no newer one has reached it.";
            return Err(Denial::new(Code::PolicyUnavailable, detail));
        }
        Ok((policy, stale))
    }

    /// Decides on the head of a request.
    pub fn begin(&mut self, proxy: &impl Proxy, now_nanos: u64, request: &HttpRequest<'_>) -> Begin {
        self.step(proxy, now_nanos, request, None)
    }

    /// Goes on with a request whose question has its answer, or will have none. The policy in force now decides.
    pub fn answer(
        &mut self,
        proxy: &impl Proxy,
        now_nanos: u64,
        request: &HttpRequest<'_>,
        pending: Unanswered,
        answer: Answer<'_>,
    ) -> Begin {
        self.step(proxy, now_nanos, request, Some((pending, answer)))
    }

    #[inline(never)]
    fn step(
        &mut self,
        proxy: &impl Proxy,
        now_nanos: u64,
        request: &HttpRequest<'_>,
        answer: Option<(Unanswered, Answer<'_>)>,
    ) -> Begin {
        let (tables, stale) = match self.deciding(proxy, now_nanos / 1_000_000) {
            Ok((policy, stale)) => (Rc::clone(&policy.tables), stale),
            Err(denial) => return Begin::Done(Box::new(self.unavailable(proxy, now_nanos, request, denial))),
        };
        let host = DecisionHost { proxy, now_nanos, random: &self.random };
        let (settings, cache) = (&self.settings, &mut self.cache);
        let mut begun = match answer {
            None => engine::begin(&tables, &host, settings, cache, request),
            Some((pending, answer)) => engine::answer(&tables, &host, settings, cache, pending, answer, request),
        };
        if let Begin::Done(verdict) = &mut begun {
            verdict.record.policy_stale = stale;
        }
        begun
    }

    /// Decides on a request whose body is whole (`fits`), or went over its limit.
    #[inline(never)]
    pub fn finish(
        &mut self,
        proxy: &impl Proxy,
        now_nanos: u64,
        pending: Pending,
        request: &HttpRequest<'_>,
        fits: bool,
    ) -> Verdict {
        let (tables, stale) = match self.deciding(proxy, now_nanos / 1_000_000) {
            Ok((policy, stale)) => (Rc::clone(&policy.tables), stale),
            Err(denial) => return self.unavailable(proxy, now_nanos, request, denial),
        };
        let host = DecisionHost { proxy, now_nanos, random: &self.random };
        let request = HttpRequest { body: request.body.filter(|_| fits), ..*request };
        let mut verdict = engine::finish(&tables, &host, &self.settings, &mut self.cache, pending, &request);
        verdict.record.policy_stale = stale;
        verdict
    }

    /// Denies a request about which nothing can be decided.
    #[must_use]
    #[inline(never)]
    pub fn unavailable(
        &self,
        proxy: &impl Proxy,
        now_nanos: u64,
        request: &HttpRequest<'_>,
        denial: Denial,
    ) -> Verdict {
        engine::unavailable(&DecisionHost { proxy, now_nanos, random: &self.random }, request, denial)
    }

    /// Denies a request whose body never came to its end.
    #[must_use]
    pub fn unfinished(
        &self,
        proxy: &impl Proxy,
        pending: &Pending,
        request: &HttpRequest<'_>,
        denial: Denial,
    ) -> Verdict {
        let host = DecisionHost { proxy, now_nanos: proxy.now_nanos(), random: &self.random };
        engine::unfinished(&host, pending, request, denial)
    }
}
