//! Denials that come too often for a record each are counted into summed records.
//!
//! Whoever can reach the proxy can be denied as often as they like, and each record costs the log's disk. So of the same
//! denial (source address, code, service, caller) only the first few in a window have records of their own; the others are
//! counted, and a record of kind SUMMARY says at the window's end how many there were, and between when. Callers that nobody
//! identified share one budget of records per second besides, because they can come from many addresses.
//!
//! Allowed CORS preflights are counted like denials: anybody may send them, as often as they like, and no data goes by.
//!
//! Never counted instead of recorded: what else is allowed or passes; and what `audit: required` demands, unless the caller is
//! unidentified and their budget is used up: otherwise anybody could fill the queue, and so deny those whose records have to
//! have a place in it.

use doorward_policy::audit::UNIDENTIFIED;
use doorward_proto::v1::{AuditRecord, RecordDecision, RecordKind, RecordPrincipal, RecordSummary};
use std::collections::HashMap;

/// Length of a window.
const WINDOW_MILLIS: u64 = 10_000;
/// How often the tables are looked through for windows that are over.
const LOOK_MILLIS: u64 = 1_000;
/// Kinds of denials that are told apart in one window, of identified and of unidentified callers each.
const MAX_KINDS: usize = 256;

/// What denials have in common that are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Kind {
    source: String,
    code: String,
    service: String,
    user: String,
    key: String,
    agents: Vec<String>,
}

#[derive(Debug, Default)]
struct Window {
    since: u64,
    in_full: u32,
    summary: Option<AuditRecord>,
}

impl Window {
    /// Over; or its begin is yet to come, so the clock was set back.
    fn is_over(&self, now: u64) -> bool {
        now < self.since || now >= self.since.saturating_add(WINDOW_MILLIS)
    }
}

/// The windows that are open in one worker.
#[derive(Debug)]
pub struct Repeats {
    in_full: u32,
    per_second: u32,
    identified: HashMap<Kind, Window>,
    unidentified: HashMap<Kind, Window>,
    /// Thousandths of records that unidentified callers may still store.
    budget: u64,
    filled_at: u64,
    looked_at: u64,
    /// Denials counted since the last look, for the metrics.
    pub summed: u64,
}

impl Repeats {
    /// Of each kind the first `in_full` in a window are recorded; of unidentified callers not more than `per_second`
    /// altogether, and twice that at once.
    #[must_use]
    pub fn new(in_full: u32, per_second: u32) -> Self {
        Repeats {
            in_full,
            per_second,
            identified: HashMap::new(),
            unidentified: HashMap::new(),
            budget: u64::from(per_second).saturating_mul(2000),
            filled_at: 0,
            looked_at: 0,
            summed: 0,
        }
    }

    /// True if the record was counted, and is not to be stored itself. `required`: policy says `audit: required`.
    pub fn count(&mut self, record: &AuditRecord, required: bool) -> bool {
        let counts = |decision: &&RecordDecision| decision.outcome == "deny" || is_preflight(record, decision);
        let Some(decision) = record.decision.as_ref().filter(counts) else {
            return false;
        };
        let now = u64::try_from(record.time_micros / 1000).unwrap_or(0);
        let kind = kind(record, decision);
        let counted = match is_identified(&kind) {
            true => !required && self.count_identified(kind, record, now),
            false => self.count_unidentified(kind, record, required, now),
        };
        self.summed = self.summed.saturating_add(u64::from(counted));
        counted
    }

    fn count_identified(&mut self, kind: Kind, record: &AuditRecord, now: u64) -> bool {
        // Who is known can be asked: what finds no place in the table has a record of its own.
        if self.identified.len() >= MAX_KINDS && !self.identified.contains_key(&kind) {
            return false;
        }
        let window = open(&mut self.identified, kind, now);
        if window.in_full < self.in_full && window.summary.is_none() {
            window.in_full = window.in_full.saturating_add(1);
            return false;
        }
        sum(window, record, false);
        true
    }

