//! The policy directory: which files count, whether they changed, and the documents' texts in them.

use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 50_000;
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file's text, or a sentence on why it cannot be read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path relative to the policy directory.
    pub name: String,
    /// Its text.
    pub text: Result<String, String>,
    /// It could not be read for a reason that passes without a change of the file: no file descriptor left, say.
    pub again: bool,
}

/// One YAML document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its first line in the file, from 1.
    pub line: u32,
    /// Its text, without the marker before it.
    pub text: String,
}

impl Chunk {
    /// The text after as many empty lines as precede it in its file, so that line numbers in diagnostics are the file's.
    pub fn in_place(&self) -> String {
        in_place(self.line, &self.text)
    }

    /// `kind` and `metadata.name`, read line by line: also of a document that does not parse.
    pub fn identity(&self) -> Option<(String, String)> {
        let kind = self.kind()?;
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with("metadata:"));
        let first = lines.next()?;
        if first.contains('{') {
            return value(first, "name:").map(|name| (kind, name));
        }
        let name = lines
            .take_while(|line| line.is_empty() || line.starts_with([' ', '#']))
            .find(|line| line.trim_start().starts_with("name:"));
        name.and_then(|line| value(line, "name:")).map(|name| (kind, name))
    }

    /// `kind`, read line by line.
    pub fn kind(&self) -> Option<String> {
        self.text.lines().find(|line| line.starts_with("kind:")).and_then(|line| value(line, "kind:"))
    }
}

/// The scalar after this key on a line.
fn value(line: &str, key: &str) -> Option<String> {
    let rest = line.split_once(key)?.1.trim_start();
    let rest = rest.split([',', '}', '#']).next()?.trim().trim_matches(['"', '\'']);
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// See [`Chunk::in_place`].
pub fn in_place(line: u32, text: &str) -> String {
    "\n".repeat(line.saturating_sub(1) as usize) + text
}

/// The documents of a file. A marker in the first column always ends a document (YAML 1.2, 9.1.2), whatever it stands in.
///
/// A document without `apiVersion` takes over that of the one before it in its file; since each is kept on its own, the
/// line is put in the place of its marker.
pub fn split(text: &str) -> Vec<Chunk> {
    let mut chunks = vec![Chunk { line: 1, text: String::new() }];
    for (line, number) in text.split_inclusive('\n').zip(1_u32..) {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            let rest = line.get(3..).unwrap_or_default().trim();
            // `--- {kind: …}`: what follows the marker belongs to the document, unless it is a comment.
            let text = if rest.is_empty() || rest.starts_with('#') { "\n".to_owned() } else { format!("   {rest}\n") };
            chunks.push(Chunk { line: number, text });
        } else if let Some(last) = chunks.last_mut() {
            last.text.push_str(line);
        }
    }
    let blank =
        |chunk: &Chunk| chunk.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    chunks.retain(|chunk| !blank(chunk));
    let mut version: Option<String> = None;
    for chunk in &mut chunks {
        let own = chunk.text.lines().find(|line| line.starts_with("apiVersion:")).map(str::to_owned);
        if own.is_some() {
            version = own;
        } else if let (Some(version), Some(rest)) = (&version, chunk.text.strip_prefix('\n')) {
            chunk.text = format!("{version}\n{rest}");
        }
    }
    chunks
}

