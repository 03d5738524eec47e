//! The worker's records on their way to the control plane: numbered, chained, kept until they are acknowledged as durable.

use crate::{link::Link, proxy::Proxy};
use doorward_policy::audit::{Chain, Sealed, bounds::MAX_RECORD_BYTES, gap};
use doorward_proto::v1::{AuditAck, AuditBatch, AuditRecord};
use prost::Message;
use std::collections::VecDeque;

/// Bounds of one batch.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;
/// Records that nobody waits for are sent at the tick, or once this many are unsent.
const EAGER_RECORDS: usize = BATCH_RECORDS;
/// A stream that acknowledges nothing for this long while something is unacknowledged is dead.
const SILENCE_MILLIS: u64 = 30_000;
/// After so many refusals in a row, the emitter starts anew under another name: the control plane lost its place.
const MAX_REFUSALS: u32 = 3;

/// Responses wait for their record at most this long.
pub const ACKNOWLEDGE_MILLIS: u64 = 10_000;

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}

/// A response that waits for its record to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Number of the record.
    pub sequence: u64,
    /// Context of the response.
    pub context: u32,
    /// Id of the decision, for the answer if it waits in vain.
    pub decision_id: String,
    /// Unix milliseconds until which it waits.
    pub deadline: u64,
}

/// One ordered sequence of records.
#[derive(Debug)]
pub struct Emitter {
    node: String,
    worker: u32,
    boot: String,
    process: String,
    generation: u32,
    chain: Chain,
    /// Unacknowledged, oldest first, without holes.
    queue: VecDeque<Sealed>,
    bytes: usize,
    /// How many of them went out on the present stream.
    sent: usize,
    lost: u64,
    limits: Limits,
    waiters: Vec<Waiter>,
    acknowledged: u64,
    refusals: u32,
    heard_at: u64,
    link: Link,
    /// The control plane was told of this emitter, and will miss it if it ends without a word, also if it has no records.
    pub is_noted: bool,
    /// Counters for the metrics: acknowledged and lost records since the last look.
    pub counts: Counts,
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records acknowledged as durable.
    pub acknowledged: u64,
    /// Records that found the queue full.
    pub lost: u64,
    /// Denials that were counted into a sum instead of having records of their own.
    pub summed: u64,
}

impl Emitter {
    /// An emitter named `node/worker/boot`.
    #[must_use]
    pub fn new(node: &str, worker: u32, boot: &str, limits: Limits) -> Self {
        Emitter {
            node: node.to_owned(),
            worker,
            boot: boot.to_owned(),
            process: String::new(),
            generation: 0,
            chain: Chain::new(format!("{node}/{worker}/{boot}")),
            queue: VecDeque::new(),
            bytes: 0,
            sent: 0,
            lost: 0,
            limits,
            waiters: Vec::new(),
            acknowledged: 0,
            refusals: 0,
            heard_at: 0,
            link: Link::new("doorward.v1.AuditIngest", "Report"),
            is_noted: false,
            counts: Counts::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.chain.emitter()
    }

    /// How many records it has numbered.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        self.chain.sequence()
    }

    /// Gives the emitter its worker's number, and the process of the proxy, which are not known until the VM has work. Once
    /// there are records, the name stays.
    pub fn set_worker(&mut self, worker: u32, process: &str) {
        process.clone_into(&mut self.process);
        if self.chain.sequence() == 0 {
            self.worker = worker;
            self.chain = Chain::new(format!("{}/{worker}/{}", self.node, self.boot));
        }
    }

    /// True if the record's place in the queue is there. A required record has to find one; that is asked before the
    /// decision is carried out.
    #[must_use]
    pub fn has_room(&self, record: &AuditRecord) -> bool {
        // The gap record that may have to go first, and what sealing adds (emitter, number, hash).
        let extra = usize::from(self.lost > 0);
        if self.queue.len() + extra >= self.limits.records {
            return false;
        }
        // A record is measured only where it might not fit: that costs about as much as encoding it.
        self.bytes.saturating_add(MAX_RECORD_BYTES) <= self.limits.bytes
            || self.bytes.saturating_add(record.encoded_len() + 256 * (extra + 1)) <= self.limits.bytes
    }