    fn count_unidentified(&mut self, kind: Kind, record: &AuditRecord, required: bool, now: u64) -> bool {
        let affords = self.affords(now);
        let has_place = self.unidentified.len() < MAX_KINDS || self.unidentified.contains_key(&kind);
        // Beyond the table there is one window for each code, and there are few codes.
        let kind = if has_place { kind } else { Kind { code: kind.code, ..Kind::default() } };
        let window = open(&mut self.unidentified, kind, now);
        if affords && (required || window.in_full < self.in_full && window.summary.is_none()) {
            window.in_full = window.in_full.saturating_add(1);
            self.budget = self.budget.saturating_sub(1000);
            return false;
        }
        sum(window, record, !has_place);
        true
    }

    /// Whether unidentified callers may have another record of their own.
    fn affords(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.filled_at);
        let most = u64::from(self.per_second).saturating_mul(2000);
        self.budget = self.budget.saturating_add(passed.saturating_mul(u64::from(self.per_second))).min(most);
        self.filled_at = now;
        self.budget >= 1000
    }

    /// Hands the sums of the windows that are over to `store`, or of all if the worker `ends`. What `store` does not take is
    /// kept, and grows.
    pub fn hand_over(&mut self, now: u64, ends: bool, mut store: impl FnMut(&AuditRecord) -> bool) {
        if !ends && now >= self.looked_at && now < self.looked_at.saturating_add(LOOK_MILLIS) {
            return;
        }
        self.looked_at = now;
        for table in [&mut self.identified, &mut self.unidentified] {
            table.retain(|_, window| {
                let is_due = ends || window.is_over(now);
                !(is_due && window.summary.as_ref().is_none_or(&mut store))
            });
        }
    }
}

/// Whether a CORS preflight was let pass: no dialect takes `OPTIONS`, and what a service in shadow mode lets pass says what
/// would have been.
fn is_preflight(record: &AuditRecord, decision: &RecordDecision) -> bool {
    !record.service.is_empty()
        && decision.would.is_empty()
        && record.asked.as_ref().is_some_and(|asked| asked.method == "OPTIONS")
}

fn kind(record: &AuditRecord, decision: &RecordDecision) -> Kind {
    let principal = record.principal.as_ref();
    Kind {
        source: record.source_address.clone(),
        code: decision.code.clone(),
        service: record.service.clone(),
        user: principal.map(|principal| principal.user.clone()).unwrap_or_default(),
        key: principal.map(|principal| principal.key.clone()).unwrap_or_default(),
        agents: principal.map(|principal| principal.agents.clone()).unwrap_or_default(),
    }
}

/// Whether the caller's credential was good: a record names also the key that was refused.
fn is_identified(kind: &Kind) -> bool {
    let is_named =
        (kind.user != UNIDENTIFIED && !kind.user.is_empty()) || !kind.key.is_empty() || !kind.agents.is_empty();
    is_named && !kind.code.starts_with("credential_")
}

fn open(table: &mut HashMap<Kind, Window>, kind: Kind, now: u64) -> &mut Window {
    let window = table.entry(kind).or_insert_with(|| Window { since: now, ..Window::default() });
    if window.summary.is_none() && window.is_over(now) {
        *window = Window { since: now, ..Window::default() };
    }
    window
}

/// Counts one more. `many`: the window is for whatever has no place of its own, so they have but the code in common.
fn sum(window: &mut Window, record: &AuditRecord, many: bool) {
    let summed = window.summary.get_or_insert_with(|| first(record, many));
    summed.time_micros = record.time_micros;
    if let Some(summary) = &mut summed.summary {
        summary.count = summary.count.saturating_add(1);
        summary.first_micros = summary.first_micros.min(record.time_micros);
        summary.last_micros = summary.last_micros.max(record.time_micros);
    }
}

