//! The key that signs bundles.
//!
//! What is signed: `"doorward.dev/policy/v1\0" ‖ envelope`, with Ed25519 (RFC 8032). The seed lies in the data directory,
//! readable by its owner alone; the public key lies beside it for the filter's configuration.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_compact::{KeyPair, Seed, Signature};
use sha2::{Digest as _, Sha256};

use crate::private;

/// Prefix of every signed message: it keeps a policy signature from being taken for one over anything else.
pub const CONTEXT: &[u8] = b"doorward.dev/policy/v1\0";

/// Why there is no usable signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not hold a seed. Its content is not repeated.
    #[error("{0} does not hold a signing key; it must be 32 bytes in base64 on one line")]
    NotAKey(PathBuf),
}

/// Signs envelopes. `Debug` shows the key id only.
pub struct Signer {
    pair: KeyPair,
    key_id: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Opens the key at `given`, or the one in `data`, which is created if there is none. Writes the public key to
    /// `data/policy-signing.pub` if that does not hold it.
    pub fn open(data: &Path, given: Option<&Path>) -> Result<Self, SigningError> {
        let path = given.map_or_else(|| data.join("policy-signing.key"), Path::to_path_buf);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
                let text = STANDARD.encode(*Seed::generate());
                write_durably(&path, text.as_bytes(), 0o600)?;
                text
            }
            Err(source) => return Err(SigningError::File { action: "read", path, source }),
        };
        if private::is_shared(&path) {
            tracing::warn!(path = %path.display(), "others than its owner have rights on the signing key; chmod it to 600");
        }
        let seed = STANDARD.decode(text.trim()).ok().and_then(|bytes| Seed::from_slice(&bytes).ok());
        let signer = Self::from_seed(seed.ok_or(SigningError::NotAKey(path))?);
        signer.write_public_key(&data.join("policy-signing.pub"));
        Ok(signer)
    }

    /// The file is for people: it is written only where it says something else, and bundles can be signed without it.
    fn write_public_key(&self, path: &Path) {
        let line = format!("{}\n", self.public_key());
        if fs::read(path).is_ok_and(|there| there == line.as_bytes()) {
            return;
        }
        if let Err(error) = write_durably(path, line.as_bytes(), 0o644) {
            tracing::warn!(%error, "the public key is in no file; take it from this log");
        }
    }

    fn from_seed(seed: Seed) -> Self {
        let pair = KeyPair::from_seed(seed);
        let digest = Sha256::digest(*pair.pk);
        let key_id = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { pair, key_id }
    }

    /// The first 8 hex digits of SHA-256 of the public key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key in base64.
    pub fn public_key(&self) -> String {
        STANDARD.encode(*self.pair.pk)
    }

    /// Signs an encoded envelope.
    pub fn sign(&self, envelope: &[u8]) -> Vec<u8> {
        self.pair.sk.sign([CONTEXT, envelope].concat(), None).to_vec()
    }

    /// Whether `signature` over `envelope` was made by this key.
    pub fn verify(&self, envelope: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.pair.pk.verify([CONTEXT, envelope].concat(), &signature).is_ok())
    }
}

/// Writes a file so that after a crash there is the old content or the new, never a part.
fn write_durably(path: &Path, content: &[u8], mode: u32) -> Result<(), SigningError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|source| SigningError::File { action: "write", path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_created_once_private_and_found_again() {
        let data = tempfile::tempdir().unwrap();
        let first = Signer::open(data.path(), None).unwrap();
        let again = Signer::open(data.path(), None).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_eq!(first.key_id().len(), 8);
        let mode = fs::metadata(data.path().join("policy-signing.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_to_string(data.path().join("policy-signing.pub")).unwrap().trim(), first.public_key());
    }

    #[test]
    fn a_signature_holds_for_its_envelope_and_context_alone() {
        let data = tempfile::tempdir().unwrap();
        let signer = Signer::open(data.path(), None).unwrap();
        let signature = signer.sign(b"envelope");
        assert!(signer.verify(b"envelope", &signature));
        assert!(!signer.verify(b"envelopf", &signature));
        assert!(!signer.verify(b"envelope", &signature[1..]));
        let bare = signer.pair.sk.sign(b"envelope", None);
        assert!(!signer.verify(b"envelope", bare.as_ref()));
    }

    #[test]
    fn a_given_key_that_is_missing_or_broken_is_an_error_without_its_content() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("given");
        assert!(Signer::open(data.path(), Some(&path)).is_err());
        fs::write(&path, "c2VjcmV0IGJ1dCBzaG9ydA==").unwrap();
        let error = Signer::open(data.path(), Some(&path)).unwrap_err().to_string();
        assert!(error.contains("32 bytes") && !error.contains("c2Vj"), "{error}");
    }
}
