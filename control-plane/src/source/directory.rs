//! Files and directories of policy documents.
//!
//! | | |
//! |---|---|
//! | counts | every `*.yaml` and `*.yml` file, in all directories below, and each file that is named itself |
//! | does not count | what begins with a dot, unless it is named itself: so a ConfigMap's `..data` shows once, by its links |
//! | links | are followed; a directory is looked into once, so links may lead in circles |
//! | unread, its documents stay | an empty file, one of more than `MAX_FILE_BYTES`, a pipe or device, one that is not UTF-8 or cannot be opened |
//! | an error of the whole | a directory that cannot be looked into, a link that leads nowhere (but by a policy file's name, which is unread), more than `MAX_DEPTH` levels or `MAX_FILES` files |

use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use notify::{RecursiveMode, Watcher as _};

use super::{Part, PolicySource, Reading, SourceError, Unread, Version, Watch};
use crate::wake::Waker;

/// Levels of directories.
const MAX_DEPTH: usize = 16;
/// Files of one source.
const MAX_FILES: usize = 50_000;
/// Bytes of one file.
const MAX_FILE_BYTES: u64 = doorward_policy_compiler::document::MAX_FILE as u64;

/// Files and directories.
#[derive(Debug)]
pub struct Directory {
    roots: Vec<PathBuf>,
    /// Where origins begin.
    base: Option<PathBuf>,
}

impl Directory {
    /// A directory whose files are named by their paths in it.
    ///
    /// # Errors
    /// It is no directory.
    pub fn watched(directory: &Path) -> Result<Self, SourceError> {
        if !directory.is_dir() {
            return Err(SourceError::NoDirectory(directory.to_path_buf()));
        }
        Ok(Self { roots: vec![directory.to_path_buf()], base: Some(directory.to_path_buf()) })
    }

    /// Files and directories as a person names them; what is found keeps that name.
    ///
    /// # Errors
    /// One of them does not exist.
    pub fn given(roots: Vec<PathBuf>) -> Result<Self, SourceError> {
        for path in &roots {
            fs::metadata(path).map_err(|error| SourceError::NoPath { path: path.clone(), error })?;
        }
        Ok(Self { roots, base: None })
    }

    /// All policy files, sorted. What cannot be looked into is an error: taken for empty, its restrictions would fall away.
    ///
    /// # Errors
    /// See the module.
    pub fn files(&self) -> Result<Vec<PathBuf>, SourceError> {
        let mut files = Vec::new();
        // By device and inode, because links may lead in circles.
        let mut seen = HashSet::new();
        let mut open = Vec::new();
        for root in &self.roots {
            match fs::metadata(root) {
                // A watched directory is never a file, whatever has taken its place: then it is an error.
                Ok(meta) if !meta.is_dir() && self.base.is_none() => files.push(root.clone()),
                _ => open.push((root.clone(), 0)),
            }
        }
        while let Some((next, depth)) = open.pop() {
            let closed = |error| SourceError::Closed { path: next.clone(), error };
            let meta = fs::metadata(&next).map_err(closed)?;
            if !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(SourceError::TooDeep { path: next, most: MAX_DEPTH });
            }
            let entries: std::io::Result<Vec<_>> =
                fs::read_dir(&next).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
            let mut entries = entries.map_err(closed)?;
            entries.sort();
            for path in entries {
                if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
                    continue;
                }
                let policy = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => open.push((path, depth + 1)),
                    _ if policy => files.push(path),
                    Ok(_) => {}
                    // An editor's temporary file, gone since it was listed.
                    Err(_) if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) => {}
                    // A link to a volume that is not there, say, or a directory above that may not be searched.
                    Err(error) => return Err(SourceError::Closed { path, error }),
                }
                if files.len() > MAX_FILES {
                    return Err(SourceError::TooMany(MAX_FILES));
                }
            }
        }
        files.sort();
        // One may be named, and found in a directory that is named too.
        files.dedup();
        Ok(files)
    }
}

impl PolicySource for Directory {
    fn name(&self) -> String {
        let paths: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
        format!("the policy directory {}", paths.join(", "))
    }

    /// Changes whenever a file is added, removed, replaced or written.
    fn version(&self) -> Result<Version, SourceError> {
        let mut hasher = DefaultHasher::new();
        for path in self.files()? {
            path.hash(&mut hasher);
            // Follows symbolic links, so that an atomic swap of a ConfigMap volume shows.
            if let Ok(meta) = fs::metadata(&path) {
                (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
                    .hash(&mut hasher);
            }
        }
        Ok(Version(hasher.finish()))
    }

    fn read(&self) -> Result<Reading, SourceError> {
        let part = |path: PathBuf| {
            let name = self.base.as_ref().and_then(|base| path.strip_prefix(base).ok()).unwrap_or(&path);
            Part { origin: name.to_string_lossy().into_owned(), text: read_file(&path), generation: 0 }
        };
        Ok(Reading { parts: self.files()?.into_iter().map(part).collect(), ..Reading::default() })
    }

    /// notify only makes a change show sooner; without it (no inotify left, a network volume) the poll finds it.
    fn wake(&self, waker: Waker) -> Option<Watch> {
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                waker.wake();
            }
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            for root in &self.roots {
                watcher.watch(root, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        });
        watcher
            .inspect_err(|error| tracing::warn!(%error, "cannot watch the policy directory; it is polled each second"))
            .ok()
            .map(|watcher| Box::new(watcher) as Watch)
    }
}

