//! What was seen of the API server: written by the watches, read by who makes policy, status and answers of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use doorward_policy_compiler::document::{API_VERSION, Document, Kind, parse_file};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::wake::Waker;

/// Objects at most, as files of one directory.
pub const MAX_OBJECTS: usize = 50_000;

/// Which object: kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl Key {
    /// As the source calls it: `AccessRole/shop/ai-support`.
    pub fn origin(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One object as it was seen last.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Which.
    pub key: Key,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`: counts changes of the spec.
    pub generation: i64,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub created: String,
    /// The document as YAML.
    pub text: String,
    /// The same, understood; none, if it is not.
    pub document: Option<Arc<Document>>,
    /// `status`, as somebody wrote it.
    pub status: Value,
    /// `metadata.resourceVersion`
    pub version: u64,
}

impl Object {
    /// Whether it says the same, whatever else has changed.
    fn says_as(&self, other: &Self) -> bool {
        self.text == other.text && self.uid == other.uid && self.generation == other.generation
    }
}

/// The document in a text that has one.
pub fn parse(origin: &str, text: &str) -> Option<Arc<Document>> {
    let mut parsed = parse_file(origin, text);
    parsed.documents.pop().map(Arc::new)
}

/// The document as a person would have written it: without what the API server keeps beside it.
///
/// JSON is YAML; with a line for each member, a finding has its line.
pub fn text(kind: Kind, name: &str, created: &str, spec: Option<&Value>) -> String {
    let mut document = json!({"apiVersion": API_VERSION, "kind": kind.as_str(), "metadata": {"name": name}});
    if !created.is_empty()
        && let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("creationTimestamp".to_owned(), created.into());
    }
    if let (Some(members), Some(spec)) = (document.as_object_mut(), spec) {
        members.insert("spec".to_owned(), spec.clone());
    }
    format!("{document:#}\n")
}

/// How far one watch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The newest change that it knows of.
    pub change: u64,
    /// Up to here it has seen everything.
    pub seen: u64,
    /// When it last heard from the API server.
    pub heard: Instant,
}

/// What is watched: a kind, in one namespace or ("") in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// Kind.
    pub kind: Kind,
    /// Namespace, or "".
    pub namespace: String,
}

impl Field {
    fn has(&self, key: &Key) -> bool {
        self.kind == key.kind && (self.namespace.is_empty() || self.namespace == key.namespace)
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Arc<Object>>,
    /// Watches that have listed their field once.
    progress: BTreeMap<Field, Progress>,
    /// The same, when the objects were read last.
    read: BTreeMap<Field, Progress>,
    /// Watches that there are.
    fields: usize,
    /// Why a field is not listed, as the API server says it.
    problem: Option<String>,
    /// Changes of what documents say.
    changes: u64,
    waker: Option<Waker>,
    broken: bool,
}

/// Everything that was seen.
pub struct Index {
    state: Mutex<State>,
    listed: Condvar,
    any: watch::Sender<u64>,
    started: Instant,
}

impl Index {
    /// Nothing was seen yet of so many fields.
    pub fn new(fields: usize) -> Self {
        let state = State { fields, ..State::default() };
        Self { state: Mutex::new(state), listed: Condvar::new(), any: watch::Sender::new(0), started: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with every change of an object, its status among them.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.any.subscribe()
    }

    /// Whoever is to be woken when what documents say changes.
    pub fn wake(&self, waker: Option<Waker>) {
        self.lock().waker = waker;
    }

    fn is_whole(state: &State) -> bool {
        state.progress.len() == state.fields
    }

    /// Waits so long at most until everything was listed once. The number of changes until now, or what is in the way.
    ///
    /// # Errors
    /// Not everything is listed; why, as far as known.
    pub fn whole(&self, limit: Duration) -> Result<u64, String> {
        let waited = self.listed.wait_timeout_while(self.lock(), limit, |state| !Self::is_whole(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if Self::is_whole(&state) {
            return Ok(state.changes);
        }
        Err(state.problem.clone().unwrap_or_else(|| "it has not answered yet".to_owned()))
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.lock().objects.values().cloned().collect()
    }

    /// All objects for policy; from now on [`read_progress`](Self::read_progress) is of these.
    pub fn read(&self) -> Vec<Arc<Object>> {
        let mut state = self.lock();
        state.read = state.progress.clone();
        state.objects.values().cloned().collect()
    }

    /// How far each watch had come when the objects were read last.
    pub fn read_progress(&self) -> BTreeMap<Field, Progress> {
        self.lock().read.clone()
    }

    /// One object.
    pub fn object(&self, key: &Key) -> Option<Arc<Object>> {
        self.lock().objects.get(key).cloned()
    }

    /// Whether a watch has ended by a defect: only a restart helps.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// How far each watch has come that has listed its field.
    pub fn progress(&self) -> BTreeMap<Field, Progress> {
        self.lock().progress.clone()
    }

    /// How long ago the watch that has been silent for longest heard from the API server. One that has never listed has been silent
    /// since the start.
    pub fn silence(&self) -> Duration {
        let state = self.lock();
        let oldest = state.progress.values().map(|progress| progress.heard).min();
        oldest.filter(|_| Self::is_whole(&state)).unwrap_or(self.started).elapsed()
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.lock();
        if change(&mut state) {
            state.changes += 1;
            if let Some(waker) = &state.waker {
                waker.wake();
            }
        }
        drop(state);
        self.any.send_modify(|count| *count += 1);
        self.listed.notify_all();
    }

    /// A field was listed as it was at this version.
    pub(super) fn listed(&self, field: &Field, objects: Vec<Object>, version: u64) {
        self.change(|state| {
            let mut differs = !state.progress.contains_key(field);
            let newest = objects.iter().map(|object| object.version).max().unwrap_or(0);
            let fresh: BTreeMap<Key, Arc<Object>> =
                objects.into_iter().map(|object| (object.key.clone(), Arc::new(object))).collect();
            state.objects.retain(|key, _| {
                let stays = !field.has(key) || fresh.contains_key(key);
                differs |= !stays;
                stays
            });
            for (key, object) in fresh {
                differs |= !state.objects.get(&key).is_some_and(|known| known.says_as(&object));
                state.objects.insert(key, object);
            }
            let known = state.progress.get(field).map_or(0, |progress| progress.change);
            let progress = Progress { change: newest.max(known), seen: version, heard: Instant::now() };
            state.progress.insert(field.clone(), progress);
            differs
        });
    }

    /// An object is new or different.
    pub(super) fn applied(&self, field: &Field, object: Object) {
        self.change(|state| {
            let differs = !state.objects.get(&object.key).is_some_and(|known| known.says_as(&object));
            // Who only writes status moves no policy.
            let change = if differs { object.version } else { 0 };
            Self::moved(state, field, change, object.version);
            state.objects.insert(object.key.clone(), Arc::new(object));
            differs
        });
    }

    /// An object is gone.
    pub(super) fn deleted(&self, field: &Field, key: &Key, version: u64) {
        self.change(|state| {
            Self::moved(state, field, version, version);
            state.objects.remove(key).is_some()
        });
    }

    /// The watch was told that there is nothing else up to this version; 0: it has heard something else.
    pub(super) fn heard(&self, field: &Field, version: u64) {
        Self::moved(&mut self.lock(), field, 0, version);
    }

    fn moved(state: &mut State, field: &Field, change: u64, seen: u64) {
        if let Some(progress) = state.progress.get_mut(field) {
            progress.change = progress.change.max(change);
            progress.seen = progress.seen.max(seen);
            progress.heard = Instant::now();
        }
    }

    /// Why a field cannot be listed or watched.
    pub(super) fn refused(&self, problem: String) {
        self.lock().problem = Some(problem);
    }

    /// A watch ended by a defect: nothing would be noticed of its field, so no reading counts any more.
    pub(super) fn broken(&self) {
        self.change(|state| {
            state.broken = true;
            state.progress.clear();
            state.problem = Some("a watch ended by a defect of doorward; restart it, and please report it".to_owned());
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, generation: i64, version: u64) -> Object {
        let key = Key { kind: Kind::AccessRole, namespace: "shop".into(), name: name.into() };
        let text = format!("{name} {generation}");
        Object {
            key,
            uid: "1".into(),
            generation,
            created: String::new(),
            text,
            document: None,
            status: Value::Null,
            version,
        }
    }

    #[test]
    fn what_changes_a_document_counts_as_a_change_and_what_changes_its_status_does_not() {
        let field = Field { kind: Kind::AccessRole, namespace: "shop".into() };
        let index = Index::new(1);
        assert!(index.whole(Duration::ZERO).is_err(), "nothing was listed");
        index.listed(&field, vec![object("a", 1, 5), object("b", 1, 6)], 9);
        let changes = || index.whole(Duration::ZERO).unwrap();
        let first = changes();
        index.listed(&field, vec![object("a", 1, 5), object("b", 1, 6)], 12);
        index.applied(&field, object("a", 1, 14));
        index.heard(&field, 20);
        assert_eq!(changes(), first);
        assert_eq!(index.progress()[&field].change, 6);
        assert_eq!(index.progress()[&field].seen, 20);
        index.applied(&field, object("a", 2, 21));
        assert_eq!((changes(), index.progress()[&field].change), (first + 1, 21));
        index.deleted(&field, &object("a", 2, 0).key, 22);
        assert_eq!((changes(), index.progress()[&field].change), (first + 2, 22));
        index.listed(&field, Vec::new(), 30);
        assert_eq!((changes(), index.objects().len()), (first + 3, 0));
        index.broken();
        assert!(index.whole(Duration::ZERO).is_err());
    }

    #[test]
    fn a_list_of_one_namespace_says_nothing_of_another() {
        let field = |namespace: &str| Field { kind: Kind::AccessRole, namespace: namespace.into() };
        let index = Index::new(2);
        index.listed(&field("other"), Vec::new(), 1);
        assert!(index.whole(Duration::ZERO).is_err());
        index.listed(&field("shop"), vec![object("a", 1, 5)], 9);
        index.listed(&field("other"), Vec::new(), 10);
        assert_eq!(index.objects().len(), 1);
    }
}
