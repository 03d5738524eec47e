use std::{cell::RefCell, convert::Infallible, rc::Rc};

use proptest::prelude::*;

use super::*;

/// The ConfigMap, and who else writes there.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<(Option<Record>, u64)>>);

impl Shelf for Board {
    type Problem = Infallible;

    fn load(&mut self) -> Result<Option<(Record, String)>, Infallible> {
        let board = self.0.lock().unwrap();
        Ok(board.0.clone().map(|record| (record, board.1.to_string())))
    }

    fn save(&mut self, record: &Record, version: Option<&str>) -> Result<bool, Infallible> {
        let mut board = self.0.lock().unwrap();
        let current = board.0.is_some().then(|| board.1.to_string());
        if current.as_deref() != version {
            return Ok(false);
        }
        board.0 = Some(record.clone());
        board.1 += 1;
        Ok(true)
    }
}

/// What a replica has seen: changes of two kinds, each to some point.
#[derive(Clone, Default)]
struct Eyes(Arc<Mutex<BTreeMap<String, (u64, u64)>>>);

impl Sight for Eyes {
    fn read(&self) -> Seen {
        self.0.lock().unwrap().clone()
    }

    fn now(&self) -> Seen {
        self.read()
    }
}

fn proposal<'a>(digest: &'a [u8], seen: &'a Seen, last: u64) -> Proposal<'a> {
    Proposal { digest, seen, in_force: false, last, issued_since: 0, unsettled: false }
}

/// What is published from this state of the documents.
fn digest(state: &BTreeMap<String, (u64, u64)>, keys: u8) -> Vec<u8> {
    let mut digest: Vec<u8> = state.values().flat_map(|(change, _)| change.to_be_bytes()).collect();
    digest.push(keys);
    digest
}

proptest! {
    /// However replicas lag behind the documents, restart and publish in whatever order: what has the higher epoch is never older
    /// in any document, the same state has the same epoch at all, and a replica that has seen everything is never kept waiting.
    #[test]
    fn a_newer_epoch_is_never_an_older_policy(steps in prop::collection::vec((0..3_usize, 0..2_usize, 0..5_u8), 1..80)) {
        let board = Board::default();
        let kinds = ["AccessRole/", "AccessRestriction/"];
        let mut truth: BTreeMap<String, u64> = kinds.iter().map(|kind| ((*kind).to_owned(), 1)).collect();
        let mut clock = 1;
        let new = |board: &Board, sight: &Eyes| Replica::new(board.clone(), sight.clone(), Arc::default());
        let sights: Vec<Eyes> = (0..3).map(|_| Eyes::default()).collect();
        for sight in &sights {
            *sight.0.lock().unwrap() = truth.iter().map(|(kind, at)| (kind.clone(), (*at, *at))).collect();
        }
        let mut replicas: Vec<_> = sights.iter().map(|sight| new(&board, sight)).collect();
        let mut held = [0_u64; 3];
        // Everything that was ever published: epoch, and how far each kind had come.
        let published = Rc::new(RefCell::new(BTreeMap::<u64, BTreeMap<String, u64>>::new()));
        for (who, kind, what) in steps {
            let kind = kinds[kind];
            match what {
                // A document changes.
                0 => {
                    clock += 1;
                    truth.insert(kind.to_owned(), clock);
                }
                // A replica sees all of one kind.
                1 => {
                    let at = truth[kind];
                    sights[who].0.lock().unwrap().insert(kind.to_owned(), (at, clock));
                }
                // It starts anew: its list says how far it has seen, and nothing of what was deleted.
                2 => {
                    *sights[who].0.lock().unwrap() =
                        truth.iter().map(|(kind, at)| (kind.clone(), (*at, clock))).collect();
                    replicas[who] = new(&board, &sights[who]);
                }
                _ => {
                    let state = sights[who].read();
                    let digest = digest(&state, 0);
                    let agreed = replicas[who].agree(&proposal(&digest, &state, held[who]));
                    let complete = truth.iter().all(|(kind, at)| state[kind].0 == *at);
                    let Ok(agreed) = agreed else {
                        prop_assert!(!complete, "a replica that has seen everything waits");
                        continue;
                    };
                    prop_assert!(agreed.shared && agreed.epoch >= held[who]);
                    held[who] = agreed.epoch;
                    let state: BTreeMap<String, u64> = state.into_iter().map(|(kind, (change, _))| (kind, change)).collect();
                    let mut published = published.borrow_mut();
                    for (epoch, other) in published.iter() {
                        let (newer, older) = if *epoch > agreed.epoch { (other, &state) } else { (&state, other) };
                        prop_assert!(
                            newer.iter().all(|(kind, at)| older[kind] <= *at),
                            "{newer:?} has a higher epoch than {older:?}"
                        );
                    }
                    if let Some(same) = published.get(&agreed.epoch) {
                        prop_assert_eq!(same, &state);
                    }
                    published.insert(agreed.epoch, state);
                }
            }
        }
    }
}