fn first(record: &AuditRecord, many: bool) -> AuditRecord {
    let decision = record.decision.clone().unwrap_or_default();
    let principal = record.principal.clone().unwrap_or_default();
    let principal = if many {
        RecordPrincipal { user: UNIDENTIFIED.to_owned(), ..RecordPrincipal::default() }
    } else {
        // Each came with a token of its own, perhaps.
        RecordPrincipal { token_id: String::new(), token_sha256: String::new(), ..principal }
    };
    AuditRecord {
        decision_id: record.decision_id.clone(),
        kind: RecordKind::Summary.into(),
        principal: Some(principal),
        service: if many { String::new() } else { record.service.clone() },
        source_address: if many { String::new() } else { record.source_address.clone() },
        decision: Some(RecordDecision {
            outcome: decision.outcome,
            code: decision.code,
            status: decision.status,
            ..RecordDecision::default()
        }),
        summary: Some(RecordSummary { count: 0, first_micros: record.time_micros, last_micros: record.time_micros }),
        bundle_digest: record.bundle_digest.clone(),
        bundle_epoch: record.bundle_epoch,
        policy_stale: record.policy_stale,
        ..AuditRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_proto::v1::RecordRequest;

    const SECOND: i64 = 1_000_000;

    fn denial(source: &str, user: &str, code: &str, at: i64) -> AuditRecord {
        AuditRecord {
            time_micros: 1_800_000_000 * SECOND + at,
            service: "crm".into(),
            source_address: source.into(),
            principal: Some(RecordPrincipal { user: user.into(), token_id: format!("t{at}"), ..Default::default() }),
            decision: Some(RecordDecision { outcome: "deny".into(), code: code.into(), ..Default::default() }),
            ..AuditRecord::default()
        }
    }

    fn millis(at: i64) -> u64 {
        1_800_000_000_000 + u64::try_from(at / 1000).unwrap()
    }

    fn sums(repeats: &mut Repeats, at: i64) -> Vec<AuditRecord> {
        let mut out = Vec::new();
        repeats.hand_over(millis(at), false, |record| {
            out.push(record.clone());
            true
        });
        out
    }

    #[test]
    fn the_first_of_a_kind_have_records_and_the_others_one_sum_at_the_windows_end() {
        let mut repeats = Repeats::new(10, 1000);
        let stored = (0..500).filter(|at| !repeats.count(&denial("a", "ann", "field_denied", *at), false)).count();
        assert_eq!((stored, repeats.summed), (10, 490));
        // Another source, user or code is another kind.
        for other in [("b", "ann", "field_denied"), ("a", "bob", "field_denied"), ("a", "ann", "row_denied")] {
            assert!(!repeats.count(&denial(other.0, other.1, other.2, 600), false));
        }
        assert!(sums(&mut repeats, 9 * SECOND).is_empty());
        let found = sums(&mut repeats, 10 * SECOND);
        assert_eq!(found.len(), 1);
        let (summary, principal) = (found[0].summary.unwrap(), found[0].principal.clone().unwrap());
        assert_eq!((summary.count, summary.last_micros - summary.first_micros), (490, 489));
        assert_eq!((found[0].source_address.as_str(), principal.user.as_str()), ("a", "ann"));
        assert_eq!(principal.token_id, "", "the tokens were several");
        assert_eq!(found[0].kind, i32::from(RecordKind::Summary));
        // A new window begins with records again.
        assert!(!repeats.count(&denial("a", "ann", "field_denied", 11 * SECOND), false));
        assert!(sums(&mut repeats, 60 * SECOND).is_empty() && repeats.identified.is_empty());
    }

    #[test]
    fn what_is_allowed_or_passes_or_is_required_of_an_identified_caller_is_never_summed() {
        let mut repeats = Repeats::new(1, 1);
        for at in 0..1000 {
            assert!(!repeats.count(&denial("a", "ann", "field_denied", at), true));
            let mut allowed = denial("a", UNIDENTIFIED, "", at);
            for outcome in ["allow", "rewrite"] {
                allowed.decision.as_mut().unwrap().outcome = outcome.into();
                assert!(!repeats.count(&allowed, false));
            }
            assert!(!repeats.count(&AuditRecord::default(), false), "responses and gaps");
        }
    }

    #[test]
    fn unidentified_callers_share_one_budget_however_many_addresses_they_have() {
        let mut repeats = Repeats::new(10, 50);
        let (mut stored, mut required) = (0, 0);
        for at in 0..100_000 {
            // Ten seconds.
            let record = denial(&format!("source-{at}"), UNIDENTIFIED, "credential_missing", at * 100);
            stored += usize::from(!repeats.count(&record, false));
            required += usize::from(!repeats.count(&record, true));
        }
        assert!((500..=610).contains(&(stored + required)), "{stored} {required}");
        assert!(repeats.unidentified.len() <= MAX_KINDS + 1);
        // None is lost, and what is left of the table is in one sum.
        let found = sums(&mut repeats, 30 * SECOND);
        let total: u64 = found.iter().map(|record| record.summary.unwrap().count).sum();
        assert_eq!(total, 200_000 - (stored + required) as u64);
        assert_eq!(total, repeats.summed);
        assert!(found.iter().any(|record| record.source_address.is_empty() && record.summary.unwrap().count > 100));
    }

    #[test]
    fn preflights_share_the_budget_of_unidentified_callers() {
        let mut repeats = Repeats::new(10, 50);
        let preflight = |at: i64| {
            let mut record = denial(&format!("source-{at}"), UNIDENTIFIED, "", at * 100);
            record.decision.as_mut().unwrap().outcome = "rewrite".into();
            record.asked = Some(RecordRequest { method: "OPTIONS".into(), ..RecordRequest::default() });
            record
        };
        let stored = (0..100_000).filter(|at| !repeats.count(&preflight(*at), *at % 2 == 0)).count();
        assert!((500..=610).contains(&stored), "{stored}");
        let found = sums(&mut repeats, 30 * SECOND);
        assert_eq!(found.iter().map(|record| record.summary.unwrap().count).sum::<u64>(), 100_000 - stored as u64);
        assert!(found.iter().all(|record| record.decision.as_ref().unwrap().outcome == "rewrite"));
        // What a service in shadow mode lets pass is no preflight, whatever its method; nor is what no service matches.
        for at in 0..1000 {
            let (mut shadow, mut passes) = (preflight(at), preflight(at));
            shadow.decision.as_mut().unwrap().would = "would_deny".into();
            passes.service.clear();
            assert!(!repeats.count(&shadow, false) && !repeats.count(&passes, false));
        }
    }

    #[test]
    fn a_key_that_was_refused_identifies_nobody() {
        let mut record = denial("a", UNIDENTIFIED, "credential_revoked", 0);
        record.principal.as_mut().unwrap().key = "old".into();
        let mut repeats = Repeats::new(1, 1000);
        assert!(!repeats.count(&record, false) && repeats.count(&record, false));
        assert_eq!((repeats.unidentified.len(), repeats.identified.len()), (1, 0));
        record.decision.as_mut().unwrap().code = "field_denied".into();
        assert!(!repeats.count(&record, true) && !repeats.count(&record, true));
    }

    #[test]
    fn a_sum_that_finds_no_room_is_kept_and_grows_and_the_end_takes_all() {
        let mut repeats = Repeats::new(1, 1000);
        for at in 0..3 {
            repeats.count(&denial("a", "ann", "field_denied", at), false);
        }
        repeats.hand_over(millis(20 * SECOND), false, |_| false);
        assert!(repeats.count(&denial("a", "ann", "field_denied", 21 * SECOND), false));
        let found = sums(&mut repeats, 22 * SECOND);
        assert_eq!(found[0].summary.unwrap().count, 3);
        repeats.count(&denial("a", "ann", "field_denied", 23 * SECOND), false);
        repeats.count(&denial("a", "ann", "field_denied", 23 * SECOND), false);
        let mut left = 0;
        repeats.hand_over(millis(23 * SECOND), true, |_| {
            left += 1;
            true
        });
        assert_eq!(left, 1);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_window() {
        let mut repeats = Repeats::new(1, 1000);
        repeats.count(&denial("a", "ann", "field_denied", 3600 * SECOND), false);
        repeats.count(&denial("a", "ann", "field_denied", 3600 * SECOND), false);
        assert_eq!(sums(&mut repeats, 0).len(), 1);
    }
}
