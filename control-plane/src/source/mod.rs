//! Where policy documents come from.
//!
//! A source gives texts; it does not parse them. One is a file of its own in this folder and one line in `registry.rs`. The
//! control plane and the command line read through the same source, so the same documents are the same to both.
//!
//! Secrets and settings of an identity provider that stay in the control plane (where its keys are, how it is asked about a
//! token) stand in its document, and so come from here as well.

pub mod chunk;
pub mod directory;
pub mod kubernetes;
pub mod registry;

use std::path::PathBuf;

use doorward_policy_compiler::compile::namespaces::Boundary;

use crate::wake::Waker;

/// Somewhere that policy documents come from. Its calls may block: the policy thread and the command line wait for them.
pub trait PolicySource: Send + Sync {
    /// What it is to people, as the subject of a sentence: `the policy directory /etc/doorward`. No credentials.
    fn name(&self) -> String;

    /// A token that differs whenever what [`read`](Self::read) would give differs. It is asked for every second, so it must be
    /// cheap.
    ///
    /// # Errors
    /// The source cannot be asked. What was read last stays in force.
    fn version(&self) -> Result<Version, SourceError>;

    /// Everything that is there. [`read_whole`] sees to it that what changed meanwhile is read again.
    ///
    /// # Errors
    /// Not even what there is can be told: a part that is merely missing from a reading is taken for deleted, and a
    /// restriction in it would fall away. Where a part is known and cannot be read, it is in the reading as [`Unread`].
    fn read(&self) -> Result<Reading, SourceError>;

    /// Calls `waker` whenever something may have changed, until what is returned is dropped. None: nothing will tell, and
    /// the version is asked for every second.
    fn wake(&self, waker: Waker) -> Option<Watch>;
}

/// Readings at most until one is whole. A volume is swapped in milliseconds; somebody who copies files takes longer, and the
/// next reading is a second away.
const READINGS: usize = 20;
/// Bytes of all documents of a source: ten times what a hundred thousand usual documents have. The compiler takes several times
/// as much.
const MAX_BYTES: usize = 256 << 20;

/// Everything that is there, as it is at one time: a source that changed meanwhile is read again.
///
/// # Errors
/// As of [`PolicySource::read`], or it changes each time.
pub fn read_whole(source: &dyn PolicySource) -> Result<Reading, SourceError> {
    for _ in 0..READINGS {
        let before = source.version()?;
        let reading = source.read()?;
        let bytes: usize = reading.parts.iter().filter_map(|part| part.text.as_ref().ok()).map(String::len).sum();
        if bytes > MAX_BYTES {
            return Err(SourceError::TooLarge(MAX_BYTES));
        }
        if source.version()? == before {
            return Ok(reading);
        }
    }
    Err(SourceError::Restless)
}

/// Keeps a [`PolicySource::wake`] going.
pub type Watch = Box<dyn Send>;

/// Whether what a source would give is what it gave before. Equal versions of one source mean equal readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// All that a source holds at one time.
#[derive(Debug, Default)]
pub struct Reading {
    /// Its files or objects, in the order of their origins.
    pub parts: Vec<Part>,
    /// What is doubtful about the source itself.
    pub remarks: Vec<Remark>,
    /// Which of its namespaces is trusted by all others.
    pub boundary: Boundary,
}

/// A file or an object: one or several YAML documents that are read or unreadable together.
#[derive(Debug)]
pub struct Part {
    /// Its name within the source, stable over readings: a path, or a kind, namespace and name. A document that is held at
    /// its last good version is found again by it.
    pub origin: String,
    /// Its YAML.
    pub text: Result<String, Unread>,
    /// Counts its contents, where the source does that; else 0.
    pub generation: i64,
}

