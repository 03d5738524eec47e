//! The workers of this proxy, as shared data knows them: each VM has a number and shows every second that it lives.
//!
//! A VM that crashes takes its unsent records with it and can tell nobody. The leader sees that its slot stands still, and
//! records that an emitter is lost. Only the leader's own ticks are counted, never the clock: where the whole process was
//! suspended, or the clock was set, nobody is taken for dead.

use crate::proxy::Proxy;

/// Beats and rounds come every so many ticks.
const TICKS: u32 = 10;
/// A slot that stands still for so many rounds belongs to a dead VM.
const ROUNDS: u32 = 10;
/// Slots that are looked at.
const MAX_SLOTS: u32 = 1024;
/// Longest value that this code writes; anything longer is none of ours.
pub const MAX_VALUE: usize = 2048;
const COUNT: &str = "doorward/workers";
const PROCESS: &str = "doorward/process";

/// An emitter whose VM died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its name.
    pub emitter: String,
    /// It had numbered at least so many records.
    pub sequence: u64,
}

/// A worker's view of all slots, its own among them.
#[derive(Clone, Debug)]
pub struct Slots {
    scope: String,
    number: u32,
    beats: u64,
    ticks: u32,
    /// What each slot held at the last round, and for how many rounds that has not changed.
    seen: Vec<(Vec<u8>, u32)>,
}

