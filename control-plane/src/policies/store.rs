//! What must survive a crash: the epoch, the last bundle, the last good documents, the last fetched key sets.
//!
//! Everything is written before it is pushed, so that a restarted control plane never signs an epoch twice and never
//! serves an older policy than one that a proxy has seen.

use std::{collections::BTreeMap, path::Path};

use doorward_proto::v1::StoredPolicy;
use prost::Message as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
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

/// The database in `DATA/policy.redb`.
pub struct PolicyStore {
    database: Database,
}

macro_rules! redb {
    ($result:expr) => {
        $result.map_err(|error| StoreError(redb::Error::from(error)))?
    };
}

impl PolicyStore {
    /// Opens or creates the store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        redb!(private::keep(path).map_err(redb::Error::Io));
        let database = redb!(Database::create(path));
        let begin = redb!(database.begin_write());
        redb!(begin.open_table(META));
        redb!(begin.open_table(DOCUMENTS));
        redb!(begin.open_table(KEY_SETS));
        redb!(begin.commit());
        Ok(Self { database })
    }

    /// The highest epoch ever signed (0 = none) and the policy in force.
    pub fn published(&self) -> Result<(u64, Option<StoredPolicy>), StoreError> {
        let begin = redb!(self.database.begin_read());
        let meta = redb!(begin.open_table(META));
        let epoch =
            redb!(meta.get("epoch")).and_then(|v| v.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0);
        let policy = redb!(meta.get("published")).and_then(|v| StoredPolicy::decode(v.value()).ok());
        Ok((epoch, policy))
    }

    /// Records a newly signed policy under its epoch. Returns after it is on the disk.
    pub fn publish(&self, epoch: u64, policy: &StoredPolicy) -> Result<(), StoreError> {
        let begin = redb!(self.database.begin_write());
        {
            let mut meta = redb!(begin.open_table(META));
            redb!(meta.insert("epoch", epoch.to_be_bytes().as_slice()));
            redb!(meta.insert("published", policy.encode_to_vec().as_slice()));
        }
        redb!(begin.commit());
        Ok(())
    }

    /// The last good documents.
    pub fn documents(&self) -> Result<GoodDocuments, StoreError> {
        self.all(DOCUMENTS)
    }

    /// Replaces the last good documents.
    pub fn set_documents(&self, documents: &GoodDocuments) -> Result<(), StoreError> {
        let begin = redb!(self.database.begin_write());
        {
            let mut table = redb!(begin.open_table(DOCUMENTS));
            redb!(table.retain(|name, _| documents.contains_key(name)));
            for (name, document) in documents {
                redb!(table.insert(name.as_str(), json(document).as_slice()));
            }
        }
        redb!(begin.commit());
        Ok(())
    }

    /// The last fetched key sets, by source.
    pub fn key_sets(&self) -> Result<BTreeMap<String, KeySet>, StoreError> {
        self.all(KEY_SETS)
    }

    /// Records a fetched key set.
    pub fn set_key_set(&self, source: &str, keys: &KeySet) -> Result<(), StoreError> {
        let begin = redb!(self.database.begin_write());
        {
            let mut table = redb!(begin.open_table(KEY_SETS));
            redb!(table.insert(source, json(keys).as_slice()));
        }
        redb!(begin.commit());
        Ok(())
    }

    fn all<T: for<'a> Deserialize<'a>>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
    ) -> Result<BTreeMap<String, T>, StoreError> {
        let begin = redb!(self.database.begin_read());
        let mut found = BTreeMap::new();
        for row in redb!(redb!(begin.open_table(table)).iter()) {
            let (name, value) = redb!(row);
            if let Ok(value) = serde_json::from_slice(value.value()) {
                found.insert(name.value().to_owned(), value);
            }
        }
        Ok(found)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and integers always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}
