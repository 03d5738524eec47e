//! The writer's rules, without a thread.

use super::*;
use crate::{
    audit::{cursors::CursorName, emitter::Phase, pending::MAX_OPEN},
    certificate::Owner,
    clock::now_micros,
};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

#[test]
fn one_proxy_cannot_make_the_log_compare_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::closed(&dir.path().join("audit.redb"));
    let state = log.reopen().unwrap();
    let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
    let begin = |worker: usize, end: bool| Batch {
        owner: Owner([1; 32]),
        emitter: format!("n/{worker}/b"),
        process: 1,
        end,
        announces: true,
        ..Batch::default()
    };
    let mut refused = 0;
    for commit in 0..20 {
        let mut pending = writer.pending();
        for at in 0..100 {
            let worker = commit * 100 + at;
            refused += usize::from(pending.append(&begin(worker, false)).refusal.is_some());
        }
        let done = writer.write(pending).unwrap();
        writer.take(done);
    }
    assert_eq!((refused, writer.state.open.len()), (2_000 - MAX_OPEN, MAX_OPEN));
    // Another client's are not counted with them, and one that ends makes room.
    let mut pending = writer.pending();
    let other = Batch { owner: Owner([2; 32]), ..begin(9_000, false) };
    assert_eq!(pending.append(&other).refusal, None);
    assert_eq!(pending.append(&begin(9_001, false)).refusal, Some(Refusal::TooManyEmitters));
    assert_eq!(pending.append(&begin(7, true)).refusal, None);
    assert_eq!(pending.append(&begin(9_001, false)).refusal, None);
    let done = writer.write(pending).unwrap();
    writer.take(done);
    assert!(!writer.state.open.contains("n/7/b"));
    // A new process of the proxy closes what the last one left open.
    let mut pending = writer.pending();
    assert_eq!(pending.append(&Batch { process: 2, ..begin(7_000, false) }).refusal, None);
    let done = writer.write(pending).unwrap();
    writer.take(done);
    assert_eq!(
        writer.state.open.iter().filter(|name| name.starts_with("n/")).count(),
        2,
        "its own, and the other client's"
    );
}

#[test]
fn a_proxy_that_never_comes_back_leaves_a_gap_record_for_each_worker_that_did_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::closed(&dir.path().join("audit.redb"));
    let state = log.reopen().unwrap();
    let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
    let announce = |writer: &mut Writer, name: &str, process, end| {
        let mut pending = writer.pending();
        let emitter = name.to_owned();
        pending.append(&Batch { emitter, process, end, announces: true, ..Batch::default() });
        let done = writer.write(pending).unwrap();
        writer.take(done);
    };
    for (name, process, end) in
        [("gone/1/a", 1, false), ("gone/2/b", 1, false), ("gone/3/c", 1, true), ("old/1/a", 0, false)]
    {
        announce(&mut writer, name, process, end);
    }
    let since = now_micros() + 1;
    std::thread::sleep(Duration::from_millis(2));
    // Of this one only the leader gave a sign, but that is one of all its workers.
    announce(&mut writer, "there/1/a", 2, false);
    announce(&mut writer, "there/2/b", 2, false);
    let open = |writer: &Writer| {
        let open = writer.state.emitters.iter().filter(|(_, e): &(&String, &Emitter)| e.phase == Phase::Open);
        open.map(|(name, _)| name.clone()).filter(|name| !name.starts_with("control-plane/")).collect::<Vec<_>>()
    };
    assert!(writer.find_silent(now_micros() + 7 * 3600 * SECOND, Duration::from_secs(60)).is_ok());
    assert_eq!(open(&writer).len(), 5, "the control plane may have been away itself");
    for _ in 0..2 {
        writer.close_silent(since).unwrap();
        assert_eq!(open(&writer), ["old/1/a", "there/1/a", "there/2/b"]);
        assert_eq!(*log.head.borrow(), 2, "one gap record for each");
    }
    // Nor where it ran, but could not write: then nobody could give a sign.
    let now = now_micros() + 7 * 3600 * SECOND;
    writer.well_since = Instant::now().checked_sub(Duration::from_secs(7 * 3600)).unwrap();
    writer.fail(&StoreError::Closed);
    assert!(writer.find_silent(now, writer.well_since.elapsed()).is_ok());
    assert_eq!(open(&writer), ["old/1/a", "there/1/a", "there/2/b"]);
    // It was only away.
    announce(&mut writer, "gone/1/a", 1, false);
    assert!(open(&writer).contains(&"gone/1/a".to_owned()));
}

