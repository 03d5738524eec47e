//! Rate limits: the generic cell rate algorithm on one 64-bit state per limit and subject.
//!
//! The state is the theoretical arrival time of the next request in Unix microseconds. It needs no timer, no window
//! and no history, and one compare-and-swap keeps it across the workers of a proxy.

use crate::{
    Name,
    code::{Code, Denial},
    host::Host,
};

/// One rate limit, for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// Names the state: a hash of the role, the limit and the subject.
    pub slot: u64,
    /// Requests per `per_milliseconds`, evenly spread.
    pub requests: u32,
    /// The period.
    pub per_milliseconds: u64,
    /// Requests that may come at once; at least 1.
    pub burst: u32,
    /// The role whose limit this is, for the record.
    pub role: Name,
}

impl LimitRule {
    /// Microseconds between two requests at the steady rate; `None` where no request is allowed at all.
    fn interval(&self) -> Option<u64> {
        self.per_milliseconds.saturating_mul(1000).checked_div(u64::from(self.requests)).map(|micros| micros.max(1))
    }

    /// The state after one more request, or the microseconds until one is allowed.
    fn next(&self, state: Option<u64>, now: u64) -> Result<u64, u64> {
        let Some(interval) = self.interval() else { return Err(self.per_milliseconds.saturating_mul(1000)) };
        let depth = interval.saturating_mul(u64::from(self.burst.max(1)));
        // No legitimate state is later than `now + depth`: after a clock that jumped back, the limit heals at once.
        let arrival = state.unwrap_or(0).max(now).min(now.saturating_add(depth));
        let after = arrival.saturating_add(interval);
        match after.saturating_sub(now).checked_sub(depth) {
            None | Some(0) => Ok(after),
            Some(wait) => Err(wait),
        }
    }
}

/// Counts one request against every rule; none is charged unless all have room.
///
/// # Errors
/// `rate_limited` with the seconds to wait. A host that cannot keep the state denies too.
pub fn take(host: &dyn Host, rules: &[LimitRule], now_millis: u64) -> Result<(), Denial> {
    let now = now_millis.saturating_mul(1000);
    let pass = |charge: bool| {
        for rule in rules {
            let mut wait = None;
            let kept = host.update_limit(rule.slot, &mut |state| match rule.next(state, now) {
                Ok(after) => {
                    wait = None;
                    charge.then_some(after)
                }
                Err(micros) => {
                    wait = Some(micros);
                    None
                }
            });
            if let Some(micros) = wait {
                return Err(denial(micros));
            }
            if !kept {
                return Err(denial(1_000_000));
            }
        }
        Ok(())
    };
    if rules.len() > 1 {
        pass(false)?;
    }
    pass(true)
}

fn denial(micros: u64) -> Denial {
    let seconds = u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1);
    Denial {
        retry_after: Some(seconds),
        ..Denial::new(Code::RateLimited, format!("The rate limit is used up: try again in {seconds} s."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_test_support::TestHost;
    use proptest::prelude::*;

    fn rule(slot: u64, requests: u32, per_milliseconds: u64, burst: u32) -> LimitRule {
        LimitRule { slot, requests, per_milliseconds, burst, role: "r".into() }
    }

    #[test]
    fn a_burst_passes_and_the_next_request_waits_its_turn() {
        let host = TestHost::new().keeping_limits();
        let rules = [rule(1, 60, 60_000, 3)];
        for _ in 0..3 {
            take(&host, &rules, 1_000_000).unwrap();
        }
        let denial = take(&host, &rules, 1_000_000).unwrap_err();
        assert_eq!((denial.code, denial.retry_after), (Code::RateLimited, Some(1)));
        take(&host, &rules, 1_001_000).unwrap();
        take(&host, &rules, 1_001_000).unwrap_err();
    }

    #[test]
    fn a_full_rule_charges_no_other() {
        let host = TestHost::new().keeping_limits();
        let rules = [rule(1, 10, 1000, 5), rule(2, 1, 60_000, 1)];
        take(&host, &rules, 5_000).unwrap();
        let before = host.limits();
        take(&host, &rules, 5_000).unwrap_err();
        assert_eq!(host.limits(), before);
    }

    #[test]
    fn zero_requests_and_a_host_without_state_deny() {
        take(&TestHost::new().keeping_limits(), &[rule(1, 0, 1000, 5)], 9).unwrap_err();
        take(&TestHost::new(), &[rule(1, 5, 1000, 5)], 9).unwrap_err();
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_lock_anyone_out() {
        let host = TestHost::new().keeping_limits();
        let rules = [rule(1, 1, 1000, 1)];
        take(&host, &rules, 9_000_000_000).unwrap();
        assert_eq!(take(&host, &rules, 1_000).unwrap_err().retry_after, Some(1));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_in_any_span(
            requests in 1u32..20, per in 100u64..5_000, burst in 1u32..10, gaps in prop::collection::vec(0u64..400, 1..200),
        ) {
            let host = TestHost::new().keeping_limits();
            let rules = [rule(7, requests, per, burst)];
            let (mut now, mut passed) = (1_000_000u64, Vec::new());
            for gap in gaps {
                now += gap;
                if take(&host, &rules, now).is_ok() {
                    passed.push(now);
                }
            }
            // Slow and obvious: in every span between two passed requests, at most burst + rate × span.
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let allowed = f64::from(burst) + (to - from) as f64 * f64::from(requests) / per as f64 * 1.01;
                    prop_assert!((j - i + 1) as f64 <= allowed + 0.01, "{} > {allowed}", j - i + 1);
                }
            }
        }
    }
}