/// The text of one policy file.
///
/// # Errors
/// See the module.
pub fn read_file(path: &Path) -> Result<String, Unread> {
    if !fs::metadata(path)?.is_file() {
        return Err(Unread::Irregular);
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 {
        0 => Err(Unread::Empty),
        length if length > MAX_FILE_BYTES => Err(Unread::TooLarge(MAX_FILE_BYTES)),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<Part>, SourceError> {
        Ok(Directory::watched(path)?.read()?.parts)
    }

    fn fingerprint(path: &Path) -> Result<Version, SourceError> {
        Directory::watched(path)?.version()
    }

    #[test]
    fn what_cannot_be_looked_into_is_an_error_and_not_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "x").unwrap();
        let restrictions = dir.path().join("restrictions");
        std::os::unix::fs::symlink(dir.path().join("not-mounted"), &restrictions).unwrap();
        assert!(read(dir.path()).is_err() && fingerprint(dir.path()).is_err(), "a link to a volume that is not there");
        fs::remove_file(&restrictions).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        fs::create_dir_all(dir.path().join(&deep)).unwrap();
        fs::write(dir.path().join(&deep).join("b.yaml"), "x").unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("deep"));
    }

    #[test]
    fn links_in_a_circle_show_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.yaml"), "x").unwrap();
        for name in ["sub/b", "sub/c", "sub/d", "e"] {
            std::os::unix::fs::symlink(dir.path(), dir.path().join(name)).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn an_empty_file_and_a_pipe_are_unreadable_and_do_not_block_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "").unwrap();
        let pipe = dir.path().join("b.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let texts: Vec<_> =
            read(dir.path()).unwrap().into_iter().map(|file| file.text.unwrap_err().to_string()).collect();
        assert!(texts[0].contains("empty") && texts[1].contains("regular"), "{texts:?}");
    }

    #[test]
    fn a_watched_directory_that_became_something_else_is_an_error_and_not_a_policy() {
        let dir = tempfile::tempdir().unwrap();
        let watched = dir.path().join("policies.yaml");
        fs::create_dir(&watched).unwrap();
        fs::write(watched.join("a.yaml"), "a").unwrap();
        let source = Directory::watched(&watched).unwrap();
        assert_eq!(source.read().unwrap().parts.len(), 1);
        fs::remove_dir_all(&watched).unwrap();
        assert!(source.read().is_err() && source.version().is_err(), "nothing");
        fs::write(&watched, "kind: X").unwrap();
        assert!(source.read().is_err() && source.version().is_err(), "a file");
        fs::remove_file(&watched).unwrap();
        fs::write(dir.path().join("other.yaml"), "kind: X").unwrap();
        std::os::unix::fs::symlink("other.yaml", &watched).unwrap();
        assert!(source.read().is_err() && source.version().is_err(), "a link to a file");
        assert!(matches!(Directory::watched(&watched), Err(SourceError::NoDirectory(_))));
    }

    #[test]
    fn what_the_state_of_the_machine_made_unreadable_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), [0xff]).unwrap();
        fs::write(dir.path().join("b.yaml"), "").unwrap();
        assert!(read(dir.path()).unwrap().into_iter().all(|file| file.text.is_err_and(|unread| !unread.passes())));
        for (errno, expected) in [("EMFILE", 24), ("ENFILE", 23), ("EIO", 5)] {
            assert!(Unread::Io(std::io::Error::from_raw_os_error(expected)).passes(), "{errno}");
        }
        assert!(!Unread::Io(std::io::Error::from_raw_os_error(2)).passes(), "ENOENT");
    }

    #[test]
    fn hidden_files_do_not_count_and_a_symlink_swap_does() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["..v1", "..v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("a.yaml"), version).unwrap();
        }
        std::os::unix::fs::symlink("..v1", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        fs::write(dir.path().join("b.txt"), "x").unwrap();
        let before = fingerprint(dir.path()).unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), before);
        let files = read(dir.path()).unwrap();
        assert_eq!((files.len(), files[0].text.as_deref().unwrap()), (1, "..v1"));
        std::os::unix::fs::symlink("..v2", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
        assert_eq!(read(dir.path()).unwrap()[0].text.as_deref().unwrap(), "..v2");
    }
}
