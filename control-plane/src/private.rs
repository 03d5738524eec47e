//! Files that nobody but their owner may read: the databases hold secrets of identity providers, hashes of API keys, and
//! who asked for what.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{ErrorKind, Result},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use redb::{Database, DatabaseError, StorageError};

/// Bits by which others than the owner get at a file.
const OTHERS: u32 = 0o077;

/// Creates the file if it does not exist, and takes what rights others have on it away, whatever the directory and the umask
/// would give them.
pub fn keep(path: &Path) -> Result<()> {
    // Without `create` first: on a disk without room, or mounted read-only, what is there is to be opened all the same.
    let file = match OpenOptions::new().append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            OpenOptions::new().create(true).append(true).mode(0o600).open(path)?
        }
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode();
    if mode & OTHERS != 0
        && let Err(error) = file.set_permissions(Permissions::from_mode(mode & 0o700))
    {
        tracing::warn!(path = %path.display(), %error, "others than the owner have rights on a file that holds secrets");
    }
    Ok(())
}

/// Opens the database in this file, or makes it. What could not be made whole, because the disk is full, is no database, and
/// nothing that later finds room could open it: so it is emptied again.
pub fn database(path: &Path) -> std::result::Result<Database, DatabaseError> {
    keep(path).map_err(StorageError::Io)?;
    let is_new = fs::metadata(path).is_ok_and(|about| about.len() == 0);
    Database::create(path).inspect_err(|_| {
        if is_new && let Err(error) = rewrite(path) {
            tracing::warn!(path = %path.display(), %error, "a database that could not be made stays half made; delete it");
        }
    })
}

/// Opens a file to be written anew; if it does not exist yet, only its owner will have rights on it.
pub fn rewrite(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// True if others than the owner have rights on this file.
pub fn is_shared(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_private_is_so_also_if_it_was_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "content").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        assert!(is_shared(&old));
        for path in [&new, &old] {
            keep(path).unwrap();
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_to_string(&old).unwrap(), "content");
        drop(rewrite(&old).unwrap());
        assert!(!is_shared(&old) && fs::read(&old).unwrap().is_empty());
    }
}