    /// Queues a record, and gives its number. `None`: the queue is full; the record is counted as lost, and a gap record
    /// will say so.
    pub fn offer(&mut self, record: AuditRecord) -> Option<u64> {
        if !self.has_room(&record) {
            self.lost = self.lost.saturating_add(1);
            self.counts.lost = self.counts.lost.saturating_add(1);
            return None;
        }
        if self.lost > 0 {
            let missing = std::mem::take(&mut self.lost);
            self.append(gap(record.time_micros, missing, "queue_full"));
        }
        Some(self.append(record))
    }

    fn append(&mut self, record: AuditRecord) -> u64 {
        let sealed = self.chain.seal(record);
        let sequence = sealed.sequence;
        self.bytes = self.bytes.saturating_add(sealed.bytes.len());
        self.queue.push_back(sealed);
        sequence
    }

    /// Unacknowledged records.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    /// True if what is unsent does not wait for the tick: it fills a batch, or a response waits for its record.
    ///
    /// Few large batches are much cheaper for the host than many small ones, which is what answering every
    /// acknowledgement with a batch comes to.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        let unsent = self.queue.len().saturating_sub(self.sent);
        unsent >= EAGER_RECORDS || unsent > 0 && !self.waiters.is_empty()
    }

    /// True if the record of this number is durable.
    #[must_use]
    pub fn is_durable(&self, sequence: u64) -> bool {
        sequence <= self.acknowledged
    }

    /// Makes a response wait for its record.
    pub fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    /// The stream of `context` is gone.
    pub fn forget(&mut self, context: u32) {
        self.waiters.retain(|waiter| waiter.context != context);
    }

    /// Responses that waited too long; also where the clock was set back, so that their time would not come.
    pub fn take_overdue(&mut self, now: u64) -> Vec<Waiter> {
        let latest = now.saturating_add(ACKNOWLEDGE_MILLIS);
        self.take_waiters(|waiter| waiter.deadline <= now || waiter.deadline > latest)
    }

    fn take_waiters(&mut self, due: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        let (taken, kept) = std::mem::take(&mut self.waiters).into_iter().partition(due);
        self.waiters = kept;
        taken
    }

    /// The next batch of unsent records; empty: there are none.
    fn next_batch(&mut self, end: bool) -> Option<AuditBatch> {
        let mut records = Vec::new();
        let (mut bytes, mut last_hash) = (0_usize, Vec::new());
        for sealed in self.queue.iter().skip(self.sent).take(BATCH_RECORDS) {
            bytes = bytes.saturating_add(sealed.bytes.len());
            if bytes > BATCH_BYTES && !records.is_empty() {
                break;
            }
            records.push(sealed.bytes.clone());
            last_hash = sealed.hash.to_vec();
        }
        self.sent += records.len();
        let end = end && self.sent == self.queue.len();
        (end || !records.is_empty()).then(|| AuditBatch {
            emitter: self.chain.emitter().to_owned(),
            records,
            last_hash,
            node: self.node.clone(),
            end,
            process: self.process.clone(),
        })
    }

    /// Sends what is unsent, opening the stream if there is need and its time has come. The effective context must be the
    /// root's.
    pub fn flush(&mut self, proxy: &impl Proxy, cluster: &str, now: u64) {
        if self.queue.is_empty() {
            // Its end mark goes only over a stream that is open when the VM ends.
            if self.is_noted && self.link.open(proxy, cluster, now) {
                self.sent = 0;
            }
            self.heard_at = now;
            return;
        }
        // The clock may have been set back since.
        self.heard_at = self.heard_at.min(now);
        if self.link.is_open() && self.sent > 0 && now > self.heard_at.saturating_add(SILENCE_MILLIS) {
            self.closed(proxy, now);
        }
        if self.link.open(proxy, cluster, now) {
            self.sent = 0;
            self.heard_at = now;
        }
        while self.link.is_open() {
            let Some(batch) = self.next_batch(false) else { break };
            self.link.send(proxy, &batch.encode_to_vec(), now);
        }
    }

    /// The VM ends: says so, so that the control plane knows that nothing is missing. False: records are left that could
    /// not be sent.
    pub fn end(&mut self, proxy: &impl Proxy, cluster: &str, now: u64) -> bool {
        self.flush(proxy, cluster, now);
        if self.link.is_open()
            && let Some(batch) = self.next_batch(true)
        {
            self.link.send(proxy, &batch.encode_to_vec(), now);
            return true;
        }
        self.queue.is_empty()
    }

    /// True if this is the stream's token.
    #[must_use]
    pub fn is(&self, token: u32) -> bool {
        self.link.is(token)
    }

    /// The stream is closed: everything unacknowledged goes out again on the next one.
    pub fn closed(&mut self, proxy: &impl Proxy, now: u64) {
        self.link.close(proxy, now);
        self.sent = 0;
    }

    /// As [`Emitter::closed`], by the other side, with this status of gRPC.
    pub fn closed_by_host(&mut self, proxy: &impl Proxy, cluster: &str, status: u32, now: u64) {
        self.link.closed_by_host(proxy, cluster, status, now);
        self.sent = 0;
    }

    /// An acknowledgement came. Gives the responses that may go on.
    pub fn receive(&mut self, proxy: &impl Proxy, message: &[u8], now: u64) -> Vec<Waiter> {
        self.heard_at = now;
        let Ok(ack) = AuditAck::decode(message) else {
            self.closed(proxy, now);
            return Vec::new();
        };
        if ack.emitter != self.chain.emitter() {
            return Vec::new();
        }
        while let Some(sealed) = self.queue.front().filter(|sealed| sealed.sequence <= ack.sequence) {
            self.acknowledged = sealed.sequence;
            self.bytes = self.bytes.saturating_sub(sealed.bytes.len());
            self.sent = self.sent.saturating_sub(1);
            self.counts.acknowledged = self.counts.acknowledged.saturating_add(1);
            self.refusals = 0;
            self.queue.pop_front();
        }
        if ack.error.is_empty() {
            self.link.heard(proxy);
        } else {
            // Backs off, and sends again from the first record that is not durable.
            self.closed(proxy, now);
            self.refusals = self.refusals.saturating_add(1);
            if self.refusals >= MAX_REFUSALS && ack.error != "storage_unavailable" {
                self.start_anew();
            }
        }
        let acknowledged = self.acknowledged;
        self.take_waiters(|waiter| waiter.sequence <= acknowledged)
    }

    /// Gives what is unacknowledged a new emitter name and a new chain, because the control plane cannot go on with the old
    /// one (it lost its storage, say). It sees the old one end without a mark, and says so in its log.
    fn start_anew(&mut self) {
        self.generation = self.generation.saturating_add(1);
        let name = format!("{}/{}/{}.{}", self.node, self.worker, self.boot, self.generation);
        let first = self.queue.front().map_or(1, |sealed| sealed.sequence);
        self.chain = Chain::new(name);
        self.bytes = 0;
        let old = std::mem::take(&mut self.queue);
        for sealed in old {
            // What this emitter encoded it can decode; were it not so, the next chain would show it by its count.
            self.append(AuditRecord::decode(sealed.bytes.as_slice()).unwrap_or_default());
        }
        for waiter in &mut self.waiters {
            waiter.sequence = waiter.sequence.saturating_sub(first).saturating_add(1);
        }
        self.acknowledged = 0;
        self.refusals = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::Double;
    use doorward_policy::audit::link;

    fn emitter(records: usize) -> Emitter {
        Emitter::new("n", 1, "b", Limits { records, bytes: 1 << 20 })
    }

    fn record(text: &str) -> AuditRecord {
        AuditRecord { decision_id: text.into(), ..Default::default() }
    }

    fn ack(emitter: &Emitter, sequence: u64, error: &str) -> Vec<u8> {
        AuditAck { emitter: emitter.chain.emitter().into(), sequence, error: error.into() }.encode_to_vec()
    }

    #[test]
    fn a_batch_carries_the_hash_of_its_last_record_and_follows_the_one_before() {
        let mut emitter = emitter(1000);
        for _ in 0..300 {
            emitter.offer(record("x"));
        }
        let (first, second) = (emitter.next_batch(false).unwrap(), emitter.next_batch(false).unwrap());
        assert_eq!((first.records.len(), second.records.len()), (256, 44));
        assert!(emitter.next_batch(false).is_none());
        let mut hash = [0; 32];
        for bytes in first.records.iter().chain(&second.records) {
            assert_eq!(AuditRecord::decode(bytes.as_slice()).unwrap().previous_hash, hash);
            hash = link(&hash, bytes);
        }
        assert_eq!(second.last_hash, hash);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_on_a_new_stream() {
        let mut emitter = emitter(10);
        for _ in 0..5 {
            emitter.offer(record("x"));
        }
        emitter.next_batch(false);
        emitter.receive(&Double::default(), &ack(&emitter, 3, ""), 0);
        emitter.closed(&Double::default(), 0);
        assert_eq!(emitter.next_batch(false).unwrap().records.len(), 2);
    }

    #[test]
    fn a_full_queue_loses_records_and_says_how_many_in_the_next_one() {
        let mut emitter = emitter(2);
        assert_eq!((emitter.offer(record("a")), emitter.offer(record("b"))), (Some(1), Some(2)));
        assert_eq!((emitter.offer(record("c")), emitter.offer(record("d"))), (None, None));
        emitter.receive(&Double::default(), &ack(&emitter, 2, ""), 0);
        assert_eq!(emitter.offer(record("e")), Some(4));
        let gap = AuditRecord::decode(emitter.queue[0].bytes.as_slice()).unwrap();
        assert_eq!((gap.gap, gap.gap_reason.as_str()), (2, "queue_full"));
        assert_eq!(emitter.counts, Counts { acknowledged: 2, lost: 2, summed: 0 });
    }

    #[test]
    fn responses_go_on_when_their_record_is_durable_and_not_before() {
        let mut emitter = emitter(10);
        let (a, b) = (emitter.offer(record("a")).unwrap(), emitter.offer(record("b")).unwrap());
        let waiter = |sequence, context| Waiter { sequence, context, decision_id: String::new(), deadline: 500 };
        emitter.wait(waiter(a, 11));
        emitter.wait(waiter(b, 12));
        assert_eq!(emitter.receive(&Double::default(), &ack(&emitter, 1, ""), 0), [waiter(a, 11)]);
        assert!(emitter.is_durable(a) && !emitter.is_durable(b));
        assert!(emitter.take_overdue(499).is_empty());
        let mut set_back = emitter.waiters.clone();
        set_back[0].deadline = 1_000_000;
        std::mem::swap(&mut emitter.waiters, &mut set_back);
        assert_eq!(emitter.take_overdue(0).len(), 1, "the clock was set back");
        emitter.waiters = set_back;
        assert_eq!(emitter.take_overdue(500), [waiter(b, 12)]);
        let foreign = AuditAck { emitter: "other".into(), sequence: 9, error: String::new() }.encode_to_vec();
        assert!(emitter.receive(&Double::default(), &foreign, 0).is_empty());
        assert_eq!(emitter.depth(), 1);
    }

    #[test]
    fn an_emitter_that_is_refused_for_good_starts_a_new_chain_with_what_is_left() {
        let mut emitter = emitter(10);
        for text in ["a", "b", "c"] {
            emitter.offer(record(text));
        }
        emitter.receive(&Double::default(), &ack(&emitter, 1, ""), 0);
        emitter.wait(Waiter { sequence: 3, context: 7, decision_id: String::new(), deadline: 500 });
        for _ in 0..3 {
            emitter.receive(&Double::default(), &ack(&emitter, 0, "hole"), 0);
        }
        assert_eq!(emitter.chain.emitter(), "n/1/b.1");
        let batch = emitter.next_batch(false).unwrap();
        let first = AuditRecord::decode(batch.records[0].as_slice()).unwrap();
        assert_eq!((first.sequence, first.decision_id.as_str()), (1, "b"));
        assert!(!emitter.is_durable(2));
        let released = emitter.receive(&Double::default(), &ack(&emitter, 2, ""), 0);
        assert_eq!(released.iter().map(|waiter| waiter.context).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_record_waits_for_the_tick_unless_a_batch_is_full_or_a_response_waits() {
        let mut emitter = emitter(1000);
        assert!(!emitter.is_eager());
        for _ in 0..BATCH_RECORDS {
            assert!(!emitter.is_eager());
            emitter.offer(record("x"));
        }
        assert!(emitter.is_eager());
        emitter.next_batch(false);
        emitter.offer(record("y"));
        assert!(!emitter.is_eager());
        emitter.wait(Waiter { sequence: 1, context: 7, decision_id: String::new(), deadline: 500 });
        assert!(emitter.is_eager());
    }

    #[test]
    fn storage_trouble_never_ends_a_chain() {
        let mut emitter = emitter(10);
        emitter.offer(record("a"));
        for _ in 0..10 {
            emitter.receive(&Double::default(), &ack(&emitter, 0, "storage_unavailable"), 0);
        }
        assert_eq!(emitter.chain.emitter(), "n/1/b");
    }
}