/// What all VMs of this process call it, in 16 hex digits: shared data ends with the process, so the next one has another.
/// Empty where shared data does not work.
#[must_use]
pub fn process(proxy: &impl Proxy) -> String {
    for _ in 0..8 {
        let present = proxy.get_shared(PROCESS).ok().flatten();
        if let Some((value, _)) = &present
            && value.len() == 8
        {
            return value.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        let mut mine = [0_u8; 8];
        if proxy.random(&mut mine).is_err() {
            break;
        }
        // Whether this VM or another was first, the next look tells.
        let _ = proxy.set_shared(PROCESS, &mine, present.map(|(_, cas)| cas));
    }
    String::new()
}

fn key(number: u32) -> String {
    format!("doorward/worker/{number}")
}

/// Beats, sequence, scope, emitter: the names end with a newline, which neither can hold.
fn encode(beats: u64, sequence: u64, scope: &str, emitter: &str) -> Vec<u8> {
    [beats.to_le_bytes().as_slice(), &sequence.to_le_bytes(), scope.as_bytes(), b"\n", emitter.as_bytes(), b"\n"]
        .concat()
}

fn decode(value: &[u8]) -> Option<(u64, &str, &str)> {
    let names = std::str::from_utf8(value.get(16..)?).ok()?.strip_suffix('\n')?;
    let (scope, emitter) = names.split_once('\n')?;
    Some((u64::from_le_bytes(value.get(8..16)?.try_into().ok()?), scope, emitter))
}

impl Slots {
    /// No slot yet. A VM that is only a trial of Envoy's never takes one, so it cannot be missed.
    #[must_use]
    pub fn new(scope: &str) -> Self {
        Slots { scope: scope.to_owned(), number: 0, beats: 0, ticks: 0, seen: Vec::new() }
    }

    /// Takes the first free slot; its number is the worker's. 0: shared data does not work.
    pub fn take(&mut self, proxy: &impl Proxy, name: impl Fn(u32) -> String) -> u32 {
        let count = match proxy.get_shared(COUNT) {
            Ok(present) => count(present.as_ref()).min(MAX_SLOTS),
            Err(_) => return 0,
        };
        for number in 1..=count {
            let Ok(present) = proxy.get_shared(&key(number)) else { continue };
            if present.as_ref().is_none_or(|(value, _)| value.is_empty())
                && self.write(proxy, number, &name(number), 0, present.map(|(_, cas)| cas))
            {
                return number;
            }
        }
        let Some(number) = one_more(proxy) else { return 0 };
        let cas = proxy.get_shared(&key(number)).ok().flatten().map(|(_, cas)| cas);
        if self.write(proxy, number, &name(number), 0, cas) { number } else { 0 }
    }

    fn write(&mut self, proxy: &impl Proxy, number: u32, emitter: &str, sequence: u64, cas: Option<u32>) -> bool {
        let value = encode(self.beats, sequence, &self.scope, emitter);
        let written = value.len() <= MAX_VALUE && proxy.set_shared(&key(number), &value, cas).is_ok();
        if written {
            self.number = number;
        }
        written
    }

    /// Counts a tick; true at each round.
    pub fn tick(&mut self) -> bool {
        self.ticks = self.ticks.saturating_add(1);
        let round = self.ticks >= TICKS;
        if round {
            self.ticks = 0;
        }
        round
    }

    /// Shows that this worker lives, and how many records it has numbered.
    pub fn beat(&mut self, proxy: &impl Proxy, emitter: &str, sequence: u64) {
        if self.number == 0 {
            return;
        }
        self.beats = self.beats.saturating_add(1);
        let Ok(present) = proxy.get_shared(&key(self.number)) else { return };
        let free = present.as_ref().is_none_or(|(value, _)| value.is_empty());
        if free || present.as_ref().is_some_and(|(value, _)| self.is_own(value, emitter)) {
            self.write(proxy, self.number, emitter, sequence, present.map(|(_, cas)| cas));
        } else {
            // This worker stood still for so long that it was taken for dead, and another has its slot.
            self.number = 0;
            let name = emitter.to_owned();
            self.take(proxy, |_| name.clone());
        }
    }

    /// An emitter that starts a new chain keeps its boot id and gets a generation behind it.
    fn is_own(&self, value: &[u8], emitter: &str) -> bool {
        let boot = |name: &str| name.rsplit('/').next().and_then(|boot| boot.split('.').next()).map(str::to_owned);
        decode(value).is_some_and(|(_, scope, holder)| scope == self.scope && boot(holder) == boot(emitter))
    }

    /// Gives the slot back: whoever comes next may have its number.
    pub fn release(&mut self, proxy: &impl Proxy, emitter: &str) {
        if let Ok(Some((value, cas))) = proxy.get_shared(&key(self.number))
            && self.is_own(&value, emitter)
        {
            let _ = proxy.set_shared(&key(self.number), &[], Some(cas));
        }
        self.number = 0;
    }

    /// One round of the leader over the slots of its scope. Gives an emitter whose slot has stood still for too long, and
    /// frees that slot, so that no other worker finds it again.
    pub fn round(&mut self, proxy: &impl Proxy) -> Option<Lost> {
        let count = count(proxy.get_shared(COUNT).ok()?.as_ref()).min(MAX_SLOTS);
        self.seen.resize(usize::try_from(count).unwrap_or(0), (Vec::new(), 0));
        let mut lost = None;
        for (number, (before, rounds)) in (1..=count).zip(&mut self.seen) {
            let Ok(Some((value, cas))) = proxy.get_shared(&key(number)) else { continue };
            if number == self.number || value.len() > MAX_VALUE || value != *before {
                *rounds = 0;
                *before = value;
                before.truncate(MAX_VALUE);
                continue;
            }
            let Some((sequence, scope, emitter)) = decode(&value) else { continue };
            *rounds = rounds.saturating_add(1);
            if *rounds >= ROUNDS
                && scope == self.scope
                && !emitter.contains(char::is_control)
                && lost.is_none()
                && proxy.set_shared(&key(number), &[], Some(cas)).is_ok()
            {
                lost = Some(Lost { emitter: emitter.to_owned(), sequence });
            }
        }
        lost
    }
}

fn count(present: Option<&(Vec<u8>, u32)>) -> u32 {
    present.and_then(|(bytes, _)| bytes.as_slice().try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Counts one slot more; the count is its number.
fn one_more(proxy: &impl Proxy) -> Option<u32> {
    for _ in 0..64 {
        let present = proxy.get_shared(COUNT).ok()?;
        let mine = count(present.as_ref()).saturating_add(1);
        if proxy.set_shared(COUNT, &mine.to_le_bytes(), present.map(|(_, cas)| cas)).is_ok() {
            return Some(mine);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;

    fn worker(proxy: &Double, boot: &str) -> (Slots, String) {
        let mut slots = Slots::new("default");
        let number = slots.take(proxy, |number| format!("n/{number}/{boot}"));
        (slots, format!("n/{number}/{boot}"))
    }

    #[test]
    fn a_worker_that_stands_still_is_reported_once_with_what_it_had_numbered() {
        let proxy = Double::default();
        let ((mut leader, lead), (mut dead, name)) = (worker(&proxy, "a"), worker(&proxy, "b"));
        assert_eq!((lead.as_str(), name.as_str()), ("n/1/a", "n/2/b"));
        dead.beat(&proxy, &name, 7);
        for _ in 0..ROUNDS {
            leader.beat(&proxy, &lead, 1);
            assert_eq!(leader.round(&proxy), None);
        }
        assert_eq!(leader.round(&proxy), Some(Lost { emitter: name, sequence: 7 }));
        assert!((0..30).all(|_| leader.round(&proxy).is_none()));
        assert_eq!(worker(&proxy, "c").1, "n/2/c", "its number is free again");
    }

    #[test]
    fn a_worker_that_beats_is_never_lost_and_one_that_ended_is_not_missed() {
        let proxy = Double::default();
        let ((mut leader, _), (mut other, name), (mut ended, last)) =
            (worker(&proxy, "a"), worker(&proxy, "b"), worker(&proxy, "c"));
        ended.release(&proxy, &last);
        for sequence in 0..40 {
            other.beat(&proxy, &name, sequence);
            assert_eq!(leader.round(&proxy), None);
        }
    }

    #[test]
    fn two_leaders_one_after_the_other_report_a_loss_once() {
        let proxy = Double::default();
        let ((mut first, _), (mut second, _), _dead) = (worker(&proxy, "a"), worker(&proxy, "b"), worker(&proxy, "c"));
        let mut lost = Vec::new();
        for at in 0..40 {
            first.beat(&proxy, "n/1/a", at);
            second.beat(&proxy, "n/2/b", at);
            lost.extend(first.round(&proxy));
            lost.extend(second.round(&proxy));
        }
        assert_eq!(lost, [Lost { emitter: "n/3/c".into(), sequence: 0 }]);
    }

    #[test]
    fn all_workers_of_a_process_know_it_by_one_name() {
        let proxy = Double::default();
        proxy.put_shared(PROCESS, b"junk of another plugin").unwrap();
        let name = process(&proxy);
        assert!(name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert_eq!(process(&proxy), name);
    }

    #[test]
    fn slots_of_another_scope_and_foreign_bytes_are_left_alone() {
        let proxy = Double::default();
        let mut foreign = Slots::new("other");
        foreign.take(&proxy, |number| format!("n/{number}/x"));
        let (mut leader, _) = worker(&proxy, "a");
        one_more(&proxy);
        proxy.put_shared("doorward/worker/3", &[0xff; 40]).unwrap();
        proxy.put_shared(COUNT, &u32::MAX.to_le_bytes()).unwrap();
        assert!((0..30).all(|_| leader.round(&proxy).is_none()));
    }

    #[test]
    fn a_worker_taken_for_dead_takes_a_slot_again() {
        let proxy = Double::default();
        let ((mut leader, _), (mut slow, name)) = (worker(&proxy, "a"), worker(&proxy, "b"));
        let lost: Vec<Lost> = (0..20).filter_map(|_| leader.round(&proxy)).collect();
        assert_eq!(lost.len(), 1);
        let (_new, _) = worker(&proxy, "c");
        slow.beat(&proxy, &name, 3);
        assert_eq!(slow.number, 3);
        // A new generation of its emitter is still the same worker.
        slow.beat(&proxy, "n/2/b.1", 4);
        assert_eq!(slow.number, 3);
    }
}