#[test]
fn what_closed_a_week_ago_is_forgotten_also_where_all_records_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::closed(&dir.path().join("audit.redb"));
    let state = log.reopen().unwrap();
    let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
    let mut pending = writer.pending();
    for (name, end) in [("n/1/a", true), ("n/2/b", false)] {
        pending.append(&Batch { emitter: name.into(), end, announces: true, ..Batch::default() });
    }
    let done = writer.write(pending).unwrap();
    writer.take(done);
    writer.sweep(None);
    assert_eq!(writer.state.emitters.len(), 2, "a late resend is still recognised");
    for emitter in writer.state.emitters.values_mut() {
        emitter.seen -= 8 * DAY;
    }
    writer.sweep(None);
    assert_eq!(writer.state.emitters.keys().collect::<Vec<_>>(), ["n/2/b"]);
    assert_eq!(log.reopen().unwrap().emitters.len(), 1);
}

#[test]
fn a_record_that_a_cursor_has_not_passed_is_kept_for_so_much_longer_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::closed(&dir.path().join("audit.redb"));
    let state = log.reopen().unwrap();
    let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
    // One record a day, the tenth today.
    let today = now_micros();
    for day in (0..10).rev() {
        let mut pending = writer.pending();
        pending.received = today - day * DAY;
        pending.supersede_one(format!("n/{day}/b"), Emitter::default(), 0, String::new());
        let done = writer.write(pending).unwrap();
        writer.take(done);
    }
    writer.retention = Retention::new(&State { received: today, ..State::default() });
    let siem = || "siem".parse::<CursorName>().unwrap();
    let change = |writer: &mut Writer, change: &Change| {
        let at = writer.place(change).unwrap();
        let mut pending = writer.pending();
        pending.change(change, &at).unwrap();
        let done = writer.write(pending).unwrap();
        writer.take(done);
    };
    let advance = |writer: &mut Writer, cursor| {
        let to = Position { log: String::new(), cursor };
        change(writer, &Change::Advance { name: siem(), owner: Owner::default(), to });
    };
    let left = |writer: &mut Writer, records: i64, held: i64| {
        writer.sweep(Some(Keep { records: records * DAY - SECOND, held: held * DAY }));
        while writer.retention.is_busy() {
            writer.delete_some();
        }
        assert_eq!(log.cursors().unwrap(), writer.state.cursors, "what is known is what is durable");
        (log.oldest().unwrap(), writer.state.cursors["siem"].lost())
    };
    change(&mut writer, &Change::Create(siem(), Start::Oldest));
    advance(&mut writer, 3);
    // Of ten days two are kept. The fourth record is six days old, and the first that the cursor has not passed.
    assert_eq!(left(&mut writer, 2, 7), (Some(4), 0));
    assert_eq!(left(&mut writer, 2, 5), (Some(4), 0));
    assert_eq!(left(&mut writer, 2, 3), (Some(6), 2));
    advance(&mut writer, 7);
    assert_eq!(left(&mut writer, 2, 3), (Some(8), 2));
    advance(&mut writer, 10);
    assert_eq!(left(&mut writer, 2, 3), (Some(9), 2), "all are passed, so age alone counts");
}

#[test]
fn a_record_is_read_only_once_it_is_known_which_log_it_is_of() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::closed(&dir.path().join("audit.redb"));
    let state = log.reopen().unwrap();
    let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
    let mut pending = writer.pending();
    pending.append(&Batch { emitter: "n/1/a".into(), announces: true, process: 1, ..Batch::default() });
    pending.append(&Batch { emitter: "n/1/b".into(), announces: true, process: 2, ..Batch::default() });
    let done = writer.write(pending).unwrap();
    let read = || log.read(0, u64::MAX, 10, false).unwrap();
    assert_eq!(read().len(), 0, "committed, and the head does not say so yet");
    writer.take(done);
    let found = read();
    assert_eq!((found.len(), found[0].log.len()), (1, 16));
}
