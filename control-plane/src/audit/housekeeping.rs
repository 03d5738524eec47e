//! Which emitters are over: proxies that have been silent for too long, and what closed long ago.

use std::{collections::HashMap, time::Duration};

use super::{
    emitter::{Emitter, OWN, Phase, node},
    state::State,
};

const SECOND: i64 = 1_000_000;
/// How long a closed emitter is remembered, so that a late resend is still recognised.
pub(super) const REMEMBER_MICROS: i64 = 7 * 86_400 * SECOND;
/// A proxy subscribes anew every hour; one that has given no sign for so long, while it could, is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(6 * 3600);

/// Emitters that closed before then. They are forgotten also where all records are kept: of each client only so many emitters
/// are remembered, and every start of a proxy makes new ones.
pub(super) fn closed(state: &State, before: i64) -> Vec<String> {
    let closed = state.emitters.iter();
    let closed = closed.filter(|(name, e)| e.phase != Phase::Open && e.seen < before && name.as_str() != OWN);
    closed.map(|(name, _)| name.clone()).collect()
}

/// Open emitters of proxies of which nothing was heard since then, and what is to be said of each. A proxy that never comes
/// back closes no emitter of its own, so the log says that it is gone. Only those are looked at whose process is known: they
/// announce themselves again and again, also while they have nothing to record.
pub(super) fn silent(state: &State, since: i64) -> Vec<(String, Emitter, String)> {
    let mut newest: HashMap<(&str, u64), i64> = HashMap::new();
    for (name, emitter) in &state.emitters {
        let seen = newest.entry((node(name).unwrap_or(name), emitter.process)).or_insert(i64::MIN);
        *seen = emitter.seen.max(*seen);
    }
    let is_silent = |name: &str, process: u64| {
        process != 0 && newest.get(&(node(name).unwrap_or(name), process)).is_some_and(|seen| *seen < since)
    };
    let silent = state
        .emitters
        .iter()
        .filter(|(name, emitter)| emitter.phase == Phase::Open && is_silent(name, emitter.process));
    silent
        .map(|(name, emitter)| {
            let detail = format!(
                "Nothing was heard of the proxy of emitter {name} for over {} hours, and it had sent no end mark; what it had \
                 not sent is lost, unless it comes back.",
                SILENCE.as_secs() / 3600
            );
            (name.clone(), *emitter, detail)
        })
        .collect()
}