/// A number that changes whenever a file is added, removed, replaced or written.
pub fn fingerprint(directory: &Path) -> std::io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for path in list(directory)? {
        path.hash(&mut hasher);
        // Follows symbolic links, so that an atomic swap of a ConfigMap volume shows.
        if let Ok(meta) = fs::metadata(&path) {
            (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
                .hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// Reads all files, by name.
pub fn read(directory: &Path) -> std::io::Result<Vec<SourceFile>> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
        let (text, again) = match read_one(&path) {
            Ok(text) => (Ok(text), false),
            Err(Problem { message, again }) => (Err(message), again),
        };
        SourceFile { name, text, again }
    };
    Ok(list(directory)?.into_iter().map(read).collect())
}

struct Problem {
    message: String,
    again: bool,
}

/// Whether an error comes from the state of the machine, not of the file: then there is no later change of the file that
/// would have it read again.
pub fn passes(error: &std::io::Error) -> bool {
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

fn read_one(path: &Path) -> Result<String, Problem> {
    let explain =
        |error: std::io::Error| Problem { message: format!("the file cannot be read: {error}"), again: passes(&error) };
    let refuse = |message: String| Err(Problem { message, again: false });
    // A pipe would keep the policy thread waiting for ever, a device has no end.
    if !fs::metadata(path).map_err(explain)?.is_file() {
        return refuse("it is no regular file; policy is read from regular files only".into());
    }
    let mut text = String::new();
    fs::File::open(path).map_err(explain)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(explain)?;
    match text.len() as u64 {
        // So looks a file that is being written in place, or whose writing failed. Were it read as one without documents,
        // a restriction in it would fall away.
        0 => refuse("the file is empty; what it held stays in force until the file is deleted".into()),
        length if length > MAX_FILE_BYTES => {
            refuse(format!("the file has more than {MAX_FILE_BYTES} bytes; split it into smaller ones"))
        }
        _ => Ok(text),
    }
}

/// All policy files. What cannot be looked into is an error: taken for empty, its restrictions would fall away.
fn list(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let explain = |path: &Path, reason: &dyn std::fmt::Display| {
        std::io::Error::other(format!("{} cannot be looked into: {reason}", path.display()))
    };
    let mut files = Vec::new();
    // By device and inode, because links may lead in circles.
    let mut seen = HashSet::new();
    let mut open = vec![(directory.to_path_buf(), 0)];
    while let Some((next, depth)) = open.pop() {
        let meta = fs::metadata(&next).map_err(|error| explain(&next, &error))?;
        if !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        if depth > MAX_DEPTH {
            return Err(explain(&next, &format!("it lies more than {MAX_DEPTH} directories deep")));
        }
        let entries: std::io::Result<Vec<_>> =
            fs::read_dir(&next).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut entries = entries.map_err(|error| explain(&next, &error))?;
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
                Err(error) => return Err(explain(&path, &error)),
            }
            if files.len() > MAX_FILES {
                return Err(std::io::Error::other(format!(
                    "more than {MAX_FILES} policy files; is this the right directory?"
                )));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_in_the_first_column_ends_a_document_and_lines_stay_true() {
        let text = "# head\n---\nkind: A\ntext: |\n  ---\n--- # second\nkind: B\n---\n\n";
        let chunks = split(text);
        assert_eq!(chunks.len(), 2);
        assert!(chunks[0].text.contains("  ---\n"));
        for chunk in &chunks {
            let kind = chunk.text.lines().find(|line| line.starts_with("kind")).unwrap();
            let found = chunk.in_place().lines().position(|line| line == kind).unwrap();
            assert_eq!(text.lines().nth(found), Some(kind));
        }
        let inherited = split("apiVersion: v1\nkind: A\n---\nkind: B\n");
        assert_eq!(inherited[1], Chunk { line: 3, text: "apiVersion: v1\nkind: B\n".into() });
        assert!(split("").is_empty() && split("---\n---\n").is_empty());
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
    fn an_empty_file_and_a_pipe_are_unreadable_and_hold_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "").unwrap();
        let pipe = dir.path().join("b.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let texts: Vec<_> = read(dir.path()).unwrap().into_iter().map(|file| file.text.unwrap_err()).collect();
        assert!(texts[0].contains("empty") && texts[1].contains("regular"), "{texts:?}");
    }

    #[test]
    fn what_the_state_of_the_machine_made_unreadable_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), [0xff]).unwrap();
        fs::write(dir.path().join("b.yaml"), "").unwrap();
        assert!(read(dir.path()).unwrap().iter().all(|file| file.text.is_err() && !file.again));
        for (errno, expected) in [("EMFILE", 24), ("ENFILE", 23), ("EIO", 5)] {
            assert!(passes(&std::io::Error::from_raw_os_error(expected)), "{errno}");
        }
        assert!(!passes(&std::io::Error::from_raw_os_error(2)), "ENOENT");
    }

    #[test]
    fn the_identity_of_a_document_that_does_not_parse_is_still_found() {
        let identity = |text: &str| split(text)[0].identity();
        let found = Some(("AccessRole".to_owned(), "ai".to_owned()));
        assert_eq!(identity("kind: AccessRole\nmetadata: { name: ai }\nspec: [\n"), found);
        assert_eq!(identity("metadata:\n  labels: {}\n  name: \"ai\" # x\nkind: AccessRole\nspec: }\n"), found);
        assert_eq!(identity("kind: AccessRole\nspec:\n  name: ai\n"), None);
        assert_eq!(identity("metadata: { name: ai }\n"), None);
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
        assert_eq!((files.len(), files[0].text.clone()), (1, Ok("..v1".to_owned())));
        std::os::unix::fs::symlink("..v2", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
        assert_eq!(read(dir.path()).unwrap()[0].text, Ok("..v2".to_owned()));
    }
}