#[test]
fn replicas_with_the_same_policy_publish_the_same_epoch_and_time() {
    let (board, sight) = (Board::default(), Eyes::default());
    let seen = sight.read();
    let replica = || Replica::new(board.clone(), sight.clone(), Arc::default());
    let first = replica().agree(&proposal(b"a", &seen, 0)).unwrap();
    assert_eq!(replica().agree(&proposal(b"a", &seen, 0)), Ok(first));
    let second = replica().agree(&proposal(b"b", &seen, first.epoch)).unwrap();
    assert!(second.epoch > first.epoch);
    // Too old to be taken: renewed, and then the others take that.
    let due = Proposal { issued_since: second.issued_at + 1, ..proposal(b"b", &seen, second.epoch) };
    let third = replica().agree(&due).unwrap();
    assert!(third.epoch > second.epoch);
    assert_eq!(replica().agree(&proposal(b"b", &seen, second.epoch)), Ok(third));
    // Published alone, while the API server was away: the others come after it.
    let alone = third.epoch + 1_000_000_000_000;
    assert!(replica().agree(&proposal(b"b", &seen, alone)).unwrap().epoch > alone);
}

#[test]
fn other_key_sets_are_waited_for_at_the_start_and_looked_for_later() {
    let (board, sight) = (Board::default(), Eyes::default());
    sight.0.lock().unwrap().insert("AccessRole/".to_owned(), (5, 9));
    let seen = sight.read();
    let latest = Arc::<Mutex<Option<Record>>>::default();
    let mut old = Replica::new(board.clone(), sight.clone(), Arc::clone(&latest));
    let mut new = Replica::new(board.clone(), sight.clone(), Arc::default());
    old.agree(&proposal(b"old keys", &seen, 0)).unwrap();
    let agreed = new.agree(&proposal(b"new keys", &seen, 0)).unwrap();
    assert!(!old.differs(b"old keys"), "nothing was looked at yet");
    *latest.lock().unwrap() = board.clone().load().unwrap().map(|(record, _)| record);
    assert!(old.differs(b"old keys") && !old.differs(b"old keys"), "told once");
    assert!(!old.differs(b"new keys"));
    // A third one starts with the keys of yesterday.
    let mut third = Replica::new(board, sight.clone(), Arc::default());
    let starting = Proposal { unsettled: true, ..proposal(b"old keys", &seen, 0) };
    assert!(third.agree(&starting).is_err());
    assert_eq!(third.agree(&Proposal { unsettled: true, ..proposal(b"new keys", &seen, 0) }), Ok(agreed));
    // With a document that nobody has published yet it does not wait.
    sight.0.lock().unwrap().insert("AccessRole/".to_owned(), (10, 10));
    let seen = sight.read();
    assert!(third.agree(&Proposal { seen: &seen, ..starting }).is_ok());
}

/// A ConfigMap that cannot be reached.
struct Gone;

impl Shelf for Gone {
    type Problem = &'static str;

    fn load(&mut self) -> Result<Option<(Record, String)>, Self::Problem> {
        Err("gone")
    }

    fn save(&mut self, _: &Record, _: Option<&str>) -> Result<bool, Self::Problem> {
        Err("gone")
    }
}

#[test]
fn a_replica_that_is_cut_off_stays_below_those_that_are_not_and_signs_the_same_policy_once() {
    let sight = Eyes::default();
    sight.0.lock().unwrap().insert("AccessRole/".to_owned(), (5, 9));
    let seen = sight.read();
    let mut alone = Replica::new(Gone, sight.clone(), Arc::default());
    let last = now_millis() - 60_000;
    let agreed = alone.agree(&proposal(b"new keys", &seen, last)).unwrap();
    assert_eq!((agreed.epoch, agreed.shared), (last + 1, false));
    assert!(alone.agree(&Proposal { in_force: true, ..proposal(b"new keys", &seen, last + 1) }).is_err());
    // Back again, with a policy from before what others have published since.
    let board = Board::default();
    let mut others = Replica::new(board.clone(), Eyes::default(), Arc::default());
    let newer = [("AccessRole/".to_owned(), (12, 12))].into();
    others.agree(&proposal(b"without mallory", &newer, 0)).unwrap();
    let mut back = Replica::new(board, sight, Arc::default());
    assert!(back.agree(&proposal(b"new keys", &seen, last + 1)).is_err());
    assert!(back.agree(&proposal(b"new keys", &Seen::new(), last + 1)).is_err(), "of which nobody knows how old it is");
}

#[test]
fn an_epoch_that_no_replica_has_made_is_passed_over() {
    let board = Board::default();
    let record = Record { epoch: u64::MAX, digest: hex(b"a"), issued_at: 0, changes: BTreeMap::new() };
    board.clone().save(&record, None).unwrap();
    let mut replica = Replica::new(board, Eyes::default(), Arc::default());
    let agreed = replica.agree(&proposal(b"a", &Seen::new(), 7)).unwrap();
    assert!(agreed.epoch < now_millis() + 1_000, "{agreed:?}");
}