/// A doubt about a source as such. It is shown as a warning.
#[derive(Debug)]
pub struct Remark {
    /// The part that it is about, or nothing.
    pub origin: String,
    /// Stable code.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

/// Why a part cannot be read. Its documents stay as they were.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The machine did not give it.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A pipe would keep the reader waiting for ever, a device has no end.
    #[error("it is no regular file; policy is read from regular files only")]
    Irregular,
    /// So looks a file that is being written in place, or whose writing failed. Were it read as one without documents, a
    /// restriction in it would fall away.
    #[error("it is empty; what it held stays in force until it is deleted")]
    Empty,
    /// It is larger than this number of bytes.
    #[error("it has more than {0} bytes; split it into smaller ones")]
    TooLarge(u64),
}

impl Unread {
    /// Whether this comes from the state of the machine, not of the part: then no later change of the part would have it
    /// read again.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Io(error) if passes(error))
    }
}

/// A source cannot be used as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such directory.
    #[error("the policy directory {0} is not there, or is no directory; create it, or correct the path")]
    NoDirectory(PathBuf),
    /// There is nothing at a path.
    #[error("cannot read {path}; give a policy file or a directory: {error}")]
    NoPath {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What looks like the name of a source is none, and there is no such path.
    #[error("{argument} is no path that is there, and no kind of source begins so; there is {schemes}")]
    NoScheme {
        /// As it was given.
        argument: String,
        /// What sources are named by.
        schemes: String,
    },
    /// A directory or a link that cannot be followed.
    #[error("{path} cannot be looked into: {error}")]
    Closed {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A directory lies too deep.
    #[error("{path} cannot be looked into: it lies more than {most} directories deep")]
    TooDeep {
        /// The path.
        path: PathBuf,
        /// Levels that are looked into.
        most: usize,
    },
    /// No API server can be asked.
    #[error("no Kubernetes API server can be used: {0}; set KUBECONFIG, or run in a pod with a service account")]
    NoCluster(Box<dyn std::error::Error + Send + Sync>),
    /// The API server has not told yet what there is.
    #[error("the documents of namespace {namespace} are not known yet: {problem}")]
    Unlisted {
        /// Of which namespace.
        namespace: String,
        /// What the API server says.
        problem: String,
    },
    /// All of it has more than this number of bytes.
    #[error("its documents have more than {0} bytes together; is this the right place?")]
    TooLarge(usize),
    /// It changed each time while it was read.
    #[error("it changes while it is read")]
    Restless,
    /// There are more files than this.
    #[error("more than {0} policy files or objects; is this the right place?")]
    TooMany(usize),
}

/// Whether an error comes from the state of the machine, not of the file: then there is no later change of the file that
/// would have it read again.
fn passes(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(
        errno,
        Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::IO
            | Errno::AGAIN
            | Errno::INTR
            | Errno::STALE
            | Errno::TIMEDOUT
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Changes so many times while it is read.
    struct Changing {
        changes: u64,
        version: AtomicU64,
    }

    impl PolicySource for Changing {
        fn name(&self) -> String {
            "a source that changes".into()
        }

        fn version(&self) -> Result<Version, SourceError> {
            Ok(Version(self.version.load(Ordering::Relaxed)))
        }

        fn read(&self) -> Result<Reading, SourceError> {
            let version = self.version.load(Ordering::Relaxed);
            if version < self.changes {
                self.version.store(version + 1, Ordering::Relaxed);
            }
            Ok(Reading {
                parts: vec![Part { origin: version.to_string(), text: Ok(String::new()), generation: 0 }],
                remarks: Vec::new(),
                boundary: Boundary::default(),
            })
        }

        fn wake(&self, _: Waker) -> Option<Watch> {
            None
        }
    }

    #[test]
    fn a_reading_is_of_one_state_of_the_source_or_an_error() {
        for changes in [0, 1, 5, 19] {
            let reading = read_whole(&Changing { changes, version: AtomicU64::new(0) }).unwrap();
            assert_eq!(reading.parts[0].origin, changes.to_string());
        }
        assert!(matches!(
            read_whole(&Changing { changes: u64::MAX, version: AtomicU64::new(0) }),
            Err(SourceError::Restless)
        ));
    }
}
