//! What should survive a crash: the epoch, the last bundle, the last good documents, the last fetched key sets.
//!
//! Everything is written before it is pushed, while there is a disk to write to. Without one (it is full, it is mounted
//! read-only) the store still says what it holds, and a write fails until there is room again: who writes goes on, says
//! so, and tries again. Epochs do not depend on it, see [`crate::policies::epochs::next`].

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use doorward_proto::v1::StoredPolicy;
use prost::Message as _;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, StorageBackend as _, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};
use serde::{Deserialize, Serialize};

use crate::private;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const KEY_SETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("key_sets");

/// A document as it was last in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodDocument {
    /// File it came from, relative to the policy directory.
    pub file: String,
    /// Its first line there, from 1.
    pub line: u32,
    /// Its text.
    pub text: String,
    /// Which of its contents, where its source counts them; else 0.
    #[serde(default)]
    pub generation: i64,
}

/// Last good documents by `Kind/name`.
pub type GoodDocuments = BTreeMap<String, GoodDocument>;

/// A key set as it was last fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// The JSON Web Key Set.
    pub body: String,
    /// Unix microseconds.
    pub fetched_micros: i64,
    /// The last set before it of which a key could be used.
    #[serde(default)]
    pub before: Option<Replaced>,
}

/// A key set that another one took the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The JSON Web Key Set.
    pub body: String,
    /// When it was replaced, Unix microseconds.
    pub since_micros: i64,
}

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the policy store failed: {0}; check the disk of the data directory, and that no other process uses it")]
pub struct StoreError(#[from] redb::Error);

impl StoreError {
    /// Whether the disk is at fault, and not what it holds or who else uses it.
    fn is_disk(&self) -> bool {
        matches!(self.0, redb::Error::Io(_) | redb::Error::PreviousIo)
    }
}

macro_rules! redb {
    ($result:expr) => {
        $result.map_err(|error| StoreError(redb::Error::from(error)))?
    };
}

/// The database in `DATA/policy.redb`.
pub struct PolicyStore {
    path: PathBuf,
    slot: Mutex<Slot>,
}

/// Where the store is at the moment.
enum Slot {
    /// In its file.
    File(Database),
    /// What the file held, in memory: it could be read, but not opened for writing.
    Copy(Database),
    /// In its file, which is closed: after a failed write redb refuses further work on an open database.
    Closed,
}

impl PolicyStore {
    /// Opens or creates the store. A disk that can only be read is no error.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let slot = match open_file(path) {
            Ok(database) => Slot::File(database),
            Err(error) if error.is_disk() => {
                tracing::error!(%error, "the policy store cannot be written; what it holds is used, and nothing new is kept");
                Slot::Copy(copy(path)?)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_path_buf(), slot: Mutex::new(slot) })
    }

    /// The highest epoch ever stored (0 = none) and the policy that was stored last.
    pub fn published(&self) -> Result<(u64, Option<StoredPolicy>), StoreError> {
        self.read(|database| {
            let begin = redb!(database.begin_read());
            let meta = redb!(begin.open_table(META));
            let epoch =
                redb!(meta.get("epoch")).and_then(|v| v.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0);
            let policy = redb!(meta.get("published")).and_then(|v| StoredPolicy::decode(v.value()).ok());
            Ok((epoch, policy))
        })
    }

    /// Records a newly signed policy under its epoch. Returns after it is on the disk.
    pub fn publish(&self, epoch: u64, policy: &StoredPolicy) -> Result<(), StoreError> {
        self.write(|begin| {
            let mut meta = redb!(begin.open_table(META));
            redb!(meta.insert("epoch", epoch.to_be_bytes().as_slice()));
            redb!(meta.insert("published", policy.encode_to_vec().as_slice()));
            Ok(())
        })
    }

    /// The last good documents.
    pub fn documents(&self) -> Result<GoodDocuments, StoreError> {
        self.all(DOCUMENTS)
    }

    /// Replaces the last good documents.
    pub fn set_documents(&self, documents: &GoodDocuments) -> Result<(), StoreError> {
        self.write(|begin| {
            let mut table = redb!(begin.open_table(DOCUMENTS));
            redb!(table.retain(|name, _| documents.contains_key(name)));
            for (name, document) in documents {
                redb!(table.insert(name.as_str(), json(document).as_slice()));
            }
            Ok(())
        })
    }

    /// The last fetched key sets, by source.
    pub fn key_sets(&self) -> Result<BTreeMap<String, KeySet>, StoreError> {
        self.all(KEY_SETS)
    }

    /// Records a fetched key set.
    pub fn set_key_set(&self, source: &str, keys: &KeySet) -> Result<(), StoreError> {
        self.write(|begin| {
            let mut table = redb!(begin.open_table(KEY_SETS));
            redb!(table.insert(source, json(keys).as_slice()));
            Ok(())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut slot = self.lock();
        if matches!(*slot, Slot::Closed) {
            *slot = Slot::File(open_file(&self.path)?);
        }
        match &*slot {
            Slot::File(database) | Slot::Copy(database) => read(database),
            Slot::Closed => Err(StoreError(redb::Error::PreviousIo)),
        }
    }

    /// One transaction in the file, which is opened for it if it is not.
    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut slot = self.lock();
        if !matches!(*slot, Slot::File(_)) {
            let database = open_file(&self.path)?;
            *slot = Slot::File(database);
        }
        let Slot::File(database) = &*slot else { return Err(StoreError(redb::Error::PreviousIo)) };
        let result = transaction(database, change);
        if result.is_err() {
            *slot = Slot::Closed;
        }
        result
    }

    fn all<T: for<'a> Deserialize<'a>>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
    ) -> Result<BTreeMap<String, T>, StoreError> {
        self.read(|database| {
            let begin = redb!(database.begin_read());
            let mut found = BTreeMap::new();
            for row in redb!(redb!(begin.open_table(table)).iter()) {
                let (name, value) = redb!(row);
                if let Ok(value) = serde_json::from_slice(value.value()) {
                    found.insert(name.value().to_owned(), value);
                }
            }
            Ok(found)
        })
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    with_tables(redb!(private::database(path)))
}

/// What the file holds, opened in memory, because redb writes to what it opens.
fn copy(path: &Path) -> Result<Database, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(StoreError(redb::Error::Io(error))),
    };
    let memory = InMemoryBackend::new();
    redb!(memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, &bytes)).map_err(redb::Error::Io));
    drop(bytes);
    with_tables(redb!(Database::builder().create_with_backend(memory)))
}

/// The database, with its tables: nothing is written where they are there.
fn with_tables(database: Database) -> Result<Database, StoreError> {
    let begin = redb!(database.begin_read());
    let complete = [META, DOCUMENTS, KEY_SETS].into_iter().all(|table| begin.open_table(table).is_ok());
    drop(begin);
    if !complete {
        transaction(&database, |begin| {
            for table in [META, DOCUMENTS, KEY_SETS] {
                redb!(begin.open_table(table));
            }
            Ok(())
        })?;
    }
    Ok(database)
}

/// Returns after the change is on the disk.
fn transaction(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let begin = redb!(database.begin_write());
    change(&begin)?;
    redb!(begin.commit());
    Ok(())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and integers always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}
